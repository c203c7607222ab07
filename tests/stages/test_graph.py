"""What reruns after a change, and what does not."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipeline.compute.options import Options
from pipeline.errors import CorpusError, RecipeError
from pipeline.recipe.reading import parse_recipe
from pipeline.recipe.schema import Recipe
from pipeline.stages import graph
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
    """Titles of the stages whose output a change replaces."""
    before = {stage.fingerprint for stage in graph.build_stages(recipe(), options)}
    return {stage.title for stage in graph.build_stages(recipe(**changes), options) if stage.fingerprint not in before}


CAUSAL = {"train causal", "separate causal", "score causal", "report"}
BOTH = CAUSAL | {"train noncausal", "separate noncausal", "score noncausal"}
ALL = BOTH | {"scan", "plan", "mix", "pack valid", "pack train", "oracles"}


@pytest.mark.parametrize(
    ("changes", "titles"),
    [
        ({}, set()),
        ({"systems": {"causal": {"causal": True, "train": {"epochs": 2}}}}, CAUSAL),
        ({"train": {"learning_rate": 0.1}}, BOTH),
        ({"model": {"mask": "relu"}}, BOTH),
        ({"train": {"seed": 1}}, BOTH),
        ({"mix": {"mode": "max"}}, ALL - {"scan", "plan"}),
        ({"plan": {"level": "rms"}}, ALL - {"scan"}),
        ({"seed": 1}, ALL),
        ({"score": {"permutation": "sir"}}, {"score causal", "score noncausal", "oracles", "report"}),
        ({"report": {"num_examples": 1}}, {"report"}),
        ({"report": {"oracles": False}}, {"report"}),
        ({"train": {"mixing": "dynamic"}}, BOTH | {"pack utterances"}),
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
def test_only_what_depends_on_a_change_reruns(options: Options, changes: dict[str, Any], titles: set[str]) -> None:
    assert changed(options, **changes) == titles


def test_another_seed_of_training_keeps_the_mixtures(options: Options) -> None:
    assert changed(options, train={"seed": 0}) == set()  # the recipe's own
    assert changed(options, train={"seed": 5}) == BOTH
    runs = recipe(train={"seeds": [0, 5]})
    titles = [stage.title for stage in graph.build_stages(runs, options) if stage.name == "train"]
    assert titles == ["train noncausal@0", "train noncausal@5", "train causal@0", "train causal@5"]


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
    assert [stage.title for stage in graph.named(every, ["train"])] == ["train noncausal", "train causal"]
    assert [stage.title for stage in graph.named(every, ["train:causal", "mix"])] == ["mix", "train causal"]
    assert {stage.title for stage in graph.dependents(every, graph.named(every, ["train:causal"]))} == CAUSAL
    with pytest.raises(RecipeError, match=r"no stage is called 'bake'; there are scan, plan, mix"):
        graph.named(every, ["bake"])


def test_the_same_system_settings_in_two_recipes_share_their_work(options: Options) -> None:
    assert changed(options, name="another") == {"report"}


def test_a_missing_corpus_is_said_at_once() -> None:
    with pytest.raises(CorpusError, match="--corpus folder=DIR"):
        graph.build_stages(recipe(), Options())
