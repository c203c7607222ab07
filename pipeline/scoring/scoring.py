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
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.compute.journal import Record
from pipeline.compute.locks import locked, workers_lock
from pipeline.compute.workers import chunked, map_parallel
from pipeline.errors import ScoreError
from pipeline.scoring import oracles
from pipeline.scoring.known_rows import KnownRows, check_existing, known_rows, read_existing, resumed_journal, with_others
from pipeline.scoring.mixture import Criterion, Extra, Row, Settings, score_mixture
from pipeline.scoring.oracles import Mask
from pipeline.scoring.recordings import (
    MISSING,
    MULTICHANNEL,
    NO_SAMPLES,
    OTHER_RATE,
    UNREADABLE,
    Recording,
    names_problem,
    read_recording,
)
from pipeline.scoring.signals import as_signals
from pipeline.scoring.tasks import Task, dataset_tasks, folder_tasks, refuse_references_as_estimates
from pipeline.tables import SCORES, read_table, write_table

VERSION = 6
"""Raised whenever a number or a status may change; rows of another version are recomputed."""

_CHUNK = 16
"""Mixtures a worker scores at once: little to lose in a kill, much to gain over one by one."""

_EXAMPLES = 5
"""Files whose problems are explained."""

_MOST_SIGNALS = 64
"""Estimates or references of one mixture; more are samples in the wrong axis."""

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
        estimates: [estimate, time], at least one per reference; arrays, or tensors on any device.
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
    mixed = None if mixture is None else _mixture(mixture)
    rows = score_mixture({"": estimated}, expected, mixed, sample_rate=sample_rate, settings=settings)
    return pd.DataFrame(rows[""]).assign(sample_rate=sample_rate)


def _mixture(samples: Any) -> Recording:
    signal = as_signals(samples, "mixture")
    if signal.ndim != 1:
        raise ScoreError(f"mixture: expected one row of samples, [time], got an array of shape {signal.shape}")
    return Recording(signal)


def _recordings(samples: Any, name: str) -> list[Recording]:
    """A recording for each row of [recording, time]."""
    signals = as_signals(samples, name)
    if signals.ndim != 2 or not len(signals):
        raise ScoreError(f"{name}: expected one row of samples each, got an array of shape {signals.shape}")
    if len(signals) > _MOST_SIGNALS or len(signals) > signals.shape[1] > 0:
        raise ScoreError(
            f"{name}: an array of shape {signals.shape} has time in its first axis; give [source, time], for example {name}.T"
        )
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
    channel: int | None = None,
    resample: bool = False,
    align: bool = False,
) -> pd.DataFrame:
    """Score anybody's files: folders with ``s1/…`` and ``s2/…``, or with names like ``<mixture>_s1.wav``.

    Args:
        estimates: the folder of one system, or a folder for each of several.
        references: the folder of the clean sources.
        mixtures: the folder of the mixtures; without it there are no improvements.
        system: the name of the system, if there is only one.
        out: where the table goes, with reuse and resuming as in :func:`score_dataset`; without it nothing is written.
        patterns: the layout of ``estimates``, ``references`` or ``mixtures`` where it is not recognised, for example
            ``{"estimates": "{mixture_id}_est{source}"}`` (see ``layouts``).
        num_workers: processes; one per core by default.
        permutation: the criterion that assigns estimates to references: ``si_snr`` or ``sir``.
        also: further metrics, as in :func:`score`.
        channel: which channel of recordings with several is scored (0 is the first); without it they are not scored.
        resample: convert recordings at another rate than the reference's; otherwise they are not scored.
        align: remove a constant delay and offset of the estimates.

    Returns:
        A row per system, mixture and source.

    Raises:
        ScoreError: a folder holds no such recordings, no estimate has references, or an estimate is its own reference.
        WorkError: the table cannot be written, or another process is writing it.
    """
    folders = dict(estimates) if isinstance(estimates, Mapping) else {system: estimates}
    tasks = folder_tasks(folders, references, mixtures, patterns=patterns)
    how: dict[str, Any] = {"permutation": permutation, "also": also, "channel": channel, "resample": resample, "align": align}
    return score_tasks(tasks, out=out, num_workers=num_workers, **how)


def score_tasks(
    tasks: Sequence[Task],
    *,
    out: str | Path | None = None,
    num_workers: int | None = None,
    permutation: Criterion = "si_snr",
    also: Collection[Extra] = (),
    channel: int | None = None,
    resample: bool = False,
    align: bool = False,
) -> pd.DataFrame:
    """Score mixtures in parallel into the table ``out``, beside the rows it holds of other systems.

    See :func:`score_dataset` and :func:`score_folders`.

    Raises:
        ScoreError: an estimate is its own reference, or the table's other systems were scored against other references.
        WorkError: the table cannot be written, or another process is writing it.
    """
    if not tasks:
        raise ScoreError("there are no mixtures to score")
    refuse_references_as_estimates(tasks)
    settings = Settings.of(permutation, also, tasks[0].sample_rate, channel=channel, resample=resample, align=align)
    if out is not None:
        with _locked(Path(out)):
            return _score_into(Path(out), tasks, num_workers, settings)
    with TemporaryDirectory() as folder:
        return _score_into(Path(folder) / "scores.csv", tasks, num_workers, settings)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the table for this process; the runs of recipes have locked its folder already."""
    with locked(out) if workers_lock() is None else nullcontext():
        yield


def _score_into(out: Path, tasks: Sequence[Task], num_workers: int | None, settings: Settings) -> pd.DataFrame:
    existing = read_existing(out)
    check_existing(existing, tasks[0].estimates, out)
    import scipy.signal  # noqa: F401  now, so that each of the forked workers need not

    journal = resumed_journal(out, VERSION)
    known = known_rows(existing, journal)
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
    write_table(with_others(rows, tasks[0].estimates, existing), out, SCORES)
    journal.remove()
    return read_table(out, SCORES)


def score_warnings(scores: pd.DataFrame) -> list[str]:
    """What to know before trusting the means of a score table: rows whose status is not ok, and doubtful assignments."""
    statuses = scores["status"].str.replace(r"\(.*?\)", "", regex=True)
    counts = statuses[statuses != "ok"].value_counts(sort=False)
    lines = [f"{count} of {len(scores)} rows: {status}" for status, count in counts.items()]
    copies = scores["status"].str.contains("identical").sum()
    if copies:
        lines += [f"{copies} of {len(scores)} estimates equal their references bit by bit: are they copies of the references?"]
    doubtful = scores[~scores["permutations_agree"]].groupby(["system", "mixture_id"]).ngroups
    if doubtful:
        lines += [f"SI-SNR and SIR would assign the estimates of {doubtful} separated mixtures differently"]
    return lines


def explain_problems(scores: pd.DataFrame, tasks: Sequence[Task], settings: Settings) -> list[str]:
    """Why recordings were not scored, a line for each of the first few files that are there and cannot be used."""
    is_odd = scores["status"].map(lambda status: names_problem(status, UNREADABLE, MULTICHANNEL, OTHER_RATE))
    odd = scores[is_odd.astype(bool)]
    mixtures = set(odd["mixture_id"])
    made = (
        (path, task.sample_rate)
        for task in tasks
        if task.mixture_id in mixtures
        for paths in (task.references, (task.mixture,), *task.estimates.values())
        if not isinstance(paths, str)
        for path in paths
        if path and path.is_file()
    )
    found = ((path, _read(path, sample_rate, settings).reason) for path, sample_rate in dict.fromkeys(made))
    return list(islice((f"{path}: {reason}" for path, reason in found if reason), _EXAMPLES))


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
    references_digest, digests = _digests(task, settings)
    # A table that somebody has edited may have lost a row.
    reused = {system: known[key] for system, key in digests.items() if len(known.get(key, ())) == len(task.references)}
    new = {system: made for system, made in task.estimates.items() if system not in reused}
    scored = _score_files(task, new, settings) if new else {}
    return [
        Scored(
            {
                "mixture_id": task.mixture_id,
                "digest": digest,
                "rows": reused.get(system)
                or _noted(scored[system], task, {"system": system, "digest": digest, "references_digest": references_digest}),
            },
            is_new=system in new,
        )
        for system, digest in digests.items()
    ]


def _score_files(task: Task, estimates: Mapping[str, Sequence[Path] | Mask], settings: Settings) -> dict[str, list[Row]]:
    references = [_read(path, task.sample_rate, settings) for path in task.references]
    mixture = _read(task.mixture, task.sample_rate, settings) if task.mixture else None
    recordings: dict[str, Sequence[Recording]] = {}
    for system, made in estimates.items():
        if isinstance(made, str):
            recordings[system] = _masked(made, references, mixture, task.sample_rate)
        else:
            recordings[system] = [_read(path, task.sample_rate, settings) for path in made]
    return score_mixture(recordings, references, mixture, sample_rate=task.sample_rate, settings=settings)


def _read(path: Path, sample_rate: int, settings: Settings) -> Recording:
    return read_recording(path, sample_rate, channel=settings.channel, convert_rate=settings.resample)


def _masked(mask: Mask, references: Sequence[Recording], mixture: Recording | None, sample_rate: int) -> list[Recording]:
    """Oracle estimates over the samples that all recordings have; missing where any of these has none."""
    signals = [one.samples for one in (*references, mixture or Recording(NO_SAMPLES))]
    length = min(map(len, signals))
    if not length:
        return [Recording(NO_SAMPLES, MISSING)] * len(references)
    *sources, mixed = (samples[:length] for samples in signals)
    return [Recording(one) for one in oracles.oracle(mixed, np.stack(sources), sample_rate=sample_rate, mask=mask)]


def _noted(rows: Sequence[Row], task: Task, origin: Row) -> list[Row]:
    """Rows as they appear in the table."""
    notes = task.notes or ({},) * len(rows)
    common = {"mixture_id": task.mixture_id, "sample_rate": task.sample_rate} | origin
    return [common | row | note for row, note in zip(rows, notes, strict=True)]


def _digests(task: Task, settings: Settings) -> tuple[str, dict[str, str]]:
    """A digest of references and mixture, and for every system one of all that decides its rows: files, settings, version."""
    compared = [_file_digest(path) for path in (*task.references, task.mixture)]
    fixed = [task.mixture_id, task.sample_rate, settings, VERSION, *task.notes, *compared]
    return _digest(repr(compared).encode()), {
        system: _digest(repr([system, fixed, _digest_of_estimates(made)]).encode()) for system, made in task.estimates.items()
    }


def _digest_of_estimates(made: Sequence[Path] | Mask) -> list[str]:
    return [made, str(oracles.VERSION)] if isinstance(made, str) else [_file_digest(path) for path in made]


def _file_digest(path: Path | None) -> str:
    """Digest of a file's bytes; empty where there is no such file, or it cannot be read, which its row will say."""
    try:
        return _digest(path.read_bytes()) if path and path.is_file() else ""
    except OSError:
        return ""


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=12).hexdigest()
