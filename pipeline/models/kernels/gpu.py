"""A block's hidden activations and a norm on a CUDA card, in three passes over memory forward and four back, by Triton.

The host's side of ``passes.py``, ``merges.py`` and ``sums.py``: it allocates, and launches passes over all rows and merges over
the frames of batch members. Nothing in it waits for the device, so that a graph can record it. Block shapes depend on the number
of channels alone, and the order of every sum on shapes alone: nothing is tuned while a training runs, so a resumed training
repeats the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from pipeline.models.kernels import merges, passes, sums

MAX_BLOCK_FRAMES = 2048
"""Frames that a merge takes at once."""
ROWS_ADDED = 256
"""Programs whose sums of gradients are added up at once."""


class Shape(NamedTuple):
    """How a pass is cut into programs."""

    elements: int
    """That a program holds at a time."""
    num_warps: int
    num_programs: int
    """At most about so many; each works through as many tiles as that needs."""
    along_strands: bool = False
    """Whether a tile's rows are the next frames of as many strands, instead of neighbours."""


SHAPES = {
    "statistics": Shape(2048, 4, 2**30),
    "convolve": Shape(512, 2, 1056, along_strands=True),
    "normalise": Shape(2048, 4, 2**30),
    "normalise_back_sums": Shape(1024, 2, 1056),
    "normalise_back": Shape(512, 2, 2112),
    "convolve_back_sums": Shape(512, 1, 2112, along_strands=True),
    "convolve_back": Shape(512, 2, 1056, along_strands=True),
}
"""Of every pass: the fastest of eight on an H200 (``tests/gpu/kernels.py``), which has 132 processors."""


class Passes:
    """The passes over one array of activations ``[batch, frames, channels]``.

    Args:
        x: the activations.
        rectified: whether a rectifier comes before the norm.
        dilation: of the convolution.
        num_frames: ``[batch]`` frames of each member that count; by default all.
    """

    def __init__(self, x: Tensor, *, rectified: bool = True, dilation: int = 1, num_frames: Tensor | None = None) -> None:
        self.batch, self.num_frames, self.channels = x.shape
        self.x = x
        self.rectified = {"RECTIFIED": rectified}
        self.dilation = dilation
        self.padded = {"PADDED": num_frames is not None}
        self.ends = x if num_frames is None else num_frames  # which is not read where nothing is padded

    @property
    def num_rows(self) -> int:
        """Frames of all batch members."""
        return self.batch * self.num_frames

    def per_row(self, number: int) -> Tensor:
        """Room for numbers of every row."""
        return torch.empty(number, self.batch, self.num_frames, 1, device=self.x.device, dtype=torch.float32)

    def run(self, kernel: Any, *arguments: Any, **constants: Any) -> None:
        """A pass over all rows."""
        shape = SHAPES[kernel.fn.__name__]
        programs, block_rows, num_tiles = self._cut(shape)
        with torch.cuda.device_of(self.x):  # type: ignore[no-untyped-call]
            kernel[(programs,)](
                *arguments,
                **constants,
                NUM_CHANNELS=self.channels,
                BLOCK_ROWS=block_rows,
                BLOCK_CHANNELS=triton.next_power_of_2(self.channels),
                NUM_TILES=num_tiles,
                num_warps=shape.num_warps * max(1, min(16, triton.next_power_of_2(self.channels) // shape.elements)),
            )

    def num_programs(self, kernel: Any) -> int:
        """Of a pass."""
        return self._cut(SHAPES[kernel.fn.__name__])[0]

    def add_up(self, columns: Tensor, slopes: Tensor, programs: Sequence[int], gradients: Sequence[Tensor]) -> None:
        """The gradients of a block's parameters, from the sums that programs have left."""
        with torch.cuda.device_of(self.x):  # type: ignore[no-untyped-call]
            sums.add_up[(11, triton.cdiv(self.channels, 32))](
                columns, slopes, *programs, *gradients,
                NUM_CHANNELS=self.channels, BLOCK_ROWS=ROWS_ADDED, BLOCK_CHANNELS=32, num_warps=8,
            )  # fmt: skip

    def _cut(self, shape: Shape) -> tuple[int, int, int]:
        """Programs, rows of a tile, tiles of a program; powers of two, so that few variants are compiled for many lengths."""
        block_rows = max(1, shape.elements // triton.next_power_of_2(self.channels))
        num_tiles = triton.next_power_of_2(triton.cdiv(triton.cdiv(self.num_rows, block_rows), shape.num_programs))
        if not shape.along_strands:
            return triton.cdiv(self.num_rows, block_rows * num_tiles), block_rows, num_tiles
        per_phase = triton.cdiv(self.num_frames, self.dilation)
        num_tiles = min(num_tiles, triton.next_power_of_2(per_phase))
        strands = self.batch * self.dilation * triton.cdiv(per_phase, num_tiles)
        return triton.cdiv(strands, block_rows), block_rows, num_tiles

    def merge(self, kernel: Any, *arguments: Any, **constants: Any) -> None:
        """A merge over the frames of every batch member."""
        block = min(MAX_BLOCK_FRAMES, max(32, triton.next_power_of_2(self.num_frames)))
        with torch.cuda.device_of(self.x):  # type: ignore[no-untyped-call]
            kernel[(self.batch,)](*arguments, **constants, BLOCK_FRAMES=block, num_warps=max(1, block // 256))


def hidden(
    y: Tensor,
    parameters: Sequence[Tensor],
    norm: str,
    eps: Sequence[float],
    dilation: int,
    before: int,
    num_frames: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Forward; see :func:`pipeline.models.kernels.ops.hidden`. A frame's numbers are mean, scale and shift of each norm."""
    bias_0, slope_1, weight_1, bias_1, taps, bias_2, slope_2, weight_2, bias_3 = parameters
    on = Passes(y, dilation=dilation, num_frames=num_frames)
    statistics, variance = on.per_row(6), on.per_row(1)
    mean_1, scale_1, shift_1, mean_2, scale_2, shift_2 = statistics
    d, m = torch.empty_like(y), torch.empty_like(y)
    on.run(passes.statistics, y, bias_0, slope_1, mean_1, variance, on.num_rows, **on.rectified)
    on.merge(merges.merge, mean_1, variance, scale_1, shift_1, on.ends, on.num_frames, eps[0], KIND=norm, **on.padded)
    on.run(
        passes.convolve,
        y, bias_0, slope_1, mean_1, scale_1, shift_1, weight_1, bias_1, taps, bias_2, slope_2, d, mean_2, variance,
        on.ends, on.batch, on.num_frames, dilation, before, **on.padded,
    )  # fmt: skip
    on.merge(merges.merge, mean_2, variance, scale_2, shift_2, on.ends, on.num_frames, eps[1], KIND=norm, **on.padded)
    on.run(passes.normalise, d, slope_2, mean_2, scale_2, shift_2, weight_2, bias_3, m, on.num_rows, **on.rectified)
    return m, d, statistics


def hidden_backward(
    grad_m: Tensor,
    y: Tensor,
    parameters: Sequence[Tensor],
    d: Tensor,
    statistics: Tensor,
    norm: str,
    eps: Sequence[float],
    dilation: int,
    before: int,
) -> list[Tensor]:
    """The gradients of ``y`` and of the parameters, in their order."""
    bias_0, slope_1, weight_1, bias_1, taps, _, slope_2, weight_2, _ = parameters
    on = Passes(y, dilation=dilation)
    mean, scale, shift = statistics[:3]
    left = Sums(on)
    grad_d = _normalise_backward(on, grad_m, d, slope_2, weight_2, statistics[3:], norm, left)
    total, product, constant, linear = on.per_row(4)
    place = (on.batch, on.num_frames, dilation, before)
    on.run(
        passes.convolve_back_sums, left.of_convolution,
        grad_d, y, bias_0, slope_1, mean, scale, shift, weight_1, bias_1, taps, total, product, *place, NUM_COLUMNS=5,
    )  # fmt: skip
    _merge_back(on, mean, scale, shift, total, product, constant, linear, norm)
    grad_y = torch.empty_like(y)
    on.run(
        passes.convolve_back, left.of_input, left.of_slope_1,
        grad_d, y, bias_0, slope_1, mean, scale, weight_1, taps, constant, linear, grad_y, *place, NUM_COLUMNS=1,
    )  # fmt: skip
    gradients = [torch.empty_like(each) for each in parameters]
    on.add_up(left.columns, left.slopes, left.programs, gradients)
    return [grad_y, *gradients]


class Sums:
    """Where programs leave what they have added up of the gradients of a block's parameters, for one launch to add it all up."""

    def __init__(self, on: Passes) -> None:
        kernels = (passes.normalise_back_sums, passes.normalise_back, passes.convolve_back_sums, passes.convolve_back)
        self.programs = [on.num_programs(kernel) for kernel in kernels]
        rows = [number * columns for number, columns in zip(self.programs, (2, 1, 5, 1), strict=True)]
        self.columns = torch.empty(sum(rows), on.channels, device=on.x.device, dtype=torch.float32)
        self.of_norm, self.of_rectifier, self.of_convolution, self.of_input = torch.split(self.columns, rows)
        self.slopes = torch.empty(self.programs[1] + self.programs[3], device=on.x.device, dtype=torch.float32)
        self.of_slope_2, self.of_slope_1 = torch.split(self.slopes, [self.programs[1], self.programs[3]])


def _copies(*views: Tensor) -> list[Tensor]:
    """Results of an operator must not share memory; one launch copies them all."""
    made = [torch.empty_like(view) for view in views]
    torch._foreach_copy_(made, list(views))
    return made


def _merge_back(on: Passes, *given: Any) -> None:
    *arrays, norm = given
    on.merge(merges.merge_back, *arrays, on.num_frames, NUM_CHANNELS=on.channels, KIND=norm)


def normalised(
    x: Tensor, weight: Tensor, bias: Tensor, norm: str, eps: float, num_frames: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Forward; see :func:`pipeline.models.kernels.ops.normalised`. A frame's numbers are mean, scale and shift."""
    on = Passes(x, rectified=False, num_frames=num_frames)
    statistics, variance, m = on.per_row(3), on.per_row(1), torch.empty_like(x)
    mean, scale, shift = statistics
    on.run(passes.statistics, x, bias, bias, mean, variance, on.num_rows, **on.rectified)
    on.merge(merges.merge, mean, variance, scale, shift, on.ends, on.num_frames, eps, KIND=norm, **on.padded)
    on.run(passes.normalise, x, bias, mean, scale, shift, weight, bias, m, on.num_rows, **on.rectified)
    return m, statistics


def normalised_backward(
    grad_m: Tensor, x: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, norm: str, eps: float
) -> list[Tensor]:
    """The gradients of ``x``, ``weight`` and ``bias``."""
    on = Passes(x, rectified=False)
    left = Sums(on)
    grad_x = _normalise_backward(on, grad_m, x, bias, weight, statistics, norm, left)
    return [grad_x, *_copies(*left.of_norm.view(-1, 2, on.channels).sum(0))]


def _normalise_backward(
    on: Passes, grad_m: Tensor, d: Tensor, slope: Tensor, weight: Tensor, statistics: Tensor, norm: str, left: Sums
) -> Tensor:
    """The gradient of a norm's input, before its rectifier if there is one; those of its parameters are in ``left``."""
    mean, scale, shift = statistics
    total, product, constant, linear = on.per_row(4)
    grad_m, grad_d = grad_m.contiguous(), torch.empty_like(d)
    on.run(
        passes.normalise_back_sums, left.of_norm,
        grad_m, d, slope, mean, scale, shift, weight, total, product, on.num_rows, **on.rectified, NUM_COLUMNS=2,
    )  # fmt: skip
    _merge_back(on, mean, scale, shift, total, product, constant, linear, norm)
    on.run(
        passes.normalise_back, left.of_rectifier, left.of_slope_2,
        grad_m, d, slope, mean, scale, weight, constant, linear, grad_d, on.num_rows, **on.rectified, NUM_COLUMNS=1,
    )  # fmt: skip
    return grad_d
