"""Before a run writes anything, what it will need later is checked; and what a training starts from is part of its identity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.arguments import options
from pipeline.compute.options import Options
from pipeline.errors import CheckpointError, ModelError, UsageError
from pipeline.recipe.reading import parse_recipe
from pipeline.recipe.schema import Recipe
from pipeline.stages import graph
from pipeline.stages.run import run
from tests.voices import write_voices


def recipe(**train: Any) -> Recipe:
    plan = {"kind": "random", "num_mixtures": {"train": 2, "valid": 2, "test": 2}, "min_seconds": 0.4}
    return parse_recipe({"name": "x", "corpus": {"kind": "folder"}, "plan": plan, "systems": {"a": {"train": train}}})


@pytest.fixture
def given(tmp_path: Path) -> Options:
    speech = write_voices(tmp_path / "speech", speakers=6, takes=1, seconds=0.5)
    return Options(work=tmp_path / "work", named_corpora={"folder": speech}, num_workers=1, device="cpu")


def test_a_device_that_is_not_there_is_found_before_anything_is_rendered(given: Options) -> None:
    for name in ("tpu", "cuda:99"):
        with pytest.raises(ModelError, match=f"--device {name}"):
            run(recipe(), options=replace(given, device=name))
    assert not given.work.exists()


def test_a_compiler_that_is_not_there_is_found_before_anything_is_rendered(
    given: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.training.compiling._missing_tool", lambda device: "there is no compiler")
    with pytest.raises(ModelError, match="--compile on: there is no compiler"):
        run(recipe(), options=replace(given, compile="on"))
    assert not given.work.exists()


def test_an_unknown_choice_of_compiling_is_a_mistake_of_the_command_line() -> None:
    with pytest.raises(UsageError, match="--compile maybe: choose auto, on or off"):
        options(Path("work"), None, None, compile="maybe")


def test_a_model_to_start_from_counts_by_its_content(given: Options, tmp_path: Path) -> None:
    def fingerprint(path: Path | None) -> str:
        train = {} if path is None else {"init": str(path)}
        return next(stage for stage in graph.build_stages(recipe(**train), given) if stage.name == "train").fingerprint

    one, copy, other = (tmp_path / name for name in ("one", "copy", "other"))
    for path, content in ((one, b"weights"), (copy, b"weights"), (other, b"others")):
        path.write_bytes(content)
    assert fingerprint(one) == fingerprint(copy)
    assert len({fingerprint(path) for path in (None, one, other)}) == 3
    with pytest.raises(CheckpointError, match=r"systems\.a\.train\.init: .*none: cannot be read"):
        fingerprint(tmp_path / "none")
