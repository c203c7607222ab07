"""What mixing on the fly needs from a kind of dataset: how noise is added. Levels and overlap come from the sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from pipeline.audio.levels import LevelRule
from pipeline.audio.mixing import Mode, Signal, Utterance


@dataclass(frozen=True)
class SpeechCuts:
    """The speech of a mixture that is made on the fly: cuts of utterances, with the levels of the whole of them."""

    utterances: Sequence[Utterance]
    levels_db: Sequence[float]
    """What the level rule applies: dB or LUFS, by source."""
    starts: Sequence[int]
    """Samples of silence before each source."""
    first_lufs: float
    """Loudness of the first speaker at its level, before the peak rule."""
    rule: LevelRule
    mode: Mode


NoiseRule = Callable[[SpeechCuts, Utterance, Random], tuple[Signal, Signal]]
"""Mixes speech with a noise of the same length; returns the sources [source, time] and the noise [time] at their levels, by one
common scale. The third argument draws the noise's level."""


def uniform(limits: tuple[float, float], keyed: Random) -> float:
    """Draw a number between two limits, all equally likely."""
    low, high = limits
    return low + (high - low) * keyed.random()
