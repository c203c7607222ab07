"""Run a recipe: every stage that is not done yet, in one process or in several that torchrun has started."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pipeline import training
from pipeline.compute.cluster import on_cluster
from pipeline.compute.locks import without_locks
from pipeline.compute.options import Options
from pipeline.compute.torchrun import rank, world_size
from pipeline.errors import RecipeError
from pipeline.recipe.schema import Recipe
from pipeline.stages import runner
from pipeline.stages.context import table_path
from pipeline.stages.graph import build_stages, dependents, named
from pipeline.stages.runner import Stage
from pipeline.tables import MANIFEST, MIXTURES, PLAN, SCORES, Schema, read_table

if TYPE_CHECKING:
    from pipeline.compute.distributed import Group

Announce = Callable[[Stage, bool], None]


@dataclass(frozen=True)
class Run:
    """A finished run: where everything lies, and the tables ready to use.

    Attributes:
        recipe: what was run.
        folders: the folder of every stage, by its id: ``mix``, ``train:causal``.
    """

    recipe: Recipe
    folders: Mapping[str, Path]

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """The utterances, one row each; of published lists, those they name."""
        return self._table("scan" if "scan" in self.folders else "plan", MANIFEST)

    @cached_property
    def plan(self) -> pd.DataFrame:
        """The planned mixtures, one row per source."""
        return self._table("plan", PLAN)

    @cached_property
    def mixtures(self) -> pd.DataFrame:
        """The rendered mixtures, one row each; paths are relative to ``folders["mix"]``."""
        return self._table("mix", MIXTURES)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per system, mixture and source."""
        return pd.concat([self._table(f"score:{name}", SCORES) for name in self.recipe.systems], ignore_index=True)

    @property
    def models(self) -> dict[str, Path]:
        """The best checkpoint of every system."""
        return {name: self.folders[f"train:{name}"] / training.BEST for name in self.recipe.systems}

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.folders["report"] / "report.html"

    def _table(self, stage_id: str, schema: Schema) -> pd.DataFrame:
        return read_table(table_path(self.folders[stage_id], schema), schema)


def run(
    recipe: Recipe,
    stages: Sequence[str] = (),
    *,
    options: Options = Options(),
    force: Sequence[str] = (),
    announce: Announce = lambda stage, done: None,
) -> Run:
    """Run a recipe's stages, skipping what is done.

    Under torchrun, the first process runs them; the others join it for the trainings, and return after the last.

    Args:
        recipe: see :func:`pipeline.load_recipe`.
        stages: names of stages to run with all they need; all by default.
        options: where things lie and what they run on.
        force: stages to run again, with all that depends on them.
        announce: called before each stage with whether it is done already.

    Raises:
        RecipeError: no stage has that name, or a system cannot be trained on these mixtures.
        ModelError: the device is not there, or what compiling needs.
        TasnetError: whatever a stage finds wrong.
    """
    with on_cluster(options.cluster if rank() == 0 else None):
        return _run(recipe, stages, options, force, announce)


def _run(recipe: Recipe, stages: Sequence[str], options: Options, force: Sequence[str], announce: Announce) -> Run:
    all_stages = build_stages(recipe, options)
    chosen = runner.ordered(named(all_stages, stages)) if stages else all_stages
    forced = dependents(all_stages, named(all_stages, force))
    if recipe.missing_for_training and any(stage.name == "train" for stage in chosen):
        raise RecipeError("\n".join(recipe.missing_for_training))
    if any(stage.name in ("train", "separate") for stage in chosen):
        _check_device(options)
    with nullcontext() if options.lock else without_locks(), _together(options) as group:
        if group is not None and not group.first:
            _follow(group, all_stages, options.work)
        else:
            # Dependents first: were this interrupted, no stage would look done that read what is to be replaced.
            for stage in reversed(forced):
                runner.set_aside(stage, options.work)
            _lead(group, chosen, options.work, announce)
    return Run(recipe, {stage.id: stage.folder(options.work) for stage in all_stages})


def _check_device(options: Options) -> None:
    """Raise ModelError where the device or compiling is not to be had, before hours go into mixtures."""
    if options.device in ("auto", "cpu") and options.compile != "on":
        return  # these cannot fail, and torch need not be loaded yet
    from pipeline.compute import devices
    from pipeline.training import compiling

    device = devices.choose_device(options.device)
    compiling.choose_compile(options.compile, device, num_steps=compiling.MIN_STEPS_TO_COMPILE)


@contextmanager
def _together(options: Options) -> Iterator[Group | None]:
    """The processes that torchrun has started for this run; None, without importing torch, for a run of one."""
    if world_size() == 1:
        yield None
        return
    from pipeline.compute import devices, distributed

    with distributed.joined(devices.choose_device(options.device)) as group:
        yield group


def _lead(group: Group | None, chosen: Sequence[Stage], work: Path, announce: Announce) -> None:
    """Run stages in order; the other processes are called to every training, and let go after the last."""
    num_shared = 1 + max((number for number, stage in enumerate(chosen) if stage.name == "train"), default=-1)
    for number, stage in enumerate(chosen):
        if group is not None and number == num_shared:
            group.broadcast("")
        done = runner.is_done(stage, work)
        announce(stage, done)
        if group is not None and stage.name == "train" and not done:
            group.broadcast(stage.id)
        runner.run_stage(stage, work)
    if group is not None and num_shared == len(chosen):
        group.broadcast("")


def _follow(group: Group, all_stages: Sequence[Stage], work: Path) -> None:
    """Join process 0 in every training it calls for; all else is its work alone."""
    called = {stage.id: stage for stage in all_stages}
    while stage_id := group.receive():
        called[stage_id].run(called[stage_id].folder(work))
