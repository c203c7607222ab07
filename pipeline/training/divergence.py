"""When a training has diverged, and how its user goes on."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import TrainingError
from pipeline.recipe.schema import Train
from pipeline.training import BEST
from pipeline.training.state import Progress

MAX_SKIPPED_IN_A_ROW = 10
"""Steps without a finite gradient after which a training stops."""


def diverged(what: str, progress: Progress, settings: Train, folder: Path) -> TrainingError:
    """The error of a training that cannot go on as it is: what is no number any more, where, and what to do."""
    best, lower = folder / BEST, f"train.learning_rate={settings.learning_rate / 2:g}"
    onward = f"; to go on from its best weights: --set train.init={best} --set {lower}" if best.exists() else ""
    return TrainingError(
        f"{folder}: the {what} stopped being a finite number in epoch {progress.epoch} before step {progress.step + 1}; "
        f"lower train.learning_rate or train.clip_norm{onward}"
    )
