"""How loud a signal is: active speech level (ITU-T P.56, method B), loudness (ITU-R BS.1770-4) and plain RMS."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, inf, log10, pi, tan
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy

LevelRule = Literal["active", "loudness", "rms"]
Signal = npt.NDArray[np.floating[Any]]
Vector = npt.NDArray[np.float64]

# The 5th-order Chebyshev-II prototype of the band limits: -0.25 dB at the edge, -50 dB in the stop band.
_ZEROS = np.array([0, 0.37843443673309j, -0.37843443673309j, 0.23388534441447j, -0.23388534441447j])
_POLES = np.array(
    [
        -0.66793268833792,
        -0.20640255179496 + 0.73942185906851j,
        -0.20640255179496 - 0.73942185906851j,
        -0.54036889596392 + 0.45698784092898j,
        -0.54036889596392 - 0.45698784092898j,
    ]
)
_LOW_EDGE_HZ = 200.0
_HIGH_EDGE_HZ = 5500.0
_SMOOTHING_SECONDS = 0.03
_HANGOVER_SECONDS = 0.2
_TAIL_SECONDS = 0.35
_MARGIN_DB = 15.9
_NUM_THRESHOLDS = 20
_BLOCK_SECONDS = 0.4


@dataclass(frozen=True)
class ActiveLevel:
    """The active speech level of a signal."""

    power: float
    """Mean square while speech is active; 0 for silence."""
    activity: float
    """Share of the time in which speech is active."""


def active_level(samples: Signal, sample_rate: int) -> ActiveLevel:
    """Active speech level by ITU-T P.56, method B, as MERL's WSJ0-2mix scripts measure it.

    Args:
        samples: [time].
        sample_rate: Hz; from 12.1 kHz on, the band is also limited at 5.5 kHz.

    Returns:
        Power (linear, mean square) and activity factor; both 0 where nothing sounds.
    """
    speech = _band_limited(np.append(samples, np.zeros(ceil(_TAIL_SECONDS * sample_rate))), sample_rate)
    energy = float(speech @ speech)
    if energy == 0:
        return ActiveLevel(power=0.0, activity=0.0)
    counts, top = _threshold_counts(_envelope(speech, sample_rate), sample_rate)
    levels_db = 10 * np.log10(energy / counts)
    thresholds_db = 10 * log10(2) * (top - np.arange(1, _NUM_THRESHOLDS + 1) - 1)
    power = 10 ** (_level_at_margin(levels_db, levels_db - thresholds_db - _MARGIN_DB) / 10)
    return ActiveLevel(power=power, activity=energy / (len(speech) * power))


def _band_limited(samples: Signal, sample_rate: int) -> Vector:
    """High-pass at 200 Hz, and low-pass at 5.5 kHz where the sample rate leaves anything above."""
    samples = scipy.signal.sosfilt(_high_pass(sample_rate), samples)
    return scipy.signal.sosfilt(_low_pass(sample_rate), samples) if sample_rate >= 2.2 * _HIGH_EDGE_HZ else samples


@lru_cache
def _high_pass(sample_rate: int) -> Vector:
    warp = tan(pi * _LOW_EDGE_HZ / sample_rate)
    return _sections(*(2 / (1 - roots * warp) - 1 for roots in (_ZEROS, _POLES)), unity_at=-1)


@lru_cache
def _low_pass(sample_rate: int) -> Vector:
    warp = tan(pi * _HIGH_EDGE_HZ / sample_rate)
    return _sections(*(2 / (roots / warp - 1) + 1 for roots in (_ZEROS, _POLES)), unity_at=1)


def _sections(zeros: npt.NDArray[Any], poles: npt.NDArray[Any], *, unity_at: int) -> Vector:
    """Second-order sections with gain 1 at z = ``unity_at``."""
    gain = np.prod(unity_at - poles) / np.prod(unity_at - zeros)
    return scipy.signal.zpk2sos(zeros, poles, gain.real)


def _envelope(speech: Vector, sample_rate: int) -> Vector:
    """Rectified signal through two equal one-pole smoothers."""
    g = exp(-1 / (_SMOOTHING_SECONDS * sample_rate))
    return scipy.signal.lfilter([(1 - g) ** 2], [1, -2 * g, g * g], np.abs(speech))


def _threshold_counts(envelope: Vector, sample_rate: int) -> tuple[Vector, int]:
    """How many samples lie above each of 20 thresholds, 3 dB apart, hang-over included.

    Returns:
        Counts [threshold], loudest threshold first, and the binary exponent just above the envelope's maximum (squared).
    """
    fraction, exponents = np.frexp(envelope**2)
    exponents[fraction == 0] = np.iinfo(np.int32).min // 2
    window = ceil(_HANGOVER_SECONDS * sample_rate) + 1
    # The filter is centred; the origin moves its window onto the past.
    held = scipy.ndimage.maximum_filter1d(exponents, window, mode="nearest", origin=(window - 1) // 2)
    top = int(held.max()) + 1
    bins = np.minimum(top - held, _NUM_THRESHOLDS)
    return np.cumsum(np.bincount(bins, minlength=_NUM_THRESHOLDS + 1)[1:]).astype(np.float64), top


def _level_at_margin(levels_db: Vector, margins_db: Vector) -> float:
    """The level where the margin crosses zero, interpolated; the nearest end where it never does."""
    crossings = np.flatnonzero((margins_db[:-1] < 0) & (margins_db[1:] >= 0))
    if len(crossings) == 0:
        return float(levels_db[-1] if margins_db[-1] <= 0 else levels_db[0])
    j = int(crossings[0])
    share = 1 / (1 - margins_db[j + 1] / margins_db[j])
    return float(levels_db[j] + share * (levels_db[j + 1] - levels_db[j]))


def loudness(samples: Signal, sample_rate: int) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4) of a mono signal [time].

    A signal shorter than the standard's 400 ms block is one block, as long as it is. Silence, and what the standard's absolute
    gate of -70 LUFS takes for it, is -inf.
    """
    seconds = len(samples) / sample_rate
    if not np.any(samples):
        return -inf
    meter = _meter(sample_rate, min(_BLOCK_SECONDS, seconds))
    with np.errstate(divide="ignore", invalid="ignore"):
        measured = float(meter.integrated_loudness(np.asarray(samples, dtype=np.float64)))
    return measured if np.isfinite(measured) else -inf


@lru_cache(maxsize=32)
def _meter(sample_rate: int, block_seconds: float) -> Any:
    import pyloudnorm  # only loudness needs the seconds that importing it takes

    return pyloudnorm.Meter(sample_rate, block_size=block_seconds)


def level_db(samples: Signal, sample_rate: int, rule: LevelRule) -> float:
    """The level of a signal [time] by one of the rules, -inf for silence.

    Returns:
        dB re unit mean square (``active``, ``rms``) or LUFS (``loudness``).
    """
    if rule == "loudness":
        return loudness(samples, sample_rate)
    power = active_level(samples, sample_rate).power if rule == "active" else float(np.mean(np.square(samples, dtype=np.float64)))
    return 10 * log10(power) if power > 0 else -inf
