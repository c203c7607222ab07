"""Rates converted for separation: what passes and what does not, and pieces that equal the whole."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.separation import resampling
from pipeline.separation.resampling import Resampler, resample, resample_blocks

CPU = torch.device("cpu")
RATES = [(16000, 8000), (8000, 16000), (48000, 8000), (44100, 8000), (8000, 44100), (8000, 8000), (8000, 7999)]


def tone(hz: float, rate: int) -> torch.Tensor:
    return torch.sin(2 * np.pi * hz * torch.arange(rate, dtype=torch.float64) / rate).float()


@pytest.mark.parametrize(("old_rate", "new_rate"), [(16000, 8000), (44100, 8000), (8000, 48000), (11025, 16000), (8000, 7999)])
def test_a_tone_is_the_same_tone_at_the_new_rate(old_rate: int, new_rate: int) -> None:
    found = resample(tone(440, old_rate), old_rate, new_rate)
    assert len(found) == new_rate
    within = 2e-5 if (old_rate, new_rate) != (8000, 7999) else 2e-3  # SciPy's filter is shorter
    assert (found - tone(440, new_rate))[300:-300].abs().max() < within


@pytest.mark.parametrize("old_rate", [16000, 44100, 48000])
@pytest.mark.parametrize(("hz", "gain_db"), [(3600, 0), (4000, -120), (4100, -120), (5000, -120)])
def test_the_band_is_kept_and_nothing_folds_back(old_rate: int, hz: float, gain_db: float) -> None:
    power = resample(tone(hz, old_rate), old_rate, 8000)[500:-500].double().square().mean()
    level_db = float(10 * torch.log10(2 * power + 1e-20))
    assert level_db == pytest.approx(0, abs=0.1) if gain_db == 0 else level_db < gain_db


@given(st.lists(st.integers(0, 700), max_size=6), st.sampled_from(RATES), st.sampled_from([(), (2,)]))
def test_pieces_are_resampled_as_the_whole(lengths: list[int], rates: tuple[int, int], channels: tuple[int, ...]) -> None:
    samples = torch.randn(*channels, sum(lengths), generator=torch.Generator().manual_seed(0))
    live = Resampler(*rates)
    found = torch.cat([*(live.push(piece) for piece in samples.split(lengths, dim=-1)), live.finish()], dim=-1)
    assert found.shape[-1] == ceil(sum(lengths) * rates[1] / rates[0])
    torch.testing.assert_close(found.reshape(*channels, -1), resample(samples, *rates), rtol=0, atol=1e-5)


def test_a_sample_that_is_dropped_is_noticed() -> None:
    """Negative control."""
    samples = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    live = Resampler(44100, 8000)
    found = torch.cat([live.push(samples[:1000]), live.push(samples[1001:]), live.finish()])
    assert (found - resample(samples, 44100, 8000)[: len(found)]).abs().max() > 0.1


def test_blocks_are_given_out_before_the_end() -> None:
    blocks = iter(np.random.default_rng(0).normal(size=(100, 1000)))
    first = next(resample_blocks(blocks, 16000, 8000, CPU))
    assert 0 < len(first) < 500
    assert len(list(blocks)) == 99


def test_rates_without_a_simple_ratio_need_no_filter_for_each_phase() -> None:
    assert isinstance(resampling._converter(441, 80, CPU), torch.nn.Module)
    assert not isinstance(resampling._converter(192001, 8000, CPU), torch.nn.Module)
    assert len(resample(torch.randn(19201), 192001, 8000)) == 801
