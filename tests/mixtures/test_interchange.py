"""Other toolkits read what is exported: through the toolkit where it is installed, else by its documented format."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.audio.files import read_audio
from pipeline.errors import DatasetError
from pipeline.mixtures.interchange import EXPORTERS, export_dataset
from tests.mixtures.small_corpus import write_mixtures

Dataset = tuple[pd.DataFrame, Path]
"""Its table of mixtures, and its folder."""
Exported = Callable[[str], tuple[list[Path], Path]]
"""Exports it to a format: the files written, and their folder."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six mixtures of two sources: the table and the folder."""
    folder = tmp_path_factory.mktemp("data, with a comma")
    return write_mixtures(folder), folder


@pytest.fixture
def exported(dataset: Dataset, tmp_path: Path) -> Exported:
    def to(name: str) -> tuple[list[Path], Path]:
        return export_dataset(*dataset, tmp_path / name, to=name), tmp_path / name

    return to


def of_split(dataset: Dataset, split: str) -> pd.DataFrame:
    table, _ = dataset
    return table[table["split"] == split].sort_values("mixture_id").reset_index(drop=True)


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_path_leads_to_the_audio(exported: Exported, dataset: Dataset, name: str) -> None:
    files, folder = exported(name)
    assert files
    assert {file for file in folder.rglob("*") if file.is_file()} == set(files)
    text = "".join(file.read_text() for file in files).replace("$data_root", str(dataset[1]))
    paths = set(re.findall(rf"{re.escape(str(dataset[1]))}[^\"\n]*?\.wav", text))
    assert len(paths) == 18
    for path in paths:
        read_audio(path)


def test_asteroid_json(exported: Exported, dataset: Dataset) -> None:
    _, folder = exported("asteroid-json")
    expected = of_split(dataset, "train")
    for part, column in {"mix": "mixture_path", "s1": "source_1_path", "s2": "source_2_path"}.items():
        pairs = json.loads((folder / "tr" / f"{part}.json").read_text())
        assert pairs == [
            [str(dataset[1] / path), length] for path, length in zip(expected[column], expected["num_samples"], strict=True)
        ]


def test_asteroid_reads_its_formats(exported: Exported, dataset: Dataset) -> None:
    data = pytest.importorskip("asteroid.data", reason="asteroid is not installed", exc_type=ImportError)
    wsj0mix = data.Wsj0mixDataset(str(exported("asteroid-json")[1] / "tr"), n_src=2, sample_rate=8000, segment=None)
    librimix = data.LibriMix(
        str(exported("asteroid-csv")[1] / "train"), task="sep_clean", sample_rate=8000, n_src=2, segment=None
    )
    assert len(wsj0mix) == len(librimix) == 3
    for mixture, sources in (*(wsj0mix[k] for k in range(3)), *(librimix[k] for k in range(3))):
        np.testing.assert_allclose(mixture, sources.sum(0), atol=1e-6)


def test_asteroid_csv(exported: Exported, dataset: Dataset) -> None:
    _, folder = exported("asteroid-csv")
    table = pd.read_csv(folder / "test" / "mixture_test_mix_clean.csv", dtype=str)
    assert list(table.columns) == ["mixture_ID", "mixture_path", "source_1_path", "source_2_path", "length"]
    expected = of_split(dataset, "test")
    assert list(table["mixture_ID"]) == list(expected["mixture_id"])
    assert list(table["length"].astype(int)) == list(expected["num_samples"])


def test_speechbrain(exported: Exported, dataset: Dataset) -> None:
    _, folder = exported("speechbrain")
    with (folder / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = of_split(dataset, "train")
    assert [row["ID"] for row in rows] == list(expected["mixture_id"])
    assert [float(row["duration"]) for row in rows] == list(expected["num_samples"] / 8000)
    assert rows[0]["s2_wav"] == f"$data_root/{expected['source_2_path'][0]}"
    assert (rows[0]["mix_wav_format"], rows[0]["mix_wav_opts"]) == ("wav", "")


def test_speechbrain_reads_its_format(exported: Exported, dataset: Dataset) -> None:
    reading = pytest.importorskip("speechbrain.dataio.dataset", reason="speechbrain is not installed", exc_type=ImportError)
    _, folder = exported("speechbrain")
    csv_file, root = str(folder / "train.csv"), str(dataset[1])
    loaded = reading.DynamicItemDataset.from_csv(csv_file, replacements={"data_root": root}, output_keys=["id", "mix_wav"])
    assert [row["id"] for row in loaded] == list(of_split(dataset, "train")["mixture_id"])
    assert read_audio(loaded[0]["mix_wav"])[1] == 8000


def test_kaldi(exported: Exported, dataset: Dataset) -> None:
    _, folder = exported("kaldi")
    expected = of_split(dataset, "train")
    for file, column in {"wav.scp": "mixture_path", "spk1.scp": "source_1_path", "spk2.scp": "source_2_path"}.items():
        pairs = [line.split(" ", 1) for line in (folder / "train" / file).read_text().splitlines()]
        assert pairs == [
            [name, str(dataset[1] / path)] for name, path in zip(expected["mixture_id"], expected[column], strict=True)
        ]
    names = [line.split()[0] for line in (folder / "train" / "utt2spk").read_text().splitlines()]
    assert names == sorted(names, key=str.encode)


def test_lhotse(exported: Exported, dataset: Dataset) -> None:
    _, folder = exported("lhotse")
    expected = of_split(dataset, "test")
    recordings = [json.loads(line) for line in (folder / "s2_recordings_test.jsonl").read_text().splitlines()]
    assert [r["id"] for r in recordings] == [f"{name}-s2" for name in expected["mixture_id"]]
    assert [r["num_samples"] for r in recordings] == list(expected["num_samples"])
    supervisions = [json.loads(line) for line in (folder / "mix_supervisions_test.jsonl").read_text().splitlines()]
    assert len(supervisions) == 4
    assert [s.get("gender") for s in supervisions[:2]] == ["F", None]


def test_lhotse_reads_its_format(exported: Exported, dataset: Dataset) -> None:
    lhotse = pytest.importorskip("lhotse", reason="lhotse is not installed", exc_type=ImportError)
    _, folder = exported("lhotse")
    recordings = lhotse.load_manifest(folder / "mix_recordings_train.jsonl")
    supervisions = lhotse.load_manifest(folder / "mix_supervisions_train.jsonl")
    lhotse.validate_recordings_and_supervisions(recordings, supervisions)
    parts = [lhotse.load_manifest(folder / f"s{k}_recordings_train.jsonl") for k in (1, 2)]
    for recording in recordings:
        sources = [part[f"{recording.id}-s{k}"].load_audio() for k, part in enumerate(parts, start=1)]
        np.testing.assert_allclose(recording.load_audio(), sum(sources), atol=1e-6)


def test_noise_is_listed_like_a_source(dataset: Dataset, tmp_path: Path) -> None:
    table, folder = dataset
    noisy = table.assign(
        noise_path=table["mixture_path"].str.replace("/mix/", "/noise/"),
        mixture_path=table["mixture_path"].str.replace("/mix/", "/mix_both/"),
    )
    files = {
        str(f.relative_to(tmp_path)): f.read_text() for to in EXPORTERS for f in export_dataset(noisy, folder, tmp_path, to=to)
    }
    assert "/noise/" in files["tr/noise.json"]
    header = "mixture_ID,mixture_path,source_1_path,source_2_path,noise_path,length\n"
    assert files["test/mixture_test_mix_both.csv"].startswith(header)
    assert files["valid.csv"].splitlines()[0].endswith(",s2_wav_opts,noise_wav,noise_wav_format,noise_wav_opts")
    assert len(files["train/noise1.scp"].splitlines()) == 3
    assert len(files["noise_recordings_train.jsonl"].splitlines()) == 3


def test_faults(dataset: Dataset, tmp_path: Path) -> None:
    table, folder = dataset
    with pytest.raises(DatasetError, match="nemo: no such format; choose from asteroid-json"):
        export_dataset(table, folder, tmp_path, to="nemo")
    with pytest.raises(DatasetError, match="names with spaces"):
        export_dataset(table.assign(mixture_id="a b"), folder, tmp_path, to="kaldi")
    with pytest.raises(DatasetError, match="mixtures of 2 and 3 sources"):
        export_dataset(table.assign(num_sources=[2, 2, 2, 3, 3, 3]), folder, tmp_path, to="kaldi")
