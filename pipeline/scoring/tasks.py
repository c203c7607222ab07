"""What is to be scored: a task for every mixture of a rendered dataset, or of anybody's folders."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.audio.headers import read_header
from pipeline.errors import AudioError, ScoreError
from pipeline.scoring import oracles
from pipeline.scoring.mixture import Row
from pipeline.scoring.oracles import Mask
from pipeline.scoring.recordings import MISSING, find_mixtures, find_sources

logger = logging.getLogger("pipeline")


@dataclass(frozen=True)
class Task:
    """One mixture to score: its recordings, and what to note beside the scores of each source."""

    mixture_id: str
    sample_rate: int
    """Hz; recordings at another rate are not scored."""
    references: tuple[Path, ...]
    mixture: Path | None
    estimates: Mapping[str, tuple[Path, ...] | Mask]
    """By system: its recordings, or the ideal mask that computes them from mixture and references."""
    notes: tuple[Row, ...] = ()
    """Per source: ``speaker_id``, ``sex``, and the mixture's ``overlap`` where it is known."""


def dataset_tasks(mixtures: pd.DataFrame, dataset_dir: str | Path, estimates: Mapping[str, str | Path]) -> list[Task]:
    """The tasks of a rendered dataset, in the order of its mixtures.

    Args:
        mixtures: rows of ``mixtures.csv`` (``tables.MIXTURES``) of one split.
        dataset_dir: the folder that their paths are relative to.
        estimates: for every system the folder with ``{s1,s2,…}/<mixture_id>.wav``.

    Raises:
        ScoreError: a mixture occurs twice, or a system has no estimate at all.
    """
    repeated = mixtures["mixture_id"][mixtures["mixture_id"].duplicated()]
    if len(repeated):
        raise ScoreError(f"mixture {repeated.iloc[0]} occurs twice in the mixtures table; choose one split of it")
    folders = {system: Path(folder) for system, folder in estimates.items()}
    tasks = [_dataset_task(row, Path(dataset_dir), folders) for row in mixtures.to_dict("records")]
    for system, folder in folders.items():
        if tasks and not any(Path(path).is_file() for task in tasks for path in task.estimates[system]):
            raise ScoreError(f"{folder}: has no estimate of system {system!r}; expected {tasks[0].estimates[system][0]}, …")
    return tasks


def _dataset_task(row: Mapping[Any, Any], dataset_dir: Path, folders: Mapping[str, Path]) -> Task:
    numbers = range(1, int(row["num_sources"]) + 1)
    overlap = {"overlap": row["overlap"]} if "overlap" in row else {}
    return Task(
        mixture_id=row["mixture_id"],
        sample_rate=int(row["sample_rate"]),
        references=tuple(dataset_dir / row[f"source_{number}_path"] for number in numbers),
        mixture=dataset_dir / row["mixture_path"],
        estimates={
            system: tuple(folder / f"s{number}" / f"{row['mixture_id']}.wav" for number in numbers)
            for system, folder in folders.items()
        },
        notes=tuple({key: row[f"source_{number}_{key}"] for key in ("speaker_id", "sex")} | overlap for number in numbers),
    )


def folder_tasks(
    estimates: Mapping[str, str | Path],
    references: str | Path,
    mixtures: str | Path | None = None,
    *,
    patterns: Mapping[str, str] | None = None,
) -> list[Task]:
    """The tasks of anybody's folders: one for every mixture that has references, in the order of their names.

    Args:
        estimates: for every system its folder.
        references: the folder of the clean sources.
        mixtures: the folder of the mixtures, if any.
        patterns: the layout of ``estimates``, ``references`` or ``mixtures`` where it is not recognised (see ``recordings``).

    Raises:
        ScoreError: a folder holds no such recordings, or there are estimates without references.
    """
    patterns = patterns or {}
    reference_paths = find_sources(Path(references), patterns.get("references", ""))
    estimate_paths = {name: find_sources(Path(folder), patterns.get("estimates", "")) for name, folder in estimates.items()}
    mixture_paths = find_mixtures(Path(mixtures), patterns.get("mixtures", "")) if mixtures else {}
    _log_uneven_references(reference_paths, Path(references))
    for system, found in estimate_paths.items():
        _check_names(system, Path(estimates[system]), found, reference_paths, Path(references))
    return [
        Task(
            mixture_id=mixture_id,
            sample_rate=_sample_rate(paths),
            references=paths,
            mixture=mixture_paths.get(mixture_id, Path(mixtures) / mixture_id) if mixtures else None,
            estimates={name: _one_per_source(found.get(mixture_id, ()), len(paths)) for name, found in estimate_paths.items()},
        )
        for mixture_id, paths in reference_paths.items()
    ]


def with_oracles(tasks: Sequence[Task]) -> list[Task]:
    """The same mixtures, with ideal masks (``oracles.SYSTEMS``) in place of systems.

    Raises:
        ScoreError: a task has no mixture to mask.
    """
    if any(task.mixture is None for task in tasks):
        raise ScoreError("oracle masks need the mixtures they are applied to; give their folder too")
    return [replace(task, estimates=oracles.SYSTEMS) for task in tasks]


def _check_names(system: str, folder: Path, estimates: Collection[str], references: Collection[str], home: Path) -> None:
    """Raise ScoreError for estimates without references: they would be left out unnoticed."""
    unmatched = sorted(set(estimates) - set(references))
    if unmatched:
        raise ScoreError(
            f"{folder}: {len(unmatched)} of {len(estimates)} mixtures of system {system!r} have no references in {home}, "
            f"for example {unmatched[0]}; use the same names in both folders, or give a pattern that matches them"
        )


def _log_uneven_references(references: Mapping[str, Sequence[Path]], folder: Path) -> None:
    """Log where mixtures differ in the number of their references: intended, or files are missing."""
    counts = Counter(len(paths) for paths in references.values())
    if len(counts) > 1:
        usual, rarest = max(counts, key=lambda number: counts[number]), min(counts, key=lambda number: counts[number])
        example = next(mixture_id for mixture_id, paths in references.items() if len(paths) == rarest)
        found = f"{counts[rarest]} of {len(references)} mixtures have {rarest} instead, for example {example}"
        logger.info("%s: not all mixtures have %d sources: %s", folder, usual, found)


def _one_per_source(paths: tuple[Path, ...], num_sources: int) -> tuple[Path, ...]:
    """The paths, followed by one that does not exist for every source without an estimate."""
    return paths + (MISSING,) * (num_sources - len(paths))


def _sample_rate(references: Sequence[Path]) -> int:
    """Hz of the first reference that can be read, 0 if none can."""
    for path in references:
        try:
            return read_header(path).sample_rate
        except AudioError:
            continue
    return 0
