"""Sample rates converted on the model's device by torchaudio's resampler: whole signals, and signals that come in pieces.

Mixtures are converted by ``pipeline.audio.resampling``, as those of the published datasets are. What people bring to a trained
model is converted here, by a longer filter: 64 zero crossings on either side, which changes 90 % of the band by less than 0.1 dB
and lets nothing fold back. Rates without a simple ratio would need a filter for each of thousands of phases; they are left to
SciPy, on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from math import ceil
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.audio import resampling

ZERO_CROSSINGS = 64
ROLLOFF = 0.9475937167399596
KAISER_BETA = 14.769656459379492
"""With the two above, the window that torchaudio's documentation calls ``kaiser_best``."""
RESAMPLER = "torchaudio kaiser_best"
"""What records of separated files call all this."""
MAX_KERNEL = 2**22
"""Coefficients of all phases together, 16 MiB."""


def resample(samples: Tensor, old_rate: int, new_rate: int) -> Tensor:
    """Resample a whole signal.

    Args:
        samples: [..., time], float32.
        old_rate: Hz of the samples.
        new_rate: Hz wanted.

    Returns:
        [..., ceil(time * new_rate / old_rate)], on the same device.
    """
    if old_rate == new_rate or not samples.shape[-1]:
        return samples
    up, down = resampling.up_and_down(old_rate, new_rate)
    converted: Tensor = _converter(down, up, samples.device)(samples)
    return converted


class Resampler:
    """The rate of one signal, or of several in step, converted while it arrives: what :func:`resample` makes of the whole.

    A sample is given out once all that its filter reaches has arrived.
    """

    def __init__(self, old_rate: int, new_rate: int) -> None:
        self._rates = (old_rate, new_rate)
        self._up, self._down = resampling.up_and_down(old_rate, new_rate)
        # Pieces are cut at multiples of `down`, where the samples of both rates meet, with as much around as the filter reaches.
        self._context = self._down * (_reach(self._down, self._up) // self._down + 2)
        self._waiting: Tensor | None = None
        self._done = 0  # of the waiting samples, those whose results are out

    def push(self, samples: Tensor) -> Tensor:
        """Take the next samples ``[..., time]``; returns the converted ones that have become final."""
        if self._down == self._up:
            self._waiting = samples[..., :0]
            return samples
        waiting = samples if self._waiting is None else torch.cat([self._waiting, samples], dim=-1)
        ready = max((waiting.shape[-1] - self._context) // self._down * self._down, self._done)
        converted = resample(waiting[..., : ready + self._context], *self._rates) if ready > self._done else waiting
        start, stop = self._done // self._down * self._up, ready // self._down * self._up
        first = max(ready - self._context, 0)
        self._waiting, self._done = waiting[..., first:], ready - first
        return converted[..., start:stop]

    def finish(self) -> Tensor:
        """End the signal; returns the rest."""
        if self._waiting is None:
            return torch.zeros(0)
        rest, self._waiting = self._waiting, None
        return resample(rest, *self._rates)[..., self._done // self._down * self._up :]


def resample_blocks(
    blocks: Iterable[npt.NDArray[Any]], old_rate: int, new_rate: int, device: torch.device
) -> Iterator[npt.NDArray[Any]]:
    """What :func:`resample` makes of a signal that comes in blocks ``[time]``, block by block."""
    if old_rate == new_rate:
        yield from blocks
        return
    live = Resampler(old_rate, new_rate)
    for block in blocks:
        converted = live.push(torch.from_numpy(block).float().to(device))
        if len(converted):
            yield converted.cpu().numpy()
    yield live.finish().cpu().numpy()


def _reach(old_rate: int, new_rate: int) -> int:
    """Samples of the old rate that the filter reaches on either side."""
    return ceil(ZERO_CROSSINGS * old_rate / (min(old_rate, new_rate) * ROLLOFF))


@lru_cache(maxsize=8)
def _converter(old_rate: int, new_rate: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """From one rate to another, both without their common divisor."""
    if new_rate * (2 * _reach(old_rate, new_rate) + old_rate) > MAX_KERNEL:
        return lambda samples: torch.from_numpy(resampling.resample(samples.cpu().numpy(), old_rate, new_rate)).to(device)
    from torchaudio.transforms import Resample  # here, so that audio at the model's rate need not wait for it

    made = Resample(
        old_rate,
        new_rate,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=ZERO_CROSSINGS,
        rolloff=ROLLOFF,
        beta=KAISER_BETA,
    )
    return made.to(device)  # type: ignore[no-any-return]
