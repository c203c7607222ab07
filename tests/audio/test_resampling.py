"""Resampling: the published datasets' filter, tones and lengths kept, and how much of the input the first samples need."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import DTypeLike
from scipy.signal import resample_poly

from pipeline.audio.resampling import deciding_length, resample, resampled_length


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
