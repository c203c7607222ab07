"""What is to be scored: a task for every mixture of a rendered dataset, or of anybody's folders."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pipeline.audio.headers import read_header
from pipeline.errors import AudioError, ScoreError
from pipeline.scoring import oracles
from pipeline.scoring.layouts import MISSING, audio_names, find_mixtures, find_sources, mixtures_beside
from pipeline.scoring.mixture import Row
from pipeline.scoring.oracles import Mask

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


class Matched(NamedTuple):
    """What anybody's folders hold: what can be scored, and what cannot."""

    tasks: list[Task]
    """One for every mixture that has references, in the order of their names."""
    left_out: list[str]
    """A line per system whose folder also holds mixtures without references."""


def folder_tasks(
    estimates: Mapping[str, str | Path],
    references: str | Path,
    mixtures: str | Path | None = None,
    *,
    patterns: Mapping[str, str] | None = None,
) -> list[Task]:
    """The tasks of anybody's folders: :func:`match_folders`, with what is left out in the log."""
    tasks, left_out = match_folders(estimates, references, mixtures, patterns=patterns)
    for line in left_out:
        logger.warning("%s", line)
    return tasks


def match_folders(
    estimates: Mapping[str, str | Path],
    references: str | Path,
    mixtures: str | Path | None = None,
    *,
    patterns: Mapping[str, str] | None = None,
    search_mixtures: bool = False,
) -> Matched:
    """Match estimates, references and mixtures by name: a task for every mixture that has references.

    Args:
        estimates: for every system its folder.
        references: the folder of the clean sources.
        mixtures: the folder of the mixtures, if any.
        patterns: the layout of ``estimates``, ``references`` or ``mixtures`` where it is not recognised (see ``layouts``).
        search_mixtures: without a folder of mixtures, look for them beside the references.

    Raises:
        ScoreError: a folder holds no such recordings, or no estimate of a system has references.
    """
    patterns = patterns or {}
    home = Path(references)
    names = audio_names(Path(mixtures)) if mixtures and not patterns.get("mixtures") else set()
    sources = find_sources(home, patterns.get("references", ""), kind="references", mixture_names=names)
    found = {
        system: find_sources(Path(folder), patterns.get("estimates", ""), mixture_names=names)
        for system, folder in estimates.items()
    }
    _log_uneven_references(sources, home)
    left_out = [line for system in found for line in _unmatched(system, Path(estimates[system]), found[system], sources, home)]
    mixed = _mixtures_of(sources, home, mixtures, patterns.get("mixtures", ""), search=search_mixtures)
    tasks = [
        Task(
            mixture_id=mixture_id,
            sample_rate=_sample_rate(paths),
            references=paths,
            mixture=None if mixed is None else mixed.get(mixture_id, MISSING),
            estimates={system: _one_per_source(each.get(mixture_id, ()), len(paths)) for system, each in found.items()},
        )
        for mixture_id, paths in sources.items()
    ]
    return Matched(tasks, left_out)


def _mixtures_of(
    wanted: Collection[str], references: Path, folder: str | Path | None, pattern: str, *, search: bool
) -> dict[str, Path] | None:
    """The mixtures by name; None where nobody expects any.

    Raises:
        ScoreError: the folder that was given holds no mixture of any reference.
    """
    if folder is None:
        beside = mixtures_beside(references, wanted) if search else None
        if beside is None:
            return None
        folder, pattern = beside[0], pattern or beside[1]
    found = find_mixtures(Path(folder), pattern, wanted=wanted)
    if not found.keys() & set(wanted):
        raise ScoreError(
            f"{folder}: none of its {len(found)} mixtures belongs to references in {references}: it has {min(found)}, they have "
            f"{min(wanted)}; use the same names in both folders, or give a pattern that matches them"
        )
    return found


def refuse_references_as_estimates(tasks: Sequence[Task]) -> None:
    """Raise ScoreError where an estimate is the file that it would be compared with, also by way of a link."""
    for task in tasks:
        references = {_file_identity(path): path for path in task.references if path.is_file()}
        for system, made in task.estimates.items():
            for path in () if isinstance(made, str) else made:
                if reference := references.get(_file_identity(path)):
                    raise ScoreError(
                        f"{path}: this estimate of system {system!r} is the reference {reference} itself; "
                        "give the folder, or the pattern, of the estimates"
                    )


def _file_identity(path: Path) -> tuple[int, int] | None:
    """What two names of one file have in common; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def with_oracles(tasks: Sequence[Task]) -> list[Task]:
    """The same mixtures, with ideal masks (``oracles.SYSTEMS``) in place of systems.

    Raises:
        ScoreError: a task has no mixture to mask.
    """
    if any(task.mixture is None for task in tasks):
        raise ScoreError("oracle masks need the mixtures they are applied to; give their folder too")
    return [replace(task, estimates=oracles.SYSTEMS) for task in tasks]


def _unmatched(system: str, folder: Path, estimates: Collection[str], references: Collection[str], home: Path) -> Iterator[str]:
    """A line about estimates without references, if there are any.

    Raises:
        ScoreError: no estimate has references.
    """
    unmatched = sorted(set(estimates) - set(references))
    if not unmatched:
        return
    examples = ", ".join(unmatched[:3])
    line = f"{folder}: {len(unmatched)} of {len(estimates)} mixtures of system {system!r} have no references in {home}, "
    if len(unmatched) == len(estimates):
        raise ScoreError(f"{line}for example {examples}; use the same names in both folders, or give a pattern that matches them")
    yield f"{line}and are not scored: {examples}{', …' if len(unmatched) > 3 else ''}"


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
