"""Segments and batches: the same whoever asks, in whatever order, and made of the samples they claim."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.audio.levels import LevelRule, loudness
from pipeline.errors import DatasetError
from pipeline.mixtures.plans.drawn import MixtureSampler
from pipeline.mixtures.shards import Shard, Signal, write_shard
from pipeline.recipe.schema import RandomPlan
from pipeline.training.batches import Room, ahead, epoch_batches, validation_batches
from pipeline.training.segments import DynamicSegments, PackedMixtures, Segments, StaticSegments
from tests.training.trainings import RATE, Noisy, drawn, equal


@pytest.fixture
def mixtures(tmp_path: Path) -> PackedMixtures:
    """Seven mixtures; sample t of mixture m is 100 m + t in row 0, and half of it in rows 1 and 2."""

    def signal(number: int, length: int) -> Signal:
        ramp = np.arange(length) + 100 * number
        return Signal(f"m{number}", np.stack([ramp, ramp // 2, ramp - ramp // 2]).astype(np.int16))

    path = tmp_path / "train.shard"
    write_shard(
        path, [signal(m, length) for m, length in enumerate([50, 30, 90, 20, 40, 60, 70])], sample_rate=RATE, dtype="int16"
    )
    return PackedMixtures(Shard(path))


@pytest.fixture
def dynamic(tmp_path: Path) -> DynamicSegments:
    """Four speakers with two utterances of noise each."""
    random = np.random.default_rng(0)
    rows = [(f"u{k}", f"s{k % 4}", 4000 + 500 * k) for k in range(8)]
    manifest = pd.DataFrame(rows, columns=["utterance_id", "speaker_id", "num_samples"]).assign(split="train", sample_rate=RATE)
    signals = []
    for name, _, length in rows:
        samples = (0.1 * random.standard_normal((1, length))).astype(np.float32)
        facts = {"level_db": float(10 * np.log10(np.mean(samples**2))), "peak": float(np.abs(samples).max())}
        signals.append(Signal(name, samples, facts))
    write_shard(tmp_path / "bank.shard", signals, sample_rate=RATE, dtype="float32")
    plan = RandomPlan(kind="random", level="rms", min_seconds=0.4)
    sampler = MixtureSampler(manifest, plan, split="train", seed=3)
    return DynamicSegments(Shard(tmp_path / "bank.shard"), sampler, mode="min", num_samples=3000, num_segments=20)


@pytest.fixture(params=["static", "dynamic"])
def segments(request: pytest.FixtureRequest) -> Segments:
    if request.param == "dynamic":
        return request.getfixturevalue("dynamic")
    return StaticSegments(request.getfixturevalue("mixtures"), num_samples=40, seed=3)


def test_batches_do_not_depend_on_the_number_of_workers(segments: Segments) -> None:
    assert equal(drawn(segments, num_workers=0), drawn(segments, num_workers=1))
    assert equal(drawn(segments, num_workers=0), drawn(segments, num_workers=5))


def test_resuming_continues_the_same_sequence(segments: Segments) -> None:
    assert equal(drawn(segments)[2:], drawn(segments, steps=range(2, 5)))


def test_shares_of_processes_make_up_the_whole_batch(segments: Segments) -> None:
    whole = drawn(segments)
    shares = [drawn(segments, share=slice(rank, None, 2)) for rank in range(2)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert torch.equal(batch.mixture[0::2], first.mixture)
        assert torch.equal(batch.mixture[1::2], second.mixture)


def test_epochs_and_places_differ(segments: Segments) -> None:
    epochs = [tuple(segments.segment(epoch, index).mixture.tobytes() for index in range(6)) for epoch in (1, 2)]
    assert epochs[0] != epochs[1]
    assert len(set(epochs[0])) == 6


def test_segments_have_their_length_and_say_how_much_is_sound(segments: Segments) -> None:
    for index in range(30):
        segment = segments.segment(1, index)
        assert segment.mixture.dtype == segment.sources.dtype == np.float32
        assert segment.sources.shape == (2, len(segment.mixture))
        assert not segment.mixture[segment.num_samples :].any()
        np.testing.assert_allclose(segment.sources.sum(0), segment.mixture, atol=1e-6)


def test_static_segments_are_cuts_of_the_mixtures(mixtures: PackedMixtures) -> None:
    segments = StaticSegments(mixtures, num_samples=40, seed=0)
    for index in range(21):
        segment = segments.segment(1, index)
        ramp = segment.mixture[: segment.num_samples] * 2**15
        np.testing.assert_array_equal(np.diff(ramp), 1)


def test_every_mixture_is_used_before_any_is_used_again(mixtures: PackedMixtures) -> None:
    segments = StaticSegments(mixtures, num_samples=10, seed=0)
    for first in (0, 7):
        starts = [segments.segment(1, index).mixture[0] * 2**15 // 100 for index in range(first, first + 7)]
        assert sorted(starts) == list(range(7))


def test_dynamic_segments_have_the_levels_that_were_drawn(dynamic: DynamicSegments) -> None:
    expected, found = [], []
    for index in range(10):
        segment = dynamic.segment(1, index)
        powers = 10 * np.log10(np.mean(segment.sources.astype(float) ** 2, axis=1))
        found.append(powers[0] - powers[1])
        levels_db = dynamic.sampler.draw(1, index).levels_db
        expected.append(levels_db[0] - levels_db[1])
        assert np.abs(segment.mixture).max() <= 0.9 + 1e-6
    assert np.ptp(expected) > 2, "the draws differ by more than the tolerance"
    np.testing.assert_allclose(found, expected, atol=0.5)  # cuts of noise are as loud as the whole to a few tenths


def test_speed_changes_pitch_and_stays_within_its_range(dynamic: DynamicSegments, tmp_path: Path) -> None:
    tone = (0.1 * np.sin(2 * np.pi * 1000 / RATE * np.arange(9000))).astype(np.float32)
    signals = [Signal(f"u{k}", tone[None], {"level_db": -23.0, "peak": 0.1}) for k in range(8)]
    write_shard(tmp_path / "tones.shard", signals, sample_rate=RATE, dtype="float32")
    shard = Shard(tmp_path / "tones.shard")
    segments = DynamicSegments(shard, dynamic.sampler, mode="min", num_samples=4000, num_segments=1, speed_percent=10)
    frequencies = set()
    for index in range(40):
        segment = segments.segment(1, index)
        assert segment.num_samples == 4000
        spectrum = np.abs(np.fft.rfft(segment.sources * np.hanning(4000)))
        frequencies |= set(spectrum.argmax(1) * RATE / 4000)
    assert min(frequencies) >= 898
    assert max(frequencies) <= 1102
    assert len(frequencies) > 10


def test_a_bank_with_missing_utterances_is_refused(dynamic: DynamicSegments, tmp_path: Path) -> None:
    write_shard(tmp_path / "empty.shard", [], sample_rate=RATE, dtype="float32")
    with pytest.raises(DatasetError, match=r"empty\.shard: 8 utterances of the plan are missing"):
        DynamicSegments(Shard(tmp_path / "empty.shard"), dynamic.sampler, mode="min", num_samples=10, num_segments=1)


def test_validation_batches_hold_every_mixture_once_cut_to_the_shortest_of_its_batch(mixtures: PackedMixtures) -> None:
    batches = list(validation_batches(mixtures, batch_size=3))
    assert [batch.mixture.shape for batch in batches] == [(3, 20), (3, 50), (1, 90)]
    first_samples = [int(row[0] * 2**15) for batch in batches for row in batch.mixture]
    assert sorted(first_samples) == [100 * m for m in range(7)]
    assert equal(batches, list(validation_batches(mixtures, batch_size=3, num_workers=0)))


def test_with_more_room_the_same_cuts_come_longest_first_and_padded(mixtures: PackedMixtures) -> None:
    """Cuts of 20, 20, 20, 50, 50, 50 and 90 samples; the last one alone takes more than there is room for."""
    batches = list(validation_batches(mixtures, batch_size=3, room=Room(100, lambda num_samples: num_samples // 2)))
    assert [batch.mixture.shape for batch in batches] == [(2, 90), (4, 50), (1, 20)]
    assert [batch.num_samples.tolist() for batch in batches] == [[90, 50], [50, 50, 20, 20], [20]]
    assert all(batch.padded for batch in batches)
    plain = [row for batch in validation_batches(mixtures, batch_size=3) for row in batch.mixture]
    rows = [row[:end] for batch in batches for row, end in zip(batch.mixture, batch.num_samples.tolist(), strict=True)]
    assert all(torch.equal(one, other) for one, other in zip(rows[::-1], plain, strict=True))
    assert all(not row[end:].any() for batch in batches for row, end in zip(batch.mixture, batch.num_samples, strict=True))
    for room, sizes in ((1, [1] * 7), (10**6, [7])):
        assert [len(batch) for batch in validation_batches(mixtures, batch_size=3, room=Room(room, int))] == sizes
    shares = [validation_batches(mixtures, batch_size=3, share=slice(k, None, 2), room=Room(10**6, int)) for k in range(2)]
    assert [[batch.num_samples.tolist() for batch in share] for share in shares] == [[[90, 50, 20, 20]], [[50, 50, 20]]]


def test_an_error_in_a_worker_reaches_the_caller() -> None:
    def broken(number: int) -> int:
        if number == 3:
            raise DatasetError("broken")
        return number

    results = ahead(broken, range(9), num_workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DatasetError, match="broken"):
        next(results)


def test_leaving_early_leaves_no_thread_behind(segments: Segments) -> None:
    batches = epoch_batches(segments, epoch=1, steps=range(10_000), batch_size=2, num_workers=2)
    next(batches)
    batches.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("clip_samples", [700, 20_000])
def test_noise_lies_under_the_first_speaker_as_in_wham(tmp_path: Path, clip_samples: int) -> None:
    """Loudness of the first speaker U(-3, 6) dB over that of the noise; speech as without noise, but for one common scale."""
    made = Noisy(tmp_path, "active")
    noisy, clean = made.segments(noise=made.shard("noise", [("n", 0.3, clip_samples)], "loudness")), made.segments()
    over = []
    for index in range(60):
        segment, quiet = noisy.segment(1, index), clean.segment(1, index)
        scale = segment.sources[0, 0] / quiet.sources[0, 0]
        np.testing.assert_allclose(segment.sources, scale * quiet.sources, rtol=1e-4, atol=1e-6)
        noise = segment.mixture - segment.sources.sum(0)
        over.append(loudness(segment.sources[0], RATE) - loudness(noise, RATE))
        assert max(np.abs(segment.mixture).max(), np.abs(noise).max()) <= 0.95 + 1e-6
    assert -3.5 <= min(over) < -2
    assert 5 < max(over) <= 6.5
    assert np.mean(over) == pytest.approx(1.5, abs=1.0)


def test_noise_has_the_loudness_of_librimix(tmp_path: Path) -> None:
    """Speech U(-33, -25) LUFS and noise U(-38, -30) LUFS, before the common scale that keeps the peak at 0.9."""
    made = Noisy(tmp_path, "loudness")
    noisy = made.segments(noise=made.shard("noise", [("n", 0.3, 20_000)], "loudness"))
    levels = []
    for index in range(60):
        segment = noisy.segment(1, index)
        assert np.abs(segment.mixture).max() < 0.9, "no scale at these levels"
        levels.append([loudness(signal, RATE) for signal in (*segment.sources, segment.mixture - segment.sources.sum(0))])
    speech, noise = np.array(levels)[:, :2], np.array(levels)[:, 2]
    assert -33.3 <= speech.min() < -31.5
    assert -26.5 < speech.max() <= -24.7
    assert -38.3 <= noise.min() < -37
    assert -31 < noise.max() <= -29.7


@pytest.mark.parametrize("level", ["active", "loudness"])
def test_one_speaker_in_noise(tmp_path: Path, level: LevelRule) -> None:
    made = Noisy(tmp_path, level)
    noise = made.shard("noise", [("n", 0.3, 20_000)], "loudness")
    alone, both = made.segments(noise=noise, first_only=True), made.segments(noise=noise)
    for index in range(5):
        segment, whole = alone.segment(1, index), both.segment(1, index)
        assert segment.sources.shape == (1, 6000)
        assert np.corrcoef(segment.sources[0], whole.sources[0])[0, 1] > 0.999999, "the first speaker of the same draw"
        assert np.abs(segment.mixture - segment.sources[0]).max() > 0.001


def test_segments_in_noise_are_the_same_whoever_asks(tmp_path: Path) -> None:
    made = Noisy(tmp_path, "active")
    noisy = made.segments(noise=made.shard("noise", [(f"n{k}", 0.3, 9000) for k in range(3)], "loudness"), speed_percent=5)
    assert equal(drawn(noisy, num_workers=0), drawn(noisy, num_workers=3))
    assert equal(drawn(noisy)[2:], drawn(noisy, steps=range(2, 5)))
