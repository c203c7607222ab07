"""Rows of a score table, drawn at random and recomputed by mir_eval: what a reader who doubts the table would do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from pipeline.audio.files import read_audio
from pipeline.compute.workers import map_parallel
from pipeline.errors import ScoreError, first_line
from pipeline.files import written_whole
from pipeline.scoring.bss_eval import Signals
from pipeline.scoring.metrics import is_usable, mir_eval_sources
from pipeline.scoring.mixture import Row
from pipeline.scoring.permutations import Permutation
from pipeline.scoring.tasks import Task


@dataclass(frozen=True)
class CrossCheck:
    """Rows of a score table compared with mir_eval's."""

    num_rows: int
    largest_difference_db: float | None
    """Of the SDR of estimates and mixtures; None if there were no rows."""
    permutations_equal: bool
    """Whether mir_eval assigns the estimates of these rows as the table says; rows beside silent sources do not count."""
    mir_eval: str
    """Its version."""


def cross_check(
    scores: pd.DataFrame, tasks: Sequence[Task], num_rows: int, *, seed: int = 0, num_workers: int | None = None
) -> CrossCheck:
    """Recompute SDR and permutation of rows drawn at random with mir_eval.

    Args:
        scores: a score table.
        tasks: those it was computed from, of ``tasks.dataset_tasks`` or ``tasks.folder_tasks``.
        num_rows: rows to draw, among those with a finite SDR.
        seed: of the draw.
        num_workers: processes; one per core by default.

    Raises:
        AudioError: a recording that was scored cannot be read any more.
    """
    finite = scores[np.isfinite(scores["sdr_db"])]
    drawn = finite.sample(min(num_rows, len(finite)), random_state=seed)
    by_mixture = {task.mixture_id: task for task in tasks}
    assigned = dict(list(scores.groupby(["system", "mixture_id"])["estimate"]))
    jobs = [
        (row, by_mixture[row["mixture_id"]], (assigned[row["system"], row["mixture_id"]] - 1).tolist())
        for row in drawn.to_dict("records")
    ]
    compared = list(map_parallel(_compare, jobs, num_workers=num_workers, description="cross-check"))
    return CrossCheck(
        num_rows=len(compared),
        largest_difference_db=max((difference for difference, _ in compared), default=None),
        permutations_equal=all(equal for _, equal in compared),
        mir_eval=version("mir_eval"),
    )


def check_path(scores: Path) -> Path:
    """The file that holds the check of a score table: ``scores.verification.json`` beside it."""
    return scores.with_suffix(".verification.json")


def write_check(check: CrossCheck, scores: Path) -> None:
    """Write the check of a score table beside it, as strict JSON."""
    with written_whole(check_path(scores)) as temporary:
        temporary.write_text(json.dumps(asdict(check), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_checks(tables: Iterable[Path]) -> dict[str, Any]:
    """The checks of several score tables as one, with the fields of :class:`CrossCheck`; empty if there are none.

    Raises:
        ScoreError: a check is damaged.
    """
    checks = [_read_check(check_path(path)) for path in tables if check_path(path).is_file()]
    if not checks:
        return {}
    differences = [check.largest_difference_db for check in checks if check.largest_difference_db is not None]
    return {
        "num_rows": sum(check.num_rows for check in checks),
        "largest_difference_db": max(differences, default=None),
        "permutations_equal": all(check.permutations_equal for check in checks),
        "mir_eval": ", ".join(sorted({check.mir_eval for check in checks})),
    }


def _read_check(path: Path) -> CrossCheck:
    try:
        return TypeAdapter(CrossCheck).validate_json(path.read_bytes(), strict=True)
    except (OSError, ValueError) as error:
        raise ScoreError(
            f"{path}: is not a check of scores, or damaged ({first_line(error)}); remove it and score again"
        ) from error


def format_check(check: CrossCheck) -> str:
    """A check in one line."""
    if check.largest_difference_db is None:
        return "No row has a finite SDR, so there is nothing for mir_eval to recompute."
    equal = "same permutations" if check.permutations_equal else "DIFFERENT PERMUTATIONS"
    return (
        f"{check.num_rows} random rows recomputed by mir_eval {check.mir_eval}: "
        f"largest difference {check.largest_difference_db:.1e} dB, {equal}."
    )


def _compare(job: tuple[Row, Task, Sequence[int]]) -> tuple[float, bool]:
    """The largest difference from mir_eval in a row's SDR and its mixture's, and whether the assignments agree."""
    row, task, assigned = job
    made = task.estimates[row["system"]]
    paths = () if isinstance(made, str) else made
    estimates, references = (_read(each, int(row["num_samples"])) for each in (paths, task.references))
    number = int(row["source"].removeprefix("s")) - 1
    difference = abs(_sdr_db(estimates[assigned[number]], references[number]) - row["sdr_db"])
    if task.mixture and np.isfinite(row["input_sdr_db"]):
        (mixture,) = _read((task.mixture,), int(row["num_samples"]))
        difference = max(difference, abs(_sdr_db(mixture, references[number]) - row["input_sdr_db"]))
    by_sir = _assigned_by_sir(estimates, references)
    expect_equal = row["permutation"] == "sir" or bool(row["permutations_agree"])
    return float(difference), by_sir is None or np.array_equal(by_sir, assigned) == expect_equal


def _read(paths: Sequence[Path], num_samples: int) -> list[Signals]:
    """The samples of the recordings that were scored; none where a file is missing."""
    return [read_audio(path, stop=num_samples, finite_only=False)[0] if path.is_file() else np.zeros(0) for path in paths]


def _sdr_db(estimate: Signals, reference: Signals) -> float:
    return float(mir_eval_sources(estimate[None], reference[None])[0][0])


def _assigned_by_sir(estimates: Sequence[Signals], references: Sequence[Signals]) -> Permutation | None:
    """mir_eval's assignment; None where it has none: something is silent or missing, or the numbers or lengths differ."""
    signals = [*estimates, *references]
    if len(estimates) != len(references) or len({len(one) for one in signals}) > 1 or not is_usable(np.stack(signals)).all():
        return None
    return mir_eval_sources(np.stack(estimates), np.stack(references), compute_permutation=True)[3]
