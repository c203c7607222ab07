"""Scores of estimates against references: one row per system, mixture and source.

    score(estimates, references, mixture=mixture, sample_rate=8000)              # arrays in, DataFrame out
    score_dataset(mixtures, dataset_dir, {"causal": folder}, out=path)           # a rendered dataset
    score_folders(estimates_dir, references_dir, mixtures_dir)                   # anybody's files
    score_tasks(with_oracles(tasks), out=path)                                   # the upper bound that ideal masks reach

Mixtures are scored in parallel. What is wrong with a recording becomes the ``status`` of its row (see ``mixture``) and never
ends a run. Rows go to a journal as they are computed; those whose audio and metrics have not changed are not computed again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.compute.journal import Journal, Record
from pipeline.compute.workers import chunked, map_parallel
from pipeline.errors import ScoreError
from pipeline.scoring import oracles
from pipeline.scoring.mixture import Criterion, Extra, Row, Settings, score_mixture
from pipeline.scoring.oracles import Mask
from pipeline.scoring.recordings import NO_SAMPLES, Recording, read_recording
from pipeline.scoring.tasks import Task, dataset_tasks, folder_tasks
from pipeline.tables import SCORES, read_table, write_table

VERSION = 2
"""Raised whenever a number or a status may change; rows of another version are recomputed."""

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
        permutation: the criterion that assigns estimates to references: the highest mean ``si_snr``, or ``sir`` as in mir_eval.
        also: further metrics: ``sir``, ``sar``, ``sa_sdr``, ``stoi``, ``estoi``, ``pesq``.

    Returns:
        A row per source: ``source, estimate, si_snr_db, si_snri_db, sdr_db, sdri_db, status`` and more (``tables.SCORES``);
        ``estimate`` counts from 1.

    Raises:
        ScoreError: the shapes do not match, or a criterion or metric does not exist or cannot be computed here.
    """
    settings = Settings.of(permutation, also, sample_rate)
    estimated, expected = _recordings(estimates, "estimates"), _recordings(references, "references")
    if len(estimated) < len(expected):
        raise ScoreError(f"{len(estimated)} estimates for {len(expected)} references; every reference needs one")
    mixed = None if mixture is None else _recordings(np.asarray(mixture)[None], "mixture")[0]
    rows = score_mixture({"": estimated}, expected, mixed, sample_rate=sample_rate, settings=settings)
    return pd.DataFrame(rows[""]).assign(sample_rate=sample_rate)


def _recordings(samples: npt.ArrayLike, name: str) -> list[Recording]:
    """A recording for each row of [recording, time]."""
    signals = np.asarray(samples, dtype=np.float64)
    if signals.ndim != 2 or not len(signals):
        raise ScoreError(f"{name}: expected one row of samples each, got an array of shape {signals.shape}")
    return [Recording(one) for one in signals]


# ----------------------------------------------------------------------------------------------------------------- files
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
    """Score the estimates of one or more systems on a rendered dataset.

    Rows that are already in ``out``, or in the journal that an interrupted run left beside it, are reused where neither the audio
    nor the metrics have changed. The table is the same for any number of workers, interrupted or not.

    Args:
        mixtures: rows of ``mixtures.csv`` (``tables.MIXTURES``) of one split.
        dataset_dir: the folder that their paths are relative to.
        estimates: for every system the folder with ``{s1,s2,…}/<mixture_id>.wav``.
        out: the table, ``scores.csv``.
        num_workers: processes; one per core by default.
        permutation: the criterion that assigns estimates to references: ``si_snr`` or ``sir``.
        also: further metrics, as in :func:`score`.

    Returns:
        The rows of ``out``: by system, then mixture, then source.

    Raises:
        ScoreError: a mixture occurs twice, or a system has no estimate at all.
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
        system: the name of the system, if there is only one.
        out: where the table goes, with reuse and resuming as in :func:`score_dataset`; without it nothing is written.
        patterns: the layout of ``estimates``, ``references`` or ``mixtures`` where it is not recognised, for example
            ``{"estimates": "{mixture_id}_est{source}"}`` (see ``recordings``).
        num_workers: processes; one per core by default.
        permutation: the criterion that assigns estimates to references: ``si_snr`` or ``sir``.
        also: further metrics, as in :func:`score`.

    Returns:
        A row per system, mixture and source.

    Raises:
        ScoreError: a folder holds no such recordings, or there are estimates without references.
        WorkError: the table cannot be written.
    """
    folders = dict(estimates) if isinstance(estimates, Mapping) else {system: estimates}
    tasks = folder_tasks(folders, references, mixtures, patterns=patterns)
    return score_tasks(tasks, out=out, num_workers=num_workers, permutation=permutation, also=also)


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
    journal = _resumed_journal(out)
    known = _known_rows(out, journal)
    jobs = chunked([(task, known.get(task.mixture_id, {})) for task in tasks], _CHUNK)
    work = partial(_score_chunk, settings=settings)
    rows: list[Row] = []
    num_new = 0
    for chunk in map_parallel(work, jobs, num_workers=num_workers, description="score", size=len):
        new = [scored.record for scored in chunk if scored.is_new]
        journal.append(map(journal.entry, new))
        num_new += sum(len(record["rows"]) for record in new)
        rows += [row for scored in chunk for row in scored.record["rows"]]
    if num_new < len(rows):
        logger.info("%s: %d of %d rows were known, %d are new", out, len(rows) - num_new, len(rows), num_new)
    write_table(_by_system(rows, tasks[0].estimates), out, SCORES)
    journal.remove()
    return read_table(out, SCORES)


def score_warnings(scores: pd.DataFrame) -> list[str]:
    """What to know before trusting the means of a score table: rows whose status is not ok, and doubtful assignments."""
    statuses = scores["status"].str.replace(r"\(.*?\)", "", regex=True)
    counts = statuses[statuses != "ok"].value_counts(sort=False)
    lines = [f"{count} of {len(scores)} rows: {status}" for status, count in counts.items()]
    doubtful = scores[~scores["permutations_agree"]].groupby(["system", "mixture_id"]).ngroups
    if doubtful:
        lines += [f"SI-SNR and SIR would assign the estimates of {doubtful} separated mixtures differently"]
    return lines


def _by_system(rows: Sequence[Row], systems: Collection[str]) -> pd.DataFrame:
    """Rows by system, each system's in the order of the mixtures."""
    return pd.DataFrame([row for system in systems for row in rows if row["system"] == system])


# ------------------------------------------------------------------------------------------------------------- known rows
KnownRows = Mapping[str, list[Row]]
"""Rows of one mixture by digest."""


def _resumed_journal(out: Path) -> Journal:
    """The journal beside a table: a record for every mixture and system. One of another version is started afresh."""
    journal = Journal(out.with_name(f"{out.name}.journal"), f"scores {VERSION}", ("mixture_id", "digest"))
    if journal.is_foreign():
        journal.remove()
    journal.resume()
    return journal


def _known_rows(out: Path, journal: Journal) -> dict[str, dict[str, list[Row]]]:
    """Rows by mixture and digest: those of the table, if there is one, and those of the journal."""
    known: dict[str, dict[str, list[Row]]] = {}
    table = read_table(out, SCORES) if out.is_file() else pd.DataFrame()
    for row in table.to_dict("records") if "digest" in table else ():
        rows = known.setdefault(row["mixture_id"], {}).setdefault(row["digest"], [])
        rows.append({str(name): value for name, value in row.items()})
    for record in journal.records():
        known.setdefault(record["mixture_id"], {})[record["digest"]] = record["rows"]
    return known


# ---------------------------------------------------------------------------------------------------------- in the workers
class Scored(NamedTuple):
    """What one system reached on one mixture."""

    record: Record
    """``mixture_id``, ``digest`` and ``rows``, as in the journal."""
    is_new: bool


def _score_chunk(jobs: Sequence[tuple[Task, KnownRows]], *, settings: Settings) -> list[Scored]:
    return [scored for task, known in jobs for scored in _score_task(task, known, settings)]


def _score_task(task: Task, known: KnownRows, settings: Settings) -> list[Scored]:
    """The rows of every system on one mixture, computed where they are not known."""
    digests = _digests(task, settings)
    # A table that somebody has edited may have lost a row.
    reused = {system: known[key] for system, key in digests.items() if len(known.get(key, ())) == len(task.references)}
    new = {system: made for system, made in task.estimates.items() if system not in reused}
    scored = _score_files(task, new, settings) if new else {}
    return [
        Scored(
            {
                "mixture_id": task.mixture_id,
                "digest": digest,
                "rows": reused.get(system) or _noted(scored[system], task, system, digest),
            },
            is_new=system in new,
        )
        for system, digest in digests.items()
    ]


def _score_files(task: Task, estimates: Mapping[str, Sequence[Path] | Mask], settings: Settings) -> dict[str, list[Row]]:
    references = [read_recording(path, task.sample_rate) for path in task.references]
    mixture = read_recording(task.mixture, task.sample_rate) if task.mixture else None
    recordings: dict[str, Sequence[Recording]] = {}
    for system, made in estimates.items():
        if isinstance(made, str):
            recordings[system] = _masked(made, references, mixture, task.sample_rate)
        else:
            recordings[system] = [read_recording(path, task.sample_rate) for path in made]
    return score_mixture(recordings, references, mixture, sample_rate=task.sample_rate, settings=settings)


def _masked(mask: Mask, references: Sequence[Recording], mixture: Recording | None, sample_rate: int) -> list[Recording]:
    """Oracle estimates over the samples that all recordings have; missing where any of these has none."""
    signals = [one.samples for one in (*references, mixture or Recording(NO_SAMPLES))]
    length = min(map(len, signals))
    if not length:
        return [Recording(NO_SAMPLES, "missing")] * len(references)
    *sources, mixed = (samples[:length] for samples in signals)
    return [Recording(one) for one in oracles.oracle(mixed, np.stack(sources), sample_rate=sample_rate, mask=mask)]


def _noted(rows: Sequence[Row], task: Task, system: str, digest: str) -> list[Row]:
    """Rows as they appear in the table."""
    notes = task.notes or ({},) * len(rows)
    common = {"system": system, "mixture_id": task.mixture_id, "sample_rate": task.sample_rate, "digest": digest}
    return [common | row | note for row, note in zip(rows, notes, strict=True)]


def _digests(task: Task, settings: Settings) -> dict[str, str]:
    """For every system a digest of all that decides its rows: the files, the settings, the version of the metrics."""
    fixed = [task.mixture_id, task.sample_rate, settings, VERSION, *task.notes]
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
