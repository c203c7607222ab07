"""Checks a rendered dataset against its journal, and regenerates just the mixtures that are missing or wrong.

Nothing is ever removed: damaged files are replaced by regenerated ones, and files that the journal does not name are only named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.audio.files import read_stored
from pipeline.audio.headers import read_header
from pipeline.compute.journal import Record, drop_records, read_records
from pipeline.compute.workers import chunked, map_parallel
from pipeline.errors import AudioError, DatasetError
from pipeline.files import is_temporary
from pipeline.mixtures.renderers.base import MIXTURES_FILE
from pipeline.mixtures.renderers.finished import RESIDUAL
from pipeline.mixtures.rendering import JOURNAL_FILE, require_inside, samples_digest, stored_peak, write_tables

FLOAT_TOLERANCE = 1e-5
"""How far a sum of float32 files may be off by rounding."""
AUDIO_ENDINGS = (".wav", ".flac")
_CHUNK = 16


@dataclass(frozen=True)
class Finding:
    """Something wrong with a dataset."""

    path: str
    """Relative to the dataset."""
    problem: str
    split: str = ""
    mixture_id: str = ""
    """The mixture to regenerate; empty where no mixture is at fault."""
    is_foreign: bool = False
    """Whether the dataset did not make the file, so that it is left alone."""

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def verify(dataset_dir: Path, *, num_workers: int | None = None) -> list[Finding]:
    """Read every file of a dataset and compare it with the journal.

    Checked are: that the file is there and can be decoded; its sample rate, length and peak; the checksum of its samples; that
    every mixture is the sum of its sources within what rounding allows; that the tables are those the journal makes; that no
    audio is there which the journal does not name.

    Raises:
        DatasetError: the folder has no journal, or one that names files outside of the folder.
    """
    dataset_dir = Path(dataset_dir)
    records = list(read_records(dataset_dir / JOURNAL_FILE))
    for record in records:
        made = [file["path"] for file in record["files"] if not file.get("is_there")]
        require_inside(dataset_dir / JOURNAL_FILE, [*made, *record["rows"]])
    check = partial(_record_findings, dataset_dir)
    chunks = map_parallel(check, chunked(records, _CHUNK), num_workers=num_workers, description="verify", size=len)
    findings = [finding for chunk in chunks for finding in chunk]
    if not (dataset_dir / MIXTURES_FILE).exists():
        findings.append(Finding(MIXTURES_FILE, "is missing: the generation did not end; run it again"))
    else:
        findings += _table_findings(dataset_dir)
    return findings + _unrecorded(dataset_dir, records)


def repair(dataset_dir: Path, findings: Sequence[Finding], generate: Callable[[], Any]) -> list[Finding]:
    """Regenerate the mixtures with findings, and the tables; files that the dataset did not make are left as they are.

    Args:
        dataset_dir: of the dataset.
        findings: of :func:`verify`.
        generate: renders the dataset's own plan into the same folder; it makes only what the journal does not have.

    Returns:
        What is left: files that the dataset did not make.

    Raises:
        DatasetError: some damage is left.
    """
    dataset_dir = Path(dataset_dir)
    broken = {(finding.split, finding.mixture_id) for finding in findings if finding.mixture_id and not finding.is_foreign}
    if not all(finding.is_foreign for finding in findings):
        drop_records(dataset_dir / JOURNAL_FILE, lambda record: (record["split"], record["mixture_id"]) in broken)
        generate()
    left = verify(dataset_dir)
    damage = [finding for finding in left if not finding.is_foreign]
    if damage:
        raise DatasetError(f"{dataset_dir}: {len(damage)} findings are left after the repair, the first: {damage[0]}")
    return left


def _table_findings(dataset_dir: Path) -> list[Finding]:
    """Tables that are missing, or are not those that the journal makes."""
    with TemporaryDirectory() as scratch:
        write_tables(dataset_dir / JOURNAL_FILE, Path(scratch))
        derived = {path.relative_to(scratch): path.read_bytes() for path in sorted(Path(scratch).rglob("*.csv"))}
    there = {path: dataset_dir / path for path in derived}
    return [
        Finding(path.as_posix(), "is not as it was written" if there[path].exists() else "no such file")
        for path, content in derived.items()
        if not there[path].exists() or there[path].read_bytes() != content
    ]


def _record_findings(dataset_dir: Path, records: Sequence[Record]) -> list[Finding]:
    return [finding for record in records for finding in _mixture_findings(dataset_dir, record)]


def _mixture_findings(dataset_dir: Path, record: Record) -> list[Finding]:
    """What is wrong with one mixture's files; sums are checked only where each file by itself is right."""
    signals: dict[str, npt.NDArray[Any]] = {}
    findings = []
    for file in record["files"]:
        try:
            signals[file["path"]], _ = read_stored(dataset_dir / file["path"])
            problem = _difference(dataset_dir / file["path"], file, signals[file["path"]])
        except AudioError as error:
            problem = str(error).removeprefix(f"{dataset_dir / file['path']}: ")
        if problem:
            is_foreign = file.get("is_there", False)
            findings.append(Finding(file["path"], problem, record["split"], record["mixture_id"], is_foreign=is_foreign))
    return findings or _sum_findings(record, signals)


def _difference(path: Path, file: Record, samples: npt.NDArray[Any]) -> str:
    """How a file differs from its record; empty where it does not."""
    rate = read_header(path).sample_rate
    if rate != file["sample_rate"]:
        return f"is sampled at {rate} Hz instead of {file['sample_rate']} Hz"
    if len(samples) != file["num_samples"]:
        return f"has {len(samples)} samples instead of {file['num_samples']}"
    if stored_peak(samples) != file["peak"]:
        return f"has a peak of {stored_peak(samples):.5f} instead of {file['peak']:.5f}"
    return "" if samples_digest(samples) == file["sha256"] else "has other samples than were written (SHA-256 differs)"


def _sum_findings(record: Record, signals: dict[str, npt.NDArray[Any]]) -> list[Finding]:
    """Mixtures that are not the sum of their parts; finished ones need not be, and their residual is in the table."""
    findings = []
    for table, row in record["rows"].items():
        if Path(table).name.startswith("mixtures") and RESIDUAL not in row:
            parts = [signals[path] for path in _parts_of(row)]
            excess = sum_excess(signals[row["mixture_path"]], parts)
            if excess > 0:
                problem = f"differs from the sum of its sources by {excess:.3g} more than rounding does"
                findings.append(Finding(row["mixture_path"], problem, record["split"], record["mixture_id"]))
    return findings


def _parts_of(row: Record) -> list[str]:
    """The files whose sum a mixture is."""
    sources = [row[f"source_{number}_path"] for number in range(1, row["num_sources"] + 1)]
    noisy = "noise_path" in row and "mix_clean" not in Path(row["mixture_path"]).parts
    return [*sources, row["noise_path"]] if noisy else sources


def sum_excess(mixture: npt.NDArray[Any], parts: Sequence[npt.NDArray[Any]]) -> float:
    """How far a stored mixture [time] is from the sum of its stored parts, beyond what rounding explains.

    Every 16-bit file is off by at most half a step where values are rounded, and by less than one where they are rounded down, so
    the sum of n parts is less than n steps off. Samples clipped at full scale are left out.
    """
    if mixture.dtype != np.int16:
        differences = np.abs(mixture.astype(np.float64) - np.sum(parts, axis=0, dtype=np.float64))
        return float(max(differences.max(initial=0) - FLOAT_TOLERANCE, 0))
    whole = np.stack([mixture, *parts]).astype(np.int64)
    inside = (np.abs(whole + 0.5) < 2**15 - 1).all(axis=0)
    differences = np.abs(whole[0] - whole[1:].sum(axis=0))[inside]
    return float(max(differences.max(initial=0) - len(parts), 0))


def _unrecorded(dataset_dir: Path, records: Sequence[Record]) -> list[Finding]:
    """Audio that the journal does not name, and what a killed run has left."""
    known = {file["path"] for record in records for file in record["files"]}
    findings = []
    for path in sorted(dataset_dir.rglob("*")):
        name = path.relative_to(dataset_dir).as_posix()
        if is_temporary(path):
            findings.append(Finding(name, "is left over from a killed run"))
        elif path.suffix.lower() in AUDIO_ENDINGS and name not in known:
            findings.append(Finding(name, "was not made by this dataset; it is left alone", is_foreign=True))
    return findings
