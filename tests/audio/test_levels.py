"""Levels against MERL's own active levels, the standards' definitions, and closed forms."""

from __future__ import annotations

import csv
from collections.abc import Callable
from math import inf, log10, pi
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio import levels
from pipeline.audio.files import read_audio
from pipeline.audio.levels import LevelRule, active_level, level_db, loudness
from pipeline.audio.resampling import resample

Signal = npt.NDArray[np.float64]


def _tone(sample_rate: int, frequency: float = 1000, seconds: float = 4) -> Signal:
    return 0.1 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * sample_rate)) / sample_rate)


def _modulated(sample_rate: int) -> Signal:
    t = np.arange(4 * sample_rate) / sample_rate
    return 0.2 * np.sin(2 * np.pi * 600 * t) * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * t)) ** 2


CLOSED_FORMS: dict[str, Callable[[int], Signal]] = {
    "sine1k_continuous": _tone,
    "sine1k_gated_1s_on_1s_off": lambda rate: _tone(rate) * (np.arange(4 * rate) / rate % 2 < 1),
    "sine50_mains": lambda rate: _tone(rate, 50),
    "am4hz_600": _modulated,
    "impulse": lambda rate: np.concatenate([np.zeros(rate // 2), [0.5], np.zeros(rate // 2)]),
    "dc_plus_sine": lambda rate: 0.05 + _tone(rate),
    "zeros": np.zeros,
}


def _golden_signal(name: str, sample_rate: int, folder: Path) -> Signal:
    if name in CLOSED_FORMS:
        return CLOSED_FORMS[name](sample_rate)
    samples, own_rate = read_audio(next(folder.glob(f"{name}.*")))
    return resample(samples, own_rate, sample_rate)


def test_active_level_equals_the_published_implementation(corpora: Path) -> None:
    with (corpora / "golden/p56_activlev_golden.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    for row in rows:
        signal = _golden_signal(row["name"].split("@")[0], int(row["fs"]), corpora / "golden/in")
        assert len(signal) == int(row["n_samples"])
        level = active_level(signal, int(row["fs"]))
        assert level.power == pytest.approx(float(row["active_level_power"]), rel=1e-8, abs=0), row["name"]
        assert level.activity == pytest.approx(float(row["activity_factor"]), rel=1e-8, abs=0), row["name"]


def _seconds_active_beyond(tone_seconds: float) -> float:
    """How much longer than a steady tone P.56 hears speech: until the envelope has fallen below the threshold, and the hang-over.

    The envelope of a tone of amplitude 1 rises to its mean, 2/pi, as 1 - (1 + u) exp(-u) with u in units of 30 ms, and falls by
    the mirror image. The threshold lies 15.9 dB below the active level, which is 1/2 spread over the active time.
    """
    u = np.linspace(0, 20, 200_001)
    step = (1 + u) * np.exp(-u)
    beyond = 0.0
    for _ in range(20):
        level_db = 10 * log10(0.5 * tone_seconds / (tone_seconds + beyond))
        threshold = 10 ** ((level_db - 15.9) / 20) / (2 / pi)
        delay, decay = u[np.argmax(1 - step > threshold)], u[np.argmax(step < threshold)]
        beyond = 0.03 * (decay - delay) + 0.2
    return beyond


def _error_of_a_tone_db(seconds: float) -> float:
    """The active level of a 1 kHz tone, against the closed form."""
    expected = 0.1**2 / 2 * seconds / (seconds + _seconds_active_beyond(seconds))
    return abs(10 * log10(active_level(_tone(8000, seconds=seconds), 8000).power / expected))


@pytest.mark.parametrize("seconds", [1, 2, 4, 20])
def test_active_level_of_a_steady_tone_is_its_power_over_its_active_time(seconds: float) -> None:
    # Between thresholds 3 dB apart the level is interpolated.
    assert _error_of_a_tone_db(seconds) < 0.01


@pytest.mark.parametrize(
    ("constant", "wrong"),
    [("_HANGOVER_SECONDS", 0.19), ("_SMOOTHING_SECONDS", 0.035), ("_MARGIN_DB", 15.0), ("_MARGIN_DB", 17.0)],
)
def test_the_closed_form_notices_a_wrong_constant(monkeypatch: pytest.MonkeyPatch, constant: str, wrong: float) -> None:
    monkeypatch.setattr(levels, constant, wrong)
    assert _error_of_a_tone_db(1) > 0.01


def test_pauses_do_not_lower_the_active_level() -> None:
    tone = _tone(8000)
    with_pause = np.concatenate([tone, np.zeros(8 * 8000)])
    assert level_db(with_pause, 8000, "active") == pytest.approx(level_db(tone, 8000, "active"), abs=1e-6)
    assert level_db(with_pause, 8000, "rms") == pytest.approx(level_db(tone, 8000, "rms") - 10 * log10(3), abs=1e-6)


def test_activity_is_the_share_of_the_active_time() -> None:
    tone = _tone(8000)
    heard = active_level(np.concatenate([tone, np.zeros(8 * 8000)]), 8000)
    # 0.35 s of silence are appended, so that the envelope can fall.
    assert heard.activity == pytest.approx((4 + _seconds_active_beyond(4)) / (12 + 0.35), rel=0.005)


def test_rms_of_closed_forms() -> None:
    assert level_db(_tone(8000), 8000, "rms") == pytest.approx(10 * log10(0.1**2 / 2), abs=1e-9)
    assert level_db(np.full(100, -0.5), 8000, "rms") == pytest.approx(20 * log10(0.5), abs=1e-9)


@pytest.mark.parametrize("rule", ["active", "loudness", "rms"])
@given(gain_db=st.floats(-20, 10))
def test_levels_follow_the_gain(rule: LevelRule, gain_db: float) -> None:
    tone = _tone(8000, 700, seconds=1)
    # The thresholds of the active level stand 3 dB apart whatever the gain, and it interpolates between them.
    tolerance_db = 0.01 if rule == "active" else 1e-6
    raised_db = level_db(tone * 10 ** (gain_db / 20), 8000, rule) - level_db(tone, 8000, rule)
    assert raised_db == pytest.approx(gain_db, abs=tolerance_db)


def test_loudness_of_the_reference_tone() -> None:
    # BS.1770-4: a 997 Hz sine at full scale in one channel reads -3.01 LUFS.
    tone = np.sin(2 * np.pi * 997 * np.arange(48000 * 3) / 48000)
    assert loudness(tone, 48000) == pytest.approx(-3.01, abs=0.05)


def test_loudness_of_less_than_one_block_is_its_own() -> None:
    tone = _tone(16000, 997)
    assert loudness(tone[:4000], 16000) == pytest.approx(loudness(tone, 16000), abs=0.01)


@pytest.mark.parametrize("rule", ["active", "loudness", "rms"])
@pytest.mark.parametrize("num_samples", [1, 100, 8000])
def test_silence_has_no_level(rule: LevelRule, num_samples: int) -> None:
    assert level_db(np.zeros(num_samples), 8000, rule) == -inf


def test_a_signal_below_the_absolute_gate_is_silence() -> None:
    assert loudness(np.full(8000, 1e-9) * (-1.0) ** np.arange(8000), 8000) == -inf


@pytest.mark.parametrize("rule", ["active", "loudness", "rms"])
@pytest.mark.parametrize("num_samples", [1, 2, 50, 1000])
def test_short_signals_have_a_level(rule: LevelRule, num_samples: int) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, num_samples)
    assert -60 < level_db(noise, 8000, rule) < 6


@pytest.mark.parametrize(("position", "expected"), [(0, 1601), (4000, 1601), (7999, 1)])
def test_a_sample_is_held_for_the_hang_over_and_not_before(position: int, expected: int) -> None:
    """0.2 s at 8 kHz are 1,600 samples after the one that sounds. Below the lowest threshold lies nothing: it counts all."""
    envelope = np.zeros(8000)
    envelope[position] = 1.0
    counts, top = levels._threshold_counts(envelope, 8000)
    assert top == 2
    assert list(counts) == [expected] * 19 + [8000]


@pytest.mark.parametrize(("margins_db", "expected_db"), [([3.0, 2.0, 1.0], -10.0), ([-3.0, -2.0, -1.0], -30.0)])
def test_without_a_crossing_the_nearest_end_counts(margins_db: list[float], expected_db: float) -> None:
    assert levels._level_at_margin(np.array([-10.0, -20.0, -30.0]), np.array(margins_db)) == expected_db
