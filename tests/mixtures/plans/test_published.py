"""Published lists: files are known by their paths, and missing ones are reported by folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import AudioError
from pipeline.mixtures.plans.published import listed_manifest, listed_paths, unique_rows, with_ids
from tests.voices import write_voices


def row(path: str) -> dict[str, str]:
    """A listed file, known by its path."""
    return {"utterance_id": path, "speaker_id": path.split("/")[0], "sex": "", "split": "test", "path": path}


def test_equal_file_names_in_different_folders_are_different_utterances() -> None:
    speech = unique_rows([row(path) for path in ("ann/SA1.wav", "bob/SA1.wav", "bob/SX7.wav", "ann/SA1.wav")])
    plan = pd.DataFrame({"source": ["s1", "s2", "s1"], "utterance_id": ["ann/SA1.wav", "bob/SA1.wav", "bob/SX7.wav"]})
    named, utterances = with_ids(plan, speech)
    assert list(named["utterance_id"]) == list(utterances["utterance_id"]) == ["ann-SA1", "bob-SA1", "SX7"]
    assert list(utterances["path"]) == ["ann/SA1.wav", "bob/SA1.wav", "bob/SX7.wav"]


def test_speech_and_noise_of_one_name_are_told_apart() -> None:
    speech, noises = unique_rows([row("ann/1.wav")]), unique_rows([row("tt/1.wav")])
    plan = pd.DataFrame({"source": ["s1", "noise"], "utterance_id": ["ann/1.wav", "tt/1.wav"]})
    named, _, _ = with_ids(plan, speech, noises)
    assert list(named["utterance_id"]) == ["ann-1", "tt-1"]


def test_lists_without_noise() -> None:
    named, speech, noises = with_ids(pd.DataFrame(row("a/1.wav"), index=[0]), unique_rows([row("a/1.wav")]), unique_rows([]))
    assert list(named["utterance_id"]) == list(speech["utterance_id"]) == ["1"]
    assert noises.empty


def test_missing_files_are_one_finding_and_endings_may_differ(tmp_path: Path) -> None:
    write_voices(tmp_path, speakers=1, takes=2, seconds=0.5)
    there, gone = "spk00/00-0.wav", ["spk00/00-7.wav", "spk01/01-0.wav"]
    listed = unique_rows([row(path) for path in (there, *gone)])
    assert listed_paths(listed, tmp_path) == ["spk00/00-0.flac", *gone]
    with pytest.raises(AudioError, match="no such file for 2 of the 3 that are needed") as caught:
        listed_manifest(listed, tmp_path, num_workers=1)
    assert "spk01: 1 missing: spk01/01-0.wav" in str(caught.value)
    manifest = listed_manifest(listed[:1], tmp_path, num_workers=1)
    assert manifest["sha256"].str.len().tolist() == [64]
