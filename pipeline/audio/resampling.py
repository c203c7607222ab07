"""Resampling as the published datasets do it, and how lengths change with it; the last axis is time."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

_HALF_TAPS = 10  # of resample_poly's filter on either side, in samples of the lower rate


def up_and_down(old_rate: int, new_rate: int) -> tuple[int, int]:
    """The least numbers in the ratio of the rates: so many new samples take as long as so many old ones."""
    divisor = gcd(old_rate, new_rate)
    return new_rate // divisor, old_rate // divisor


def resample(samples: npt.NDArray[Any], old_rate: int, new_rate: int) -> npt.NDArray[Any]:
    """Resample as the published datasets do: scipy's polyphase filter (Kaiser 5.0), which equals MATLAB's ``resample``.

    Args:
        samples: [time], float32 or float64; the result has the same type.
        old_rate: Hz of the samples.
        new_rate: Hz wanted.

    Returns:
        [ceil(time * new_rate / old_rate)].
    """
    if old_rate == new_rate:
        return samples
    up, down = up_and_down(old_rate, new_rate)
    # The filter is resample_poly's own default, designed once instead of at every call.
    resampled: npt.NDArray[Any] = scipy.signal.resample_poly(samples, up, down, window=_filter(up, down, samples.dtype.name))
    return resampled


@lru_cache(maxsize=32)
def _filter(up: int, down: int, dtype: str) -> Any:
    """The low-pass [tap] that ``resample_poly`` designs where none is given."""
    longer = max(up, down)
    return scipy.signal.firwin(2 * _HALF_TAPS * longer + 1, 1 / longer, window=("kaiser", 5.0)).astype(dtype)


def polyphase(old_rate: int, new_rate: int) -> tuple[int, int, int, npt.NDArray[np.float32]]:
    """What :func:`resample` computes, in numbers, for whoever computes it elsewhere: ``up``, ``down``, ``half``, ``taps``.

    With ``newest, phase = divmod(time * down + half, up)``, result number ``time`` is the sum over k of
    ``taps[phase, k] * samples[newest - k]``, where there are such samples.

    Returns:
        Three numbers, and ``taps`` [phase, tap]; equal rates have one tap of 1.
    """
    up, down = up_and_down(old_rate, new_rate)
    if up == down:
        return 1, 1, 0, np.ones((1, 1), np.float32)
    taps = up * _filter(up, down, "float32")
    return up, down, (len(taps) - 1) // 2, np.pad(taps, (0, -len(taps) % up)).reshape(-1, up).T


def deciding_length(num_resampled: int, old_rate: int, new_rate: int) -> int:
    """How many samples, from the first on, decide the first ``num_resampled`` that :func:`resample` makes of them."""
    if old_rate == new_rate:
        return num_resampled
    up, down = up_and_down(old_rate, new_rate)
    return (num_resampled * down + _HALF_TAPS * max(up, down)) // up + 1


def resampled_length(num_samples: int, old_rate: int, new_rate: int) -> int:
    """Samples that :func:`resample` makes of ``num_samples``."""
    return -(-num_samples * new_rate // old_rate)


# ---------------------------------------------------------------------------------------------------------------- speed
# SoX 14.4.2 answers impulses, at 0.8 and 1.2 times the speed, with the product of two low-passes in Kaiser windows, up to the
# rounding to 32 bits: one that doubles the rate and cuts below the band's end, and a wide one from there to the new rate. The
# numbers are measured from its output. Cut-offs are relative to half the sample rate, the first to that of the narrower band; the
# windows end a little beyond the last tap.
_SHARP_HALF, _SHARP_BEYOND, _SHARP_CUT, _SHARP_BETA = 204.1, 0.5, 0.9568138637, 13.7112545
_WIDE_BEYOND, _WIDE_BETA = 0.75, 14.05867
_WIDE_SLOWER, _WIDE_FASTER = (16, 0.911308931), (14, 0.910493019)  # taps a phase, cut-off
_SETTLING = 16  # samples after the end that the second filter still reaches
_SOX_STEP = 2.0**-24  # of the floating-point samples that it writes


def at_speed(samples: npt.NDArray[Any], speed: float) -> npt.NDArray[Any]:
    """A recording played faster (``speed`` above 1) or slower, which moves its pitch along, as SoX's effect ``speed`` does.

    At 0.8 and 1.2 times the speed, after rounding to 16 bits as LibriMix's script does, more than 99.9 % of the samples are SoX's
    own, and no other is more than one step off.

    Args:
        samples: [time], float32 or float64, within full scale; the result has the same type.
        speed: a ratio of small numbers, such as 0.8 or 1.2.

    Returns:
        [time / speed, rounded].
    """
    ratio = Fraction(speed).limit_denominator(100)
    up, down = ratio.denominator, ratio.numerator
    sharp, wide = _speed_filters(up, down)
    padded = np.pad(np.asarray(samples, np.float64), (0, _SETTLING))
    doubled = scipy.signal.resample_poly(padded, 2, 1, window=sharp)
    played = scipy.signal.resample_poly(doubled, up, 2 * down, window=wide)[: length_at_speed(len(samples), speed)]
    rounded = np.clip(np.floor(played / _SOX_STEP + 0.5) * _SOX_STEP, -1, 1 - _SOX_STEP)
    result: npt.NDArray[Any] = rounded.astype(samples.dtype)
    return result


def length_at_speed(num_samples: int, speed: float) -> int:
    """Samples that :func:`at_speed` makes of ``num_samples``."""
    return max(int(num_samples / speed + 0.5), 1)


@lru_cache(maxsize=8)
def _speed_filters(up: int, down: int) -> tuple[Any, Any]:
    """The low-passes [tap] to the doubled rate, and from there to the new one, as ``resample_poly`` takes them."""
    shortened = max(1.0, down / up)
    taps, cut = _WIDE_SLOWER if down < up else _WIDE_FASTER
    sharp = _low_pass(int(_SHARP_HALF * shortened), _SHARP_BEYOND, _SHARP_CUT / shortened / 2, _SHARP_BETA)
    return sharp, _low_pass(up * taps // 2 - 1, _WIDE_BEYOND, cut / up, _WIDE_BETA)


def _low_pass(half: int, beyond: float, cut: float, beta: float) -> npt.NDArray[np.float64]:
    """A sinc of ``2 * half + 1`` taps in a Kaiser window that ends ``beyond`` the last one, with a relative cut-off frequency."""
    taps = np.arange(-half, half + 1)
    window = np.i0(beta * np.sqrt(1 - (taps / (half + beyond)) ** 2)) / np.i0(beta)
    low_pass: npt.NDArray[np.float64] = cut * np.sinc(cut * taps) * window
    return low_pass
