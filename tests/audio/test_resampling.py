"""Resampling: the published datasets' filter, tones and lengths kept, and how much of the input the first samples need."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import DTypeLike
from scipy.signal import resample_poly

from pipeline.audio.files import quantise_down
from pipeline.audio.resampling import (
    at_speed,
    deciding_length,
    length_at_speed,
    polyphase,
    resample,
    resampled_length,
)
from tests.voices import voice
from tests.waiting import PATIENCE_SECONDS


@pytest.mark.parametrize(("old", "new"), [(16000, 8000), (22050, 8000), (44100, 16000), (8000, 16000), (8000, 8000)])
def test_resampling_keeps_a_tone_and_its_length(old: int, new: int) -> None:
    tone = np.sin(2 * np.pi * 500 * np.arange(old) / old)
    resampled = resample(tone, old, new)
    expected = np.sin(2 * np.pi * 500 * np.arange(new) / new)
    assert len(resampled) == resampled_length(len(tone), old, new)
    assert np.abs(resampled - expected)[new // 10 : -new // 10].max() < 0.01


@given(
    st.integers(1, 500),
    st.sampled_from([(16000, 8000), (48000, 16000), (48000, 8000), (44100, 8000), (8000, 16000)]),
    st.sampled_from([np.float32, np.float64]),
)
def test_the_filter_is_the_published_datasets(num_samples: int, rates: tuple[int, int], dtype: DTypeLike) -> None:
    """Their scripts call ``resample_poly`` with the rates alone; designing the filter beforehand changes no bit."""
    samples = np.random.default_rng(num_samples).normal(size=num_samples).astype(dtype)
    resampled = resample(samples, *rates)
    assert resampled.dtype == dtype
    assert np.array_equal(resampled, resample_poly(samples, rates[1], rates[0]))


@given(st.integers(1, 400), st.sampled_from([(16000, 8000), (22050, 8000), (8000, 16000), (8000, 8000)]))
def test_the_samples_that_decide_the_first_ones(num_resampled: int, rates: tuple[int, int]) -> None:
    samples = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    start = samples[: deciding_length(num_resampled, *rates)]
    assert np.array_equal(resample(start, *rates)[:num_resampled], resample(samples, *rates)[:num_resampled])


@given(st.integers(1, 3000), st.sampled_from([8000, 11025, 16000, 22050]), st.sampled_from([8000, 16000]))
def test_resampled_length_is_known_beforehand(num_samples: int, old: int, new: int) -> None:
    assert len(resample(np.zeros(num_samples, np.float32), old, new)) == resampled_length(num_samples, old, new)


@pytest.mark.parametrize("speed", [0.8, 1.2])
def test_another_speed_moves_a_tone_along_and_keeps_its_level(speed: float) -> None:
    rate = 16000
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    played = at_speed(tone, speed)
    expected = np.sin(2 * np.pi * 1000 * speed * np.arange(len(played)) / rate)
    assert len(played) == length_at_speed(rate, speed) == round(rate / speed)
    assert np.abs(played - expected)[1000:-1000].max() < 1e-5


@pytest.mark.parametrize(
    ("speed", "hz", "gain_db"), [(1.2, 6000, 0), (1.2, 6333, -3), (1.2, 6700, -120), (0.8, 7200, 0), (0.8, 7600, -3)]
)
def test_the_band_is_kept_up_to_95_percent_and_nothing_folds_back(speed: float, hz: float, gain_db: float) -> None:
    """The specification of SoX's ``rate -h``: at 1.2 times the speed, what lay above 6,667 Hz has no place any more."""
    tone = np.sin(2 * np.pi * hz * np.arange(32000) / 16000)
    level_db = 10 * np.log10(2 * np.mean(at_speed(tone, speed)[2000:-2000] ** 2) + 1e-20)
    assert level_db == pytest.approx(gain_db, abs=0.3) if gain_db > -100 else level_db < gain_db


@pytest.mark.skipif(shutil.which("sox") is None, reason="SoX is not installed")
@pytest.mark.parametrize("speed", [0.8, 1.2])
@pytest.mark.parametrize("kind", ["noise", "speech", "short", "one sample", "loud"])
def test_another_speed_is_soxs(speed: float, kind: str) -> None:
    """LibriMix's script hands the samples to SoX as 32-bit floats and writes what comes back in 16 bits."""
    random = np.random.default_rng(5)
    samples = {
        "noise": random.uniform(-0.4, 0.4, 20011),
        "speech": voice(3, 1),
        "short": random.uniform(-0.4, 0.4, 97),
        "one sample": np.full(1, 0.25),
        "loud": np.sign(np.sin(np.arange(8000) / 5)) * 0.999,
    }[kind].astype(np.float32)
    theirs, ours = played_by_sox(samples, speed), at_speed(samples, speed)
    assert len(ours) == len(theirs)
    differences = quantise_down(ours).astype(int) - quantise_down(theirs)
    assert np.abs(differences).max() <= 1
    assert (differences != 0).mean() <= 2e-4


def played_by_sox(samples: npt.NDArray[np.float32], speed: float) -> npt.NDArray[np.float32]:
    raw = ["-t", "f32", "-r", "44100", "-c", "1"]
    command = ["sox", "-V1", *raw, "-", *raw, "-", "speed", str(speed)]
    done = subprocess.run(command, input=samples.tobytes(), capture_output=True, check=True, timeout=PATIENCE_SECONDS)
    return np.frombuffer(done.stdout, np.float32)


@pytest.mark.parametrize(("old", "new"), [(105, 100), (95, 100), (101, 100), (100, 100), (16000, 8000), (8000, 44100)])
def test_the_numbers_of_a_resampling_give_its_samples(old: int, new: int) -> None:
    samples = np.random.default_rng(0).standard_normal(200).astype(np.float32)
    up, down, half, taps = polyphase(old, new)
    newest, phase = np.divmod(np.arange(resampled_length(200, old, new)) * down + half, up)
    places = newest[:, None] - np.arange(taps.shape[1])
    inside = (places >= 0) & (places < 200)
    found = (taps[phase] * np.where(inside, samples[np.where(inside, places, 0)], 0)).sum(1)
    np.testing.assert_allclose(found, resample(samples, old, new), atol=2e-6)
