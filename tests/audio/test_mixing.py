"""Mixing: the sum, the lengths, the levels and the peak rules hold for any sources."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from pipeline.audio.levels import LevelRule
from pipeline.audio.mixing import (
    PEAK,
    Mode,
    PeakRule,
    Utterance,
    extended,
    fade_length,
    fit_length,
    mix,
    mix_at_levels,
    source_gain,
)

lengths = st.lists(st.integers(1, 400), min_size=2, max_size=5)
gains = st.floats(0.01, 20)
modes = st.sampled_from(["min", "max"])
peak_rules = st.sampled_from(["always", "down"])
dtypes = st.sampled_from([np.float32, np.float64])


def _sources(lengths: list[int], dtype: DTypeLike, seed: int = 0) -> list[npt.NDArray[Any]]:
    generator = np.random.default_rng(seed)
    return [generator.uniform(-1, 1, length).astype(dtype) for length in lengths]


@given(lengths, gains, modes, peak_rules, dtypes)
def test_the_mixture_is_the_sum_of_its_sources(
    lengths: list[int], gain: float, mode: Mode, peak_rule: PeakRule, dtype: DTypeLike
) -> None:
    mixed = mix(_sources(lengths, dtype), [gain] * len(lengths), mode=mode, peak_rule=peak_rule)
    assert mixed.mixture.dtype == mixed.sources.dtype == dtype
    assert np.allclose(mixed.mixture, mixed.sources.sum(axis=0), rtol=0, atol=8 * np.finfo(dtype).eps * len(lengths))


@given(lengths, modes, peak_rules)
def test_lengths_are_of_the_shortest_or_the_longest(lengths: list[int], mode: Mode, peak_rule: PeakRule) -> None:
    mixed = mix(_sources(lengths, np.float32), [1.0] * len(lengths), mode=mode, peak_rule=peak_rule)
    assert mixed.mixture.shape == ({"min": min, "max": max}[mode](lengths),)
    assert mixed.sources.shape == (len(lengths), len(mixed.mixture))


@given(lengths, st.lists(st.integers(0, 300), min_size=5, max_size=5), modes, peak_rules)
def test_starts_are_silence_before_the_sources(lengths: list[int], starts: list[int], mode: Mode, peak_rule: PeakRule) -> None:
    sources, starts = _sources(lengths, np.float32), starts[: len(lengths)]
    behind_silence = [
        np.concatenate([np.zeros(start, np.float32), source]) for start, source in zip(starts, sources, strict=True)
    ]
    mixed = mix(sources, [2.0] * len(lengths), mode=mode, peak_rule=peak_rule, starts=starts)
    equal = mix(behind_silence, [2.0] * len(lengths), mode=mode, peak_rule=peak_rule)
    assert np.array_equal(mixed.mixture, equal.mixture)
    assert np.array_equal(mixed.sources, equal.sources)
    assert mixed.gains == equal.gains


@given(lengths, gains, modes)
def test_always_means_a_peak_of_exactly_nine_tenths(lengths: list[int], gain: float, mode: Mode) -> None:
    mixed = mix(_sources(lengths, np.float64), [gain] * len(lengths), mode=mode, peak_rule="always")
    assert max(np.abs(mixed.mixture).max(), np.abs(mixed.sources).max()) == pytest.approx(PEAK, rel=1e-12)


@given(lengths, gains, modes)
def test_down_never_amplifies_and_never_exceeds(lengths: list[int], gain: float, mode: Mode) -> None:
    mixed = mix(_sources(lengths, np.float64), [gain] * len(lengths), mode=mode, peak_rule="down")
    assert mixed.scale <= 1
    assert np.abs(mixed.mixture).max() <= PEAK * (1 + 1e-12)
    assert mixed.scale == 1 or np.abs(mixed.mixture).max() == pytest.approx(PEAK)


@given(lengths, gains, modes, peak_rules)
def test_gains_tell_how_the_sources_were_made(lengths: list[int], gain: float, mode: Mode, peak_rule: PeakRule) -> None:
    sources = _sources(lengths, np.float64)
    mixed = mix(sources, [gain / (k + 1) for k in range(len(lengths))], mode=mode, peak_rule=peak_rule)
    for source, made, total_gain in zip(sources, mixed.sources, mixed.gains, strict=True):
        common = min(len(source), len(made))
        assert np.allclose(made[:common], source[:common] * total_gain, rtol=1e-12)
        assert not made[common:].any()


def test_sources_are_not_changed_and_silence_stays_silent() -> None:
    silence = np.zeros(100, np.float32)
    mixed = mix([silence, silence], [1.0, 1.0], mode="min", peak_rule="always")
    assert mixed.scale == 1
    assert not mixed.mixture.any()
    sources = _sources([10, 20], np.float32)
    before = [source.copy() for source in sources]
    mix(sources, [3.0, 4.0], mode="max", peak_rule="always")
    assert all(np.array_equal(a, b) for a, b in zip(sources, before, strict=True))


@given(st.floats(-60, 0), st.floats(-60, 0))
def test_a_source_gain_bridges_the_levels(target_db: float, measured_db: float) -> None:
    assert 20 * np.log10(source_gain("active", target_db, measured_db, peak=1.0)) == pytest.approx(
        target_db - measured_db, abs=1e-9
    )


def test_loudness_keeps_a_source_below_full_scale() -> None:
    assert source_gain("loudness", -20, -40, peak=0.05) == pytest.approx(10)
    assert source_gain("loudness", -20, -40, peak=0.1) == pytest.approx(9)
    assert source_gain("loudness", -20, -40, peak=0.5) * 0.5 == pytest.approx(PEAK)


def test_relative_levels_survive_the_peak_rule() -> None:
    generator = np.random.default_rng(1)
    voices = [Utterance(generator.normal(size=4000).astype(np.float32), level_db=0.0, peak=4.0) for _ in range(2)]
    mixed = mix_at_levels(voices, [2.0, -2.0], rule="active", mode="min")
    ratio_db = 20 * np.log10(mixed.sources[0].std() / mixed.sources[1].std())
    assert ratio_db == pytest.approx(4.0 + 20 * np.log10(voices[0].samples.std() / voices[1].samples.std()), abs=1e-4)


@pytest.mark.parametrize("rule", ["active", "rms"])
def test_levels_of_power_are_always_scaled_to_the_peak(rule: LevelRule) -> None:
    quiet = Utterance(np.full(10, 0.01), level_db=-40.0, peak=0.01)
    assert mix_at_levels([quiet, quiet], [-40.0, -40.0], rule=rule, mode="min").mixture.max() == pytest.approx(PEAK)
    assert mix_at_levels([quiet, quiet], [-40.0, -40.0], rule="loudness", mode="min").mixture.max() == pytest.approx(0.02)


def test_fit_length_cuts_and_pads() -> None:
    samples = np.arange(1.0, 6.0)
    assert fit_length(samples, 3).tolist() == [1, 2, 3]
    assert fit_length(samples, 5).tolist() == [1, 2, 3, 4, 5]
    assert fit_length(samples, 7).tolist() == [1, 2, 3, 4, 5, 0, 0]


def test_the_fade_is_half_a_second_and_a_sample() -> None:
    assert fade_length(16000) == 8001
    assert fade_length(11025) == 5513  # 5512.5 rounds to even


def test_repeated_noise_joins_with_halves_of_a_hann_window() -> None:
    rate, noise = 8, np.arange(1.0, 13.0)
    fade = fade_length(rate)
    rising = np.sin(np.pi / 2 * np.arange(fade) / (fade - 1)) ** 2
    joint = noise[-fade:] * (1 - rising) + noise[:fade] * rising
    once = np.concatenate([noise[:-fade], joint, noise[fade:]])
    assert np.allclose(extended(noise, len(once), rate), once)
    assert np.allclose(extended(noise, 15, rate), once[:15])
    twice = extended(noise, len(once) + 1, rate)
    assert np.allclose(twice[: len(once) - fade], once[:-fade])
    assert twice[len(once)] == pytest.approx(noise[fade])
    assert np.array_equal(extended(noise, 12, rate), noise)
    # A constant signal stays constant: the halves add up to one.
    assert np.allclose(extended(np.ones(12), 50, rate), 1)


@pytest.mark.parametrize("num_samples", [1, 2, 5, 6, 7])
def test_noise_of_any_length_is_repeated(num_samples: int) -> None:
    noise = np.arange(1.0, num_samples + 1)  # a fade has 5 samples
    longer = extended(noise, 23, 8)
    assert len(longer) == 23
    assert longer.min() > 0
    assert np.array_equal(longer[: max(num_samples - 5, 1)], noise[: max(num_samples - 5, 1)])
    if num_samples <= 5:
        assert np.array_equal(longer, np.resize(noise, 23))
