"""Mixtures of one speaker alone, from the plan to the report."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.audio.files import read_audio
from pipeline.compute.options import Options
from pipeline.mixtures.shards import Shard
from pipeline.mixtures.statistics import amplified
from pipeline.mixtures.verification import verify
from pipeline.recipe.reading import parse_recipe
from pipeline.recipe.schema import Recipe
from pipeline.stages.data import SHARD
from pipeline.stages.run import run
from tests.cli.commands import RECIPE
from tests.voices import write_voices


@pytest.fixture
def options(tmp_path: Path) -> Options:
    speech = write_voices(tmp_path / "speech", takes=1, seconds=1.2)
    return Options(work=tmp_path / "work", named_corpora={"folder": speech}, num_workers=1, device="cpu")


def recipe(**train: Any) -> Recipe:
    raw = tomllib.loads(RECIPE)
    raw["plan"] |= {"single_speaker_share": 0.5, "num_mixtures": {"train": 6, "valid": 2, "test": 4}}
    systems = {"tiny": {"train": {"loss": "sa_sdr", **train}}}
    return parse_recipe(raw | {"systems": systems, "report": {"num_examples": 1}, "score": {"verify": 2, "also": ["sa_sdr"]}})


@pytest.mark.parametrize("mixing", ["static", "dynamic"])
def test_a_whole_run(mixing: str, options: Options) -> None:
    finished = run(recipe(mixing=mixing), options=options)
    silent = finished.scores["status"].str.contains("silent_reference")
    assert silent.groupby(finished.scores["mixture_id"]).sum().sort_values().tolist() == [0, 0, 1, 1]
    assert np.isfinite(finished.scores["silent_level_db"][silent]).all()
    assert finished.scores["silent_level_db"][~silent].isna().all()
    assert np.isfinite(finished.scores["sa_sdr_db"]).all()
    assert "| tiny | 2 | 0 |" in (finished.folders["report"] / "report.md").read_text("utf-8")


def test_the_other_sources_are_silence_and_the_mixture_is_the_speaker(options: Options) -> None:
    finished = run(recipe(), ["pack"], options=options)
    folder = finished.folders["mix"]
    alone = finished.mixtures[finished.mixtures["source_2_gain"] == 0]
    assert len(alone) == 6
    for row in alone.itertuples():
        mixture, first, second = (read_audio(folder / p)[0] for p in (row.mixture_path, row.source_1_path, row.source_2_path))
        assert not second.any()
        np.testing.assert_array_equal(mixture, first)
        assert mixture.any()
    assert verify(folder, num_workers=1) == []
    assert amplified(finished.mixtures, -1000.0)
    shard = Shard(finished.folders["pack:train"] / SHARD)
    assert [not shard.read(index)[2].any() for index in range(6)] == [False, True] * 3
