"""The operators that kernels implement: their signature, shapes and gradients, whatever the device.

A device's kernels are registered with ``hidden.register_kernel("cuda")`` and the like, for all four operators. What the backward
pass needs to know of each frame is the device's own business; only the number of values is said here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.models.kernels import cpu
from pipeline.models.layers import depthwise, prelu
from pipeline.models.norms import NORMS


@torch.library.custom_op("tasnet::hidden", mutates_args=(), device_types="cpu")
def hidden(
    y: Tensor, parameters: list[Tensor], norm: str, eps: list[float], dilation: int, before: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A block's normalised hidden activations.

    Args:
        y: ``[batch, frames, channels]`` contiguous, float32 or bfloat16: the expanded input without its bias.
        parameters: in float32, in the order of their use: bias, slope, norm's weight and bias, taps, bias, slope, norm's weight
            and bias.
        norm: the kind of both norms.
        eps: of each norm.
        dilation: frames between taps.
        before: frames of padding before the first.

    Returns:
        The activations, those before the second rectifier, and for the backward pass some numbers of each frame,
        ``[number, batch, frames, 1]``: on a CPU each norm's means and variances, on CUDA each norm's means, scales and shifts.
    """
    return cpu.hidden(y, parameters, norm, eps, dilation, before)


@torch.library.custom_op("tasnet::hidden_backward", mutates_args=(), device_types="cpu")
def hidden_backward(
    grad_m: Tensor,
    y: Tensor,
    parameters: list[Tensor],
    d: Tensor,
    statistics: Tensor,
    norm: str,
    eps: list[float],
    dilation: int,
    before: int,
) -> list[Tensor]:
    """The gradients of ``y`` and of the parameters, in their order."""
    return cpu.hidden_backward(grad_m, y, parameters, d, statistics, norm, eps, dilation, before)


@torch.library.custom_op("tasnet::normalised", mutates_args=(), device_types="cpu")
def normalised(x: Tensor, weight: Tensor, bias: Tensor, norm: str, eps: float) -> tuple[Tensor, Tensor]:
    """A norm of the kind ``norm``; returns also what the backward pass needs of each frame, ``[number, batch, frames, 1]``."""
    return cpu.normalised(x, weight, bias, norm, eps)


@torch.library.custom_op("tasnet::normalised_backward", mutates_args=(), device_types="cpu")
def normalised_backward(
    grad_m: Tensor, x: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, norm: str, eps: float
) -> list[Tensor]:
    """The gradients of ``x``, ``weight`` and ``bias``."""
    return cpu.normalised_backward(grad_m, x, weight, bias, statistics, norm, eps)


def hidden_definition(y: Tensor, parameters: list[Tensor], norm: str, eps: list[float], dilation: int, before: int) -> Tensor:
    """What :func:`hidden` computes, in torch's own operators."""
    bias_0, slope_1, weight_1, bias_1, taps, bias_2, slope_2, weight_2, bias_3 = parameters
    normalise = NORMS[norm].normalise
    n = normalise(prelu(y + bias_0, slope_1), weight_1, bias_1, eps[0])
    d = depthwise(n, taps, bias_2, dilation=dilation, padding=(before, (len(taps) - 1) * dilation - before))
    return normalise(prelu(d, slope_2), weight_2, bias_3, eps[1]).to(y.dtype)


# ------------------------------------------------------------------------------------------------------------ on CUDA cards
# Triton is imported when the first of these is called: it is missing where there is no such card.
@hidden.register_kernel("cuda")
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    from pipeline.models.kernels import gpu

    return gpu.hidden(*arguments)


@hidden_backward.register_kernel("cuda")
def _(*arguments: Any) -> list[Tensor]:
    from pipeline.models.kernels import gpu

    return gpu.hidden_backward(*arguments)


@normalised.register_kernel("cuda")
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    from pipeline.models.kernels import gpu

    return gpu.normalised(*arguments)


@normalised_backward.register_kernel("cuda")
def _(*arguments: Any) -> list[Tensor]:
    from pipeline.models.kernels import gpu

    return gpu.normalised_backward(*arguments)


# Batches of mixtures that are padded to a common length are separated, never learnt from: no gradient, no second result.
@torch.library.custom_op("tasnet::hidden_of_padded", mutates_args=(), device_types="cuda")
def hidden_of_padded(
    y: Tensor, parameters: list[Tensor], norm: str, eps: list[float], dilation: int, before: int, num_frames: Tensor
) -> Tensor:
    """The activations of :func:`hidden` where only the first ``num_frames`` ``[batch]`` int64 of each member count."""
    from pipeline.models.kernels import gpu

    return gpu.hidden(y, parameters, norm, eps, dilation, before, num_frames)[0]


@torch.library.custom_op("tasnet::normalised_of_padded", mutates_args=(), device_types="cuda")
def normalised_of_padded(x: Tensor, weight: Tensor, bias: Tensor, norm: str, eps: float, num_frames: Tensor) -> Tensor:
    """The values of :func:`normalised` where only the first ``num_frames`` ``[batch]`` int64 of each member count."""
    from pipeline.models.kernels import gpu

    return gpu.normalised(x, weight, bias, norm, eps, num_frames)[0]


# ------------------------------------------------------------------------------------------------- shapes, for fake tensors
NUMBERS_OF_NORM = {"cpu": 2, "cuda": 3}
"""Values of each frame that the backward pass needs for a norm."""


def _per_frame(y: Tensor, norms: int) -> Tensor:
    return y.new_empty(norms * NUMBERS_OF_NORM[y.device.type], *y.shape[:2], 1, dtype=torch.float32)


@hidden.register_fake
def _(y: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(y), torch.empty_like(y), _per_frame(y, 2)


@hidden_backward.register_fake
def _(grad_m: Tensor, y: Tensor, parameters: list[Tensor], *_: Any) -> list[Tensor]:
    return [torch.empty_like(y), *map(torch.empty_like, parameters)]


@normalised.register_fake
def _(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), _per_frame(x, 1)


@hidden_of_padded.register_fake
@normalised_of_padded.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


@normalised_backward.register_fake
def _(grad_m: Tensor, x: Tensor, weight: Tensor, bias: Tensor, *_: Any) -> list[Tensor]:
    return [torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)]


# ---------------------------------------------------------------------------------------------------------------- gradients
def _save_hidden(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    y, parameters, *ctx.options = inputs
    _, d, statistics = output
    ctx.mark_non_differentiable(d, statistics)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(y, d, statistics, *parameters)


def _hidden_gradients(ctx: Any, grad_m: Tensor | None, *_: None) -> tuple[Any, ...]:
    y, d, statistics, *parameters = ctx.saved_tensors
    if grad_m is None:
        gradients: list[Tensor | None] = [None] * (1 + len(parameters))
    elif torch.is_grad_enabled():  # the gradient is to be differentiated again, which the kernels cannot
        made = hidden_definition(y, parameters, *ctx.options)
        gradients = _differentiable(made, [y, *parameters], grad_m)
    else:
        gradients = list(hidden_backward(grad_m, y, parameters, d, statistics, *ctx.options))
    return gradients[0], gradients[1:], *(None for _ in ctx.options)


def _save_normalised(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, *ctx.options = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, bias, output[1])


def _normalised_gradients(ctx: Any, grad_m: Tensor | None, _: None) -> tuple[Any, ...]:
    x, weight, bias, statistics = ctx.saved_tensors
    if grad_m is None:
        return (None,) * 5
    if torch.is_grad_enabled():
        norm, eps = ctx.options
        made = NORMS[norm].normalise(x, weight, bias, eps)
        return *_differentiable(made, [x, weight, bias], grad_m), None, None
    return *normalised_backward(grad_m, x, weight, bias, statistics, *ctx.options), None, None


def _differentiable(made: Tensor, inputs: list[Tensor], grad: Tensor) -> list[Tensor | None]:
    """Gradients that have a graph of their own; None for inputs that need none."""
    wanted = [each for each in inputs if each.requires_grad]
    found = iter(torch.autograd.grad(made, wanted, grad, create_graph=True))
    return [next(found) if each.requires_grad else None for each in inputs]


hidden.register_autograd(_hidden_gradients, setup_context=_save_hidden)
normalised.register_autograd(_normalised_gradients, setup_context=_save_normalised)
