"""The small layers of a block, channels last: a depthwise convolution and a rectifier, as functions and as modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def depthwise(x: Tensor, taps: Tensor, bias: Tensor, *, dilation: int, padding: tuple[int, int]) -> Tensor:
    """Each channel convolved with its own few taps, as shifted multiply-adds.

    Args:
        x: ``[batch, frames, channels]``.
        taps: ``[tap, channels]``, the earliest frame's first.
        bias: ``[channels]``.
        dilation: frames between taps.
        padding: frames of zeros before and after.

    Returns:
        ``[batch, frames + before + after - (taps - 1) · dilation, channels]``.
    """
    padded = functional.pad(x, (0, 0, *padding))  # [batch, before + frames + after, channels]
    num_frames = padded.shape[1] - (len(taps) - 1) * dilation
    y = bias
    for i, tap in enumerate(taps):
        start = i * dilation
        y = y + tap * padded[:, start : start + num_frames]  # [batch, frames, channels]
    return y


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """The positive values, and the negative ones times a slope, in the precision of the slope."""
    return torch.where(x > 0, x, slope * x)


class DepthwiseConv(nn.Module):
    """A dilated depthwise convolution with as many frames out as in.

    Args:
        channels: size of the last axis.
        kernel_size: taps.
        dilation: frames between taps.
        causal: look at this frame and earlier ones only; otherwise centred.

    Shape:
        ``[batch, frames, channels] -> [batch, frames, channels]``.
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int, *, causal: bool) -> None:
        super().__init__()
        self.dilation = dilation
        reach = (kernel_size - 1) * dilation
        self.padding = (reach, 0) if causal else (reach // 2, reach // 2)  # frames before, frames after
        bound = kernel_size**-0.5  # that of torch's convolutions
        self.taps = nn.Parameter(torch.empty(kernel_size, channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return depthwise(x, self.taps, self.bias, dilation=self.dilation, padding=self.padding)


class PReLU(nn.Module):
    """A rectifier that lets a learned share of the negative side through, one for all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.25]))

    def forward(self, x: Tensor) -> Tensor:
        """Rectify."""
        return prelu(x, self.slope)
