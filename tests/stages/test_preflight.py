"""``tasnet check``: what a run needs and costs, before anything is written."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import corpora
from pipeline.audio.files import write_audio
from pipeline.compute.options import Options
from pipeline.errors import CorpusError, TasnetError
from pipeline.recipe.reading import parse_recipe
from pipeline.recipe.schema import Recipe
from pipeline.stages import data, graph, preflight, runner
from tests.cli.commands import RECIPE
from tests.voices import voice, write_voices


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
    assert list(dict.fromkeys(labels)) == ["recipe", "training", "corpus", "mixtures", "disk", "files", "to run"]
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


@pytest.mark.parametrize("mixing", ["static", "dynamic"])
def test_segments_longer_than_all_there_is_are_said_as_the_training_says_it(options: Options, mixing: str) -> None:
    """The longest utterance lasts 2.1 s, and so may the longest mixture."""
    assert not lines(recipe(train={"segment_seconds": 1.9, "mixing": mixing}), options, "warning")
    given = recipe(train={"segment_seconds": 2.2, "mixing": mixing})
    found = lines(given, options, "warning")
    assert [line.partition(":")[0] for line in found] == ["systems.noncausal", "systems.causal"]
    assert "train.segment_seconds = 2.2 is longer than all there is to learn from (at most 2." in found[0]
    stages = {stage.id: stage for stage in graph.build_stages(given, options)}
    for stage in runner.ordered([stages["train:causal"]]):
        runner.run_stage(stage, options.work)
    assert found[1] in (stages["train:causal"].folder(options.work) / runner.LOG).read_text()


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


# ----------------------------------------------------------------------------------------------------------------- files
def planned_paths(options: Options, root: Path) -> list[Path]:
    """Files that the recipe's plan uses, sorted."""
    plan, manifest = data.plan_in_memory(recipe(), options)
    used = manifest[manifest["utterance_id"].isin(plan["utterance_id"])]
    return sorted(root / path for path in used["path"])


def refusal(given: Recipe, options: Options, **how: bool) -> list[str]:
    with pytest.raises(TasnetError) as caught:
        list(preflight.findings(given, options, **how))
    return str(caught.value).splitlines()


def test_all_silent_files_are_named_at_once_and_can_be_left_out(options: Options) -> None:
    paths = planned_paths(options, options.named_corpora["folder"])[:2]
    for path in paths:
        write_audio(path, np.zeros(32000), 16000, "flac")
    found = refusal(recipe(), options)
    assert found[0] == "2 files are silent; to leave out those of the speech corpus: --set corpus.skip=silent"
    assert [line.partition(":")[0] for line in found[1:]] == [str(path) for path in paths]
    assert lines(recipe(corpus={"skip": "silent"}), options, "files")


def test_mix_says_the_same_before_it_writes(options: Options) -> None:
    path = planned_paths(options, options.named_corpora["folder"])[0]
    write_audio(path, np.zeros(32000), 16000, "flac")
    stages = {stage.id: stage for stage in graph.build_stages(recipe(), options)}
    for name in ("scan", "plan"):
        runner.run_stage(stages[name], options.work)
    with pytest.raises(TasnetError) as caught:
        runner.run_stage(stages["mix"], options.work)
    assert str(caught.value).splitlines() == refusal(recipe(), options)
    assert not list(stages["mix"].folder(options.work).rglob("*.wav"))


def test_a_rate_below_the_mixtures_is_found(options: Options) -> None:
    found = refusal(recipe(mix={"sample_rate": 24000}), options)
    assert "its sample rate of 16000 Hz is below the mixtures' 24000 Hz" in found[0]


def test_what_can_be_mixed_and_hardly_should_be_is_counted(options: Options) -> None:
    off_centre, faint, skipped, *_ = planned_paths(options, options.named_corpora["folder"])
    write_audio(off_centre, voice(0, 0) * 0.5 + 0.4, 16000, "flac")
    write_audio(faint, 3e-4 * np.random.default_rng(0).standard_normal(32000), 16000, "flac")
    skipped.with_name("x.opus").touch()
    found = "\n".join(lines(recipe(), options, "warning"))
    assert "1 files have a constant offset (DC), which counts in levels and scores; remove it (" in found
    assert f"{off_centre.parent.name}/{off_centre.name}: +0.4" in found
    assert "1 files are so faint that their noise would be amplified to the level of speech (" in found
    assert "left out: 1 .opus files" in found


def test_decoding_finds_damage_in_the_middle(options: Options) -> None:
    path = planned_paths(options, options.named_corpora["folder"])[0]
    write_audio(path, np.resize(voice(0, 0), 12 * 16000), 16000, "flac")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
    path.write_bytes(content)
    assert lines(recipe(), options, "files")[0].endswith("headers and beginnings read; --decode reads all: no damage found")
    assert path.name in refusal(recipe(), options, decode=True)[0]
