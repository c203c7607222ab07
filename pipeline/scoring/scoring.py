"""Scores of estimates against references: one row per system, mixture and source.

    score(estimates, references, mixture=mixture, sample_rate=8000)              # arrays in, DataFrame out
    score_dataset(mixtures, dataset_dir, {"causal": folder}, out=path)           # a rendered dataset
    score_folders(estimates_dir, references_dir, mixtures_dir)                   # anybody's files
    score_tasks(with_oracles(tasks), out=path)                                   # what ideal masks would reach

Files are scored in parallel, a mixture a task; what a recording lacks becomes its row's ``status`` (see ``mixture_scores``) and
never ends a run. Rows are kept in a journal as they come; those whose audio and metrics have not changed are not computed again.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.audio.files import read_audio, read_header
from pipeline.compute.workers import chunked, map_parallel
from pipeline.errors import AudioError, ScoreError, WorkError
from pipeline.scoring import oracles
from pipeline.scoring.bss_eval import Signals
from pipeline.scoring.metrics import METRICS_VERSION
from pipeline.scoring.mixture import NOTHING, Criterion, Extra, Heard, Row, Settings, score_heard
from pipeline.scoring.oracles import Mask
from pipeline.scoring.recordings import MISSING, find_mixtures, find_sources
from pipeline.tables import SCORES, read_table, write_table

VERSION = METRICS_VERSION
"""Of score tables: raised whenever a row may change."""

_CHUNK = 16
"""Mixtures a worker scores at once: little to lose in a kill, much to gain over one by one."""

logger = logging.getLogger("pipeline")


# ---------------------------------------------------------------------------------------------------------------- arrays
def score(
    estimates: npt.ArrayLike,
    references: npt.ArrayLike,
    *,
    mixture: npt.ArrayLike | None,
    sample_rate: int,
    permutation: Criterion = "si_snr",
    also: Collection[Extra] = (),
) -> pd.DataFrame:
    """Score the estimates of one mixture.

    Args:
        estimates: [estimate, time], at least one per reference.
        references: [source, time].
        mixture: [time], the baseline of the improvements; without it they are NaN.
        sample_rate: Hz; SI-SNR and BSS-Eval do not depend on it.
        permutation: what assigns estimates to references: ``si_snr`` (the highest mean SI-SNR) or ``sir`` (as mir_eval).
        also: further metrics: ``sir``, ``sar``, ``sa_sdr``, ``stoi``, ``estoi``, ``pesq``.

    Returns:
        A row per source: ``source, estimate, si_snr_db, si_snri_db, sdr_db, sdri_db, status`` and more (``tables.SCORES``);
        ``estimate`` counts from 1.

    Raises:
        ScoreError: shapes that do not belong together, or a criterion or metric that does not exist or cannot be computed here.
    """
    estimated, referred = _signals(estimates, "estimates"), _signals(references, "references")
    if len(estimated) < len(referred):
        raise ScoreError(f"{len(estimated)} estimates for {len(referred)} references; every reference needs one")
    settings = Settings.of(permutation, also, sample_rate)
    rows = score_heard(
        {"": [Heard(one) for one in estimated]},
        [Heard(one) for one in referred],
        None if mixture is None else Heard(_signals(np.asarray(mixture)[None], "mixture")[0]),
        sample_rate=sample_rate,
        settings=settings,
    )
    return pd.DataFrame(rows[""]).assign(sample_rate=sample_rate)


def _signals(samples: npt.ArrayLike, name: str) -> Signals:
    signals = np.asarray(samples, dtype=np.float64)
    if signals.ndim != 2 or not len(signals):
        raise ScoreError(f"{name}: expected one row of samples each, got an array of shape {signals.shape}")
    return signals


# ----------------------------------------------------------------------------------------------------------------- files
@dataclass(frozen=True)
class Task:
    """One mixture to score: where its recordings lie, and what to note beside the scores of each source."""

    mixture_id: str
    sample_rate: int
    """Hz; recordings at another rate are not scored."""
    references: tuple[Path, ...]
    mixture: Path | None
    estimates: Mapping[str, tuple[Path, ...] | Mask]
    """By system: its recordings, or the ideal mask that makes them from mixture and references."""
    notes: tuple[Row, ...] = ()
    """Per source: ``speaker_id``, ``sex``, and the mixture's ``overlap`` where it is known."""


def score_dataset(
    mixtures: pd.DataFrame,
    dataset_dir: str | Path,
    estimates: Mapping[str, str | Path],
    *,
    out: str | Path,
    num_workers: int | None = None,
    permutation: Criterion = "si_snr",
    also: Collection[Extra] = (),
) -> pd.DataFrame:
    """Score the estimates that one or more systems made of a rendered dataset.

    Rows already in ``out``, or in the journal beside it that an interrupted run left, are kept where neither the audio nor the
    metrics have changed. The table is the same for any number of workers, and for a run that was interrupted.

    Args:
        mixtures: rows of ``mixtures.csv`` (``tables.MIXTURES``) of one split.
        dataset_dir: what their paths are relative to.
        estimates: for every system the folder with ``{s1,s2,…}/<mixture_id>.wav``.
        out: the table, ``scores.csv``.
        num_workers: processes; one per core by default.
        permutation: what assigns estimates to references: ``si_snr`` or ``sir``.
        also: further metrics, as in :func:`score`.

    Returns:
        The rows of ``out``: by system, then mixture, then source.

    Raises:
        ScoreError: mixtures named twice, or a system without any estimate.
        WorkError: the table cannot be written.
    """
    tasks = dataset_tasks(mixtures, dataset_dir, estimates)
    return score_tasks(tasks, out=out, num_workers=num_workers, permutation=permutation, also=also)


def score_folders(
    estimates: str | Path | Mapping[str, str | Path],
    references: str | Path,
    mixtures: str | Path | None = None,
    *,
    system: str = "estimates",
    out: str | Path | None = None,
    patterns: Mapping[str, str] | None = None,
    num_workers: int | None = None,
    permutation: Criterion = "si_snr",
    also: Collection[Extra] = (),
) -> pd.DataFrame:
    """Score anybody's files: folders with ``s1/…`` and ``s2/…``, or with names like ``<mixture>_s1.wav``.

    Args:
        estimates: the folder of one system, or a folder for each of several.
        references: the folder of the clean sources.
        mixtures: the folder of the mixtures; without it there are no improvements.
        system: the name of the only system.
        out: where the table goes; kept rows and interrupted runs as in :func:`score_dataset`. Without it nothing is written.
        patterns: the layout of ``estimates``, ``references`` or ``mixtures``, where it is not found by itself, for example
            ``{"estimates": "{mixture_id}_est{source}"}`` (see ``recordings``).
        num_workers: processes; one per core by default.
        permutation: what assigns estimates to references: ``si_snr`` or ``sir``.
        also: further metrics, as in :func:`score`.

    Returns:
        A row per system, mixture and source.

    Raises:
        ScoreError: a folder that holds nothing of the kind, or estimates that have no reference.
        WorkError: the table cannot be written.
    """
    folders = dict(estimates) if isinstance(estimates, Mapping) else {system: estimates}
    tasks = folder_tasks(folders, references, mixtures, patterns=patterns)
    return score_tasks(tasks, out=out, num_workers=num_workers, permutation=permutation, also=also)


def dataset_tasks(mixtures: pd.DataFrame, dataset_dir: str | Path, estimates: Mapping[str, str | Path]) -> list[Task]:
    """The tasks of :func:`score_dataset`, in the order of the mixtures."""
    repeated = mixtures["mixture_id"][mixtures["mixture_id"].duplicated()]
    if len(repeated):
        raise ScoreError(f"mixture {repeated.iloc[0]} stands in the mixtures table twice; choose one split of it")
    folders = {system: Path(folder) for system, folder in estimates.items()}
    tasks = [_dataset_task(row, Path(dataset_dir), folders) for row in mixtures.to_dict("records")]
    for system, folder in folders.items():
        if tasks and not any(Path(path).is_file() for task in tasks for path in task.estimates[system]):
            raise ScoreError(f"{folder}: no estimate of system {system!r} lies here, expected {tasks[0].estimates[system][0]}, …")
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
    """The tasks of :func:`score_folders`: one for every mixture that has references, in the order of their names."""
    patterns = patterns or {}
    referred = find_sources(Path(references), patterns.get("references", ""))
    estimated = {system: find_sources(Path(folder), patterns.get("estimates", "")) for system, folder in estimates.items()}
    mixed = find_mixtures(Path(mixtures), patterns.get("mixtures", "")) if mixtures else {}
    _mention_uneven(referred, Path(references))
    for system, found in estimated.items():
        _check_names(system, Path(estimates[system]), found, referred, Path(references))
    return [
        Task(
            mixture_id=mixture_id,
            sample_rate=_sample_rate(sources),
            references=sources,
            mixture=mixed.get(mixture_id, Path(mixtures) / mixture_id) if mixtures else None,
            estimates={system: _one_per_source(found.get(mixture_id, ()), len(sources)) for system, found in estimated.items()},
        )
        for mixture_id, sources in referred.items()
    ]


def _check_names(system: str, folder: Path, estimated: Collection[str], referred: Collection[str], references: Path) -> None:
    """Raise ScoreError where estimates have no reference: their scores would be missed without a word."""
    stray = sorted(set(estimated) - set(referred))
    if stray:
        raise ScoreError(
            f"{folder}: {len(stray)} of {len(estimated)} mixtures of system {system!r} have no references in {references}, "
            f"for example {stray[0]}; the names must be the same, or a pattern say what belongs to them"
        )


def _mention_uneven(referred: Mapping[str, Sequence[Path]], references: Path) -> None:
    """Say so where mixtures have different numbers of references: meant, or files that are missing."""
    counts = Counter(len(paths) for paths in referred.values())
    if len(counts) > 1:
        rarest = min(counts, key=lambda number: counts[number])
        example = next(mixture_id for mixture_id, paths in referred.items() if len(paths) == rarest)
        found = f"{counts[rarest]} of {len(referred)} mixtures have {rarest} instead, for example {example}"
        logger.info("%s: not all mixtures have %d sources: %s", references, max(counts, key=lambda n: counts[n]), found)


def _one_per_source(paths: tuple[Path, ...], num_sources: int) -> tuple[Path, ...]:
    """Paths, filled up with one that does not exist where a source has no estimate."""
    return paths + (MISSING,) * (num_sources - len(paths))


def _sample_rate(references: Sequence[Path]) -> int:
    """Hz of the first reference that can be read, 0 if none can."""
    for path in references:
        try:
            return read_header(path).sample_rate
        except AudioError:
            continue
    return 0


def with_oracles(tasks: Sequence[Task]) -> list[Task]:
    """The same mixtures, but with ideal masks (``oracles.SYSTEMS``) in the place of systems.

    Raises:
        ScoreError: there are no mixtures to mask.
    """
    if any(task.mixture is None for task in tasks):
        raise ScoreError("oracle masks need the mixtures that they are laid over; say where these lie")
    return [replace(task, estimates=oracles.SYSTEMS) for task in tasks]


def score_tasks(
    tasks: Sequence[Task],
    *,
    out: str | Path | None = None,
    num_workers: int | None = None,
    permutation: Criterion = "si_snr",
    also: Collection[Extra] = (),
) -> pd.DataFrame:
    """Score mixtures in parallel into the table ``out``; see :func:`score_dataset` and :func:`score_folders`."""
    if not tasks:
        raise ScoreError("there are no mixtures to score")
    settings = Settings.of(permutation, also, tasks[0].sample_rate)
    if out is not None:
        return _score_into(Path(out), tasks, num_workers, settings)
    with TemporaryDirectory() as folder:
        return _score_into(Path(folder) / "scores.csv", tasks, num_workers, settings)


def _score_into(out: Path, tasks: Sequence[Task], num_workers: int | None, settings: Settings) -> pd.DataFrame:
    journal = Journal(out)
    known = journal.read()
    pieces = chunked([(task, known.get(task.mixture_id, {})) for task in tasks], _CHUNK)
    work = partial(_score_chunk, settings=settings)
    rows: list[Row] = []
    num_new = 0
    for chunk in map_parallel(work, pieces, num_workers=num_workers, description="score", size=len):
        for scored, num_computed in chunk:
            rows += scored
            num_new += num_computed
        journal.append([scored for scored, num_computed in chunk if num_computed])
    if num_new < len(rows):
        logger.info("%s: %d of %d rows were known, %d are new", out, len(rows) - num_new, len(rows), num_new)
    write_table(_by_system(rows, tasks[0].estimates), out, SCORES)
    journal.remove()
    return read_table(out, SCORES)


def remarks(scores: pd.DataFrame) -> list[str]:
    """What a reader of the means of a score table should know: rows that are not plainly ok, and assignments in doubt."""
    kinds = scores["status"].str.replace(r"\(.*?\)", "", regex=True)
    odd = kinds[kinds != "ok"].value_counts(sort=False)
    lines = [f"{count} of {len(scores)} rows: {status}" for status, count in odd.items()]
    doubtful = scores[~scores["permutations_agree"]].groupby(["system", "mixture_id"]).ngroups
    if doubtful:
        lines += [f"SI-SNR and SIR would assign the estimates of {doubtful} separated mixtures differently"]
    return lines


def _by_system(rows: Sequence[Row], systems: Collection[str]) -> pd.DataFrame:
    """Rows by system, each system's in the order of the mixtures."""
    return pd.DataFrame([row for system in systems for row in rows if row["system"] == system])


KnownRows = Mapping[str, list[Row]]
"""Rows of one mixture by digest."""


def _score_chunk(jobs: Sequence[tuple[Task, KnownRows]], *, settings: Settings) -> list[tuple[list[Row], int]]:
    return [_score_task(task, known, settings) for task, known in jobs]


def _score_task(task: Task, known: KnownRows, settings: Settings) -> tuple[list[Row], int]:
    """The rows of one mixture, and how many of them had to be computed."""
    digests = _digests(task, settings)
    missing = {system: task.estimates[system] for system, digest in digests.items() if digest not in known}
    scored = _score_files(task, missing, settings) if missing else {}
    rows = [
        row for system, digest in digests.items() for row in known.get(digest) or _noted(scored[system], task, system, digest)
    ]
    return rows, sum(map(len, scored.values()))


def _score_files(task: Task, estimates: Mapping[str, Sequence[Path] | Mask], settings: Settings) -> dict[str, list[Row]]:
    references = [_hear(path, task.sample_rate) for path in task.references]
    mixture = _hear(task.mixture, task.sample_rate) if task.mixture else None
    heard: dict[str, Sequence[Heard]] = {}
    for system, made in estimates.items():
        if isinstance(made, str):
            heard[system] = _masked(made, references, mixture, task.sample_rate)
        else:
            heard[system] = [_hear(path, task.sample_rate) for path in made]
    return score_heard(heard, references, mixture, sample_rate=task.sample_rate, settings=settings)


def _masked(mask: Mask, references: Sequence[Heard], mixture: Heard | None, sample_rate: int) -> list[Heard]:
    """Oracle estimates over the samples that all recordings have; none where any of these is missing."""
    recordings = [one.samples for one in (*references, mixture or Heard(NOTHING))]
    length = min(map(len, recordings))
    if not length:
        return [Heard(NOTHING, "missing")] * len(references)
    *referred, mixed = (samples[:length] for samples in recordings)
    return [Heard(one) for one in oracles.oracle(mixed, np.stack(referred), sample_rate=sample_rate, mask=mask)]


def _hear(path: Path, sample_rate: int) -> Heard:
    """Read a recording; what is wrong with it becomes part of the scores."""
    if not path.is_file():
        return Heard(NOTHING, "missing")
    try:
        samples, actual_rate = read_audio(path, finite_only=False)
    except AudioError:
        return Heard(NOTHING, "unreadable")
    return Heard(samples) if actual_rate == sample_rate else Heard(NOTHING, "other_rate")


def _noted(rows: Sequence[Row], task: Task, system: str, digest: str) -> list[Row]:
    """Rows as they stand in the table."""
    notes = task.notes or ({},) * len(rows)
    common = {"system": system, "mixture_id": task.mixture_id, "sample_rate": task.sample_rate, "digest": digest}
    return [common | row | note for row, note in zip(rows, notes, strict=True)]


def _digests(task: Task, settings: Settings) -> dict[str, str]:
    """For every system a digest of all that decides its rows: the files, the settings, the version of the metrics."""
    fixed = [task.mixture_id, task.sample_rate, settings, METRICS_VERSION, *task.notes]
    fixed += [_file_digest(path) for path in (*task.references, task.mixture)]
    return {
        system: _digest(repr([system, fixed, _digest_of_estimates(made)]).encode()) for system, made in task.estimates.items()
    }


def _digest_of_estimates(made: Sequence[Path] | Mask) -> list[str]:
    return [made, str(oracles.VERSION)] if isinstance(made, str) else [_file_digest(path) for path in made]


def _file_digest(path: Path | None) -> str:
    """Digest of a file's bytes; empty where there is no such file."""
    return _digest(path.read_bytes()) if path and path.is_file() else ""


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=12).hexdigest()


class Journal:
    """Rows computed so far, a mixture a line, in a file beside the table that they will fill.

    Args:
        out: the table.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out.with_name(f"{out.name}.journal")

    def read(self) -> dict[str, dict[str, list[Row]]]:
        """Known rows by mixture and digest: those of the table, and those of the journal."""
        known: dict[str, dict[str, dict[str, Row]]] = {}
        for row in [*self._rows_of_table(), *self._rows_of_journal()]:
            known.setdefault(row["mixture_id"], {}).setdefault(row["digest"], {})[row["source"]] = row
        return {mixture_id: {digest: [*rows.values()] for digest, rows in found.items()} for mixture_id, found in known.items()}

    def append(self, mixtures: Sequence[Sequence[Row]]) -> None:
        """Add the rows of some mixtures; they outlive this process, however it ends."""
        if not mixtures:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(rows) + "\n" for rows in mixtures))
        except OSError as error:
            raise WorkError(f"{self.path}: cannot be written ({error.strerror or error})") from error

    def remove(self) -> None:
        """Forget the journal: the table is complete."""
        self.path.unlink(missing_ok=True)

    def _rows_of_table(self) -> list[Row]:
        if not self.out.is_file():
            return []
        table = read_table(self.out, SCORES)
        return (
            [{str(name): value for name, value in row.items()} for row in table.to_dict("records")] if "digest" in table else []
        )

    def _rows_of_journal(self) -> list[Row]:
        """Rows of whole lines; a line that a crash cut short is taken away."""
        if not self.path.is_file():
            return []
        whole, newline, _torn = self.path.read_text(encoding="utf-8").rpartition("\n")
        os.truncate(self.path, len((whole + newline).encode()))
        return [row for line in whole.splitlines() for row in json.loads(line)]
