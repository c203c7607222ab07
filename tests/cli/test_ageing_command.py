"""``bench ageing``: a table of histories for every model, its scores as a file, and what it cannot measure."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.audio.files import write_audio
from pipeline.models import save_model
from pipeline.reports import formatting
from pipeline.separation.ageing import HISTORIES
from tests.cli.commands import tasnet
from tests.report_cases import make_scores
from tests.separation.networks import network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two causal models and a dataset of six mixtures."""
    (tmp_path / "run").mkdir()
    save_model(network(filter_length=64), tmp_path / "run" / "best.safetensors")
    save_model(network(filter_length=64, norm="frame"), tmp_path / "frames.safetensors")
    rows, random = [], np.random.default_rng(0)
    for number in range(6):
        sources = 0.1 * random.standard_normal((2, 800))
        paths = [f"{number}_{name}.wav" for name in ("mix", "s1", "s2")]
        for path, samples in zip(paths, [sources.sum(0), *sources], strict=True):
            write_audio(tmp_path / "data" / path, samples, 8000)
        rows.append(
            {
                "mixture_id": str(number), "split": "test", "sample_rate": 8000, "mode": "min", "num_samples": 800,
                "num_sources": 2, "scale": 1.0, "mixture_path": paths[0], "source_1_path": paths[1], "source_2_path": paths[2],
            }
        )  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "data" / "mixtures.csv", index=False)
    return tmp_path


def test_every_history_of_every_model(folder: Path) -> None:
    command = ("bench", "ageing", "run/best.safetensors", "frames.safetensors", "--dataset", "data", "--mixtures", 3)
    said = tasnet(*command, "--forget-seconds", "2", "-o", "ages.csv", "--figure", "ages.svg", cwd=folder, check=True).stdout
    systems = ["run", "run, forgets in 2 s", "frames"]
    assert [line for line in said.splitlines() if not line.startswith(" ")] == systems
    scores = pd.read_csv(folder / "ages.csv")
    assert len(scores) == 3 * len(HISTORIES) * 3
    means = scores.groupby(["system", "history"])["si_snri_db"].mean()
    for system in systems:
        for history in HISTORIES:
            assert f"{history.name:24} {means[system, history.name]:8.2f}" in said
    frames = means["frames"]
    assert frames["4 s"] == pytest.approx(frames["10 min"], abs=1e-3)  # it has no memory beyond its convolutions
    assert (folder / "ages.svg").read_text().startswith("<svg")
    make_scores(num_mixtures=12).to_csv(folder / "scores.csv", index=False)
    tasnet("report", "scores.csv", "--ageing", "ages.csv", cwd=folder, check=True)
    page, text = ((folder / "report" / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert 'href="#ageing"' in page
    for system in systems:
        assert re.search(rf"\| {system} \| 10 min \| 3 \| {formatting.number(means[system, '10 min'])} \|", text)
    assert (folder / "report" / "figures" / "ageing.svg").is_file()
    scores.drop(index=5).to_csv(folder / "cut.csv", index=False)
    refused = tasnet("report", "scores.csv", "--ageing", "cut.csv", "-o", "other", cwd=folder)
    assert (refused.returncode, "cut.csv: not every system has one score" in refused.stderr) == (2, True)
    assert not (folder / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run/best.safetensors", "--dataset", "."), "has no mixtures.csv"),
        (("run/best.safetensors", "--dataset", "data", "--split", "valid"), "has 0 valid mixtures"),
        (("run/best.safetensors", "--dataset", "data", "--forget-seconds", "x"), "--forget-seconds x: write positive numbers"),
        (
            ("other.safetensors", "--dataset", "data"),
            "other.safetensors: separates 2 sources at 16000 Hz, and the mixtures have 2",
        ),
        (("noncausal.safetensors", "--dataset", "data"), "cannot stream"),
    ],
)
def test_what_it_cannot_measure(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    save_model(network(sample_rate=16000), folder / "other.safetensors")
    save_model(network(causal=False), folder / "noncausal.safetensors")
    result = tasnet("bench", "ageing", *arguments, cwd=folder)
    assert (result.returncode, words in result.stderr) == (2, True), result.stderr
