"""The kernels of CUDA cards, run by Triton's interpreter in a process of their own: Triton decides when it is imported.

    TRITON_INTERPRET=1 python -m tests.models.interpreted

prints, for every case, each result's distance from float64 as a share of the largest that rounding may cause: at most 1 is right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pipeline.models.kernels import gpu
from pipeline.models.kernels.ops import hidden_definition
from pipeline.models.norms import NORMS

EPS = [1e-8, 1e-8]
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 3 * 2**-9}
"""What storing three arrays, and adding up their rows, may cost. Half a unit in the last of bfloat16's 8 bits is 2**-9."""


def make_programs_small() -> None:
    """So that every loop is entered more than once, and the last time in part."""
    for name, shape in gpu.SHAPES.items():
        gpu.SHAPES[name] = shape._replace(elements=2048, num_programs=2)
    gpu.MAX_BLOCK_FRAMES = 32
    gpu.ROWS_ADDED = 2


def block_inputs(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, list[Tensor]]:
    """An input, a gradient of the output, and a block's parameters."""
    torch.manual_seed(0)
    channels = shape[-1]
    sizes: list[Any] = [channels, 1, channels, channels, (3, channels), channels, 1, channels, channels]
    y, grad = (2 * torch.randn(shape) + 0.5).to(dtype), torch.randn(shape).to(dtype)
    return y, grad, [0.5 * torch.randn(size) + 0.3 for size in sizes]


def worst(found: list[Tensor], true: list[Tensor], dtype: torch.dtype) -> float:
    """The largest error as a share of the largest that is right."""
    scale = max(float(each.norm()) for each in true)
    shares = []
    for mine, theirs in zip(found, true, strict=True):
        # A slope's gradient is one number: a sum of both signs over all channels and frames, small against its terms.
        allowed = (100 if theirs.numel() == 1 else 1) * ROUNDING[dtype] * max(float(theirs.norm()), 1e-2 * scale)
        shares.append(float((mine.double() - theirs).norm()) / allowed)
    return max(shares)


def block(norm: str, dilation: int, before: int, shape: tuple[int, int, int], dtype: torch.dtype, wrong: int = 0) -> float:
    """A block's passes; `wrong` frames are added to the truth's dilation, as a negative control."""
    y, grad, parameters = block_inputs(shape, dtype)
    m, d, statistics = gpu.hidden(y, parameters, norm, EPS, dilation, before)
    found = [m, *gpu.hidden_backward(grad, y, parameters, d, statistics, norm, EPS, dilation, before)]
    wide = [each.double().requires_grad_() for each in (y, *parameters)]
    made = hidden_definition(wide[0], wide[1:], norm, EPS, dilation + wrong, before)
    return worst(found, [made.detach(), *torch.autograd.grad(made, wide, grad.double())], dtype)


def alone(norm: str, level: float, offset: float, shape: tuple[int, int, int]) -> float:
    """A norm by itself, at a level and an offset in standard deviations."""
    x, grad, (weight, _, bias, *_) = block_inputs(shape, torch.float32)
    x = level * (x + 2 * offset)
    m, statistics = gpu.normalised(x, weight, bias, norm, 1e-20)
    found = [m, *gpu.normalised_backward(grad, x, weight, bias, statistics, norm, 1e-20)]
    wide = [each.double().requires_grad_() for each in (x, weight, bias)]
    made = NORMS[norm].normalise(*wide, 1e-20)
    return worst(found, [made.detach(), *torch.autograd.grad(made, wide, grad.double())], torch.float32)


def padded(norm: str, dilation: int, before: int, wrong: int = 0) -> float:
    """A block and a norm alone, of members that end early and hold anything after that, against each member by itself.

    ``wrong`` frames are added to where the kernels think that they end, as a negative control.
    """
    ends = torch.tensor([36, 5])
    y, _, parameters = block_inputs((2, 37, 33), torch.float32)
    after = torch.arange(37)[:, None] >= ends[:, None, None]  # [member, frame, 1]
    y = torch.where(after, 100.0, y)
    weight, bias = parameters[2:4]
    found = [
        gpu.hidden(y, parameters, norm, EPS, dilation, before, ends + wrong)[0],
        gpu.normalised(y, weight, bias, norm, 1e-20, ends + wrong)[0],
    ]
    shares = []
    for member, end in enumerate(ends.tolist()):
        alone, wide = y[member : member + 1, :end].double(), [each.double() for each in parameters]
        true = [
            hidden_definition(alone, wide, norm, EPS, dilation, before),
            NORMS[norm].normalise(alone, wide[2], wide[3], 1e-20),
        ]
        shares.append(worst([each[member : member + 1, :end] for each in found], true, torch.float32))
    assert all(bool(each.isfinite().all()) for each in found)
    return max(shares)


def cases() -> Iterator[tuple[str, float]]:
    """Every norm, dilations below and above the length, both sides of padding, odd sizes, one frame."""
    for norm in NORMS:
        for dilation, causal, shape in ((1, True, (2, 37, 33)), (8, False, (2, 37, 33)), (1, False, (1, 1, 5))):
            before = (1 + causal) * dilation
            yield f"block {norm} {dilation} {causal} {shape}", block(norm, dilation, before, shape, torch.float32)
        yield f"norm {norm}", alone(norm, 1e-3, 3.0, (2, 70, 24))
    yield "padded global", padded("global", 4, 4)
    yield "padded cumulative", padded("cumulative", 8, 16)
    yield "control: padding that counts", padded("global", 4, 4, wrong=1)
    yield "block beyond the length", block("cumulative", 64, 64, (2, 37, 33), torch.float32)
    yield "block in bfloat16", block("cumulative", 2, 4, (2, 37, 32), torch.bfloat16)
    yield "control", block("global", 2, 4, (1, 40, 32), torch.float32, wrong=1)


def main() -> None:
    """Print all cases."""
    torch.set_num_threads(1)
    make_programs_small()
    for name, share in cases():
        print(json.dumps({"case": name, "share": share}), flush=True)


if __name__ == "__main__":
    main()
