"""The device against float64 on the CPU, in every arithmetic and by every route; and a training that is killed and resumed.

Estimates, gradients and loss are compared by ‖found − true‖ / ‖true‖; what float32 itself may lose stands beside them as the same
figure of the CPU's float32. A training must give the same bits twice, and the same again after a kill.
"""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.compute import devices
from pipeline.models import build_model
from pipeline.models.kernels import dispatch
from pipeline.recipe.schema import Model, System, Train
from pipeline.training.compiling import Compiled
from pipeline.training.losses import pit_loss
from tests.gpu.common import TOY, arguments, say

SIZE = {
    "num_filters": 128,
    "bottleneck_channels": 32,
    "skip_channels": 32,
    "hidden_channels": 64,
    "blocks_per_repeat": 4,
    "num_repeats": 2,
}
ARITHMETIC = {"float32": ("highest", torch.float32), "tf32": ("high", torch.float32), "bfloat16": ("highest", torch.bfloat16)}


@dataclass(frozen=True)
class Outcome:
    """What one pass gives."""

    estimates: Tensor
    gradients: Tensor
    loss: float


def outcome(model: nn.Module, network: Callable[[Tensor], Tensor], sources: Tensor, precision: torch.dtype) -> Outcome:
    """One pass forward and back."""
    model.zero_grad(set_to_none=True)
    with devices.autocast(sources.device, precision):
        estimates = network(sources.sum(1))
    loss, _ = pit_loss(estimates, sources)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = torch.cat([p.grad.flatten().double().cpu() for p in model.parameters() if p.grad is not None])
    return Outcome(estimates.detach().double().cpu(), gradients, loss.item())


def error(found: Tensor, true: Tensor) -> float:
    """Relative to the true one."""
    return float((found - true).norm() / true.norm().clamp_min(1e-30))


def compare(device: torch.device, small: bool, causal: bool, arithmetic: str) -> None:
    """Every route, in one arithmetic, against float64."""
    devices.prepare(device)
    torch.manual_seed(0)
    base = build_model(Model(causal=causal, **(TOY if small else SIZE)))
    sources = 0.1 * torch.randn(3, 2, 1501 if small else 9001)
    exact = copy.deepcopy(base).double()
    true = outcome(exact, exact, sources.double(), torch.float32)
    if arithmetic == "float32":
        report(causal, "cpu", "float32", "cpu", outcome(base, base, sources, torch.float32), true)
    products, precision = ARITHMETIC[arithmetic]
    torch.set_float32_matmul_precision(products)
    for route, context, network, model in routes(base, device):
        with context:
            for _ in range(4 if route != "eager" else 1):  # what was recorded must agree when it is replayed
                found = outcome(model, network, sources.to(device), precision)
        report(causal, device.type, arithmetic, route, found, true)


Route = tuple[str, AbstractContextManager[None], Callable[[Tensor], Tensor], nn.Module]


def routes(base: nn.Module, device: torch.device) -> Iterator[Route]:
    """The ways to run a network on the device, each with a copy of its own; `-torch` leaves out our own kernels."""
    kinds = [("eager", False, False)]
    if device.type == "cuda":
        kinds += [("eager-torch", False, False), ("compiled", True, False), ("graphs", True, True), ("graphs-torch", True, True)]
    for name, enabled, graphs in kinds:
        torch._dynamo.reset()
        model = copy.deepcopy(base).to(device)
        context = dispatch.definition_only() if name.endswith("-torch") else nullcontext()
        yield name, context, Compiled(model, enabled, strict=True, graphs=graphs), model


def report(causal: bool, device: str, arithmetic: str, route: str, found: Outcome, true: Outcome) -> None:
    """A row of the comparison."""
    say(
        norm="cLN" if causal else "gLN",
        device=device,
        arithmetic=arithmetic,
        route=route,
        estimates_error=error(found.estimates, true.estimates),
        gradients_error=error(found.gradients, true.gradients),
        loss_difference_db=found.loss - true.loss,
    )


# --------------------------------------------------------------------------------------------------------- kill and resume
class Tones:
    """Mixtures of two tones that depend on nothing but their number."""

    def __init__(self, number: int, num_samples: int) -> None:
        self.number, self.length = number, num_samples

    def __len__(self) -> int:
        return self.number

    def num_samples(self, index: int) -> int:
        """Of a mixture."""
        return self.length

    def read(self, index: int, start: int, stop: int) -> tuple[Any, Any]:
        """A cut of mixture and sources."""
        frequencies = np.random.default_rng(index).uniform([0.01, 0.2], [0.1, 0.4])
        sources = np.sin(2 * np.pi * frequencies[:, None] * np.arange(start, stop)).astype(np.float32)
        return sources.sum(0), sources

    def segment(self, epoch: int, index: int) -> Any:
        """A training segment."""
        from pipeline.training.segments import Segment

        return Segment(*self.read(1000 * epoch + index, 0, self.length), self.length)


def train_here(folder: Path, device: str, compile_: str, small: bool, die_after: int) -> None:
    """In a process of its own: train, and be killed after so many steps (0: never)."""
    from pipeline.training.loop import Options, Training, TrainingSets, train

    step, count = Training.step, [0]

    def step_and_die(self: Any, *given: Any) -> None:
        step(self, *given)
        count[0] += 1
        if count[0] == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    Training.step = step_and_die  # type: ignore[method-assign]
    length = 1600 if small else 8000
    epochs = 2 if small else 3
    settings = Train(batch_size=8, epochs=epochs, segment_seconds=length / 8000, optimiser="muon", ema_decay=0.9, clip_norm=5.0)
    system = System(model=Model(**(TOY if small else SIZE)), train=settings)
    options = Options(device=device, compile=compile_, checkpoint_steps=1)  # type: ignore[arg-type]
    train(system, TrainingSets(Tones(64, length), Tones(5, length)), folder, seed=1, options=options)


def weights(folder: Path) -> Tensor:
    """All weights of the last state."""
    from pipeline.training.state import load_state

    return torch.cat([value.flatten().double() for value in load_state(folder / "last.safetensors")["model"].values()])


def resume(device: str, compile_: str, small: bool, seconds: float) -> None:
    """Train twice, and once more with a kill in the middle of the second epoch; compare the bits."""
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as place:
        folders = {name: Path(place) / name for name in ("one", "two", "killed")}
        begun = [start(folder, device, compile_, small, 12 if name == "killed" else 0) for name, folder in folders.items()]
        codes = [exit_code(process, deadline) for process in begun]
        codes.append(exit_code(start(folders["killed"], device, compile_, small, 0), deadline))
        if codes != [0, 0, -signal.SIGKILL, 0]:
            say(failed="resume", compile=compile_, exit_codes=str(codes))
            return
        one, two, killed = map(weights, folders.values())
    say(
        compile=compile_,
        same_bits_twice=torch.equal(one, two),
        same_bits_after_a_kill=torch.equal(one, killed),
        error_twice=error(two, one),
        error_after_a_kill=error(killed, one),
    )


def start(folder: Path, device: str, compile_: str, small: bool, die_after: int) -> subprocess.Popen[str]:
    """Begin :func:`train_here` in a process of its own."""
    return begin(f"train_here(Path({str(folder)!r}), {device!r}, {compile_!r}, {small}, {die_after})")


def begin(call: str) -> subprocess.Popen[str]:
    """Begin a call of a function of this module, in a process of its own that prints where we do."""
    code = f"import torch; from pathlib import Path; from tests.gpu.checks import *; {call}"
    return subprocess.Popen([sys.executable, "-c", code], text=True)


def exit_code(process: subprocess.Popen[str], deadline: float) -> int | None:
    """None where the process has not ended by the deadline; it is ended then."""
    try:
        return process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(30)
        return None


def main() -> None:
    """Print a row for every comparison; all of them run at once, as most of their time is a compiler's."""
    given = arguments(__doc__)
    deadline = time.monotonic() + given.seconds
    calls = [
        f"compare(torch.device({given.device!r}), {given.small}, {causal}, {arithmetic!r})"
        for causal in (False, True)
        for arithmetic in ARITHMETIC
    ]
    ways = ("off", "on") if given.device != "cpu" else ("off",)
    calls += [f"resume({given.device!r}, {compile_!r}, {given.small}, {given.seconds})" for compile_ in ways]
    if given.device == "cpu":
        calls = ["; ".join(calls)]  # nothing is compiled, and most of the time would be importing
    begun = [(call, begin(call)) for call in calls]
    for call, process in begun:
        if (code := exit_code(process, deadline)) != 0:
            say(failed="checks", call=call, exit_code=code)


if __name__ == "__main__":
    main()
