"""Raw audio from pipe to pipe: the bytes are the stream's estimates, at the level they have in the mixture."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.errors import AudioError, ModelError
from pipeline.separation import separate
from pipeline.separation.live.pipes import RunningLevel, separate_pcm
from pipeline.separation.resampling import resample
from tests.separation.networks import network


def recording(num_samples: int) -> NDArray[np.int16]:
    return (3000 * np.random.default_rng(0).standard_normal(num_samples)).astype("<i2")


def separated(samples: NDArray[np.int16], chunk_samples: int, source: int | None = None, rate: int = 8000) -> NDArray[np.int16]:
    raw = io.BytesIO(samples.tobytes())
    pieces = separate_pcm(network(), raw, chunk_samples=chunk_samples, source=source, sample_rate=rate)
    return np.frombuffer(b"".join(pieces), "<i2")


@pytest.mark.parametrize("chunk_samples", [1, 7, 80, 10_000])
def test_every_source_has_the_length_of_the_recording(chunk_samples: int) -> None:
    samples = recording(403)
    both = separated(samples, chunk_samples).reshape(-1, 2)
    assert len(both) == 403
    for source in (1, 2):
        assert np.array_equal(separated(samples, chunk_samples, source), both[:, source - 1])
    assert not np.array_equal(both[:, 0], both[:, 1])


def test_at_the_end_the_level_is_that_of_the_offline_estimates() -> None:
    """The gains then come from the whole recording, as offline."""
    samples = recording(20_000)
    expected = separate(network(), samples / 32768, sample_rate=8000)[:, -40:] * 32768
    found = separated(samples, 80).reshape(-1, 2).T[:, -40:]
    assert np.abs(found - expected).max() < 1 + 1e-3 * np.abs(expected).max()
    assert np.abs(expected).max() > 500


@pytest.mark.parametrize("rate", [48_000, 44_100, 4000])
@pytest.mark.parametrize("chunk_samples", [1, 7, 480, 10_000])
def test_at_another_rate_it_is_as_long_as_the_recording(rate: int, chunk_samples: int) -> None:
    samples = recording(2403 if chunk_samples > 1 else 403)
    assert len(separated(samples, chunk_samples, rate=rate).reshape(-1, 2)) == len(samples)


def test_at_another_rate_it_is_what_the_model_makes_of_the_converted_recording() -> None:
    samples = recording(40_000)
    mixture = resample(torch.from_numpy(samples / 32768).float(), 16_000, 8000)
    estimates = separate(network(), mixture.numpy(), sample_rate=8000)
    expected = resample(torch.from_numpy(estimates).float(), 8000, 16_000).numpy()[:, -400:] * 32768
    found = separated(samples, 160, rate=16_000).reshape(-1, 2).T[:, -400:]
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert np.abs(found[:, 1:] - expected[:, :-1]).max() > 0.5 * np.abs(expected).max(), "negative control: a sample late"


def test_gains_do_not_jump_between_chunks() -> None:
    level, one = RunningLevel(1), torch.ones(1, 10)
    first = level.apply(one, torch.full((10,), 2.0))
    second = level.apply(one, torch.full((10,), 4.0))
    torch.testing.assert_close(first, torch.full((1, 10), 2.0, dtype=torch.float64))
    torch.testing.assert_close(second[0], 2 + torch.arange(1, 11, dtype=torch.float64) / 10)


def test_the_mixture_is_the_one_of_the_estimates_however_late_they_are() -> None:
    level = RunningLevel(1)
    assert level.apply(torch.zeros(1, 0), torch.tensor([1.0, 2.0])).shape == (1, 0)
    torch.testing.assert_close(level.apply(torch.tensor([[0.5, 1.0]]), torch.zeros(3))[0].float(), torch.tensor([1.0, 2.0]))


def test_loud_estimates_are_clipped_not_wrapped() -> None:
    loud = np.full(400, 32767, np.int16)
    loud[::2] = -32768
    assert np.abs(separated(loud, 40).astype(int)).max() <= 32768


def test_nothing_in_nothing_out() -> None:
    assert separated(recording(0), 80).size == 0


def test_half_a_sample_is_an_error_after_all_else() -> None:
    pieces = separate_pcm(network(), io.BytesIO(recording(100).tobytes() + b"x"), chunk_samples=30)
    found = bytearray()
    with pytest.raises(AudioError, match="within a sample"):
        for piece in pieces:
            found += piece
    assert len(found) == 400


def test_other_sources_and_models_are_refused() -> None:
    with pytest.raises(AudioError, match="no source 3: the model separates 2"):
        separated(recording(10), 80, 3)
    with pytest.raises(ModelError, match="cannot stream"):
        list(separate_pcm(network(causal=False), io.BytesIO(b""), chunk_samples=80))
