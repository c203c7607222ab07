"""Tar shards: what the webdataset package reads back is what was rendered, and the bytes depend on nothing else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import webdataset

from pipeline.audio.files import read_audio
from pipeline.errors import AudioError, DatasetError
from pipeline.mixtures.interchange import export_dataset, list_mixtures
from pipeline.mixtures.tar_shards import write_tar_shards
from tests.mixtures.small_corpus import digests, write_mixtures

# The package leaves files open.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

Dataset = tuple[pd.DataFrame, Path]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data, with a comma")
    return write_mixtures(folder, utterance="0.11"), folder


def read_back(shards: list[Path]) -> list[dict[str, Any]]:
    """Every sample of some shards, by the package for which they are written."""
    return list(webdataset.WebDataset([str(path) for path in shards], shardshuffle=False, empty_check=False).decode())


def test_the_webdataset_package_reads_what_was_rendered(dataset: Dataset, tmp_path: Path) -> None:
    table, folder = dataset
    shards = export_dataset(table, folder, tmp_path, to="webdataset")
    assert [path.name for path in shards] == ["train-000000.tar", "valid-000000.tar", "test-000000.tar"]
    samples = read_back(shards)
    assert len(samples) == len(table)
    assert all("." in row for row in table["mixture_id"]), "what webdataset would take for the end of the name"
    for sample in samples:
        (row,) = table[table["mixture_id"] == sample["json"]["mixture_id"]].to_dict("records")
        assert sample["json"]["num_samples"] == row["num_samples"]
        assert [source["speaker_id"] for source in sample["json"]["sources"]] == ["01", "02"]
        for part, column in (("mix", "mixture_path"), ("s1", "source_1_path"), ("s2", "source_2_path")):
            expected, rate = read_audio(folder / row[column])
            content = sample[f"{part}.wav"]
            samples_read = soundfile.read(io.BytesIO(content))[0] if isinstance(content, bytes) else content[0].numpy()[0]
            np.testing.assert_array_equal(samples_read.astype(np.float32), expected.astype(np.float32))
            assert rate == sample["json"]["sample_rate"]


def test_the_same_dataset_gives_the_same_bytes_without_dates_and_owners(dataset: Dataset, tmp_path: Path) -> None:
    table, folder = dataset
    shuffled = table.sample(frac=1, random_state=0)
    for name, rows in (("one", table), ("other", shuffled), ("other", shuffled)):
        export_dataset(rows, folder, tmp_path / name, to="webdataset")
    assert digests(tmp_path / "one") == digests(tmp_path / "other")
    with tarfile.open(tmp_path / "one" / "train-000000.tar") as shard:
        for member in shard:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode) == (0, 0, 0, "", "", 0o644)


def test_a_shard_ends_once_it_is_large_enough_and_mixtures_are_numbered_on(dataset: Dataset, tmp_path: Path) -> None:
    table, folder = dataset
    listed = [mixture for mixture in list_mixtures(table, folder) if mixture.split == "train"]
    shards = write_tar_shards("train", listed, tmp_path, shard_bytes=12_000)
    assert len(shards) == 2
    names = []
    for path in shards:
        with tarfile.open(path) as shard:
            names += shard.getnames()
    assert [name.partition(".")[0] for name in names] == [f"{k:08d}" for k in range(3) for _ in range(4)]
    assert len(read_back(shards)) == 3


def test_shards_of_another_dataset_are_not_mixed_in(dataset: Dataset, tmp_path: Path) -> None:
    table, folder = dataset
    (tmp_path / "train-000007.tar").touch()
    with pytest.raises(DatasetError, match=r"train-000007.tar: is of another dataset .*; choose an empty folder"):
        export_dataset(table, folder, tmp_path, to="webdataset")
    assert [path.name for path in tmp_path.iterdir()] == ["train-000007.tar"]


def test_a_missing_file_is_named_and_nothing_half_done_stays(dataset: Dataset, tmp_path: Path) -> None:
    table, folder = dataset
    lost = table.assign(mixture_path=table["mixture_path"].where(table["split"] != "train", "lost.wav"))
    with pytest.raises(AudioError, match=r"lost.wav: cannot be read \(No such file"):
        export_dataset(lost, folder, tmp_path / "out", to="webdataset")
    assert not list(tmp_path.rglob("*.tar*"))
