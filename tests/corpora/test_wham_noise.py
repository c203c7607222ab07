"""The noise corpus: its published tree, and any other folder of clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.files import write_audio
from pipeline.corpora import wham_noise
from pipeline.errors import CorpusError
from pipeline.tables import MANIFEST, check_table


def put(path: Path, num_samples: int = 160) -> None:
    write_audio(path, np.full(num_samples, 0.01), 16000, "flac" if path.suffix == ".flac" else "pcm16")


def test_the_published_tree(tmp_path: Path) -> None:
    for number, folder in enumerate(("tr", "cv", "tt")):
        put(tmp_path / folder / f"011a_0.5_{number}.wav", 100 + number)
    put(tmp_path / "metadata" / "not-a-clip.wav")
    manifest = wham_noise.scan(tmp_path, seed=0, num_workers=1)
    check_table(manifest, MANIFEST, origin="scan")
    assert dict(zip(manifest["path"], manifest["split"], strict=True)) == {
        "tr/011a_0.5_0.wav": "train", "cv/011a_0.5_1.wav": "valid", "tt/011a_0.5_2.wav": "test",
    }  # fmt: skip
    assert dict(zip(manifest["utterance_id"], manifest["num_samples"], strict=True))["tr-011a_0.5_0"] == 100
    assert set(manifest["speaker_id"]) == set(manifest["sex"]) == {""}


def test_another_folder_is_split_by_seed_and_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(30):
        put(tmp_path / f"kind{number % 3}" / f"{number}.flac")
    with caplog.at_level("INFO", logger="pipeline"):
        manifest = wham_noise.scan(tmp_path, seed=0, num_workers=1)
    assert dict(manifest["split"].value_counts()) == {"train": 24, "valid": 3, "test": 3}
    assert "split by seed 0" in caplog.text
    assert not manifest.equals(wham_noise.scan(tmp_path, seed=1, num_workers=1))


def test_faults(tmp_path: Path) -> None:
    put(tmp_path / "a.wav")
    with pytest.raises(CorpusError, match="holds 1 noise clips"):
        wham_noise.scan(tmp_path, seed=0)
    for name in "bc":
        put(tmp_path / f"{name}.wav")
    (tmp_path / "d.wav").write_text("no audio")
    (tmp_path / "e.wav").touch()
    with pytest.raises(CorpusError) as caught:
        wham_noise.scan(tmp_path, seed=0, num_workers=1)
    assert len(str(caught.value).splitlines()) == 2


def test_digest(tmp_path: Path) -> None:
    put(tmp_path / "tr" / "a.wav")
    first = wham_noise.listing_digest(tmp_path)
    put(tmp_path / "metadata" / "x.wav")
    assert wham_noise.listing_digest(tmp_path) == first
    put(tmp_path / "tt" / "a.wav")
    assert wham_noise.listing_digest(tmp_path) != first


def test_clips_that_would_be_called_alike(tmp_path: Path) -> None:
    for name in ("x.wav", "x.flac", "a/y.wav", "a-y.wav", "z.wav"):
        put(tmp_path / name)
    manifest = wham_noise.scan(tmp_path, seed=0, num_workers=1)
    assert sorted(manifest["utterance_id"]) == ["a-y.wav", "a/y.wav", "x.flac", "x.wav", "z"]


def test_only_the_splits_asked_for_need_noise(tmp_path: Path) -> None:
    put(tmp_path / "a.wav")
    assert list(wham_noise.scan(tmp_path, seed=0, splits=["test"], num_workers=1)["split"]) == ["test"]
    with pytest.raises(CorpusError, match="holds 1 noise clips"):
        wham_noise.scan(tmp_path, seed=0, splits=["valid", "test"], num_workers=1)
    put(tmp_path / "published" / "tt" / "a.wav")
    assert list(wham_noise.scan(tmp_path / "published", seed=0, num_workers=1)["split"]) == ["test"]
