"""What reruns after a change, and what does not."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.compute.options import Options
from pipeline.errors import CorpusError, RecipeError
from pipeline.recipe.reading import parse_recipe
from pipeline.recipe.schema import Recipe
from pipeline.stages import graph, runner
from tests.cli.commands import RECIPE
from tests.voices import write_voices


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    speech = write_voices(tmp_path_factory.mktemp("speech"), speakers=2, takes=1, seconds=0.2)
    return Options(work=Path("nowhere"), named_corpora={"folder": speech})


def recipe(**changes: Any) -> Recipe:
    raw = tomllib.loads(RECIPE)
    for table, values in changes.items():
        raw[table] = {**raw.get(table, {}), **values} if isinstance(values, dict) else values
    return parse_recipe(raw)


def changed(options: Options, **changes: Any) -> set[str]:
    """Ids of the stages whose output a change replaces."""
    before = {stage.fingerprint for stage in graph.build_stages(recipe(), options)}
    return {stage.id for stage in graph.build_stages(recipe(**changes), options) if stage.fingerprint not in before}


DEMO = Path(__file__).parents[2] / "recipes" / "demo.toml"
CAUSAL = {"train:causal", "separate:causal", "score:causal", "report"}
BOTH = CAUSAL | {"train:noncausal", "separate:noncausal", "score:noncausal"}
ALL = BOTH | {"scan", "plan", "mix", "pack:valid", "pack:train", "oracles"}


@pytest.mark.parametrize(
    ("changes", "ids"),
    [
        ({}, set()),
        ({"systems": {"causal": {"causal": True, "train": {"epochs": 2}}}}, CAUSAL),
        ({"train": {"learning_rate": 0.1}}, BOTH),
        ({"model": {"mask": "relu"}}, BOTH),
        ({"train": {"seed": 1}}, BOTH),
        ({"mix": {"mode": "max"}}, ALL - {"scan", "plan"}),
        ({"plan": {"level": "rms"}}, ALL - {"scan"}),
        ({"seed": 1}, ALL),
        ({"score": {"permutation": "sir"}}, {"score:causal", "score:noncausal", "oracles", "report"}),
        ({"report": {"num_examples": 1}}, {"report"}),
        ({"report": {"oracles": False}}, {"report"}),
        ({"train": {"mixing": "dynamic"}}, BOTH | {"pack:utterances"}),
    ],
    ids=[
        "nothing",
        "one-system",
        "train",
        "model",
        "train-seed",
        "mix",
        "plan",
        "seed",
        "score",
        "report",
        "oracles",
        "dynamic",
    ],
)
def test_only_what_depends_on_a_change_reruns(options: Options, changes: dict[str, Any], ids: set[str]) -> None:
    assert changed(options, **changes) == ids


def test_another_seed_of_training_keeps_the_mixtures(options: Options) -> None:
    assert changed(options, train={"seed": 0}) == {"report"}, "0 is the recipe's own seed; only the report shows who said so"
    assert changed(options, train={"seed": 5}) == BOTH
    runs = recipe(train={"seeds": [0, 5]})
    ids = [stage.id for stage in graph.build_stages(runs, options) if stage.name == "train"]
    assert ids == ["train:noncausal@0", "train:noncausal@5", "train:causal@0", "train:causal@5"]


def test_runtime_options_change_no_fingerprint(options: Options) -> None:
    other = Options(work=Path("elsewhere"), named_corpora=options.named_corpora, num_workers=7, device="cpu", compile="off")
    ours, theirs = (graph.build_stages(recipe(), chosen) for chosen in (options, other))
    assert [stage.fingerprint for stage in ours] == [stage.fingerprint for stage in theirs]


def test_a_new_file_in_the_corpus_changes_everything(tmp_path: Path) -> None:
    speech = write_voices(tmp_path / "speech", speakers=2, takes=1, seconds=0.2)
    options = Options(named_corpora={"folder": speech})
    before = [stage.fingerprint for stage in graph.build_stages(recipe(), options)]
    (speech / "spk00" / "more.flac").write_bytes((speech / "spk00" / "00-0.flac").read_bytes())
    after = [stage.fingerprint for stage in graph.build_stages(recipe(), options)]
    assert not set(before) & set(after)


def test_stages_are_found_by_name_and_system(options: Options) -> None:
    every = graph.build_stages(recipe(), options)
    assert [stage.id for stage in graph.named(every, ["train"])] == ["train:noncausal", "train:causal"]
    assert [stage.id for stage in graph.named(every, ["train:causal", "mix"])] == ["mix", "train:causal"]
    assert {stage.id for stage in graph.dependents(every, graph.named(every, ["train:causal"]))} == CAUSAL
    with pytest.raises(RecipeError, match=r"no stage is called 'bake'; there are scan, plan, mix"):
        graph.named(every, ["bake"])


def test_a_stage_reads_the_folders_of_what_it_needs_and_every_id_is_its_own(options: Options) -> None:
    every = graph.build_stages(recipe(systems={"third": {"train": {"mixing": "dynamic"}}}), options)
    needs = {stage.id: [need.id for need in stage.needs] for stage in every}
    assert len(needs) == len(every)
    assert needs["mix"] == ["scan", "plan"]
    assert needs["train:causal"] == ["pack:valid", "pack:train"]
    assert needs["train:third"] == ["pack:valid", "pack:utterances", "scan", "plan"]
    assert needs["score:causal"] == ["mix", "separate:causal"]


def test_a_plan_that_measures_the_audio_also_writes_the_manifest_that_others_read(options: Options) -> None:
    given = recipe(plan={"kind": "librimix", "lists": "drawn"}, train={"mixing": "dynamic"})
    needs = {stage.id: [need.id for need in stage.needs] for stage in graph.build_stages(given, options)}
    assert (needs["plan"], needs["mix"], needs["pack:utterances"]) == (["scan"], ["plan"], ["plan"])
    assert needs["train:causal"] == ["pack:valid", "pack:utterances", "plan"]


@pytest.mark.parametrize(
    ("change", "shown"),
    [({"plan": {"overlap": [0.5]}, "mix": {"mode": "max"}}, "plan.overlap: [1.0] → [0.5]"), ({"plan": {"level": "rms"}}, "rms")],
    ids=["overlap", "level"],
)
def test_defaults_are_in_the_fingerprint_so_that_status_can_name_them(
    options: Options, tmp_path: Path, change: dict[str, Any], shown: str
) -> None:
    for stage in graph.build_stages(recipe(), options):
        runner.run_stage(replace(stage, run=lambda folder: None), tmp_path)
    found = {s.stage.id: s.reasons for s in runner.status(graph.build_stages(recipe(**change), options), tmp_path)}
    assert any(shown in reason for reason in found["plan"])


def test_building_the_stages_does_not_import_torch() -> None:
    script = (
        "import sys, pipeline; from pipeline.stages.graph import build_stages; "
        f"build_stages(pipeline.load_recipe({str(DEMO)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=120, check=False).returncode == 0


def test_the_same_system_settings_in_two_recipes_share_their_work(options: Options) -> None:
    assert changed(options, name="another") == {"report"}


def test_a_missing_corpus_is_reported_at_once() -> None:
    with pytest.raises(CorpusError, match="--corpus folder=DIR"):
        graph.build_stages(recipe(), Options())
