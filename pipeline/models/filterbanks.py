"""Filterbanks to begin with: windowed sinusoids, and the basis that turns their responses back into the signal.

Trained filters end as band-passes of all phases, which random ones have to become first. Encoder and decoder are trained from
here on all the same.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

PHASES = 4
"""Cosine, minus sine and the two opposites: of each pair of opposites, a rectifier lets one through."""


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
