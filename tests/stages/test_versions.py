"""Raising the version of the code behind a stage reruns that stage and everything that depends on it, and nothing else."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from pipeline import separation, training
from pipeline.compute.options import Options
from pipeline.corpora import manifests, synthetic
from pipeline.mixtures import packing, rendering
from pipeline.mixtures.plans import build
from pipeline.recipe.reading import parse_recipe
from pipeline.recipe.schema import Recipe
from pipeline.reports import model_cards, writing
from pipeline.scoring import oracles, scoring
from pipeline.stages import runner
from pipeline.stages.graph import build_stages
from tests.cli.commands import RECIPE

SYSTEMS = ("noncausal", "causal")
TRAINED, SEPARATED, SCORED = ({f"{name}:{system}" for system in SYSTEMS} for name in ("train", "separate", "score"))
EVALUATED = SEPARATED | SCORED | {"report"}
PACKED = {"pack:valid", "pack:train", "pack:utterances"}
MIXED = {"mix", "pack:valid", "pack:train", "oracles"} | TRAINED | EVALUATED
EVERYTHING = {"corpus", "scan", "plan", "pack:utterances"} | MIXED

# The name in a stage's versions, the module whose VERSION it is, and the stages that run again when it is raised.
CASES: dict[str, tuple[ModuleType, set[str]]] = {
    "synthetic": (synthetic, EVERYTHING),
    "manifests": (manifests, EVERYTHING - {"corpus"}),
    "plans": (build, {"plan"} | MIXED),
    "rendering": (rendering, MIXED),
    "packing": (packing, PACKED | TRAINED | EVALUATED),
    "training": (training, TRAINED | EVALUATED),
    "separation": (separation, EVALUATED),
    "scoring": (scoring, SCORED | {"oracles", "report"}),
    "oracles": (oracles, {"oracles", "report"}),
    "reports": (writing, {"report"}),
    "model_cards": (model_cards, {"report"}),
}


def every_stage() -> list[runner.Stage]:
    """All stages there are, but those of noise: synthetic speech, one system on rendered mixtures, one that mixes dynamically."""
    return build_stages(every_kind_of_stage(), Options())


def every_kind_of_stage() -> Recipe:
    raw = tomllib.loads(RECIPE)
    raw["corpus"] = {"kind": "synthetic"}
    raw["systems"]["causal"]["train"] = {"mixing": "dynamic"}
    return parse_recipe(raw)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder in which every stage is done."""
    folder = tmp_path_factory.mktemp("work")
    for stage in every_stage():
        runner.run_stage(replace(stage, run=lambda folder: None), folder)
    return folder


def test_every_stage_has_a_version_and_every_version_is_tried_below() -> None:
    stages = every_stage()
    assert {stage.id for stage in stages} == EVERYTHING
    assert all(stage.versions for stage in stages)
    assert {name for stage in stages for name in stage.versions} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_raised_version_reruns_its_stages_and_their_dependents_only(
    work: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module, expected = CASES[name]
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    found = runner.status(every_stage(), work)
    assert {each.stage.id for each in found if each.state != "done"} == expected
    reason = f"versions.{name}: {module.VERSION - 1} → {module.VERSION}"
    assert {each.stage.id for each in found if reason in each.reasons} == {s.id for s in every_stage() if name in s.versions}
