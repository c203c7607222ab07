"""Training steps of every contender on one device, in turn: each compiles in a process of its own, then they take turns.

Ours by every route, torchaudio's network in float32, bfloat16 and compiled, and Asteroid's by its public settings; the paper's
network, segments of 4 seconds, loss, backward pass, clipping and Adam included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from pipeline.compute import devices
from tests.gpu.common import TOY, arguments, say

SAMPLE_RATE, SEGMENT_SECONDS, LEARNING_RATE, CLIP_NORM = 8000, 4.0, 1e-3, 5.0
ROUNDS = 3
CONTENDERS = (
    ("ours-graphs", False, 8),
    ("ours-graphs", True, 8),
    ("ours-graphs", False, 32),
    ("ours-graphs", True, 32),
    ("ours-graphs-torch", False, 8),
    ("ours-compiled", False, 8),
    ("ours-eager", False, 8),
    ("torchaudio-float32", False, 4),
    ("torchaudio-bfloat16", False, 8),
    ("torchaudio-compiled", False, 8),
    ("asteroid-like", False, 4),
    ("asteroid-like", True, 4),
)
"""Name, causal, batch size: together within 70 GiB."""
TOY_CONTENDERS = (
    ("ours-graphs", True, 2),
    ("torchaudio-bfloat16", False, 2),
    ("asteroid-like", True, 2),
)
PROFILED = ("ours-graphs", "ours-eager")
MEASURES_THE_REST = ("ours-graphs-gLN-8", "ours-graphs-cLN-2")
"""Which contender measures what surrounds a step: validation, separation, mixing on the fly."""


# ------------------------------------------------------------------------------------------------------- one contender's steps
Ready = tuple[Callable[[], None], Callable[[], Iterator[dict[str, Any]]]]
"""A contender's step, and what else it can measure, in rows."""


def ours(name: str, causal: bool, batch_size: int, device: torch.device, small: bool) -> Ready:
    """A step as `tasnet run` makes it, by one of its routes; `-torch` leaves out our own kernels."""
    from pipeline.compute.options import Options
    from pipeline.models.kernels import dispatch
    from pipeline.recipe.schema import Model, System, Train
    from pipeline.training.benchmark import Noise, training_on_noise
    from tests.gpu.around import around_steps

    system = System(model=Model(causal=causal, **(TOY if small else {})), train=Train(batch_size=batch_size))
    compiled = name != "ours-eager" and device.type == "cuda"
    options = Options(device=str(device), compile="on" if compiled else "off")
    training = training_on_noise(system, 2, SAMPLE_RATE, batch_size, options)
    loss_of = training.loss_function()
    loss_of.graphs = loss_of.graphs and name.startswith("ours-graphs")
    batch = Noise(2, num_samples(small)).batch(batch_size).to(device)

    def step() -> None:
        with dispatch.definition_only() if name.endswith("-torch") else nullcontext():
            training.step(loss_of, batch)

    return step, lambda: around_steps(training, small)


def theirs(name: str, causal: bool, batch_size: int, device: torch.device, small: bool) -> Ready:
    """A step of another network, with our loss and a fused Adam."""
    from pipeline.training.losses import pit_loss

    devices.prepare(device)
    torch.set_float32_matmul_precision("high")  # TF32: the fastest they offer for float32
    model = other_network(name, causal, small).to(device)
    compiled = name.endswith("compiled") and device.type == "cuda"
    network = torch.compile(model, mode="reduce-overhead", dynamic=False) if compiled else model
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    precision = torch.float32 if name in ("torchaudio-float32", "asteroid-like") else torch.bfloat16
    sources = 0.1 * torch.randn(batch_size, 2, num_samples(small), device=device)
    mixture = sources.sum(1) if name == "asteroid-like" else sources.sum(1)[:, None]

    def step() -> None:
        with devices.autocast(device, precision):
            estimates = network(mixture)
        pit_loss(estimates.float(), sources)[0].backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimiser.step()
        optimiser.zero_grad()

    return step, lambda: iter(())


def other_network(name: str, causal: bool, small: bool) -> nn.Module:
    """torchaudio's network, or one with Asteroid's settings."""
    if name == "asteroid-like":
        from tests.gpu.asteroid_like import AsteroidLike

        return AsteroidLike(causal=causal, small=small)
    from torchaudio.models import ConvTasNet

    size = {"enc_num_feats": 32, "msk_num_feats": 8, "msk_num_hidden_feats": 16, "msk_num_layers": 2, "msk_num_stacks": 1}
    model: nn.Module = ConvTasNet(msk_activate="sigmoid", **(size if small else {}))
    return model


def num_samples(small: bool) -> int:
    """Of a segment."""
    return round((0.2 if small else SEGMENT_SECONDS) * SAMPLE_RATE)


def contend(name: str, causal: bool, batch_size: int, device: torch.device, small: bool) -> None:
    """In a process of its own: make ready, say so, then time steps whenever a line on stdin gives the seconds for it."""
    started = time.perf_counter()
    torch.manual_seed(0)
    make = ours if name.startswith("ours") else theirs
    step, rest = make(name, causal, batch_size, device, small)
    for _ in range(4):  # compile, warm up, record, replay
        step()
    devices.synchronise(device)
    say(ready_seconds=time.perf_counter() - started)
    for line in sys.stdin:
        if line.startswith("profile "):
            Path(line.split(maxsplit=1)[1].strip()).write_text(profiled(step, device), encoding="utf-8")
            say(profiled=True)
        elif line.startswith("rest"):
            say(rest=list(rest()))
        else:
            say(**timed(step, device, float(line)), **memory(device))


def timed(step: Callable[[], None], device: torch.device, seconds: float) -> dict[str, float]:
    """Milliseconds a step, and how long the host was busy with it."""
    step()
    devices.synchronise(device)
    started = time.perf_counter()
    step()
    devices.synchronise(device)
    times = max(2, int(seconds / (time.perf_counter() - started)))
    started = time.perf_counter()
    for _ in range(times):
        step()
    host = time.perf_counter() - started
    devices.synchronise(device)
    return {"ms": 1e3 * (time.perf_counter() - started) / times, "host_ms": 1e3 * host / times}


def profiled(step: Callable[[], None], device: torch.device) -> str:
    """A table of what three steps spend their time on, the largest first."""
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=kinds) as found:
        for _ in range(3):
            step()
        devices.synchronise(device)
    return str(found.key_averages().table(sort_by=f"{device.type}_time_total", row_limit=60, max_name_column_width=90))


def memory(device: torch.device) -> dict[str, float]:
    """Peak of what was used and of what was reserved, GiB; of the process on a CPU."""

    reserved = torch.cuda.max_memory_reserved(device) / 2**30 if device.type == "cuda" else float("nan")
    return {"peak_gib": devices.peak_memory_gib(device), "reserved_gib": reserved}


# --------------------------------------------------------------------------------------------------------------- all in turn
class Contender:
    """A contender's process; a thread reads what it says, so that nothing waits for it without end."""

    def __init__(self, name: str, causal: bool, batch_size: int, *, device: str, small: bool, folder: Path) -> None:
        self.facts = {"contender": name, "norm": "cLN" if causal else "gLN", "batch": batch_size}
        call = f"contend({name!r}, {causal}, {batch_size}, torch.device({device!r}), {small})"
        self.name = f"{name}-{self.facts['norm']}-{batch_size}"
        self.log = folder / self.name
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"import torch; from tests.gpu.bench import contend; {call}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.said: list[dict[str, Any]] = []
        self.asked_for_rest = self.ended = self.died = False
        """Whether it ended by itself, before it was ended."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.said.append(json.loads(line))

    def wait_for(self, number: int, deadline: float) -> bool:
        """Whether it has said so many lines before the deadline, and before it ended."""
        while len(self.said) < number and time.monotonic() < deadline:
            if self.process.poll() is not None:
                self._reader.join(5)
                break
            time.sleep(0.05)
        return len(self.said) >= number

    def ask(self, line: str, deadline: float) -> None:
        """Let it time its steps, for the seconds that the line gives, or profile them; wait for the answer."""
        assert self.process.stdin is not None
        expected = len(self.said) + 1
        try:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
        except OSError:
            return
        self.wait_for(expected, deadline)

    def end(self) -> None:
        """End it, whatever it does; what it holds of the device's memory is then free."""
        if not self.ended:
            self.died, self.ended = self.process.poll() is not None, True
        self.process.kill()
        self.process.wait(30)

    @property
    def rest(self) -> list[dict[str, Any]]:
        """What it has measured beside training steps; its last words where it was asked and has not answered."""
        rows = [row for said in self.said for row in said.get("rest", [])]
        return rows if rows or not self.asked_for_rest else [{"failed": "around", "said": self._last_words()}]

    def _last_words(self) -> str:
        words = self.log.read_text(encoding="utf-8").strip().splitlines()
        return words[-1][:300] if words and self.died else "not ready in time"

    def result(self) -> dict[str, Any]:
        """Medians over its turns; without any, its last words."""
        turns = sorted((said for said in self.said if "ms" in said), key=lambda turn: turn["ms"])
        if not turns:
            return {**self.facts, "failed": "bench", "said": self._last_words()}
        median = turns[len(turns) // 2]
        rate = 1e3 * float(self.facts["batch"]) / median["ms"]
        spread = turns[-1]["ms"] / turns[0]["ms"] - 1
        return {**self.facts, "segments_per_second": rate, **median, "spread": spread, **self.said[0]}


def take_turns(contenders: list[Contender], seconds: float, deadline: float, out: Path) -> None:
    """Let those that are ready in time be timed in turn, several rounds."""
    compiled_by = time.monotonic() + 0.7 * (deadline - time.monotonic())
    ready = [contender for contender in contenders if contender.wait_for(1, compiled_by)]
    for _ in range(ROUNDS):
        for contender in ready:
            contender.ask(str(seconds), min(deadline, time.monotonic() + 10 * seconds + 10))
    for contender in ready:
        if contender.facts["contender"] in PROFILED:
            contender.ask(f"profile {out / contender.name}.profile.txt", min(deadline, time.monotonic() + 30))
    last = [contender for contender in ready if contender.name.startswith(MEASURES_THE_REST)]
    for contender in contenders:
        if contender not in last:
            contender.end()
    for contender in last:
        contender.asked_for_rest = True
        contender.ask("rest", min(deadline, time.monotonic() + 100))


def main() -> None:
    """Time all contenders; print a row for each."""
    given = arguments(__doc__, out=Path)
    deadline = time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory() as folder:
        contenders = [
            Contender(*facts, device=given.device, small=given.small, folder=Path(folder))
            for facts in (TOY_CONTENDERS if given.small else CONTENDERS)
        ]
        try:
            take_turns(contenders, 0.05 if given.small else 1.0, deadline, given.out)
        finally:
            for contender in contenders:
                contender.end()
        for contender in contenders:
            say(**contender.result())
            for row in contender.rest:
                say(**row)


if __name__ == "__main__":
    main()
