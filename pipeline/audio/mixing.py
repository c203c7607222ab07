"""Mixing: sources brought to their levels, cut or padded, summed, and scaled by the peak rule.

Rendering to files and mixing on the fly during training both use these functions, so their samples are equal bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.audio.levels import LevelRule

Mode = Literal["min", "max"]
PeakRule = Literal["always", "down"]
Signal = npt.NDArray[np.floating[Any]]

PEAK = 0.9
FADE_SECONDS = 0.5
PEAK_RULES: dict[LevelRule, PeakRule] = {"active": "always", "rms": "always", "loudness": "down"}
"""``always``: the largest sample of mixture and sources becomes 0.9 (WSJ0-2mix). ``down``: the mixture is scaled only where it
exceeds 0.9 (LibriMix)."""


@dataclass(frozen=True)
class Mixed:
    """One mixture and its sources."""

    mixture: Signal
    """[time]"""
    sources: Signal
    """[source, time]"""
    gains: tuple[float, ...]
    """Linear, of every source, the common scale included."""
    scale: float
    """Linear, of the peak rule."""


def source_gain(rule: LevelRule, target_db: float, measured_db: float, peak: float) -> float:
    """The linear gain that brings a source from its measured level to the target's.

    Args:
        rule: what both levels mean; ``loudness`` also keeps the source below full scale, as LibriMix does.
        target_db: dB or LUFS.
        measured_db: dB or LUFS, of the whole utterance; finite.
        peak: largest absolute sample of the whole utterance.
    """
    gain = float(10 ** ((target_db - measured_db) / 20))
    if PEAK_RULES[rule] == "down" and gain * peak >= 1:
        return PEAK / peak
    return gain


def mix(
    sources: Sequence[Signal], gains: Sequence[float], *, mode: Mode, peak_rule: PeakRule, starts: Sequence[int] = ()
) -> Mixed:
    """Mix sources into a mixture.

    Args:
        sources: each [time], of one floating type, which the result keeps; lengths may differ.
        gains: linear, one for each source.
        mode: ``min`` ends with the first source that ends, ``max`` pads all with zeros until the last has ended.
        peak_rule: see :data:`PEAK_RULES`; one scale for the mixture and all its sources.
        starts: samples of silence before each source; by default none.
    """
    stacked = fit_lengths(sources, mode, starts)
    for source, gain in zip(stacked, gains, strict=True):
        source *= source.dtype.type(gain)
    mixture = stacked.sum(axis=0)
    scale = peak_scale(mixture, stacked, peak_rule)
    factor = stacked.dtype.type(scale)
    stacked *= factor
    mixture *= factor
    return Mixed(mixture, stacked, tuple(float(gain) * scale for gain in gains), scale)


def fit_lengths(sources: Sequence[Signal], mode: Mode, starts: Sequence[int] = ()) -> Signal:
    """A new [source, time] array of the sources, each placed at its start, cut or padded as in :func:`mix`."""
    starts = starts or [0] * len(sources)
    ends = [start + len(source) for start, source in zip(starts, sources, strict=True)]
    length = min(ends) if mode == "min" else max(ends)
    fitted = np.zeros((len(sources), length), dtype=np.result_type(*sources))
    for row, source, start in zip(fitted, sources, starts, strict=True):
        row[start : start + len(source)] = source[: max(length - start, 0)]
    return fitted


def fit_length(samples: Signal, num_samples: int) -> Signal:
    """A signal [time] cut, or padded with zeros, to a length."""
    return np.pad(samples[:num_samples], (0, max(num_samples - len(samples), 0)))


def peak_scale(mixture: Signal, sources: Signal, peak_rule: PeakRule) -> float:
    """The linear factor of the peak rule; 1 if everything is silent."""
    peak = float(np.abs(mixture).max(initial=0))
    if peak_rule == "down":
        return PEAK / peak if peak > PEAK else 1.0
    peak = max(peak, float(np.abs(sources).max(initial=0)))
    return PEAK / peak if peak > 0 else 1.0


@dataclass(frozen=True)
class Utterance:
    """A resampled utterance, with the level and peak of the whole of it, which the level rules need."""

    samples: Signal
    """[time]"""
    level_db: float
    """dB or LUFS, by the plan's level rule."""
    peak: float
    """Largest absolute sample."""


def mix_at_levels(
    utterances: Sequence[Utterance], targets_db: Sequence[float], *, rule: LevelRule, mode: Mode, starts: Sequence[int] = ()
) -> Mixed:
    """Bring utterances to their levels and mix them.

    Args:
        utterances: one for each source, of one sample rate.
        targets_db: dB or LUFS, one for each source.
        rule: what the levels mean; it implies the peak rule.
        mode: ``min`` or ``max``.
        starts: samples of silence before each source; by default none.
    """
    gains = [source_gain(rule, target, u.level_db, u.peak) for u, target in zip(utterances, targets_db, strict=True)]
    samples = [utterance.samples for utterance in utterances]
    return mix(samples, gains, mode=mode, peak_rule=PEAK_RULES[rule], starts=starts)


def fade_length(sample_rate: int) -> int:
    """Number of samples over which repetitions of a noise overlap."""
    return round(FADE_SECONDS * sample_rate) + 1


def extended(noise: Signal, num_samples: int, sample_rate: int) -> Signal:
    """Noise [time] repeated with cross-fades, the halves of a Hann window of one second, until it lasts ``num_samples``.

    A repetition makes the noise double precision, as the published script does. Noise that is no longer than a cross-fade, where
    that script fails, is repeated end to end as it is.
    """
    if len(noise) <= fade_length(sample_rate):
        return np.resize(noise, num_samples) if len(noise) < num_samples else noise[:num_samples]
    longer, fade, rising = noise, fade_length(sample_rate), _rising(fade_length(sample_rate))
    while len(longer) < num_samples:
        joint = longer[-fade:] * rising[::-1] + noise[:fade] * rising
        longer = np.concatenate([longer[:-fade], joint, noise[fade:]])
    return longer[:num_samples]


@lru_cache
def _rising(fade: int) -> Signal:
    return np.hanning(2 * fade - 1)[:fade]
