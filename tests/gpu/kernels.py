"""Our own passes over memory on the card: time and traffic of each, for some shapes of its programs, and distance from float64.

The paper's block: 512 channels, 4-second segments, 16 of them, so that an array exceeds the card's cache; bfloat16.
"""

from __future__ import annotations

import fcntl
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.gpu.common import arguments, say, seconds_each

BATCH, FRAMES, CHANNELS, DILATION = 16, 3999, 512, 16
TRAFFIC = {
    "statistics": 1, "convolve": 2, "normalise": 2, "normalise_back_sums": 2, "normalise_back": 3, "convolve_back_sums": 2,
    "convolve_back": 3, "merge": 0, "merge_back": 0, "add_up": 0, "both ways": 15,
}  # fmt: skip
"""Arrays that a pass reads and writes at least."""
REPEATS = 8
"""Of a pass in a graph."""
ALL = 2**30
PLAIN = [
    (1024, 2, ALL),
    (512, 1, ALL),
    (2048, 4, ALL),
    (1024, 2, 4224),
    (512, 1, 8448),
    (1024, 4, ALL),
    (2048, 8, ALL),
    (512, 2, ALL),
]
SUMMING = [
    (1024, 2, 2112), (1024, 2, 1056), (512, 1, 2112), (512, 1, 4224), (2048, 4, 1056), (2048, 4, 528), (512, 2, 2112),
    (1024, 4, 1056),
]  # fmt: skip
WALKING = [
    (512, 1, 2112), (512, 1, 4224), (1024, 2, 1056), (1024, 2, 2112), (512, 2, 1056), (512, 2, 2112), (2048, 4, 1056),
    (1024, 2, 4224),
]  # fmt: skip
"""Elements at a time, warps, programs, for the three kinds of passes."""


def parameters(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Of a block, in the order of their use."""
    sizes: list[Any] = [CHANNELS, 1, CHANNELS, CHANNELS, (3, CHANNELS), CHANNELS, 1, CHANNELS, CHANNELS]
    generator = torch.Generator().manual_seed(0)
    return [(0.3 + 0.3 * torch.randn(size, generator=generator)).to(device, dtype) for size in sizes]


def measure(lock: str, number: int, norm: str) -> None:
    """In a process of its own: compile, wait for the card to be free, time every pass."""
    from pipeline.models.kernels import gpu

    for name, shape in gpu.SHAPES.items():
        shapes = WALKING if shape.along_strands else SUMMING if name.startswith("normalise_back") else PLAIN
        gpu.SHAPES[name] = gpu.Shape(*shapes[number], along_strands=shape.along_strands)
    device = torch.device("cuda")
    y, grad = (torch.randn(BATCH, FRAMES, CHANNELS, device=device, dtype=torch.bfloat16) for _ in range(2))
    given = parameters(device, torch.float32)
    options = (norm, [1e-8, 1e-8], DILATION, 2 * DILATION)
    calls = recorded(gpu, lambda: both(gpu, y, grad, given, options))
    times: dict[str, list[float]] = {}
    with Path(lock).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for name, call in [*calls, ("both ways", lambda: both(gpu, y, grad, given, options))]:
            times.setdefault(name, []).append(replayed(call, device))
    for name, seconds in times.items():
        each = sum(seconds) / len(seconds)
        rate = TRAFFIC[name] * y.nbytes / each / 1e9
        shape = gpu.SHAPES.get(name, gpu.Shape(0, 0, 0))
        say(kernel=name, norm=norm, elements=shape.elements, warps=shape.num_warps, programs=shape.num_programs,
            microseconds=1e6 * each, gigabytes_per_second=rate)  # fmt: skip


def replayed(work: Callable[[], None], device: torch.device) -> float:
    """Seconds that some launches take within a graph, where no host delays them."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(REPEATS):
            work()
    return seconds_each(graph.replay, device, 10) / REPEATS


def both(gpu: Any, y: Tensor, grad: Tensor, given: list[Tensor], options: Any) -> None:
    """A block's passes forward and back."""
    _, d, statistics = gpu.hidden(y, given, *options)
    gpu.hidden_backward(grad, y, given, d, statistics, *options)


def recorded(gpu: Any, work: Callable[[], None]) -> list[tuple[str, Callable[[], None]]]:
    """The launches that some work makes, to repeat each of them."""
    calls: list[tuple[str, Callable[[], None]]] = []

    def note(launch: Callable[..., None]) -> Callable[..., None]:
        def noted(self: Any, *given: Any, **constants: Any) -> None:
            launch(self, *given, **constants)
            name = next((each.fn.__name__ for each in given[:2] if hasattr(each, "fn")), "add_up")
            calls.append((name, lambda: launch(self, *given, **constants)))

        return noted

    kept = gpu.Passes.run, gpu.Passes.merge, gpu.Passes.add_up
    gpu.Passes.run, gpu.Passes.merge, gpu.Passes.add_up = map(note, kept)
    work()
    gpu.Passes.run, gpu.Passes.merge, gpu.Passes.add_up = kept
    return calls


def check(norm: str, dilation: int, causal: bool) -> None:
    """A block's passes against float64 and torch's operators, both on the card."""
    from pipeline.models.kernels import gpu
    from pipeline.models.kernels.ops import hidden_definition

    device = torch.device("cuda")
    for dtype in (torch.float32, torch.bfloat16):
        y, grad = ((0.5 + torch.randn(2, 1999, CHANNELS, device=device)).to(dtype) for _ in range(2))
        given = parameters(device, torch.float32)
        options = (norm, [1e-8, 1e-8], dilation, 2 * dilation if causal else dilation)
        m, d, statistics = gpu.hidden(y, given, *options)
        found = [m, *gpu.hidden_backward(grad, y, given, d, statistics, *options)]
        again = [m, *gpu.hidden_backward(grad, y, given, d, statistics, *options)]
        wide = [each.double().requires_grad_() for each in (y, *given)]
        made = hidden_definition(wide[0], wide[1:], *options)
        true = [made, *torch.autograd.grad(made, wide, grad.double())]
        errors = [float((a.double() - b).norm() / b.norm()) for a, b in zip(found, true, strict=True)]
        same = all(map(torch.equal, found, again))
        say(norm=norm, dilation=dilation, causal=causal, dtype=str(dtype), same_bits=same, activations_error=errors[0],
            input_gradient_error=errors[1], worst_parameter_error=max(errors[2:]))  # fmt: skip


def main() -> None:
    """Print a row for every comparison, and for every pass and shape of its programs."""
    given = arguments(__doc__)
    for norm, (dilation, causal) in itertools.product(("global", "cumulative", "frame"), ((1, True), (128, False))):
        check(norm, dilation, causal)
    with tempfile.NamedTemporaryFile() as lock:
        calls = [(number, "cumulative") for number in range(len(PLAIN))] + [(0, "global")]
        begun = [
            subprocess.Popen([sys.executable, "-c", f"from tests.gpu.kernels import measure; measure({lock.name!r}, *{call!r})"])
            for call in calls
        ]
        for process in begun:
            if process.wait(given.seconds):
                say(failed="kernels", exit_code=process.returncode)


if __name__ == "__main__":
    main()
