"""Scores of estimates against references: one row per system, mixture and source, whatever the audio is like.

    score(estimates, references, mixture=mixture, sample_rate=8000)              # arrays in, DataFrame out
    score_dataset(mixtures, dataset_dir, {"causal": folder}, out=path)            # a rendered dataset, in parallel, resumable

One permutation is chosen per mixture and serves all metrics. The mixture stands in as every source's baseline; improvements are
differences to it. What cannot be scored gets NaN (or -inf, where the estimate is silence) and a reason in ``status``:

    ok
    missing_*, unreadable_*, empty_*, nan_*, silent_*, other_rate_*     of the reference, estimate or mixture
    length_mismatch(n)     the estimate is n samples longer (or, negative, shorter); what both have is scored
    clipped                the estimate stays at full scale for three samples or more
    perfect                the estimate is the reference at another level
    shorter_than_filter    fewer than 512 samples: the SDR's filter explains almost anything
    ill_conditioned        the reference's delays are nearly dependent; SDR by mir_eval's own arithmetic

Several reasons are joined by semicolons. Scores of the last five kinds are numbers like any other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.audio import read_audio
from pipeline.errors import AudioError, ScoreError, WorkError
from pipeline.metrics import METRICS_VERSION, References, is_finite, is_usable, pairwise_si_snr
from pipeline.parallel import map_parallel
from pipeline.permutations import best_permutation
from pipeline.projections import FILTER_LENGTH, Signals
from pipeline.tables import SCORES, read_table, write_table

Criterion = Literal["si_snr", "sir"]
Row = dict[str, Any]

_FULL_SCALE = 1 - 2.0**-15
_NOTHING = np.zeros(0)


# ---------------------------------------------------------------------------------------------------------------- arrays
@dataclass(frozen=True)
class Heard:
    """A recording as it was found: its samples, or why there are none."""

    samples: Signals
    """[time]; empty where there is a problem."""
    problem: str = ""
    """``missing``, ``unreadable``, ``empty`` or ``other_rate``."""


def score(
    estimates: npt.ArrayLike,
    references: npt.ArrayLike,
    *,
    mixture: npt.ArrayLike | None,
    sample_rate: int,
    permutation: Criterion = "si_snr",
) -> pd.DataFrame:
    """Score the estimates of one mixture.

    Args:
        estimates: [estimate, time], at least one per reference.
        references: [source, time].
        mixture: [time], the baseline of the improvements; without it they are NaN.
        sample_rate: Hz; it is noted, the metrics do not depend on it.
        permutation: what assigns estimates to references: ``si_snr`` (the highest mean SI-SNR) or ``sir`` (as mir_eval).

    Returns:
        A row per source: ``source, estimate, si_snr_db, si_snri_db, sdr_db, sdri_db, status`` and more (:data:`tables.SCORES`);
        ``estimate`` counts from 1.

    Raises:
        ScoreError: shapes that do not belong together.
    """
    estimated, referred = _signals(estimates, "estimates"), _signals(references, "references")
    if len(estimated) < len(referred):
        raise ScoreError(f"{len(estimated)} estimates for {len(referred)} references; every reference needs one")
    heard_mixture = None if mixture is None else Heard(_signals(np.asarray(mixture)[None], "mixture")[0])
    heard = {"": [Heard(one) for one in estimated]}
    rows = score_heard(heard, [Heard(one) for one in referred], heard_mixture, permutation)[""]
    return pd.DataFrame(rows).assign(sample_rate=sample_rate)


def _signals(samples: npt.ArrayLike, name: str) -> Signals:
    signals = np.asarray(samples, dtype=np.float64)
    if signals.ndim != 2 or not len(signals):
        raise ScoreError(f"{name}: expected one row of samples each, got an array of shape {signals.shape}")
    return signals


def score_heard(
    estimates: Mapping[str, Sequence[Heard]], references: Sequence[Heard], mixture: Heard | None, permutation: Criterion
) -> dict[str, list[Row]]:
    """Score the estimates that several systems made of one mixture; what belongs to the references is computed once.

    Returns:
        For every system a row per reference, as :func:`score` has them.
    """
    mixture = mixture or Heard(_NOTHING, "absent")

    def common_length(system: str) -> int:
        return _common_length([*estimates[system], *references, mixture])

    rows: dict[str, list[Row]] = {}
    for length, group in groupby(sorted(estimates, key=common_length), key=common_length):
        systems = list(group)
        recordings = [one for system in systems for one in estimates[system]]
        comparison = Comparison([*recordings, mixture], references, length)
        first = 0
        for system in systems:
            stop = first + len(estimates[system])
            rows[system] = comparison.rows(range(first, stop), permutation)
            first = stop
    return rows


class Comparison:
    """Recordings, the mixture last, against references, over the samples that all of them have.

    Args:
        recordings: estimates of one or more systems, then the mixture.
        references: one per source.
        length: samples to compare.
    """

    def __init__(self, recordings: Sequence[Heard], references: Sequence[Heard], length: int) -> None:
        self.recordings, self.references, self.length = recordings, references, length
        signals, referred = _cut(recordings, length), _cut(references, length)
        self.si_snr_db = pairwise_si_snr(signals, referred)
        self.projections = References(referred).project(signals)
        self.conditions = [_condition(*pair) for pair in zip(recordings, signals, strict=True)]
        self.reference_conditions = [_condition(*pair) for pair in zip(references, referred, strict=True)]

    def rows(self, estimates: range, criterion: Criterion) -> list[Row]:
        """A row per reference for the estimates of one system."""
        part = slice(estimates.start, estimates.stop)
        permutations = {"si_snr": best_permutation(self.si_snr_db[part]), "sir": self.projections.sir_permutation(part)}
        agree = bool(np.array_equal(permutations["si_snr"], permutations["sir"]))
        chosen = permutations[criterion].tolist()
        return [
            {"source": f"s{reference + 1}", "estimate": estimate + 1}
            | self._scores(estimates[estimate], reference)
            | {"permutation": criterion, "permutations_agree": agree, "num_samples": self.length}
            for reference, estimate in enumerate(chosen)
        ]

    def _scores(self, estimate: int, reference: int) -> Row:
        """Scores of a pair, the mixture's, the differences, and what is to be said about them."""
        mixture = len(self.recordings) - 1
        si_snr_db, input_si_snr_db = (float(self.si_snr_db[signal, reference]) for signal in (estimate, mixture))
        sdr_db, input_sdr_db = (self._sdr_db(signal, reference) for signal in (estimate, mixture))
        return {
            "si_snr_db": si_snr_db,
            "si_snri_db": si_snr_db - input_si_snr_db,
            "sdr_db": sdr_db,
            "sdri_db": sdr_db - input_sdr_db,
            "status": ";".join(self._findings(estimate, reference)) or "ok",
            "input_si_snr_db": input_si_snr_db,
            "input_sdr_db": input_sdr_db,
        }

    def _sdr_db(self, signal: int, reference: int) -> float:
        """SDR; infinite where the SI-SNR is, whatever rounding the filters leave."""
        perfect = self.si_snr_db[signal, reference] == np.inf
        return np.inf if perfect else self.projections.sdr_db(signal, reference)

    def _findings(self, estimate: int, reference: int) -> Iterator[str]:
        """What is to be said about a pair, the worst first."""
        yield from _named(self.reference_conditions[reference], "reference")
        yield from _named(self.conditions[estimate], "estimate")
        yield from _named(self.conditions[-1], "mixture")
        excess = len(self.recordings[estimate].samples) - len(self.references[reference].samples)
        if excess and len(self.recordings[estimate].samples) and len(self.references[reference].samples):
            yield f"length_mismatch({excess:+d})"
        if is_clipped(self.recordings[estimate].samples):
            yield "clipped"
        if self.si_snr_db[estimate, reference] == np.inf:
            yield "perfect"
        if 0 < self.length < FILTER_LENGTH:
            yield "shorter_than_filter"
        if self.projections.ill_conditioned(estimate, reference):
            yield "ill_conditioned"


def _named(condition: str, signal: str) -> list[str]:
    return [f"{condition}_{signal}"] if condition not in ("", "absent") else []


def _condition(recording: Heard, samples: Signals) -> str:
    """Why a recording cannot be scored: its problem, ``nan`` or ``silent``; nothing where it can."""
    if recording.problem:
        return recording.problem
    if not len(recording.samples):
        return "empty"
    if not is_finite(samples):
        return "nan"
    return "" if is_usable(samples) else "silent"


def is_clipped(samples: Signals) -> bool:
    """Whether a recording stays at full scale for three samples in a row or more."""
    if not len(samples) or np.abs(samples).max() < _FULL_SCALE:
        return False
    at_full_scale = np.abs(samples) >= _FULL_SCALE
    still = at_full_scale[1:] & (samples[1:] == samples[:-1])
    return bool((still[1:] & still[:-1]).any())


def _common_length(recordings: Sequence[Heard]) -> int:
    """Samples that all recordings have, those left aside that have none at all."""
    return min((len(one.samples) for one in recordings if len(one.samples)), default=0)


def _cut(recordings: Sequence[Heard], length: int) -> Signals:
    """[recording, time]; NaN where there are no samples."""
    return np.stack([one.samples[:length] if len(one.samples) else np.full(length, np.nan) for one in recordings])


# ----------------------------------------------------------------------------------------------------------------- files
@dataclass(frozen=True)
class Task:
    """One mixture to score: where its recordings lie, and what to note beside the scores of each source."""

    mixture_id: str
    sample_rate: int
    """Hz; recordings at another rate are not scored."""
    references: tuple[Path, ...]
    mixture: Path | None
    estimates: Mapping[str, tuple[Path, ...]]
    """By system."""
    notes: tuple[Row, ...] = ()
    """Per source: ``speaker_id`` and ``sex``."""


def score_dataset(
    mixtures: pd.DataFrame,
    dataset_dir: str | Path,
    estimates: Mapping[str, str | Path],
    *,
    out: str | Path,
    num_workers: int | None = None,
    permutation: Criterion = "si_snr",
) -> pd.DataFrame:
    """Score the estimates that one or more systems made of a rendered dataset.

    Rows already in ``out``, or in the journal beside it that an interrupted run left, are kept where neither the audio nor the
    metric has changed. The table is the same for any number of workers, and for a run that was interrupted.

    Args:
        mixtures: rows of ``mixtures.csv`` (:data:`tables.MIXTURES`) of one split.
        dataset_dir: what their paths are relative to.
        estimates: for every system the folder with ``{s1,s2,…}/<mixture_id>.wav``.
        out: the table, ``scores.csv``.
        num_workers: processes; one per core by default.
        permutation: what assigns estimates to references: ``si_snr`` or ``sir``.

    Returns:
        The rows of ``out``: by system, then mixture, then source.

    Raises:
        ScoreError: mixtures named twice, or a system without any estimate.
        WorkError: the table cannot be written.
    """
    repeated = mixtures["mixture_id"][mixtures["mixture_id"].duplicated()]
    if len(repeated):
        raise ScoreError(f"mixture {repeated.iloc[0]} stands in the mixtures table twice; choose one split of it")
    folders = {system: Path(folder) for system, folder in estimates.items()}
    tasks = [_dataset_task(row, Path(dataset_dir), folders) for row in mixtures.to_dict("records")]
    return score_tasks(tasks, out=Path(out), num_workers=num_workers, permutation=permutation)


def _dataset_task(row: Mapping[Any, Any], dataset_dir: Path, folders: Mapping[str, Path]) -> Task:
    numbers = range(1, int(row["num_sources"]) + 1)
    return Task(
        mixture_id=row["mixture_id"],
        sample_rate=int(row["sample_rate"]),
        references=tuple(dataset_dir / row[f"source_{number}_path"] for number in numbers),
        mixture=dataset_dir / row["mixture_path"],
        estimates={
            system: tuple(folder / f"s{number}" / f"{row['mixture_id']}.wav" for number in numbers)
            for system, folder in folders.items()
        },
        notes=tuple({key: row[f"source_{number}_{key}"] for key in ("speaker_id", "sex")} for number in numbers),
    )


def score_tasks(tasks: Sequence[Task], *, out: Path, num_workers: int | None, permutation: Criterion) -> pd.DataFrame:
    """Score mixtures in parallel into the table ``out``; see :func:`score_dataset`."""
    _check_estimates_exist(tasks)
    journal = Journal(out)
    known = journal.read()
    work = partial(_score_task, permutation=permutation)
    jobs = [(task, known.get(task.mixture_id, {})) for task in tasks]
    rows: list[Row] = []
    for scored, is_new in map_parallel(work, jobs, num_workers=num_workers, description="score"):
        rows += scored
        if is_new:
            journal.append(scored)
    table = _table(rows, list(tasks[0].estimates))
    write_table(table, out, SCORES)
    journal.remove()
    return read_table(out, SCORES)


def _check_estimates_exist(tasks: Sequence[Task]) -> None:
    if not tasks:
        raise ScoreError("there are no mixtures to score")
    for system in tasks[0].estimates:
        if not any(path.is_file() for task in tasks for path in task.estimates[system]):
            folder = tasks[0].estimates[system][0].parent.parent
            raise ScoreError(
                f"{folder}: no estimate of system {system!r} lies here, expected for example {tasks[0].estimates[system][0]}"
            )


def _table(rows: Sequence[Row], systems: Sequence[str]) -> pd.DataFrame:
    """Rows by system, each system's in the order of the mixtures."""
    return pd.DataFrame([row for system in systems for row in rows if row["system"] == system])


KnownRows = Mapping[str, list[Row]]
"""Rows of one mixture by digest."""


def _score_task(job: tuple[Task, KnownRows], *, permutation: Criterion) -> tuple[list[Row], bool]:
    """The rows of one mixture, and whether any had to be computed."""
    task, known = job
    digests = _digests(task, permutation)
    new = {system: task.estimates[system] for system, digest in digests.items() if digest not in known}
    scored = _score_files(task, new, permutation) if new else {}
    rows = [
        row for system, digest in digests.items() for row in known.get(digest) or _noted(scored[system], task, system, digest)
    ]
    return rows, bool(new)


def _score_files(task: Task, estimates: Mapping[str, Sequence[Path]], permutation: Criterion) -> dict[str, list[Row]]:
    heard = {system: [_hear(path, task.sample_rate) for path in paths] for system, paths in estimates.items()}
    references = [_hear(path, task.sample_rate) for path in task.references]
    mixture = _hear(task.mixture, task.sample_rate) if task.mixture else None
    return score_heard(heard, references, mixture, permutation)


def _hear(path: Path, sample_rate: int) -> Heard:
    """Read a recording; what is wrong with it becomes part of the scores."""
    if not path.is_file():
        return Heard(_NOTHING, "missing")
    try:
        samples, actual_rate = read_audio(path, finite_only=False)
    except AudioError:
        return Heard(_NOTHING, "unreadable")
    return Heard(samples) if actual_rate == sample_rate else Heard(_NOTHING, "other_rate")


def _noted(rows: Sequence[Row], task: Task, system: str, digest: str) -> list[Row]:
    """Rows as they stand in the table."""
    notes = task.notes or ({},) * len(rows)
    common = {"system": system, "mixture_id": task.mixture_id, "sample_rate": task.sample_rate, "digest": digest}
    return [common | row | note for row, note in zip(rows, notes, strict=True)]


def _digests(task: Task, permutation: Criterion) -> dict[str, str]:
    """For every system a digest of all that decides its scores: the files, the criterion, the version of the metrics."""
    fixed = [_file_digest(path) for path in (*task.references, task.mixture)]
    settings = [task.mixture_id, task.sample_rate, permutation, METRICS_VERSION, *task.notes]
    return {
        system: blake2b(
            repr([system, settings, fixed, [_file_digest(path) for path in paths]]).encode(), digest_size=12
        ).hexdigest()
        for system, paths in task.estimates.items()
    }


def _file_digest(path: Path | None) -> str:
    """Digest of a file's bytes; empty where there is no such file."""
    if path is None or not path.is_file():
        return ""
    return blake2b(path.read_bytes(), digest_size=16).hexdigest()


class Journal:
    """Rows computed so far, a mixture a line, in a file beside the table that they will fill.

    A line that a crash cut short is dropped when the file is read.

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

    def append(self, rows: Sequence[Row]) -> None:
        """Add the rows of one mixture; they survive the end of this process."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows) + "\n")
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
        if not self.path.is_file():
            return []
        whole, newline, _torn = self.path.read_text(encoding="utf-8").rpartition("\n")
        os.truncate(self.path, len((whole + newline).encode()))
        return [row for line in whole.splitlines() for row in json.loads(line)]
