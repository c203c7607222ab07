"""Files that a recipe leaves out: silent ones, or those it names."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import corpora
from pipeline.audio.files import write_audio
from pipeline.errors import CorpusError
from pipeline.recipe.schema import FolderCorpus
from tests.voices import write_voices

SILENT = ("spk00/00-1.flac", "spk07/07-0.flac", "spk07/07-1.flac")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Nine speakers, one of whom is silent, and another now and then."""
    write_voices(tmp_path, seconds=0.5)
    for path in SILENT:
        write_audio(tmp_path / path, np.zeros(8000), 16000, "flac")
    return tmp_path


def scanned(root: Path, skip: Any) -> set[str]:
    return set(
        corpora.scan(FolderCorpus(kind="folder", skip=skip, valid_share=0.34, test_share=0.34), root, seed=0, num_workers=1)[
            "path"
        ]
    )


def test_silent_files_are_left_out_counted_and_named(speech: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="pipeline"):
        kept = scanned(speech, "silent")
    assert kept == scanned(speech, []) - set(SILENT)
    assert f"3 of 18 files are left out, silent: {', '.join(SILENT)}" in caplog.text
    assert "1 speakers have nothing left: spk07" in caplog.text


def test_named_files_are_left_out_by_id_or_path_without_being_opened(speech: Path, caplog: pytest.LogCaptureFixture) -> None:
    (speech / "spk01" / "01-0.flac").write_bytes(b"no audio")
    kept = scanned(speech, ["spk01/01-0.flac", "spk02-02-1"])
    assert len(kept) == 16
    assert not kept & {"spk01/01-0.flac", "spk02/02-1.flac"}
    assert "2 of 18 files are left out, listed in corpus.skip: spk01/01-0.flac, spk02/02-1.flac" in caplog.text


def test_a_name_that_nothing_has_is_an_error(speech: Path) -> None:
    with pytest.raises(CorpusError, match=r"no utterance and no file called spk99/1\.flac$"):
        scanned(speech, ["spk99/1.flac", "spk01/01-0.flac"])
