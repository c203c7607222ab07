"""What samples say: silence, faint noise, offsets and damage, each found by a look at the beginning or by reading everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.files import write_audio
from pipeline.audio.levels import loudness
from pipeline.corpora.inspection import FAINT_LUFS, Sound, inspect_file, inspect_files
from tests.voices import voice

RATE = 16000
NOISE = np.random.default_rng(0).standard_normal(RATE)
SPEECH = voice(0, 0, seconds=1.0, sample_rate=RATE)


def look(folder: Path, samples: np.ndarray, *, whole: bool) -> Sound:
    write_audio(folder / "a.wav", samples, RATE, "float32")
    return inspect_file(folder, "a.wav", channel=None, whole=whole)


@pytest.mark.parametrize("whole", [False, True])
def test_speech_is_sound_even_after_a_long_pause(tmp_path: Path, whole: bool) -> None:
    for pause in (0, RATE, 10 * RATE):
        found = look(tmp_path, np.concatenate([np.zeros(pause), SPEECH]), whole=whole)
        assert not (found.problem or found.is_silent or found.is_faint or found.is_off_centre)


@pytest.mark.parametrize("whole", [False, True])
def test_silence_is_what_the_gate_of_the_loudness_takes_for_it(tmp_path: Path, whole: bool) -> None:
    for samples in (np.zeros(RATE), np.full(RATE, 0.25), 1e-4 * NOISE):
        assert look(tmp_path, samples, whole=whole).is_silent
        assert loudness(samples - samples.mean(), RATE) == -np.inf


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("lufs", [FAINT_LUFS - 1, FAINT_LUFS + 1])
def test_faint_files_are_those_below_the_limit(tmp_path: Path, whole: bool, lufs: float) -> None:
    samples = NOISE * 10 ** ((lufs - loudness(NOISE, RATE)) / 20)
    found = look(tmp_path, samples, whole=whole)
    assert found.is_faint == (lufs < FAINT_LUFS)
    assert found.loudness_lufs == pytest.approx(lufs, abs=1e-3)
    assert not found.is_silent


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("offset", [0.4, -0.05, 0.01])
def test_an_offset_is_measured_over_the_whole_file(tmp_path: Path, whole: bool, offset: float) -> None:
    found = look(tmp_path, SPEECH - SPEECH.mean() + offset, whole=whole)
    assert found.is_off_centre == (abs(offset) > 0.02)
    if found.is_off_centre:
        assert found.offset == pytest.approx(offset, abs=1e-6)


def test_damage_in_the_middle_is_found_by_reading_everything(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", np.resize(SPEECH, 20 * RATE), RATE, "flac")
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = bytes(3000)
    (tmp_path / "a.flac").write_bytes(content)
    assert not inspect_file(tmp_path, "a.flac", channel=None).problem
    assert "a.flac" in inspect_file(tmp_path, "a.flac", channel=None, whole=True).problem


def test_many_files_come_in_order_whatever_the_number_of_workers(tmp_path: Path) -> None:
    for number in range(5):
        write_audio(tmp_path / f"{number}.wav", SPEECH * (number % 2), RATE)
    paths = [f"{number}.wav" for number in range(5)]
    for num_workers in (1, 2):
        found = inspect_files(tmp_path, paths, channel=None, num_workers=num_workers, description="")
        assert [sound.path for sound in found] == paths
        assert [sound.is_silent for sound in found] == [True, False, True, False, True]
