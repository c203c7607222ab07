"""The stages from trained systems to the report: ``separate`` and ``score`` (once per system), ``oracles`` and ``report``.

Torch is imported when ``separate`` runs: building the stages does not need it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import reports, separation, training
from pipeline.compute.cluster import connected_cluster
from pipeline.corpora.manifests import some_of
from pipeline.errors import DatasetError, first_line
from pipeline.files import parse_json, written_whole
from pipeline.mixtures import statistics
from pipeline.mixtures.plans.lint import lint
from pipeline.recipe.writing import format_recipe
from pipeline.reports import model_cards, writing
from pipeline.reports import statistics as statistics_of_scores
from pipeline.reports.provenance import provenance
from pipeline.scoring import Task, cross_checks, dataset_tasks, scoring, with_oracles
from pipeline.scoring import oracles as ideal_masks
from pipeline.scoring.mixture import Settings
from pipeline.scoring.recordings import MISSING, UNREADABLE, names_problem
from pipeline.stages.context import Context, settings_of, table_path
from pipeline.stages.data import PlanStages
from pipeline.stages.finished import dataset_folder
from pipeline.stages.runner import Stage
from pipeline.tables import HISTORY, MANIFEST, MIXTURES, PLAN, SCORES, write_table

FACTS = "facts.json"


# ------------------------------------------------------------------------------------------------------------ separation
def separate_stage(context: Context, mix: Stage, train: Stage) -> Stage:
    """``separate:NAME``: a system's estimates of the test mixtures, and the facts about its network."""

    def work(folder: Path) -> None:
        facts = _separate(context, mix, train, folder)
        with written_whole(folder / FACTS) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    versions = {"separation": separation.VERSION}
    return Stage("separate", versions, {}, work, needs=(mix, train), label=train.label)


def _separate(context: Context, mix: Stage, train: Stage, folder: Path) -> dict[str, Any]:
    from pipeline import models
    from pipeline.compute import devices
    from pipeline.models import checkpoints
    from pipeline.separation import offline

    device = devices.choose_device(context.options.device)
    devices.prepare(device)
    path = context.folder(train) / training.BEST
    model = checkpoints.load_model(path, device=device)
    on_workers = device.type == "cpu" and connected_cluster() is not None
    mixtures, dataset = context.table(mix, MIXTURES), dataset_folder(context, mix)
    timing = offline.separate_dataset(model, mixtures, dataset, folder, model_file=path if on_workers else None)
    # The facts name this machine's processor, so it is timed if others have done the work.
    here = offline.timed_on_cpu(model) if on_workers else None
    seen = models.causality(model)
    return {
        **models.describe_model(model),
        "look_ahead_samples": seen.look_ahead_samples,
        "causality_deviation": seen.largest_deviation,
        "cpu_real_time_factor": here or offline.cpu_real_time_factor(model, timing),
        "cpu": devices.cpu_name(),
        "real_time_factor": here or offline.real_time_factor(timing),
        "device": devices.device_name(device),
    }


# --------------------------------------------------------------------------------------------------------------- scores
def score_stage(context: Context, mix: Stage, separate: Stage) -> Stage:
    """``score:NAME``: a system's scores, a row per source of every test mixture.

    Raises:
        ScoreError: a metric needs a package that is not installed.
    """
    recipe = context.recipe
    Settings.of(recipe.score.permutation, recipe.score.also, recipe.mix.sample_rate)

    def work(folder: Path) -> None:
        tasks = _tasks(context, mix, {separate.label: context.folder(separate)})
        scores, path = _score(context, tasks, folder), table_path(folder, SCORES)
        _check_all_were_read(scores, path)
        if num_rows := recipe.score.verify:
            workers = context.options.num_workers
            check = cross_checks.cross_check(scores, tasks, num_rows, seed=recipe.seed, num_workers=workers)
            cross_checks.write_check(check, path)

    settings = {"score": settings_of(recipe.score), "seed": recipe.seed}
    versions = {"scoring": scoring.VERSION}
    return Stage("score", versions, settings, work, needs=(mix, separate), label=separate.label, varying=("*.journal",))


def oracles_stage(context: Context, mix: Stage) -> Stage:
    """``oracles``: what ideal masks would score."""

    def work(folder: Path) -> None:
        scores = _score(context, with_oracles(_tasks(context, mix, {})), folder)
        _check_all_were_read(scores, table_path(folder, SCORES))

    versions = {"oracles": ideal_masks.VERSION, "scoring": scoring.VERSION}
    return Stage("oracles", versions, {"score": settings_of(context.recipe.score)}, work, needs=(mix,), varying=("*.journal",))


def _check_all_were_read(scores: pd.DataFrame, path: Path) -> None:
    """The files of a run are its own: one that cannot be read is no failure of the system."""
    unread = scores[scores["status"].map(lambda status: names_problem(status, UNREADABLE, MISSING)).astype(bool)]
    if len(unread):
        names = some_of(list(dict.fromkeys(unread["mixture_id"])))
        raise DatasetError(f"{path}: files of some mixtures cannot be read ({names}); run again, or see `tasnet verify`")


def _tasks(context: Context, mix: Stage, estimates: Mapping[str, Path]) -> list[Task]:
    return dataset_tasks(_test_mixtures(context, mix), dataset_folder(context, mix), estimates)


def _test_mixtures(context: Context, mix: Stage) -> pd.DataFrame:
    mixtures = context.table(mix, MIXTURES)
    return mixtures[mixtures["split"] == "test"]


def _score(context: Context, tasks: Sequence[Task], folder: Path) -> pd.DataFrame:
    return scoring.score_tasks(
        tasks,
        out=table_path(folder, SCORES),
        num_workers=context.options.num_workers,
        permutation=context.recipe.score.permutation,
        also=context.recipe.score.also,
    )


# --------------------------------------------------------------------------------------------------------------- report
@dataclass(frozen=True)
class Evaluated:
    """The stages that a report reads, in the order of the recipe's systems."""

    plans: PlanStages
    mix: Stage
    trained: tuple[Stage, ...]
    separated: tuple[Stage, ...]
    scored: tuple[Stage, ...]
    oracles: Stage | None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All of them."""
        return (
            *self.plans.stages,
            self.mix,
            *self.trained,
            *self.separated,
            *self.scored,
            *([self.oracles] if self.oracles else []),
        )


def report_stage(context: Context, read: Evaluated) -> Stage:
    """``report``: the page that compares the systems, and the same numbers as tables."""

    def work(folder: Path) -> None:
        scores = pd.concat([context.table(stage, SCORES) for stage in read.scored], ignore_index=True)
        write_table(scores, table_path(folder, SCORES), SCORES)
        _write_report(context, read, scores, folder)
        _write_cards(context, read, scores, folder)

    # The page shows the whole recipe.
    settings = {"recipe": settings_of(context.recipe)}
    versions = {"reports": writing.VERSION, "model_cards": model_cards.VERSION}
    return Stage("report", versions, settings, work, needs=read.stages)


def card_path(report: Path, system: str) -> Path:
    """Where a report's folder has the card of a system's model."""
    return report / "models" / system / model_cards.CARD


def _write_cards(context: Context, read: Evaluated, scores: pd.DataFrame, folder: Path) -> None:
    """A model card for every system."""
    found: list[Any] = statistics_of_scores.summaries(scores).to_dict("records")
    num_mixtures = {str(split): len(rows) for split, rows in context.table(read.mix, MIXTURES).groupby("split", sort=False)}
    for trained, separated in zip(read.trained, read.separated, strict=True):
        card = model_cards.model_card(
            model_cards.Trained(
                name=trained.label,
                recipe=context.recipe,
                facts=_facts(context, separated),
                scores=[row for row in found if row["system"] == trained.label],
                history=context.table(trained, HISTORY),
                num_mixtures=num_mixtures,
            )
        )
        with written_whole(card_path(folder, trained.label)) as temporary:
            temporary.write_text(card, encoding="utf-8")


def _facts(context: Context, separate: Stage) -> dict[str, Any]:
    """What ``separate`` has found out about its network."""
    path = context.folder(separate) / FACTS
    try:
        return dict(parse_json(path.read_bytes()))
    except (OSError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: the facts about a network are damaged ({first_line(error)}); separate again") from error


def _write_report(context: Context, read: Evaluated, scores: pd.DataFrame, folder: Path) -> None:
    recipe = context.recipe
    facts = {stage.label: _facts(context, stage) for stage in read.separated}
    estimates = {stage.label: context.folder(stage) for stage in read.separated}
    reports.write_report(
        scores,
        folder,
        title=recipe.name,
        histories={stage.label: context.table(stage, HISTORY) for stage in read.trained},
        models=facts,
        published={name: figures.model_dump() for name, figures in recipe.report.published.items()},
        baseline=recipe.baseline,
        provenance={**provenance(device=facts[recipe.baseline]["device"]), "recipe": format_recipe(recipe)},
        examples=reports.clip_loader(dataset_folder(context, read.mix), _test_mixtures(context, read.mix), estimates),
        num_examples=recipe.report.num_examples,
        verification=cross_checks.read_checks(table_path(context.folder(stage), SCORES) for stage in read.scored),
        oracles=None if read.oracles is None else context.table(read.oracles, SCORES),
        dataset_findings=list(_dataset_findings(context, read, _test_mixtures(context, read.mix))),
    )


def _dataset_findings(context: Context, read: Evaluated, mixtures: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """What the plan, the manifest and the gains of the test mixtures show: see ``plans.lint`` and ``statistics.amplified``."""
    plan = context.table(read.plans.plan_stage, PLAN)
    manifest = context.table(read.plans.manifest_stage, MANIFEST)
    yield from (("corpus", "", warning) for warning in lint(plan, manifest))
    for mixture_id, source, gain_db in statistics.amplified(mixtures):
        yield "amplified noise", mixture_id, f"{source} was amplified by {gain_db:.0f} dB: hardly speech"
