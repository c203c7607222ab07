"""Patterns and folders: which files are found, in which order; recordings in any state."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.files import write_audio
from pipeline.errors import ScoreError
from pipeline.scoring.recordings import MISSING, find_mixtures, find_sources, read_recording


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_sources_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    touch(tmp_path, "s2/b.wav", "s1/b.wav", "s10/b.wav", "s1/a.flac", "s1/notes.txt")
    found = find_sources(tmp_path)
    assert list(found) == ["a", "b"]
    assert found["a"] == (tmp_path / "s1/a.flac",)
    assert found["b"] == (tmp_path / "s1/b.wav", tmp_path / "s2/b.wav", *[MISSING] * 7, tmp_path / "s10/b.wav")


def test_numbers_begin_at_0_or_1(tmp_path: Path) -> None:
    touch(tmp_path, "from0/a_est0.wav", "from0/a_est1.wav", "from0/b_est1.wav", "from1/a_est1.wav", "from1/b_est2.wav")
    assert [len(paths) for paths in find_sources(tmp_path / "from0").values()] == [2, 2]
    assert find_sources(tmp_path / "from0")["b"][0] == MISSING
    assert [len(paths) for paths in find_sources(tmp_path / "from1").values()] == [1, 2]
    assert find_sources(tmp_path / "from1")["b"][0] == MISSING


def test_mixtures(tmp_path: Path) -> None:
    touch(tmp_path, "mix/a.wav", "mix/b.wav")
    assert find_mixtures(tmp_path) == {"a": tmp_path / "mix/a.wav", "b": tmp_path / "mix/b.wav"}


WRONG_PATTERNS = ("{mixture_id}", "s{source}", "{mixture_id}/{mixture_id}_{source}", "{mixture_id}_{source}_{source}", "{name}")


@pytest.mark.parametrize("pattern", WRONG_PATTERNS)
def test_a_pattern_names_mixture_and_source_once_each(tmp_path: Path, pattern: str) -> None:
    touch(tmp_path, "a.wav", "a_1.wav")
    with pytest.raises(ScoreError, match=r"write {mixture_id} and {source} once, and nothing else"):
        find_sources(tmp_path, pattern)


def test_a_pattern_of_mixtures_has_no_source(tmp_path: Path) -> None:
    touch(tmp_path, "a_1.wav")
    with pytest.raises(ScoreError, match=r"write {mixture_id} once, and nothing else"):
        find_mixtures(tmp_path, "{mixture_id}_{source}")


def test_problems_of_recordings(tmp_path: Path) -> None:
    write_audio(tmp_path / "right.wav", np.full(100, 0.5), 8000, "float32")
    write_audio(tmp_path / "nan.wav", np.full(100, np.nan), 8000, "float32")
    (tmp_path / "broken.wav").write_bytes(b"RIFF and then nothing that is audio")
    assert read_recording(tmp_path / "right.wav", 8000).samples.tolist() == [0.5] * 100
    assert np.isnan(read_recording(tmp_path / "nan.wav", 8000).samples).all()
    for name, rate, problem in (("none", 8000, "missing"), ("broken", 8000, "unreadable"), ("right", 16000, "other_rate")):
        recording = read_recording(tmp_path / f"{name}.wav", rate)
        assert (recording.problem, len(recording.samples)) == (problem, 0)
