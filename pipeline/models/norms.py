"""The three layer norms of Conv-TasNet: global, cumulative and per frame.

All three are built from the same per-frame statistics: the mean of a frame's channels and their variance about that mean. They
differ only in the frames they merge: all of them (global), those so far (cumulative), or none but the frame itself.

Layout is channels last, ``[batch, frames, channels]``, so that a frame's statistics read one contiguous row. The row statistics
are at least float32 whatever the input is, and they are merged in float64: the merge touches ``[batch, frames]`` numbers only,
and in float32 an offset of a few hundred standard deviations, or an hour of frames, would already show.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

Merge = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From each frame's mean and variance, ``[batch, frames, 1]`` float64, those to normalise it with."""

Given = tuple[Tensor, Tensor]
"""The mean and variance to normalise some frames with, ``[batch, 1 or frames, 1]`` float64."""

MAX_FRAMES = 512
"""Frames to merge at once where older ones are forgotten: the factors of more would leave the range of float64."""


class LayerNorm(nn.Module):
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` with statistics over channels and some of the frames.

    Args:
        num_channels: size of the last axis; weight [gamma] and bias [beta] have one value per channel.
        eps: added to the variance, inside the root.

    Shape:
        ``[batch, frames, channels] -> [batch, frames, channels]``, in the input's dtype.
    """

    kind: ClassVar[str]

    def __init__(self, num_channels: int, *, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """Normalise; where members of the batch are padded, ``num_frames`` ``[batch]`` says how many of their frames count."""
        merge = None if num_frames is None else self.merge_of_padded(num_frames)
        return self.normalise(x, self.weight, self.bias, self.eps, merge)

    @classmethod
    def merge_of_padded(cls, num_frames: Tensor) -> Merge:
        """A merge that leaves out what follows each member's last frame; the norm's own, if that never looks ahead."""
        return cls.merge

    @classmethod
    def normalise(cls, x: Tensor, weight: Tensor, bias: Tensor, eps: float, merge: Merge | None = None) -> Tensor:
        """The norm as a function of its parameters; ``merge`` replaces its own where the frames continue earlier ones."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        frame_mean = wide.mean(-1, keepdim=True)  # [batch, frames, 1]
        centred = wide - frame_mean
        frame_variance = centred.square().mean(-1, keepdim=True)
        mean, variance = (merge or cls.merge)(frame_mean.double(), frame_variance.double())
        inverse_deviation = torch.rsqrt(variance + eps)
        # x - mean in two steps, (x - frame_mean) + (frame_mean - mean), keeps its digits however large the mean is.
        shift = ((frame_mean.double() - mean) * inverse_deviation).to(wide.dtype)
        normal = centred * inverse_deviation.to(wide.dtype) + shift
        return (normal * weight + bias).to(x.dtype)

    def normalise_with(self, x: Tensor, given: Given) -> Tensor:
        """Normalise frames whose merged statistics are known already, ``[batch, frames, channels]``."""
        near, scale, shift = (each.to(x.dtype) for each in numbers_of(given, self.eps, x.dtype))
        return torch.addcmul(self.bias, torch.addcmul(shift, x - near, scale), self.weight)

    @staticmethod
    def merge(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """From each frame's mean and variance, ``[batch, frames, 1]`` float64, those to normalise it with."""
        raise NotImplementedError


def numbers_of(given: Given, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """What turns x into its normal values, ``(x - near) * scale + shift``, in float64.

    ``near`` is the mean as the dtype has it: subtracting that loses no digits, and ``shift`` makes up for the rest.
    """
    mean, variance = given
    near, scale = mean.to(dtype).double(), torch.rsqrt(variance + eps)
    return near, scale, (near - mean) * scale


class GlobalLayerNorm(LayerNorm):
    """Statistics over all channels and all frames [gLN, eq. 9-11]: every output depends on the whole signal."""

    kind = "global"

    @staticmethod
    def merge(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of all frames together, ``[batch, 1, 1]``."""
        overall = mean.mean(1, keepdim=True)
        return overall, variance.mean(1, keepdim=True) + (mean - overall).square().mean(1, keepdim=True)

    @classmethod
    def merge_of_padded(cls, num_frames: Tensor) -> Merge:
        """The same of each member's first frames."""

        def merge(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
            inside = torch.arange(mean.shape[1], device=mean.device)[:, None] < num_frames[:, None, None]  # [batch, frames, 1]
            count = num_frames.to(mean.dtype)[:, None, None]
            overall = torch.where(inside, mean, 0.0).sum(1, keepdim=True) / count
            spread = variance + (mean - overall).square()
            return overall, torch.where(inside, spread, 0.0).sum(1, keepdim=True) / count

        return merge


class CumulativeLayerNorm(LayerNorm):
    """Statistics over all channels and the frames so far [cLN, eq. 12-14]: the paper's norm for causal systems."""

    kind = "cumulative"

    @staticmethod
    def merge(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the frames up to and including each, ``[batch, frames, 1]``."""
        count = torch.arange(1, mean.shape[1] + 1, dtype=mean.dtype, device=mean.device)[:, None]
        # Means are taken relative to the first frame's: any constant gives the same result, a near one keeps the digits.
        first = mean[:, :1].detach()
        offset = mean - first
        return _from_sums(first, count, offset.cumsum(1), offset.square().cumsum(1), variance.cumsum(1))

    @staticmethod
    def merge_more(
        mean: Tensor, variance: Tensor, sums: Tensor, num_before: Tensor, forget_frames: float | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`merge`, for frames that continue earlier ones.

        Args:
            mean: of each new frame, ``[batch, frames, 1]`` float64.
            variance: likewise.
            sums: what earlier frames left, ``[batch, 4]`` float64: the first frame's mean, and over all frames the sums of the
                means relative to it, of their squares, and of the variances. Zeros at the start.
            num_before: how many frames came before, a scalar int64.
            forget_frames: after so many frames, a frame's share in the sums has fallen to 1/e; by default it never falls.
                At least 2, with no more than :data:`MAX_FRAMES` new frames at once.

        Returns:
            Mean and variance to normalise each frame with, ``[batch, frames, 1]``, and the sums for the next call.
        """
        first, *earlier = sums.T[:, :, None, None]  # each [batch, 1, 1]
        first = torch.where(num_before == 0, mean[:, :1], first)
        offset = mean - first
        terms = torch.stack([offset, offset.square(), variance])  # [3, batch, frames, 1]
        age = torch.arange(1, mean.shape[1] + 1, dtype=mean.dtype, device=mean.device)[:, None]  # [frames, 1]
        count = num_before + age  # float64, exact to 2^53
        if forget_frames is None:
            weight = count
            totals = torch.stack(earlier) + terms.cumsum(2)
        else:
            # Frame j's share in frame k's sums is exp(-(k - j) / forget_frames); `weight` is the sum of the shares.
            rate = 1 / forget_frames
            weight = torch.expm1(count * -rate) / math.expm1(-rate)
            totals = (torch.stack(earlier) + (terms * (age * rate).exp()).cumsum(2)) * (age * -rate).exp()
        left = torch.stack([first, *totals[:, :, -1:]]).flatten(1).T
        return *_from_sums(first, weight, *totals), left


def _from_sums(first: Tensor, count: Tensor, offsets: Tensor, squares: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance from sums over frames: of the means relative to ``first``, of their squares, and of the variances."""
    mean_offset = offsets / count
    between = squares / count - mean_offset.square()
    return first + mean_offset, variances / count + between.clamp_min(0.0)


class FrameLayerNorm(LayerNorm):
    """Statistics over the channels of each frame alone (often mislabelled cLN elsewhere): causal, without memory."""

    kind = "frame"

    @staticmethod
    def merge(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """The frame's own."""
        return mean, variance


NORMS: dict[str, type[LayerNorm]] = {norm.kind: norm for norm in (GlobalLayerNorm, CumulativeLayerNorm, FrameLayerNorm)}
"""By the names that recipes use."""
