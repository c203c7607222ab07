"""Windows: every sample once, sources in one order, no jump between two of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.compute.scratch import Scratch
from pipeline.separation import overlap_add as module
from pipeline.separation.offline import separate
from pipeline.separation.overlap_add import best_order, cross_faded, overlap_add, window_samples
from tests.separation.networks import network

Signals = NDArray[Any]


def windowed(model: Any, mixture: Signals, window: int, folder: Path, shares: list[float] | None = None) -> Signals:
    with Scratch(folder, 1) as scratch, Scratch(folder, model.num_sources) as estimates:
        scratch.write(0, mixture[:, None])
        advance = ([] if shares is None else shares).append
        overlap_add(model, scratch, estimates, len(mixture), window=window, advance=advance)
        return estimates.read(0, len(mixture)).T


def speech_like(num_sources: int, num_samples: int) -> Signals:
    """Independent sources of slowly changing level."""
    random = np.random.default_rng(0)
    levels = 1.1 + np.sin(np.arange(num_samples) / 50 + np.arange(num_sources)[:, None])
    return (levels * random.standard_normal((num_sources, num_samples))).astype(np.float32)


class Perfect:
    """Separates a mixture perfectly by knowing its sources, which it puts in another order in each window."""

    sample_rate = 8000

    def __init__(self, sources: Signals) -> None:
        self.sources = sources
        self.num_sources = len(sources)
        self.calls = 0

    def separate(self, model: Any, mixture: Signals, *, sample_rate: int) -> Signals:
        self.calls += 1
        places = np.lib.stride_tricks.sliding_window_view(self.sources.sum(0), len(mixture))
        start = int(np.abs(places - mixture).max(1).argmin())
        return np.roll(self.sources[:, start : start + len(mixture)], self.calls, axis=0)


@pytest.mark.parametrize(("num_samples", "window"), [(1000, 128), (1001, 100), (1000, 999), (130, 128)])
@pytest.mark.parametrize("num_sources", [2, 3])
def test_swapped_sources_are_put_right(
    num_sources: int, num_samples: int, window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = speech_like(num_sources, num_samples)
    perfect = Perfect(sources)
    monkeypatch.setattr(module, "separate", perfect.separate)
    found = windowed(perfect, sources.sum(0), window, tmp_path)
    assert perfect.calls > 1
    np.testing.assert_allclose(found, np.roll(sources, 1, axis=0), atol=1e-5)


def test_without_the_correlation_they_would_be_swapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = speech_like(2, 1000)
    perfect = Perfect(sources)
    monkeypatch.setattr(module, "separate", perfect.separate)
    monkeypatch.setattr(module, "best_order", lambda before, after: np.arange(2))
    found = windowed(perfect, sources.sum(0), 128, tmp_path)
    assert np.abs(found - np.roll(sources, 1, axis=0)).max() > 1


def test_windows_of_different_level_meet_smoothly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that separate a constant into 1, 2, 1, 2, …: the estimate never steps by more than a cosine does."""
    levels = iter([1.0, 2.0] * 100)

    def constant(model: Any, mixture: Signals, *, sample_rate: int) -> Signals:
        return np.full((1, len(mixture)), next(levels), np.float32)

    monkeypatch.setattr(module, "separate", constant)
    found = windowed(Perfect(np.ones((1, 1000))), np.ones(1000, np.float32), 128, tmp_path)[0]
    assert np.abs(np.diff(found)).max() <= np.pi / 2 / 32 + 1e-6
    assert {1.0, 2.0} <= set(found)


@given(num_samples=st.integers(1, 300), window=st.integers(2, 320))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_samples_come_out_and_a_single_window_is_the_offline_result(num_samples: int, window: int, tmp_path: Path) -> None:
    model, shares = network(causal=False), list[float]()
    mixture = np.random.default_rng(0).standard_normal(num_samples).astype(np.float32)
    found = windowed(model, mixture, window, tmp_path, shares)
    assert sum(shares) == pytest.approx(1)
    assert np.isfinite(found).all()
    assert (np.abs(found).sum(0) > 0).mean() > 0.9
    if num_samples <= window:
        np.testing.assert_array_equal(found, separate(model, mixture, sample_rate=8000))


def test_silence_keeps_the_order() -> None:
    assert list(best_order(np.zeros((3, 10), np.float32), np.zeros((3, 10), np.float32))) == [0, 1, 2]
    assert list(best_order(np.zeros((2, 0), np.float32), np.zeros((2, 0), np.float32))) == [0, 1]


def test_fading_begins_with_the_one_and_ends_with_the_other() -> None:
    faded = cross_faded(np.zeros((1, 100), np.float32), np.ones((1, 100), np.float32))[0]
    assert faded[0] < 1e-3
    assert faded[-1] > 1 - 1e-3
    assert (np.diff(faded) > 0).all()
    assert cross_faded(np.zeros((2, 0), np.float32), np.zeros((2, 0), np.float32)).shape == (2, 0)


@pytest.mark.parametrize(("memory_bytes", "seconds"), [(0, 4), (1e15, 60)])
def test_windows_have_limits(memory_bytes: float, seconds: float) -> None:
    assert window_samples(network(), memory_bytes) == seconds * 8000


def test_a_window_fits_into_memory() -> None:
    model = network()
    window = window_samples(model, model.activation_bytes(80_000))
    assert window == pytest.approx(80_000, rel=0.01)
