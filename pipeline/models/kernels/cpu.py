"""A block's hidden activations and a norm on a CPU, in three passes over memory forward and four back.

torch's own operators take some twenty passes for the same, and torch.compile spends most of its time in the gradients of
per-channel parameters. Statistics are merged over frames by the norms' own functions (``norms.py``), gradients included.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.models.kernels.library import Passes
from pipeline.models.norms import NORMS, Given, numbers_of


def hidden(
    y: Tensor, parameters: Sequence[Tensor], norm: str, eps: Sequence[float], dilation: int, before: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Forward; see :func:`pipeline.models.kernels.ops.hidden`."""
    passes = _block_passes(y, parameters, dilation, before)
    statistics = passes.per_frame(4)
    mean_1, variance_1, mean_2, variance_2 = statistics
    passes.run("statistics", mean=mean_1, variance=variance_1)
    first = _Merged(norm, eps[0], mean_1, variance_1)
    d, m = torch.empty_like(y), torch.empty_like(y)
    passes.add(**first.normal(1), d=d)
    passes.run("convolve", mean=mean_2, variance=variance_2)
    second = _Merged(norm, eps[1], mean_2, variance_2)
    passes.run("normalise", **second.normal(2), m=m)
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
    passes = _block_passes(y, parameters, dilation, before)
    mean_1, variance_1, mean_2, variance_2 = statistics
    first = _Merged(norm, eps[0], mean_1, variance_1, differentiable=True)
    second = _Merged(norm, eps[1], mean_2, variance_2, differentiable=True)
    passes.add(**first.normal(1), **second.normal(2), d=d)
    of_norm_2, of_bias_2 = _normalise_backward(passes, second, grad_m)
    of_norm_1 = passes.sums("convolve_back_sums", 2 + passes.arguments["num_taps"])
    grad_y = torch.empty_like(y)
    of_bias_0 = passes.sums("convolve_back", 2, **first.gradient(passes), grad_y=grad_y)
    # Each gradient has memory of its own, as results of an operator must.
    return [
        grad_y,
        of_bias_0[0].clone(), of_bias_0[1].sum().reshape(1), of_norm_1[0].clone(), of_norm_1[1].clone(), of_norm_1[2:].clone(),
        of_bias_2[0].clone(), of_bias_2[1].sum().reshape(1), of_norm_2[0].clone(), of_norm_2[1].clone(),
    ]  # fmt: skip


def _block_passes(y: Tensor, parameters: Sequence[Tensor], dilation: int, before: int) -> Passes:
    bias_0, slope_1, weight_1, bias_1, taps, bias_2, slope_2, weight_2, bias_3 = (each.contiguous() for each in parameters)
    return Passes(
        y,
        bias_0=bias_0, weight_1=weight_1, bias_1=bias_1, taps=taps, bias_2=bias_2, weight_2=weight_2, bias_3=bias_3,
        slope_1=slope_1.item(), slope_2=slope_2.item(), num_taps=len(taps), dilation=dilation, before=before,
    )  # fmt: skip


class HiddenInSteps:
    """Forward for frames of which others come before or after, see :class:`pipeline.models.layerwise.Hidden`."""

    def __init__(self, y: Tensor, parameters: Sequence[Tensor], eps: Sequence[float], dilation: int, before: int) -> None:
        self._passes = _block_passes(y, parameters, dilation, before)
        self._eps = eps
        self._d = y

    def first(self) -> Given:
        """Each frame's statistics for the first norm."""
        mean, variance = self._passes.per_frame(2)
        self._passes.run("statistics", mean=mean, variance=variance)
        return mean, variance

    def convolve(self, given: Given) -> Given:
        """Each frame's statistics for the second norm, from what the first one normalises with."""
        mean, variance = self._passes.per_frame(2)
        self._d = torch.empty_like(self._d)
        self._passes.run("convolve", **self._normal(1, given), d=self._d, mean=mean, variance=variance)
        return mean, variance

    def normalise(self, given: Given, inner: slice) -> Tensor:
        """Some frames' activations, from what the second norm normalises these with; of a batch of one."""
        d = self._d[:, inner]
        m = torch.empty_like(d)
        self._passes.add(frames=d.shape[1])
        self._passes.run("normalise", **self._normal(2, given, d.shape[1]), d=d, m=m)
        return m

    def _normal(self, k: int, given: Given, frames: int | None = None) -> dict[str, Tensor]:
        """What norm ``k`` normalises each frame with, as ``cpu.cpp`` takes it."""
        shape = (1, frames or self._passes.frames, 1)
        numbers = numbers_of(given, self._eps[k - 1], torch.float32)
        mean, scale, shift = (each.float().expand(shape).contiguous() for each in numbers)
        return {f"mean_{k}": mean, f"scale_{k}": scale, f"shift_{k}": shift}


def normalised(x: Tensor, weight: Tensor, bias: Tensor, norm: str, eps: float) -> tuple[Tensor, Tensor]:
    """Forward; see :func:`pipeline.models.kernels.ops.normalised`."""
    passes = _norm_passes(x, weight, bias)
    statistics = passes.per_frame(2)
    mean, variance = statistics
    passes.run("statistics", mean=mean, variance=variance)
    m = torch.empty_like(x)
    passes.run("normalise", **_Merged(norm, eps, mean, variance).normal(2), m=m)
    return m, statistics


def normalised_backward(
    grad_m: Tensor, x: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, norm: str, eps: float
) -> list[Tensor]:
    """The gradients of ``x``, ``weight`` and ``bias``."""
    passes = _norm_passes(x, weight, bias)
    mean, variance = statistics
    merged = _Merged(norm, eps, mean, variance, differentiable=True)
    passes.add(**merged.normal(2))
    of_norm, _ = _normalise_backward(passes, merged, grad_m)
    return [passes.arguments["grad_d"], of_norm[0].clone(), of_norm[1].clone()]


def _norm_passes(x: Tensor, weight: Tensor, bias: Tensor) -> Passes:
    """A norm alone is a block's second one, after a rectifier that lets everything through."""
    weight, bias = weight.contiguous(), bias.contiguous()
    return Passes(x, d=x, bias_0=torch.zeros_like(bias), weight_2=weight, bias_3=bias, slope_1=1.0, slope_2=1.0)


def _normalise_backward(passes: Passes, merged: _Merged, grad_m: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the last norm's weight and bias, and of the bias and slope before it by channels; adds ``grad_d``."""
    total, product = passes.per_frame(2)
    grad_d = torch.empty_like(passes.arguments["d"])
    passes.add(grad_m=grad_m.contiguous(), sum=total, product=product, grad_d=grad_d)
    of_norm = passes.sums("normalise_back_sums", 2)
    return of_norm, passes.sums("normalise_back", 2, **merged.gradient(passes))


class _Merged:
    """A norm's mean and scale (one over the deviation) for each frame, ``[batch, frames, 1]`` float64."""

    def __init__(self, norm: str, eps: float, mean: Tensor, variance: Tensor, *, differentiable: bool = False) -> None:
        self._frame_mean = mean
        self._wide_frame_mean = mean.double()
        merge = functools.partial(_mean_and_scale, norm, eps)
        if differentiable:
            (self.mean, self.scale), self._vjp = torch.func.vjp(merge, self._wide_frame_mean, variance.double())  # type: ignore[misc]
        else:
            self.mean, self.scale = merge(self._wide_frame_mean, variance.double())

    def normal(self, k: int) -> dict[str, Tensor]:
        """The numbers with which norm ``k`` normalises each frame, as ``cpu.cpp`` takes them."""
        shift = (self._wide_frame_mean - self.mean) * self.scale
        scale = self.scale.float().contiguous()
        return {f"mean_{k}": self._frame_mean, f"scale_{k}": scale, f"shift_{k}": shift.float().contiguous()}

    def gradient(self, passes: Passes) -> dict[str, Tensor]:
        """What the statistics add to the gradient of a frame's values, from the sums that a first backward pass left."""
        total, product = passes.arguments["sum"], passes.arguments["product"]
        # Normalised values are (p - mean) scale.
        grad_mean, grad_variance = self._vjp((-self.scale * total, product / self.scale))
        constant, linear = grad_mean / passes.channels, 2 * grad_variance / passes.channels
        return {"constant": constant.float().contiguous(), "linear": linear.float().contiguous()}


def _mean_and_scale(norm: str, eps: float, frame_mean: Tensor, frame_variance: Tensor) -> tuple[Tensor, Tensor]:
    mean, variance = NORMS[norm].merge(frame_mean, frame_variance)
    return mean.expand_as(frame_mean), torch.rsqrt(variance + eps).expand_as(frame_mean)
