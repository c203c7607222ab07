"""Conv-TasNet as Asteroid publishes its settings, in plain torch operations: what its users train, where its package is missing.

The paper's best configuration (N 512, L 16, B 128, Sc 128, H 512, P 3, X 8, R 3), a bias-free linear encoder and decoder, a
rectified mask, and norms that take their statistics in separate passes, in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Norm(nn.Module):
    """Global layer norm, or cumulative where causal; input [batch, channel, frame]."""

    def __init__(self, channels: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.scale = nn.Parameter(torch.ones(channels, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by mean and variance over channels and, all or so far, frames."""
        if self.causal:
            count = x.shape[1] * torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
            mean = x.sum(1, keepdim=True).cumsum(-1) / count
            variance = x.square().sum(1, keepdim=True).cumsum(-1) / count - mean.square()
        else:
            mean = x.mean((1, 2), keepdim=True)
            variance = (x - mean).square().mean((1, 2), keepdim=True)
        return self.scale * (x - mean) / (variance + 1e-8).sqrt() + self.shift


class Block(nn.Module):
    """1×1 convolution, PReLU, norm, dilated depthwise convolution, PReLU, norm, residual and skip paths."""

    def __init__(self, dilation: int, causal: bool, channels: int, hidden: int) -> None:
        super().__init__()
        self.cut = 2 * dilation if causal else 0
        self.body = nn.Sequential(nn.Conv1d(channels, hidden, 1), nn.PReLU(), Norm(hidden, causal))
        padding = 2 * dilation if causal else dilation
        self.depthwise = nn.Conv1d(hidden, hidden, 3, padding=padding, dilation=dilation, groups=hidden)
        self.tail = nn.Sequential(nn.PReLU(), Norm(hidden, causal))
        self.residual, self.skip = nn.Conv1d(hidden, channels, 1), nn.Conv1d(hidden, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the next block's input and this block's part of the sum."""
        y = self.depthwise(self.body(x))
        y = self.tail(y[..., : y.shape[-1] - self.cut])
        return x + self.residual(y), self.skip(y)


class AsteroidLike(nn.Module):
    """[batch, time] → [batch, source, time]; lengths that the encoder's hop divides."""

    def __init__(self, *, causal: bool, small: bool = False) -> None:
        super().__init__()
        filters, channels, hidden, blocks, repeats = (32, 8, 16, 2, 1) if small else (512, 128, 512, 8, 3)
        self.encoder = nn.Conv1d(1, filters, 16, stride=8, bias=False)
        self.decoder = nn.ConvTranspose1d(filters, 1, 16, stride=8, bias=False)
        self.bottleneck = nn.Sequential(Norm(filters, causal), nn.Conv1d(filters, channels, 1))
        self.blocks = nn.ModuleList(Block(2**x, causal, channels, hidden) for _ in range(repeats) for x in range(blocks))
        self.mask = nn.Sequential(nn.PReLU(), nn.Conv1d(channels, 2 * filters, 1), nn.ReLU())

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate."""
        frames = self.encoder(mixture[:, None])
        x, total = self.bottleneck(frames), torch.zeros((), device=mixture.device)
        for block in self.blocks:
            x, part = block(x)
            total = total + part
        masks = self.mask(total).unflatten(1, (2, -1))
        masked = (masks * frames[:, None]).flatten(0, 1)
        return self.decoder(masked).unflatten(0, (len(mixture), 2))[:, :, 0]
