"""Training segments, drawn by (seed, epoch, index), so that nothing else decides what the network sees.

A ``Segments`` object answers "which samples are segment ``index`` of epoch ``epoch``?" without memory of earlier questions. Any
number of threads, processes or resumed runs therefore sees the same sequence, and a segment can be recomputed from its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from random import Random
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.files import dequantise
from pipeline.audio.mixing import Mode, Utterance, mix_at_levels
from pipeline.audio.resampling import resample, resampled_length
from pipeline.errors import DatasetError
from pipeline.mixtures.dynamic import NoiseRule, SpeechCuts
from pipeline.mixtures.plans.drawn import Draw, MixtureSampler
from pipeline.mixtures.plans.overlap import begin_times
from pipeline.mixtures.shards import Shard

Samples = NDArray[np.float32]
# Purposes of random numbers, so that no two draws share a key.
_SHUFFLE, _CUT = 1, 2


@dataclass(frozen=True)
class Segment:
    """A cut of one mixture: ``mixture [time]``, ``sources [source, time]``, and how many samples hold sound before padding."""

    mixture: Samples
    sources: Samples
    num_samples: int


class Segments(Protocol):
    """Training segments, all of the same length, each a pure function of (epoch, index)."""

    def __len__(self) -> int:
        """Segments an epoch has unless told otherwise."""

    def segment(self, epoch: int, index: int) -> Segment:
        """Segment ``index`` (from 0, without end) of epoch ``epoch`` (from 1)."""


class Mixtures(Protocol):
    """Whole mixtures with random access."""

    def __len__(self) -> int:
        """How many mixtures there are."""

    def num_samples(self, index: int) -> int:
        """Length of one of them."""

    def read(self, index: int, start: int, stop: int) -> tuple[Samples, Samples]:
        """Samples ``start`` to ``stop`` of ``mixture [time]`` and ``sources [source, time]``, full scale at 1."""


class PackedMixtures:
    """Rendered mixtures in one packed file: row 0 is the mixture, the others its sources."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard

    def __len__(self) -> int:
        return len(self.shard)

    def num_samples(self, index: int) -> int:
        """Length of one mixture."""
        return int(self.shard.num_samples[index])

    def read(self, index: int, start: int, stop: int) -> tuple[Samples, Samples]:
        """A cut of a mixture and its sources, full scale at 1."""
        rows: Samples = dequantise(self.shard.read(index, start, stop))
        return rows[0], rows[1:]


class StaticSegments:
    """Random cuts of rendered mixtures: every mixture is used once before any is used again."""

    def __init__(self, mixtures: PackedMixtures, *, num_samples: int, seed: int) -> None:
        self._mixtures = mixtures
        self.num_samples = num_samples
        self._seed = seed

    def __len__(self) -> int:
        return len(self._mixtures)

    @property
    def shard(self) -> Shard:
        """What the mixtures are packed in."""
        return self._mixtures.shard

    def place(self, epoch: int, index: int) -> tuple[int, int, int]:
        """The mixture that segment ``index`` is cut from, and its first sample and that after its last."""
        round_, place = divmod(index, len(self._mixtures))
        chosen = int(_shuffled(len(self._mixtures), self._seed, epoch, round_)[place])
        keyed = np.random.default_rng([self._seed, _CUT, epoch, index])
        length = self._mixtures.num_samples(chosen)
        start = int(keyed.integers(max(length - self.num_samples, 0) + 1))
        return chosen, start, min(start + self.num_samples, length)

    def segment(self, epoch: int, index: int) -> Segment:
        """A cut of mixture ``shuffled[index]`` at a random place; shorter mixtures are padded at their end."""
        mixture, sources = self._mixtures.read(*self.place(epoch, index))
        return padded(mixture, sources, self.num_samples)


@dataclass(frozen=True)
class Cut:
    """Which part of an utterance is heard, and how fast."""

    place: int
    """Of the utterance in its bank."""
    start: int
    stop: int
    """First sample, and that after the last."""
    speed_percent: int
    num_samples: int
    """Of what is heard, at that speed."""


@dataclass(frozen=True)
class Placed:
    """All that is drawn of a mixture; no sample of it has been read yet."""

    draw: Draw
    cuts: Sequence[Cut]
    starts: Sequence[int]
    """Samples of silence before each source."""


class DynamicSegments:
    """New mixtures by the plan's rules, each mixed when it is asked for from a random cut of every utterance.

    Levels are those of the whole utterances, as in a rendered mixture, and of whole clips of noise. Where the plan lets speakers
    overlap in part, cuts are shortened so that together, overlapping by the plan's ratio, they fill one segment: every speaker
    is heard in every segment.

    Args:
        bank: utterances at the mixtures' sample rate, one row each, with the facts ``level_db`` (dB or LUFS) and ``peak``, and
            for noise as in WHAM! ``lufs``.
        sampler: draws who speaks and how loud.
        mode: ``min`` cuts to the shortest source, ``max`` pads to the longest.
        num_samples: length of a segment.
        num_segments: segments an epoch has unless told otherwise.
        speed_percent: every source is played faster or slower by up to so many percent, pitch and all.
        noise: clips to lie under the speech, packed with their loudness.
        noise_rule: how noise is levelled against speech, by the plan's kind; needed with ``noise``.
        first_only: the first speaker alone is heard, as in ``mix_single``.

    Raises:
        DatasetError: an utterance that may be drawn is missing in the bank.
    """

    def __init__(
        self,
        bank: Shard,
        sampler: MixtureSampler,
        *,
        mode: Mode,
        num_samples: int,
        num_segments: int,
        speed_percent: int = 0,
        noise: Shard | None = None,
        noise_rule: NoiseRule | None = None,
        first_only: bool = False,
    ) -> None:
        self.bank = bank
        self.sampler = sampler
        self.mode = mode
        self.num_samples = num_samples
        self._num_segments = num_segments
        self.speed_percent = speed_percent
        self.noise = noise
        self._noise_rule = noise_rule
        self._first_only = first_only
        self._places = bank.index_of()
        self._lengths: list[int] = bank.num_samples.tolist()
        missing = [name for utterances in sampler.utterances for name in utterances if name not in self._places]
        if missing:
            raise DatasetError(
                f"{bank.path}: {len(missing)} utterances of the plan are missing ({missing[0]}, …); delete it and run again"
            )

    def __len__(self) -> int:
        return self._num_segments

    def segment(self, epoch: int, index: int) -> Segment:
        """Draw, cut, level and mix."""
        placed = self.place(epoch, index)
        draw, starts, cuts = placed.draw, placed.starts, [self._read(cut) for cut in placed.cuts]
        if self.noise is None:
            mixed = mix_at_levels(cuts, draw.levels_db, rule=self.sampler.rule, mode=self.mode, starts=starts)
            return self._segment(mixed.mixture, mixed.sources)
        random = self.sampler.keyed(epoch, index, "noise")
        length = max(start + len(cut.samples) for start, cut in zip(starts, cuts, strict=True))
        sources, noise = self._over_noise(draw, cuts, starts, _noise_cut(self.noise, length, random), random)
        heard = sources[:1] if self._first_only else sources
        return self._segment(heard.sum(axis=0) + noise, heard)

    def place(self, epoch: int, index: int) -> Placed:
        """Draw a mixture, and what is heard of its utterances."""
        draw = self.sampler.draw(epoch, index)
        keyed = self.sampler.keyed(epoch, index, "cut")
        # Neighbours of equal lengths that overlap by a ratio r take up 1 + (n - 1) (1 - r) of these lengths.
        longest = ceil(self.num_samples / (1 + (len(draw.utterance_ids) - 1) * (1 - draw.overlap)))
        cuts = [self._cut(self._places[name], longest, keyed) for name in draw.utterance_ids]
        seconds = [cut.num_samples / self.bank.sample_rate for cut in cuts]
        starts = [round(begin * self.bank.sample_rate) for begin in begin_times(seconds, draw.overlap, draw.order)]
        return Placed(draw, cuts, starts)

    def _over_noise(
        self, draw: Draw, cuts: Sequence[Utterance], starts: Sequence[int], noise: Utterance, keyed: Random
    ) -> tuple[Samples, Samples]:
        """The sources, and the noise to lie under them, at their levels and by one common scale."""
        assert self._noise_rule is not None, "noise comes with its rule"
        first = self.bank.facts[self._places[draw.utterance_ids[0]]]
        first_lufs = first["lufs"] + draw.levels_db[0] - first["level_db"]
        speech = SpeechCuts(cuts, draw.levels_db, starts, first_lufs, self.sampler.rule, self.mode)
        return self._noise_rule(speech, noise, keyed)

    def _segment(self, mixture: Samples, sources: Samples) -> Segment:
        return padded(mixture[: self.num_samples], sources[:, : self.num_samples], self.num_samples)

    def _cut(self, place: int, num_samples: int, keyed: Random) -> Cut:
        """Up to ``num_samples`` samples of an utterance, from a random place and at a random speed."""
        speed = 100 + (keyed.randint(-self.speed_percent, self.speed_percent) if self.speed_percent else 0)
        wanted = -(-num_samples * speed // 100)
        length = self._lengths[place]
        start = int(keyed.random() * (max(length - wanted, 0) + 1))
        stop = min(start + wanted, length)
        return Cut(place, start, stop, speed, min(resampled_length(stop - start, speed, 100), num_samples))

    def _read(self, cut: Cut) -> Utterance:
        samples: Samples = self.bank.read(cut.place, cut.start, cut.stop)[0]
        # Speech at 105 % is speech recorded at a rate of 105 and played at 100.
        samples = resample(samples, cut.speed_percent, 100)[: cut.num_samples]
        facts = self.bank.facts[cut.place]
        return Utterance(samples, facts["level_db"], facts["peak"])


def _noise_cut(noise: Shard, num_samples: int, keyed: Random) -> Utterance:
    """A random cut of a random clip; shorter clips are repeated."""
    place = keyed.randrange(len(noise))
    length = int(noise.num_samples[place])
    start = keyed.randrange(max(length - num_samples, 0) + 1)
    samples: Samples = np.resize(noise.read(place, start, start + num_samples)[0], num_samples)
    facts = noise.facts[place]
    return Utterance(samples, facts["level_db"], facts["peak"])


@lru_cache(maxsize=4)
def _shuffled(num: int, seed: int, epoch: int, round_: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, _SHUFFLE, epoch, round_]).permutation(num)


def padded(mixture: Samples, sources: Samples, num_samples: int) -> Segment:
    """A segment of ``num_samples`` samples, zeros at its end where the sound is shorter."""
    missing = num_samples - mixture.shape[-1]
    if missing <= 0:
        return Segment(mixture, sources, num_samples)
    return Segment(np.pad(mixture, (0, missing)), np.pad(sources, ((0, 0), (0, missing))), num_samples - missing)
