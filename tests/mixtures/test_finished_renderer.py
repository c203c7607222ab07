"""Finished mixtures are measured and left as they are."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.audio.files import quantise
from pipeline.mixtures.renderers.finished import describe_residuals, residual_db


@pytest.fixture
def sources() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Two signals [source, time], orthogonal, each of unit power."""
    time = np.arange(8000) / 8000
    return np.sqrt(2) * np.sin(2 * np.pi * np.array([[100], [200]]) * time).astype(np.float32)


def test_the_sum_leaves_nothing(sources: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    assert residual_db(sources.sum(axis=0), list(sources)) == -120
    assert residual_db(np.zeros(8), [np.zeros(8), np.zeros(8)]) == -120


@pytest.mark.parametrize("snr_db", [-5, 0, 30])
def test_noise_leaves_its_share_of_the_power(sources: np.ndarray[tuple[int, int], np.dtype[np.float32]], snr_db: float) -> None:
    """Orthogonal noise of power 2 / r under sources of power 2: r = 10^(snr/10), so 1 / (1 + r) of the mixture is left."""
    ratio = 10 ** (snr_db / 10)
    noise = np.sqrt(4 / ratio) * np.cos(2 * np.pi * 300 * np.arange(8000) / 8000)
    assert residual_db(sources.sum(axis=0) + noise, list(sources)) == pytest.approx(-10 * np.log10(1 + ratio), abs=1e-4)


def test_another_gain_leaves_its_square(sources: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    """m = g Σ s leaves (g - 1)² / g² of the mixture."""
    assert residual_db(2 * sources.sum(axis=0), list(sources)) == pytest.approx(-20 * np.log10(2), abs=1e-4)


def test_sixteen_bits_count_as_what_they_stand_for(sources: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    stored = [quantise(source / 8) for source in sources]
    assert residual_db(stored[0] + stored[1], stored) == -120
    assert residual_db(quantise(sources.sum(axis=0) / 8), stored) < -60


def test_rounding_is_no_residual_and_noise_is_counted() -> None:
    assert describe_residuals([-60, -120]) == "all 2 mixtures are the sum of their sources"
    assert describe_residuals([-120, -6, -3, -1]) == (
        "3 of 4 mixtures are not the sum of their sources: what is left (noise, reverberation, another gain) is at -3.0 dB of "
        "the mixture in the median, at -1.0 dB at most"
    )
