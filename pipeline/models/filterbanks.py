"""The encoder and the decoder, and sinusoids to start their training from.

Trained filters end as band-passes of all phases, which random ones have to become first. Encoder and decoder that start from
windowed sinusoids are trained all the same.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.recipe.schema import Model

PHASES = 4
"""Cosine, minus sine and the two opposites: of each pair of opposites, a rectifier lets one through."""


class Encoder(nn.Module):
    """Frames of L samples, half overlapping, times N filters [U]; every sample lies in exactly two frames.

    Shape:
        ``[batch, time] -> [batch, frames, N]`` with ``frames = ceil(time / (L/2)) + 1``.
    """

    def __init__(self, settings: Model) -> None:
        super().__init__()
        self.stride = settings.filter_length // 2
        self.rectify = settings.encoder == "relu"
        self.filters = nn.Linear(settings.filter_length, settings.num_filters, bias=False)

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Of signals of so many samples; both of any shape, int64."""
        return -(-num_samples // self.stride) + 1

    def forward(self, mixture: Tensor) -> Tensor:
        """Analyse."""
        missing = -mixture.shape[-1] % self.stride
        return self.analyse(functional.pad(mixture, (self.stride, self.stride + missing)))

    def analyse(self, padded: Tensor) -> Tensor:
        """All whole frames of a signal, ``[batch, (frames + 1) · L/2] -> [batch, frames, N]``."""
        halves = padded.reshape(padded.shape[0], -1, self.stride)  # [batch, frames + 1, L/2]
        frames = torch.cat([halves[:, :-1], halves[:, 1:]], dim=-1)  # [batch, frames, L]
        responses: Tensor = self.filters(frames)  # [batch, frames, N]
        return responses.relu() if self.rectify else responses


class Decoder(nn.Module):
    """N basis signals of L samples [V], summed where frames overlap.

    Shape:
        ``[batch, frames, source, N] -> [batch, source, (frames - 1) · L/2]``.
    """

    def __init__(self, settings: Model) -> None:
        super().__init__()
        self.stride = settings.filter_length // 2
        self.basis = nn.Linear(settings.num_filters, settings.filter_length, bias=False)
        bound = settings.filter_length**-0.5  # that of a transposed convolution
        nn.init.uniform_(self.basis.weight, -bound, bound)

    def forward(self, masked: Tensor) -> Tensor:
        """Synthesise."""
        return self.overlap(self.basis(masked).transpose(1, 2))

    def overlap(self, frames: Tensor) -> Tensor:
        """Sum frames where they overlap, ``[batch, source, frames, L] -> [batch, source, (frames - 1) · L/2]``."""
        halves: Tensor = frames[:, :, 1:, : self.stride] + frames[:, :, :-1, self.stride :]  # [batch, source, frames - 1, L/2]
        # The copy costs next to nothing; without it torch.export ties its graph to the layout, and so to some lengths.
        return halves.clone(memory_format=torch.contiguous_format).flatten(2)  # [batch, source, (frames - 1) · L/2]


def sinusoids(num_filters: int, filter_length: int) -> Tensor:
    """Sinusoids under the root of a Hann window, of unit energy; frequencies evenly between 0 and half the sample rate.

    Args:
        num_filters: [N] a multiple of 4: every frequency comes in four phases, 90 degrees apart.
        filter_length: [L] samples.

    Returns:
        ``[filter, time]``
    """
    num_frequencies = num_filters // PHASES
    time = torch.arange(filter_length, dtype=torch.float64) + 0.5
    frequency = (torch.arange(num_frequencies, dtype=torch.float64) + 0.5) / num_frequencies / 2  # cycles per sample
    phase = torch.arange(PHASES, dtype=torch.float64) * (2 * pi / PHASES)
    angle = 2 * pi * frequency[:, None, None] * time + phase[:, None]  # [frequency, phase, time]
    filters = (_window(filter_length) * angle.cos()).flatten(0, 1)  # [filter, time]
    unit: Tensor = filters / filters.norm(dim=1, keepdim=True)
    return unit


def inverse(filters: Tensor, *, rectified: bool) -> Tensor:
    """The basis that turns the responses of :func:`sinusoids` back into the signal when frames overlap by half.

    Args:
        filters: ``[filter, time]``, at least twice as many as samples.
        rectified: whether the responses' negative parts are cut off; each opposite then carries half of what both do.

    Returns:
        ``[time, filter]``
    """
    halves = 2.0 if rectified else 1.0
    # The squares of a root-Hann window and of its neighbour half a window on sum to one.
    squared = _window(filters.shape[1]).square()
    basis: Tensor = halves * squared[:, None] * torch.linalg.pinv(filters)
    return basis


def _window(length: int) -> Tensor:
    return torch.sin(pi * (torch.arange(length, dtype=torch.float64) + 0.5) / length)
