"""The stage ``train``, once per system. Torch is imported when it runs: building the stages does not need it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import training
from pipeline.errors import CheckpointError
from pipeline.files import expand_user
from pipeline.mixtures.plans import build, drawn
from pipeline.mixtures.plans.planned import of_splits
from pipeline.mixtures.shards import Shard
from pipeline.recipe.schema import FinishedPlan, Recipe, System
from pipeline.stages import runner
from pipeline.stages.context import Context, settings_of
from pipeline.stages.data import SHARD, PlanStages
from pipeline.stages.runner import Stage
from pipeline.tables import MANIFEST, PLAN

if TYPE_CHECKING:
    from pipeline.training.segments import Segments

logger = logging.getLogger("pipeline")


def train_stage(context: Context, plans: PlanStages, packs: Mapping[str, Stage], name: str) -> Stage:
    """``train:NAME``: one system's weights."""
    recipe = context.recipe
    system = recipe.systems[name]
    dynamic = system.train.mixing == "dynamic"
    read = [packs[pack] for pack in _packs_read(recipe, system)]

    def work(folder: Path) -> None:
        from pipeline.training import loop
        from pipeline.training.segments import PackedMixtures

        valid, *others = (Shard(context.folder(pack) / SHARD) for pack in read)
        segments = _dynamic_segments(context, plans, name, *others) if dynamic else _static_segments(recipe, name, *others)
        if warning := padding_warning(recipe, name, int(others[0].num_samples.max(initial=0))):
            logger.warning("%s", warning)
        loop.train(
            system,
            loop.TrainingSets(segments, PackedMixtures(valid)),
            folder,
            seed=recipe.training_seed(name),
            num_sources=recipe.num_outputs,
            sample_rate=recipe.mix.sample_rate,
            options=context.options,
            description=f"train:{name}",
            earlier=shorter_training(stage, context.options.work),
        )

    needs = (*read, *plans.stages) if dynamic else tuple(read)
    versions = {"training": training.VERSION}
    stage = Stage("train", versions, _settings(recipe, name), work, needs=needs, label=name, varying=("events/*",))
    return stage


def shorter_training(stage: Stage, work: Path) -> Path | None:
    """The folder of the longest training that differs from a stage's in having fewer epochs, if that can be continued."""
    found = {}
    for folder, inputs in runner.others_of(stage, work):
        epochs, settings = inputs["settings"]["train"].get("epochs"), inputs["settings"]
        longer = {**settings, "train": {**settings["train"], "epochs": stage.settings["train"]["epochs"]}}
        if {**inputs, "settings": longer} == stage.inputs and isinstance(epochs, int) and epochs < longer["train"]["epochs"]:
            found[epochs] = folder
    if not found:
        return None
    if stage.settings["train"]["schedule"] == "cosine":
        logger.info("%s starts from epoch 1: a cosine schedule of %d epochs leads to no longer one", stage.id, max(found))
        return None
    return found[max(found)]


def _settings(recipe: Recipe, name: str) -> dict[str, Any]:
    system = recipe.systems[name]
    settings: dict[str, Any] = {
        "model": settings_of(system.model),
        "train": system.train.model_dump(mode="json", exclude={"seed", "seeds", "init"}),
        "seed": recipe.training_seed(name),
        "num_sources": recipe.num_outputs,
        "sample_rate": recipe.mix.sample_rate,
    }
    if system.train.init is not None:
        settings["init"] = _digest(name, expand_user(system.train.init))
    if system.train.mixing == "dynamic":
        settings |= {"plan": settings_of(recipe.plan), "mode": recipe.mix.mode}
    return settings


def _digest(name: str, path: Path) -> str:
    """SHA-256 of the model that a training starts from."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"systems.{name}.train.init: {path}: cannot be read ({error.strerror or error})") from error


def _packs_read(recipe: Recipe, system: System) -> list[str]:
    """The packed files that a system's training reads, by name; the one it is validated on comes first."""
    if system.train.mixing == "static":
        return ["valid", "train"]
    return ["valid", "utterances", *(["noise"] if recipe.mix.types[0] != "mix_clean" else [])]


def _num_samples(recipe: Recipe, name: str) -> int:
    return round(recipe.systems[name].train.segment_seconds * recipe.mix.sample_rate)


def padding_warning(recipe: Recipe, name: str, longest: int) -> str | None:
    """What to say where every segment is longer than the longest signal it can be cut from, in samples."""
    if _num_samples(recipe, name) <= longest:
        return None
    return (
        f"systems.{name}: train.segment_seconds = {recipe.systems[name].train.segment_seconds:g} is longer than all there is to "
        f"learn from (at most {longest / recipe.mix.sample_rate:.2f} s): the rest of every segment is padding; lower it"
    )


def _static_segments(recipe: Recipe, name: str, mixtures: Shard) -> Segments:
    """Cuts of the rendered mixtures."""
    from pipeline.training.segments import PackedMixtures, StaticSegments

    packed = PackedMixtures(mixtures)
    return StaticSegments(packed, num_samples=_num_samples(recipe, name), seed=recipe.training_seed(name))


def _dynamic_segments(context: Context, plans: PlanStages, name: str, bank: Shard, noise: Shard | None = None) -> Segments:
    """Mixtures made on the fly by the plan's rules, as many per epoch as the plan has for training."""
    from pipeline.training.segments import DynamicSegments

    recipe = context.recipe
    assert not isinstance(recipe.plan, FinishedPlan), "the schema refuses it"
    manifest, plan = context.table(plans.manifest_stage, MANIFEST), context.table(plans.plan_stage, PLAN)
    return DynamicSegments(
        bank,
        drawn.MixtureSampler(manifest, recipe.plan.drawing, split="train", seed=recipe.training_seed(name)),
        mode=recipe.mix.mode,
        num_samples=_num_samples(recipe, name),
        num_segments=of_splits(plan, ["train"])["mixture_id"].nunique(),
        speed_percent=recipe.systems[name].train.speed_percent,
        noise=noise,
        noise_rule=build.noise_rule_of(recipe),
        first_only=recipe.num_outputs == 1,
    )
