"""Spectrograms."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.reports import (
    spectrograms,
)


def test_a_tone_shows_at_its_frequency() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 8000)
    power = spectrograms.power_spectrogram_db(tone, 8000)
    frequencies = np.linspace(0, 4000, power.shape[0])
    assert abs(frequencies[power.mean(axis=1).argmax()] - 1000) < 32
    picture = Image.open(io.BytesIO(spectrograms.spectrogram_webp(tone, 8000)))
    assert picture.size == (power.shape[1], power.shape[0])
    brightest = np.asarray(picture.convert("L")).mean(axis=1).argmax()
    assert abs(frequencies[::-1][brightest] - 1000) < 32


@pytest.mark.parametrize("num_samples", [1, 100, 8000, 200_000])
def test_a_spectrogram_of_any_length_is_small(num_samples: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, num_samples)
    assert len(spectrograms.spectrogram_webp(noise, 8000)) < 30_000


def test_silence_has_a_spectrogram() -> None:
    assert spectrograms.spectrogram_webp(np.zeros(4000), 8000).startswith(b"RIFF")
