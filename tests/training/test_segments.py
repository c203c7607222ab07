"""Segments in closed form: where cuts may begin, what they hold, and the draws that a seed stands for."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest

from pipeline.mixtures.shards import Shard, Signal, write_shard
from pipeline.training.segments import DynamicSegments, PackedMixtures, StaticSegments, _noise_cut, padded
from tests.training.trainings import RATE, Noisy

LENGTHS = [12, 7, 10]
DRAWN_FROM_SEED_3 = [(0, 1), (2, 0), (1, 0), (1, 0), (2, 0), (0, 2)]
"""Mixture and first sample of the first segments of epoch 1."""


@pytest.fixture
def static(tmp_path: Path) -> Callable[[int], StaticSegments]:
    """Mixtures of 12, 7 and 10 samples, cut to 10; sample t of each is t + 1."""
    signals = [Signal(f"m{k}", np.tile(np.arange(1, length + 1, dtype=np.int16), (3, 1))) for k, length in enumerate(LENGTHS)]
    write_shard(tmp_path / "train.shard", signals, sample_rate=RATE, dtype="int16")
    mixtures = PackedMixtures(Shard(tmp_path / "train.shard"))
    return lambda seed: StaticSegments(mixtures, num_samples=10, seed=seed)


def test_a_cut_begins_anywhere_and_holds_all_that_fits(static: Callable[[int], StaticSegments]) -> None:
    segments = static(0)
    places = {segments.place(epoch, index) for epoch in range(1, 9) for index in range(12)}
    assert places == {(0, 0, 10), (0, 1, 11), (0, 2, 12), (1, 0, 7), (2, 0, 10)}


def test_padding_follows_the_sound(static: Callable[[int], StaticSegments]) -> None:
    segments = static(0)
    for index in range(12):
        chosen, start, stop = segments.place(1, index)
        segment = segments.segment(1, index)
        expected = np.zeros(10)
        expected[: stop - start] = np.arange(start + 1, stop + 1) / 2**15
        assert segment.num_samples == stop - start == min(10, LENGTHS[chosen])
        for row in (segment.mixture, *segment.sources):
            np.testing.assert_array_equal(row, expected)


@pytest.mark.parametrize("length", [8, 9, 10])
def test_a_segment_has_its_length(length: int) -> None:
    segment = padded(np.ones(length, np.float32), np.ones((2, length), np.float32), 10)
    assert (segment.mixture.shape, segment.sources.shape, segment.num_samples) == ((10,), (2, 10), length)
    assert (segment.mixture.sum(), segment.sources.sum()) == (length, 2 * length)


def test_a_seed_stands_for_its_draws(static: Callable[[int], StaticSegments]) -> None:
    """Other draws from the same seed need a new version of the training stage."""
    drawn = [static(3).place(1, index)[:2] for index in range(6)]
    assert drawn == DRAWN_FROM_SEED_3
    assert [static(4).place(1, index)[:2] for index in range(6)] != drawn


@pytest.fixture
def ramps(tmp_path: Path) -> DynamicSegments:
    """Eight utterances of 12 samples; sample t is t + 1."""
    made = Noisy(tmp_path, "rms")
    facts = {"level_db": -20.0, "peak": 12.0}
    signals = [Signal(f"u{k}", np.arange(1, 13, dtype=np.float32)[None], facts) for k in range(8)]
    write_shard(tmp_path / "ramps.shard", signals, sample_rate=RATE, dtype="float32")
    return DynamicSegments(Shard(tmp_path / "ramps.shard"), made.sampler, mode="min", num_samples=10, num_segments=1)


@pytest.mark.parametrize(("num_samples", "starts"), [(10, {0, 1, 2}), (12, {0}), (20, {0})])
def test_a_cut_of_an_utterance(ramps: DynamicSegments, num_samples: int, starts: set[int]) -> None:
    """Anywhere in it, never past its end, and sample for sample where the speed is not changed."""
    found = set()
    for seed in range(40):
        cut = ramps._read(ramps._cut(0, num_samples, Random(seed)))
        start = int(cut.samples[0]) - 1
        np.testing.assert_array_equal(cut.samples, np.arange(start, min(start + num_samples, 12)) + 1)
        found.add(start)
    assert found == starts


def test_a_cut_of_noise(ramps: DynamicSegments) -> None:
    """Anywhere in the clip; a clip that is too short is repeated from its beginning."""
    bank = ramps.bank
    cuts = [_noise_cut(bank, 10, Random(seed)).samples for seed in range(40)]
    assert {tuple(cut) for cut in cuts} == {tuple(np.arange(start, start + 10) + 1.0) for start in range(3)}
    np.testing.assert_array_equal(_noise_cut(bank, 26, Random(0)).samples, [*range(1, 13), *range(1, 13), 1, 2])
