"""The stages from speech to mixtures: ``corpus``, ``scan``, ``plan``, ``mix`` and ``pack``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import corpora
from pipeline.compute.options import Options
from pipeline.corpora import manifests, synthetic, wham_noise
from pipeline.corpora.manifests import is_noise
from pipeline.errors import CorpusError, PlanError
from pipeline.mixtures import packing, rendering
from pipeline.mixtures.footprint import footprint, require_room, written_bytes
from pipeline.mixtures.plans import build
from pipeline.mixtures.plans.adapter import Roots
from pipeline.mixtures.plans.lint import lint
from pipeline.mixtures.plans.planned import of_splits
from pipeline.recipe.schema import SPLITS, DrawnPlan, FinishedPlan, Recipe, SyntheticCorpus
from pipeline.stages import checks, finished
from pipeline.stages.context import Context, settings_of, table_path
from pipeline.stages.runner import Stage, is_done
from pipeline.tables import MANIFEST, MIXTURES, PLAN, write_table

SHARD = "packed.shard"

logger = logging.getLogger("pipeline")


@dataclass(frozen=True)
class PlanStages:
    """The stages that say what is mixed."""

    plan_stage: Stage
    """Writes the plan."""
    manifest_stage: Stage
    """Writes the manifest of every file that the plan names: ``scan``, or the plan's own stage where it adds noise or reads
    published lists."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What a stage needs that reads both tables."""
        return (self.plan_stage,) if self.manifest_stage is self.plan_stage else (self.manifest_stage, self.plan_stage)


# -------------------------------------------------------------------------------------------------------------- inputs
def prepare(recipe: Recipe, options: Options) -> tuple[Context, Stage | None]:
    """Find the recipe's inputs. Returns what all stages share, and the stage that makes the speech if it is synthetic.

    Raises:
        CorpusError: one line for every input that is missing.
    """
    inputs = _find_inputs(recipe, options)
    if not isinstance(recipe.corpus, SyntheticCorpus):
        return Context(recipe, options, inputs), None
    corpus = _corpus_stage(recipe, recipe.corpus, options)
    speech = corpus.folder(options.work) / "speech"
    return Context(recipe, options, Roots(speech, inputs.noise, inputs.lists)), corpus


def _find_inputs(recipe: Recipe, options: Options) -> Roots:
    """Where the recipe's inputs lie; synthetic speech is no input."""
    wanted = {
        "speech": None if isinstance(recipe.corpus, SyntheticCorpus) else recipe.corpus.kind,
        "lists": build.lists_of(recipe),
        "noise": "wham_noise" if recipe.mix.with_noise else None,
    }
    found: dict[str, Path] = {"speech": Path()}
    missing: list[str] = []
    for role, name in wanted.items():
        try:
            if name is not None:
                found[role] = corpora.find_folder(name, corpora_dir=options.corpora_dir, named=options.named_corpora)
        except CorpusError as error:
            missing.append(str(error))
    if missing:
        raise CorpusError("\n".join(missing))
    return Roots(**found)


def _corpus_stage(recipe: Recipe, corpus: SyntheticCorpus, options: Options) -> Stage:
    def work(folder: Path) -> None:
        synthetic.generate(corpus, folder / "speech", seed=recipe.seed, num_workers=options.num_workers)

    settings = {"corpus": corpus.model_dump(mode="json", exclude={"skip"}), "seed": recipe.seed}
    return Stage("corpus", {"synthetic": synthetic.VERSION}, settings, work)


def reread(recipe: Recipe, options: Options) -> None:
    """Read every file of the inputs again and correct what is remembered of their contents; time stamps are not believed.

    Files that hold other bytes than before, under the same time stamps, are logged as warnings.
    """
    context, corpus = prepare(recipe, options)
    inputs, workers = context.inputs, options.num_workers
    if build.is_published(recipe):
        build.listed_digests(recipe, inputs, num_workers=workers, fresh=True)
        return
    if corpus is None or is_done(corpus, options.work):
        corpora.listing_digest(recipe.corpus, inputs.speech, splits=recipe.speech_splits, num_workers=workers, fresh=True)
    if inputs.noise is not None:
        wham_noise.listing_digest(inputs.noise, num_workers=workers, fresh=True)


# ------------------------------------------------------------------------------------------------------ manifest and plan
def plan_stages(context: Context, corpus: Stage | None) -> PlanStages:
    """``scan``, where the plan is drawn from the whole corpus, and ``plan``."""
    if build.is_published(context.recipe):
        plan = _plan_stage(context, None)
        return PlanStages(plan, manifest_stage=plan)
    scan = _scan_stage(context, corpus)
    plan = _plan_stage(context, scan)
    return PlanStages(plan, manifest_stage=plan if build.needs_audio(context.recipe) else scan)


def _scan_stage(context: Context, corpus: Stage | None) -> Stage:
    def work(folder: Path) -> None:
        write_table(_scan(context), table_path(folder, MANIFEST), MANIFEST)

    recipe = context.recipe
    settings: dict[str, Any] = {"corpus": settings_of(recipe.corpus), "seed": recipe.seed}
    if recipe.speech_splits != list(SPLITS):
        settings["splits"] = recipe.speech_splits
    if corpus is None:
        settings["listing"] = corpora.listing_digest(
            recipe.corpus, context.inputs.speech, splits=recipe.speech_splits, num_workers=context.options.num_workers
        )
    return Stage("scan", {"manifests": manifests.VERSION}, settings, work, needs=(corpus,) if corpus else ())


def _scan(context: Context) -> pd.DataFrame:
    recipe, workers = context.recipe, context.options.num_workers
    return corpora.scan(recipe.corpus, context.inputs.speech, seed=recipe.seed, splits=recipe.speech_splits, num_workers=workers)


def _plan_stage(context: Context, scan: Stage | None) -> Stage:
    recipe, workers = context.recipe, context.options.num_workers

    def work(folder: Path) -> None:
        plan, manifest = _make_plan(context, None if scan is None else context.table(scan, MANIFEST))
        if build.is_published(recipe):
            build.check_levels(recipe, manifest, context.inputs, num_workers=workers)
        else:
            build.write_lists(recipe, plan, manifest, folder)
        for warning in lint(plan, manifest):
            logger.warning("%s", warning)
        if build.is_published(recipe) or build.needs_audio(recipe):
            write_table(manifest, table_path(folder, MANIFEST), MANIFEST)
        write_table(plan, table_path(folder, PLAN), PLAN)

    versions = {"plans": build.VERSION, "manifests": manifests.VERSION}
    return Stage("plan", versions, _plan_settings(context), work, needs=(scan,) if scan else ())


def _plan_settings(context: Context) -> dict[str, Any]:
    """What a plan depends on besides the manifest it is drawn from."""
    recipe, inputs = context.recipe, context.inputs
    plan = settings_of(recipe.plan)
    if build.is_published(recipe):
        return {
            "plan": plan,
            "corpus": settings_of(recipe.corpus),
            "with_noise": recipe.mix.with_noise,
            "lists": build.lists_digest(recipe, inputs.lists or inputs.speech),
            "listing": build.listed_digests(recipe, inputs, num_workers=context.options.num_workers),
        }
    if build.needs_audio(recipe):
        workers = context.options.num_workers
        noise = None if inputs.noise is None else wham_noise.listing_digest(inputs.noise, num_workers=workers)
        return {"plan": plan, "seed": recipe.seed, "channel": recipe.corpus.channel, "noise": noise}
    return {"plan": plan, "seed": recipe.seed}


def _make_plan(context: Context, speech: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The plan, and the manifest of every file that it names.

    Args:
        context: see :func:`prepare`.
        speech: manifest of the corpus; None where published lists name the files.
    """
    recipe, inputs, workers = context.recipe, context.inputs, context.options.num_workers
    if speech is None:
        return build.read_published(recipe, inputs, num_workers=workers)
    if not build.needs_audio(recipe):
        return build.draw(recipe, speech), speech
    noises = (
        None
        if inputs.noise is None
        else wham_noise.scan(inputs.noise, seed=recipe.seed, splits=recipe.plan.splits, num_workers=workers)
    )
    return build.draw_with_audio(recipe, speech, inputs, noises=noises, num_workers=workers)


def plan_in_memory(recipe: Recipe, options: Options) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The plan and the manifest of every file it names, as the first stages would write them; nothing is written.

    Raises:
        TasnetError: as those stages would.
    """
    context, corpus = prepare(recipe, options)
    if build.is_published(recipe):
        return _make_plan(context, None)
    scan = _scan_stage(context, corpus)
    return _make_plan(context, context.table(scan, MANIFEST) if is_done(scan, options.work) else _scan(context))


# ------------------------------------------------------------------------------------------------------------ mixtures
def mix_stage(context: Context, plans: PlanStages) -> Stage:
    """``mix``: the planned mixtures as audio files."""
    recipe, workers = context.recipe, context.options.num_workers

    def work(folder: Path) -> None:
        plan, manifest = _planned(context, plans, recipe.mix.splits)
        if plan.empty:
            raise PlanError(
                f"mix.splits = {recipe.mix.splits}: the plan has mixtures of {recipe.plan.splits} only; name one of these"
            )
        checks.check_inputs(context, plan, manifest)
        if build.writes_audio(recipe):
            require_room(folder, footprint(plan, manifest, recipe.mix).disk_bytes - written_bytes(folder))
        else:
            finished.link_corpus(folder, context.inputs.speech)
        rendering.render(plan, manifest, build.inputs_of(recipe, context.inputs), folder, num_workers=workers)
        finished.log_residuals(context, stage)

    settings = {"kind": recipe.plan.kind, "mix": settings_of(recipe.mix), "channel": recipe.corpus.channel}
    stage = Stage("mix", {"rendering": rendering.VERSION}, settings, work, needs=plans.stages)
    return stage


def _planned(context: Context, plans: PlanStages, splits: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The plan of some splits, and the manifest of its files."""
    return of_splits(context.table(plans.plan_stage, PLAN), splits), context.table(plans.manifest_stage, MANIFEST)


# ------------------------------------------------------------------------------------------- what training reads, packed
def pack_stages(context: Context, plans: PlanStages, mix: Stage) -> Mapping[str, Stage]:
    """What training reads, each packed into one file.

    ``valid`` mixtures, straight from the plan; ``train`` mixtures, as rendered; ``utterances`` and ``noise`` for mixing on the
    fly.
    """
    packs = {"valid": _pack_valid(context, plans), "train": _pack_train(context, mix)}
    if isinstance(context.recipe.plan, FinishedPlan):
        return packs
    utterances = _pack_utterances(context, context.recipe.plan, plans.manifest_stage)
    return packs | {"utterances": utterances, "noise": _pack_noise(context, plans.manifest_stage)}


def _pack_valid(context: Context, plans: PlanStages) -> Stage:
    recipe, workers = context.recipe, context.options.num_workers

    def work(folder: Path) -> None:
        plan, manifest = _planned(context, plans, ["valid"])
        checks.check_inputs(context, plan, manifest)
        inputs = build.inputs_of(recipe, context.inputs)
        packing.pack_planned(plan, manifest, inputs, "valid", folder / SHARD, num_workers=workers)

    # Whatever mix writes to disk (splits, further variants), validation reads the first variant of split valid.
    mix = recipe.mix.model_dump(mode="json", exclude={"splits", "also"})
    settings = {"kind": recipe.plan.kind, "mix": mix, "channel": recipe.corpus.channel}
    versions = {"packing": packing.VERSION, "rendering": rendering.VERSION}
    return Stage("pack", versions, settings, work, needs=plans.stages, label="valid")


def _pack_train(context: Context, mix: Stage) -> Stage:
    encoding = context.recipe.mix.encoding

    def work(folder: Path) -> None:
        mixtures, workers = context.table(mix, MIXTURES), context.options.num_workers
        folder_of_mix = finished.dataset_folder(context, mix)
        packing.pack_mixtures(folder_of_mix, mixtures, "train", folder / SHARD, encoding=encoding, num_workers=workers)

    return Stage("pack", {"packing": packing.VERSION}, {"encoding": encoding}, work, needs=(mix,), label="train")


def _pack_utterances(context: Context, plan: DrawnPlan, manifest_stage: Stage) -> Stage:
    """The training speakers' utterances, with their levels."""
    recipe = context.recipe
    measured: dict[str, Any] = {
        "level": plan.level,
        "min_seconds": plan.min_seconds,
        "channel": recipe.corpus.channel,
        "with_loudness": recipe.mix.with_noise,
    }

    def work(folder: Path) -> None:
        manifest, workers = context.table(manifest_stage, MANIFEST), context.options.num_workers
        speech = context.inputs.speech
        checks.check_files(context, manifest[(manifest["split"] == "train") & ~is_noise(manifest)])
        packing.pack_utterances(manifest, speech, "train", recipe.mix, folder / SHARD, num_workers=workers, **measured)

    settings = {"sample_rate": recipe.mix.sample_rate, **measured}
    return Stage("pack", {"packing": packing.VERSION}, settings, work, needs=(manifest_stage,), label="utterances")


def _pack_noise(context: Context, manifest_stage: Stage) -> Stage:
    """The training split's noise, with its loudness."""
    mix = context.recipe.mix

    def work(folder: Path) -> None:
        assert context.inputs.noise is not None
        manifest, workers = context.table(manifest_stage, MANIFEST), context.options.num_workers
        checks.check_files(context, manifest[(manifest["split"] == "train") & is_noise(manifest)])
        packing.pack_noise(manifest, context.inputs.noise, "train", mix, folder / SHARD, num_workers=workers)

    settings = {"sample_rate": mix.sample_rate}
    return Stage("pack", {"packing": packing.VERSION}, settings, work, needs=(manifest_stage,), label="noise")
