"""Levels against MERL's own active levels, the standards' definitions, and closed forms."""

import csv
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio.files import read_audio
from pipeline.audio.levels import active_level, level_db, loudness
from pipeline.audio.resampling import resample


def _tone(sample_rate, frequency=1000, seconds=4):
    return 0.1 * np.sin(2 * np.pi * frequency * np.arange(seconds * sample_rate) / sample_rate)


def _modulated(sample_rate):
    t = np.arange(4 * sample_rate) / sample_rate
    return 0.2 * np.sin(2 * np.pi * 600 * t) * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * t)) ** 2


CLOSED_FORMS = {
    "sine1k_continuous": _tone,
    "sine1k_gated_1s_on_1s_off": lambda rate: _tone(rate) * (np.arange(4 * rate) / rate % 2 < 1),
    "sine50_mains": lambda rate: _tone(rate, 50),
    "am4hz_600": _modulated,
    "impulse": lambda rate: np.concatenate([np.zeros(rate // 2), [0.5], np.zeros(rate // 2)]),
    "dc_plus_sine": lambda rate: 0.05 + _tone(rate),
    "zeros": np.zeros,
}


def _golden_signal(name, sample_rate, folder):
    if name in CLOSED_FORMS:
        return CLOSED_FORMS[name](sample_rate)
    samples, own_rate = read_audio(next(folder.glob(f"{name}.*")))
    return resample(samples, own_rate, sample_rate)


def test_active_level_equals_the_published_implementation(corpora):
    with (corpora / "golden/p56_activlev_golden.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    for row in rows:
        signal = _golden_signal(row["name"].split("@")[0], int(row["fs"]), corpora / "golden/in")
        assert len(signal) == int(row["n_samples"])
        level = active_level(signal, int(row["fs"]))
        assert level.power == pytest.approx(float(row["active_level_power"]), rel=1e-8, abs=0), row["name"]
        assert level.activity == pytest.approx(float(row["activity_factor"]), rel=1e-8, abs=0), row["name"]


def test_active_level_of_a_steady_tone_is_its_power():
    # 0.02 dB of ripple at 1 kHz, and the edges of the tone, are all that separates the two.
    assert active_level(_tone(8000, seconds=20), 8000).power == pytest.approx(0.1**2 / 2, rel=0.08)


def test_pauses_do_not_lower_the_active_level():
    tone = _tone(8000)
    with_pause = np.concatenate([tone, np.zeros(8 * 8000)])
    assert active_level(with_pause, 8000).power == pytest.approx(active_level(tone, 8000).power, rel=0.02)
    assert level_db(with_pause, 8000, "rms") < level_db(tone, 8000, "rms") - 4


@pytest.mark.parametrize("rule", ["active", "loudness", "rms"])
@given(gain_db=st.floats(-20, 10))
def test_levels_follow_the_gain(rule, gain_db):
    tone = _tone(8000, 700, seconds=1)
    # The thresholds of the active level stand 3 dB apart whatever the gain, and it interpolates between them.
    tolerance_db = 0.01 if rule == "active" else 1e-6
    raised_db = level_db(tone * 10 ** (gain_db / 20), 8000, rule) - level_db(tone, 8000, rule)
    assert raised_db == pytest.approx(gain_db, abs=tolerance_db)


def test_loudness_of_the_reference_tone():
    # BS.1770-4: a 997 Hz sine at full scale in one channel reads -3.01 LUFS.
    tone = np.sin(2 * np.pi * 997 * np.arange(48000 * 3) / 48000)
    assert loudness(tone, 48000) == pytest.approx(-3.01, abs=0.05)


def test_loudness_of_less_than_one_block_is_its_own():
    tone = _tone(16000, 997)
    assert loudness(tone[:4000], 16000) == pytest.approx(loudness(tone, 16000), abs=0.3)


@pytest.mark.parametrize("rule", ["active", "loudness", "rms"])
@pytest.mark.parametrize("num_samples", [1, 100, 8000])
def test_silence_has_no_level(rule, num_samples):
    assert level_db(np.zeros(num_samples), 8000, rule) == -inf


def test_what_the_loudness_gate_hears_as_silence_is_silence():
    assert loudness(np.full(8000, 1e-9) * (-1.0) ** np.arange(8000), 8000) == -inf


@pytest.mark.parametrize("rule", ["active", "loudness", "rms"])
@pytest.mark.parametrize("num_samples", [1, 2, 50, 1000])
def test_short_signals_have_a_level(rule, num_samples):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, num_samples)
    assert -60 < level_db(noise, 8000, rule) < 6
