"""Statistics of a dataset, against counts done by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.audio.files import write_audio
from pipeline.mixtures.statistics import DatasetStatistics, amplified, dataset_statistics, measure_levels, source_rows
from pipeline.reports.dataset_figure import dataset_png

Dataset = tuple[pd.DataFrame, Path]
"""Its table of mixtures, and its folder."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Mixtures of sines whose levels are known: source 2 lies 6.02 dB below source 1."""
    folder = tmp_path_factory.mktemp("dataset")
    rows = []
    plan = [("train", "F", "M", 16000), ("train", "M", "F", 8000), ("train", "F", "F", 8000), ("test", "M", "", 20000)]
    for number, (split, *sexes, num_samples) in enumerate(plan):
        time = np.arange(num_samples) / 8000
        sources = [0.5 * np.sin(2 * np.pi * 100 * time), 0.25 * np.sin(2 * np.pi * 200 * time)]
        row = {"mixture_id": f"m{number}", "split": split, "sample_rate": 8000, "num_samples": num_samples, "num_sources": 2}
        row["mixture_path"] = f"mix/{number}.wav"
        write_audio(folder / f"mix/{number}.wav", sources[0] + sources[1], 8000)
        for k, (sex, samples) in enumerate(zip(sexes, sources, strict=True), start=1):
            write_audio(folder / f"s{k}/{number}.wav", samples, 8000)
            row |= {f"source_{k}_path": f"s{k}/{number}.wav", f"source_{k}_sex": sex}
            row |= {f"source_{k}_utterance_id": f"{sex}{k}", f"source_{k}_speaker_id": f"spk-{sex}-{split}"}
        rows.append(row)
    return pd.DataFrame(rows), folder


@pytest.fixture(scope="module")
def statistics(dataset: Dataset) -> DatasetStatistics:
    return dataset_statistics(*dataset, num_workers=1)


def test_overview(statistics: DatasetStatistics) -> None:
    train, test = statistics.overview.to_dict("records")
    assert train["split"] == "train"
    assert train["num_mixtures"] == 3
    assert train["hours"] == pytest.approx(4 / 3600)
    assert (train["num_speakers"], train["num_utterances"]) == (2, 4)
    assert (train["min_seconds"], train["mean_seconds"], train["max_seconds"]) == pytest.approx((1, 4 / 3, 2))
    assert (test["split"], test["num_mixtures"], test["max_seconds"]) == ("test", 1, 2.5)


def test_sex_pairs(statistics: DatasetStatistics) -> None:
    assert statistics.sex_pairs.to_dict("list") == {
        "split": ["train", "train", "test"],
        "sexes": ["F-F", "F-M", "?-M"],
        "num_mixtures": [1, 2, 1],
    }


def test_reuse(statistics: DatasetStatistics) -> None:
    assert statistics.reuse.to_dict("list") == {
        "split": ["train", "train", "test"],
        "times_used": [1, 2, 1],
        "num_utterances": [2, 2, 2],
    }


def test_overlaps(dataset: Dataset, statistics: DatasetStatistics) -> None:
    assert statistics.overlaps["overlap"].tolist() == [1.0, 1.0]
    mixtures, folder = dataset
    partial = dataset_statistics(mixtures.assign(overlap=[0.2, 0.2, 0.4, 0.4]), folder, num_workers=1).overlaps
    assert partial.to_dict("list") == {"split": ["train", "train", "test"], "overlap": [0.2, 0.4, 0.4], "num_mixtures": [2, 1, 1]}


def test_lengths_and_levels(statistics: DatasetStatistics) -> None:
    assert statistics.lengths.to_dict("list") == {
        "split": ["train", "train", "test"], "from_seconds": [1.0, 2.0, 2.0], "count": [2, 1, 1],
    }  # fmt: skip
    assert statistics.level_difference.to_dict("list") == {"split": ["train", "test"], "from_db": [6.0, 6.0], "count": [3, 1]}
    assert statistics.snr["count"].sum() == 8
    assert set(statistics.snr["from_db"]) == {-7.0, 6.0}


def test_the_picture(statistics: DatasetStatistics) -> None:
    picture = dataset_png(statistics.charts)
    assert picture.startswith(b"\x89PNG")
    assert picture == dataset_png(statistics.charts)
    assert dataset_png({"sexes": statistics.sex_pairs}).startswith(b"\x89PNG")


def test_levels_are_those_of_sines(dataset: Dataset) -> None:
    measured = measure_levels(*dataset, num_workers=1).groupby("source")[["level_db", "snr_db"]].mean()
    expected_db = 20 * np.log10([0.5 / np.sqrt(2), 0.25 / np.sqrt(2)])
    np.testing.assert_allclose(measured["level_db"], expected_db, atol=1e-3)
    np.testing.assert_allclose(measured["snr_db"], [6.0206, -6.0206], atol=1e-3)


def test_mixtures_of_different_numbers_of_sources(dataset: Dataset) -> None:
    table = dataset[0].assign(num_sources=[2, 1, 2, 1])
    assert list(source_rows(table).groupby("mixture_id").size()) == [2, 1, 2, 1]


def test_silence_is_no_error(tmp_path: Path) -> None:
    write_audio(tmp_path / "x.wav", np.zeros(100), 8000)
    row = {"mixture_id": "m", "split": "test", "num_sources": 1, "mixture_path": "x.wav", "source_1_path": "x.wav"}
    measured = measure_levels(pd.DataFrame([row]), tmp_path, num_workers=1)
    assert measured["level_db"].iloc[0] == pytest.approx(-101.1, abs=0.1)
    assert measured["snr_db"].iloc[0] == 0


def test_sources_that_were_amplified_too_much_are_named() -> None:
    table = pd.DataFrame(
        {"mixture_id": ["m1", "m2"], "num_sources": 2, "source_1_gain": [1.0, 3000.0], "source_2_gain": [0.5, 2.0]}
    )
    assert amplified(table) == [("m2", "s1", pytest.approx(69.54, abs=0.01))]
