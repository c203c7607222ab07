"""Resampling as the published datasets do it, and how lengths change with it; the last axis is time."""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import firwin, resample_poly

_HALF_TAPS = 10  # of resample_poly's filter on either side, in samples of the lower rate


def resample(samples: npt.NDArray[Any], old_rate: int, new_rate: int) -> npt.NDArray[Any]:
    """Resample as the published datasets do: scipy's polyphase filter (Kaiser 5.0), which equals MATLAB's ``resample``.

    Args:
        samples: [time], float32 or float64; the result has the same type.
        old_rate: Hz of the samples.
        new_rate: Hz wanted.

    Returns:
        [ceil(time * new_rate / old_rate)], bit by bit what ``scipy.signal.resample_poly`` gives.
    """
    if old_rate == new_rate:
        return samples
    divisor = gcd(old_rate, new_rate)
    up, down = new_rate // divisor, old_rate // divisor
    if up == 1 and samples.dtype == np.float32 and _decimation_is_exact(down):
        return _decimated(samples, _filter(1, down, "float32"))
    # The filter is scipy's own default, designed once.
    resampled: npt.NDArray[Any] = resample_poly(samples, up, down, window=_filter(up, down, samples.dtype.name))
    return resampled


@lru_cache(maxsize=32)
def _filter(up: int, down: int, dtype: str) -> Any:
    """The low-pass [tap] that resample_poly designs where none is given."""
    longer = max(up, down)
    return firwin(2 * _HALF_TAPS * longer + 1, 1 / longer, window=("kaiser", 5.0)).astype(dtype)


def _decimated(samples: npt.NDArray[Any], taps: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Filter and keep every ``factor``-th sample, all outputs at once, tap after tap in resample_poly's order.

    In float32 this takes less than half of its time.
    """
    half = len(taps) // 2
    factor = half // _HALF_TAPS
    length = -(-len(samples) // factor)
    padded = np.zeros((length + len(taps) // factor + 1) * factor, dtype=samples.dtype)
    padded[half : half + len(samples)] = samples
    phases = np.ascontiguousarray(padded.reshape(-1, factor).T)
    total = np.zeros(length, dtype=samples.dtype)
    product = np.empty_like(total)
    for k, tap in enumerate(taps[::-1]):
        delay, phase = divmod(k, factor)
        np.multiply(phases[phase, delay : delay + length], tap, out=product)
        total += product
    return total


@lru_cache
def _decimation_is_exact(factor: int) -> bool:
    """Whether this machine adds and multiplies in numpy as it does in scipy, tried out; some fuse the two in compiled code."""
    noise = np.random.default_rng(0).standard_normal(8192).astype(np.float32)
    taps = _filter(1, factor, "float32")
    return np.array_equal(_decimated(noise, taps), resample_poly(noise, 1, factor, window=taps))


def deciding_length(num_resampled: int, old_rate: int, new_rate: int) -> int:
    """How many samples, from the first on, decide the first ``num_resampled`` that :func:`resample` makes of them."""
    if old_rate == new_rate:
        return num_resampled
    divisor = gcd(old_rate, new_rate)
    up, down = new_rate // divisor, old_rate // divisor
    return (num_resampled * down + _HALF_TAPS * max(up, down)) // up + 1


def resampled_length(num_samples: int, old_rate: int, new_rate: int) -> int:
    """Samples that :func:`resample` makes of ``num_samples``."""
    return -(-num_samples * new_rate // old_rate)
