"""Recordings in any state: problems become part of their scores."""

from pathlib import Path

import numpy as np
import soundfile

from pipeline.audio.files import write_audio
from pipeline.scoring.recordings import read_recording


def test_problems_of_recordings(tmp_path: Path) -> None:
    write_audio(tmp_path / "right.wav", np.full(100, 0.5), 8000, "float32")
    write_audio(tmp_path / "nan.wav", np.full(100, np.nan), 8000, "float32")
    (tmp_path / "broken.wav").write_bytes(b"RIFF and then nothing that is audio")
    assert read_recording(tmp_path / "right.wav", 8000).samples.tolist() == [0.5] * 100
    assert np.isnan(read_recording(tmp_path / "nan.wav", 8000).samples).all()
    for name, rate, problem in (("none", 8000, "missing"), ("broken", 8000, "unreadable"), ("right", 16000, "other_rate")):
        recording = read_recording(tmp_path / f"{name}.wav", rate)
        assert (recording.problem, len(recording.samples)) == (problem, 0)


def write_stereo(path: Path, rate: int = 8000) -> None:
    soundfile.write(path, np.stack([np.full(400, 0.25), np.full(400, -0.5)], axis=1), rate)


def test_a_channel_is_chosen_or_the_reason_says_how(tmp_path: Path) -> None:
    write_stereo(tmp_path / "two.wav")
    write_audio(tmp_path / "one.wav", np.full(400, 0.125), 8000)
    unread = read_recording(tmp_path / "two.wav", 8000)
    assert (unread.problem, len(unread.samples)) == ("multichannel", 0)
    assert unread.reason == "has 2 channels; choose one with --channel 0 (the first)"
    assert set(read_recording(tmp_path / "two.wav", 8000, channel=1).samples) == {-0.5}
    assert set(read_recording(tmp_path / "one.wav", 8000, channel=1).samples) == {0.125}
    assert read_recording(tmp_path / "two.wav", 8000, channel=2).problem == "unreadable"


def test_another_rate_is_converted_when_asked(tmp_path: Path) -> None:
    write_audio(tmp_path / "fast.wav", np.full(400, 0.125), 16000)
    unread = read_recording(tmp_path / "fast.wav", 8000)
    assert unread.problem == "other_rate"
    assert unread.reason == "is at 16000 Hz and its reference at 8000 Hz; --resample converts it"
    converted = read_recording(tmp_path / "fast.wav", 8000, convert_rate=True)
    assert len(converted.samples) == 200
    assert converted.changes == ("resampled(16000)",)
