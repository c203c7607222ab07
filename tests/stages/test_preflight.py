"""``tasnet check``: what a run needs and costs, before anything is written."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipeline import corpora
from pipeline.compute.options import Options
from pipeline.errors import CorpusError
from pipeline.recipe.reading import parse_recipe
from pipeline.recipe.schema import Recipe
from pipeline.stages import preflight
from tests.cli.commands import RECIPE
from tests.voices import write_voices


@pytest.fixture
def options(tmp_path: Path) -> Options:
    speech = write_voices(tmp_path / "speech")
    return Options(work=tmp_path / "work", named_corpora={"folder": speech}, num_workers=1, device="cpu")


@pytest.fixture(autouse=True)
def instant_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 10⁹ operations per second, without measuring."""
    monkeypatch.setattr("pipeline.training.benchmark.gemm_gflops_per_second", lambda device, precision: 1.0)


def recipe(**tables: dict[str, Any]) -> Recipe:
    raw = tomllib.loads(RECIPE)
    return parse_recipe({**raw, **{name: {**raw.get(name, {}), **values} for name, values in tables.items()}})


def lines(given: Recipe, options: Options, label: str) -> list[str]:
    return [line[10:] for line in preflight.findings(given, options) if line[:10].strip() == label]


def test_every_question_has_its_line_and_nothing_is_written(options: Options) -> None:
    found = list(preflight.findings(recipe(), options))
    labels = [line[:10].strip() for line in found]
    assert list(dict.fromkeys(labels)) == ["recipe", "training", "corpus", "mixtures", "disk", "to run"]
    assert found[0] == "recipe    tiny: systems noncausal, causal; seed 0"
    assert lines(recipe(), options, "to run")[0].startswith("scan, plan, mix, pack:valid, pack:train, train:noncausal, ")
    assert not options.work.exists()


def test_what_keeps_systems_from_training_is_said_first(options: Options) -> None:
    found = list(preflight.findings(recipe(mix={"splits": ["test"]}), options))
    assert [line[:10].strip() for line in found[:3]] == ["recipe", "MISSING", "MISSING"]


def test_a_disk_that_is_too_small_is_said(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(line.endswith(": fits") for line in lines(recipe(), options, "disk"))
    monkeypatch.setattr(preflight, "free_bytes", lambda folder: 1000)
    assert all(line.endswith(": DOES NOT FIT") for line in lines(recipe(), options, "disk"))


def test_longer_trainings_are_estimated_in_larger_units(options: Options) -> None:
    estimates = [lines(recipe(train={"epochs": epochs}), options, "training")[0] for epochs in (1, 5000, 10**7)]
    assert [estimate.split()[-3] for estimate in estimates] == ["minute", "minutes", "days"]


def test_a_missing_corpus_is_an_error() -> None:
    with pytest.raises(CorpusError, match="--corpus folder=DIR"):
        list(preflight.findings(recipe(), Options(device="cpu")))


def test_a_full_check_reads_the_corpus_again(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    digest = corpora.listing_digest

    def recorded(*arguments: Any, fresh: bool = False, **settings: Any) -> str:
        asked.append(fresh)
        return digest(*arguments, fresh=fresh, **settings)

    monkeypatch.setattr(corpora, "listing_digest", recorded)
    list(preflight.findings(recipe(), options))
    assert not any(asked)
    list(preflight.findings(recipe(), options, full=True))
    assert sum(asked) == 1
