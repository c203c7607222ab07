"""Datasets whose audio is somebody else's: finished mixtures stay where they are, and the stages read them through a link."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.errors import WorkError
from pipeline.mixtures.plans import build
from pipeline.mixtures.plans.planned import planned_mixtures
from pipeline.mixtures.renderers.finished import LINK, RESIDUAL, describe_residuals
from pipeline.stages import checks
from pipeline.stages.context import Context
from pipeline.stages.runner import Stage
from pipeline.tables import MANIFEST, MIXTURES

SAMPLED = 60
"""Mixtures that are measured before a run; the run itself measures all."""

logger = logging.getLogger("pipeline")


def dataset_folder(context: Context, mix: Stage) -> Path:
    """The folder that the paths of a stage's ``mixtures.csv`` start from.

    Paths of finished mixtures lead through a link in there, which follows the corpus where it moves: a dataset is what its files
    hold, not where they lie.

    Raises:
        CorpusError: finished mixtures have changed since they were planned.
        WorkError: the link cannot be written.
    """
    folder = context.folder(mix)
    if not build.writes_audio(context.recipe):
        checks.check_unchanged(context, context.table(mix.needs[-1], MANIFEST))
        link_corpus(folder, context.inputs.speech)
    return folder


def link_corpus(folder: Path, root: Path) -> None:
    """Let a dataset's folder lead to the corpus that its audio is in.

    Raises:
        WorkError: the link cannot be written.
    """
    link, target = folder / LINK, root.resolve()
    temporary = folder / f".{LINK}.{os.getpid()}.tmp"
    try:
        if link.is_symlink() and link.readlink() == target:
            return
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target, target_is_directory=True)
        temporary.replace(link)
    except OSError as error:
        raise WorkError(f"{link}: cannot be made a link to {target} ({error.strerror or error})") from error


def log_residuals(context: Context, mix: Stage) -> None:
    """Say of how many finished mixtures something other than their sources is a part: noise is no fault, but to be known."""
    if not build.writes_audio(context.recipe):
        logger.info("%s", describe_residuals(list(context.table(mix, MIXTURES)[RESIDUAL])))


def measured_residuals(context: Context, plan: pd.DataFrame, manifest: pd.DataFrame, *, whole: bool) -> list[float]:
    """How far mixtures are from the sum of their sources: of all, or of some that are evenly picked, with their splits."""
    mixtures = planned_mixtures(plan, manifest)
    places = range(len(mixtures)) if whole else sorted(set(np.linspace(0, len(mixtures) - 1, SAMPLED).astype(int)))
    renderer = build.ADAPTERS[context.recipe.plan.kind].renderer(build.inputs_of(context.recipe, context.inputs))
    rows = (row for place in places for row in renderer.render(mixtures[place]).rows.values())
    return [float(row[RESIDUAL]) for row in rows]
