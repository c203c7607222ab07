"""Renders plans to audio: files are written whole, work resumes at the mixture, and any number of workers gives the same bytes.

dataset/2speakers/… or dataset/Libri2Mix/…    the published trees: see ``renderers``
dataset/mixtures.csv                          written last: with it the dataset is complete
dataset/files.csv                             length, peak and checksum of every file
dataset/journal.jsonl                         what has been written so far, mixture by mixture
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from pipeline.audio.files import choose_channel, write_audio
from pipeline.audio.headers import read_header
from pipeline.compute.journal import Entry, Journal, Record, read_records
from pipeline.compute.workers import chunked, map_parallel
from pipeline.corpora.manifests import describe_missing
from pipeline.errors import AudioError, DatasetError, PlanError
from pipeline.files import remove_temporaries
from pipeline.mixtures.plans.build import ADAPTERS
from pipeline.mixtures.plans.planned import NOISE, PlannedMixture, needed_rows, planned_mixtures
from pipeline.mixtures.renderers.base import MIXTURES_FILE, AudioFile, Inputs, Renderer
from pipeline.recipe.schema import Mix
from pipeline.tables import MIXTURES, Column, Schema, read_table, table_writer

VERSION = 2
"""Raise it when the same plan would give other samples or tables."""

FILES = Schema(
    "list of files",
    (
        Column("path", "text", "relative to the dataset"),
        Column("mixture_id", "text", "as in the plan"),
        Column("split", "text", "train, valid or test"),
        Column("sample_rate", "integer", "Hz"),
        Column("num_samples", "integer", "length"),
        Column("peak", "number", "largest absolute sample as stored"),
        Column("sha256", "text", "of the samples, little-endian, without the header"),
    ),
)

JOURNAL_FILE = "journal.jsonl"
FILES_FILE = "files.csv"
_CHUNK = 8
_HEADER_CHUNK = 2048  # headers take microseconds


# ---------------------------------------------------------------------------------------------------------------- inputs
def check_inputs(plan: pd.DataFrame, manifest: pd.DataFrame, inputs: Inputs, *, num_workers: int | None = None) -> None:
    """Read the header of every file a plan needs, before anything is written.

    Args:
        plan: see ``tables.PLAN``.
        manifest: see ``tables.MANIFEST``.
        inputs: where the files are.
        num_workers: processes.

    Raises:
        PlanError: the plan names utterances that the manifest does not have, or noise without a noise corpus.
        AudioError: the files that are missing, by folder; one line for every file that is unreadable, empty, of several channels
            with none chosen, below the mixtures' sample rate, or of another length than the manifest says.
    """
    _require_noise_root(inputs)
    rows = _files_to_check(needed_rows(plan, manifest, with_noise=inputs.mix.with_noise), manifest, inputs)
    check = partial(_header_findings, max(variant.sample_rate for variant in inputs.mix.variants))
    there = [row for row in rows if (row[0] / row[1]).exists()]
    chunks = map_parallel(check, chunked(there, _HEADER_CHUNK), num_workers=num_workers, description="check inputs", size=len)
    findings = [*_missing_findings(rows, set(there)), *(finding for chunk in chunks for finding in chunk)]
    if findings:
        raise AudioError("\n".join(findings))


FileToCheck = tuple[Path, str, int, int | None]
"""Its corpus, its path there, its length by the manifest, and the channel to use."""


def _require_noise_root(inputs: Inputs) -> None:
    if inputs.mix.with_noise and inputs.noise_root is None:
        raise PlanError(
            f"mix.types = {inputs.mix.types} "
            "needs a noise corpus: name one with --corpus wham_noise=DIR, or ask for mix_clean alone"
        )


def _files_to_check(plan: pd.DataFrame, manifest: pd.DataFrame, inputs: Inputs) -> list[FileToCheck]:
    """Every file that a plan names, sorted by path."""
    is_noise = dict(plan.groupby("utterance_id")["source"].first() == NOISE)
    needed = manifest[manifest["utterance_id"].isin(is_noise)].sort_values("path")
    speech, noise = (inputs.corpus_root, inputs.channel), (inputs.noise_root or Path(), 0)
    files = []
    for name, path, num_samples in needed[["utterance_id", "path", "num_samples"]].itertuples(index=False):
        root, channel = noise if is_noise[name] else speech
        files.append((root, path, num_samples, channel))
    return files


def _missing_findings(rows: Sequence[FileToCheck], there: set[FileToCheck]) -> Iterator[str]:
    for root in dict.fromkeys(row[0] for row in rows):
        here = [row for row in rows if row[0] == root]
        if missing := [path for _, path, *_ in (row for row in here if row not in there)]:
            yield describe_missing(root, missing, len(here))


def _header_findings(sample_rate: int, rows: Sequence[FileToCheck]) -> list[str]:
    findings = []
    for root, path, num_samples, channel in rows:
        try:
            _check_header(root / path, sample_rate, channel, num_samples)
        except AudioError as error:
            findings.append(str(error))
    return findings


def _check_header(path: Path, sample_rate: int, channel: int | None, num_samples: int) -> None:
    header = read_header(path)
    choose_channel(path, header, channel)
    if header.sample_rate < sample_rate:
        raise AudioError(
            f"{path}: its sample rate of {header.sample_rate} Hz is below the mixtures' {sample_rate} Hz; lower mix.sample_rate"
        )
    if header.num_samples != num_samples:
        raise AudioError(
            f"{path}: has {header.num_samples} samples, and the manifest says {num_samples}; "
            "restore the file, or run the recipe again"
        )


# ------------------------------------------------------------------------------------------------------------- rendering
def render(
    plan: pd.DataFrame, manifest: pd.DataFrame, inputs: Inputs, dataset_dir: Path, *, num_workers: int | None = None
) -> pd.DataFrame:
    """Write every mixture of a plan, or those that an interrupted call did not get to; a complete dataset stays as it is.

    Args:
        plan: see ``tables.PLAN``.
        manifest: see ``tables.MANIFEST``, with every utterance of the plan.
        inputs: where the corpora are, which are only read, and what to make of them.
        dataset_dir: gets the tree, the journal and the tables.
        num_workers: processes; one per core by default. The bytes do not depend on it.

    Returns:
        The table of mixtures, as ``mixtures.csv`` holds it.

    Raises:
        AudioError: an utterance is damaged or silent; what is written so far stays, and the next call resumes from it.
        DatasetError: the folder holds an unfinished dataset of another plan.
        PlanError: plan, manifest and inputs do not belong together.
        WorkError: the folder cannot be written, or the disk is full.
    """
    mixtures = planned_mixtures(plan, manifest, with_noise=inputs.mix.with_noise)
    _require_noise_root(inputs)
    _check_rules(mixtures, inputs.kind)
    _check_modes(mixtures, inputs.mix)
    dataset_dir = Path(dataset_dir)
    journal = Journal(dataset_dir / JOURNAL_FILE, _identity(mixtures, inputs), ("split", "mixture_id"))
    if journal.is_foreign():
        raise DatasetError(f"{dataset_dir}: holds another dataset; remove the folder or choose another")
    (dataset_dir / MIXTURES_FILE).unlink(missing_ok=True)
    journal.resume(partial(_files_are_there, dataset_dir))
    remove_temporaries(dataset_dir)
    # Mixtures of one utterance stand together, so that a worker finds it in its cache.
    todo = sorted((m for m in mixtures if (m.split, m.mixture_id) not in journal), key=lambda m: [s.path for s in m.sources])
    for written in _write_all(todo, inputs, dataset_dir, journal, num_workers):
        journal.append(written)
    journal.reorder((m.split, m.mixture_id) for m in mixtures)
    write_tables(dataset_dir / JOURNAL_FILE, dataset_dir)
    return read_table(dataset_dir / MIXTURES_FILE, MIXTURES)


def _check_rules(mixtures: Sequence[PlannedMixture], kind: str) -> None:
    """Raise PlanError where the plan is of another kind: its levels would be taken for something else."""
    rules = ADAPTERS[kind].level_rules
    strange = sorted({mixture.rule for mixture in mixtures} - set(rules))
    if strange:
        raise PlanError(
            f"the plan's level_rule is {strange[0]!r}, and plan.kind = {kind!r} has only {', '.join(rules)}; draw the plan again"
        )


def _check_modes(mixtures: Sequence[PlannedMixture], mix: Mix) -> None:
    """Raise PlanError where a source might begin after its mixture has been cut."""
    late = [mixture.mixture_id for mixture in mixtures if any(source.start_seconds > 0 for source in mixture.sources)]
    if late and any(variant.mode == "min" for variant in mix.variants):
        raise PlanError(
            f"{len(late)} mixtures have speech that begins late (first {late[0]}), which mode 'min' may cut off; use 'max'"
        )


def _identity(mixtures: Sequence[PlannedMixture], inputs: Inputs) -> str:
    """A digest of all that decides the bytes, the utterances' own content apart."""
    digest = hashlib.sha256(f"{VERSION} {inputs.kind} {inputs.mix.model_dump_json()} {inputs.channel}\n".encode())
    for mixture in mixtures:
        digest.update(repr(mixture).encode())
        if mixture.finished is not None:
            digest.update(repr(mixture.finished).encode())
    return digest.hexdigest()


def _write_all(
    mixtures: Sequence[PlannedMixture], inputs: Inputs, dataset_dir: Path, journal: Journal, num_workers: int | None
) -> Iterable[list[Entry]]:
    """Render and write mixtures in parallel; yields their journal entries, in order."""
    import scipy.signal  # noqa: F401  now, so that each of the forked workers need not

    session = uuid.uuid4().hex
    write = partial(_write_chunk, session, inputs, dataset_dir, journal.entry)
    try:
        chunks = chunked(mixtures, _CHUNK, seconds=attrgetter("seconds"))
        yield from map_parallel(write, chunks, num_workers=num_workers, description="mix", size=len)
    finally:
        _renderers.pop(session, None)


def _write_chunk(
    session: str, inputs: Inputs, dataset_dir: Path, entry: Callable[[Record], Entry], mixtures: Sequence[PlannedMixture]
) -> list[Entry]:
    if session not in _renderers:
        _renderers.clear()
        _renderers[session] = ADAPTERS[inputs.kind].renderer(inputs)
    return [entry(_write_mixture(_renderers[session], mixture, inputs, dataset_dir)) for mixture in mixtures]


_renderers: dict[str, Renderer] = {}
"""This process's renderer, by session: its cache of utterances must not outlive one call of render()."""


def _write_mixture(renderer: Renderer, mixture: PlannedMixture, inputs: Inputs, dataset_dir: Path) -> Record:
    rendered = renderer.render(mixture)
    files = [write_file(file, dataset_dir, inputs.mix) for file in rendered.files]
    return {"mixture_id": mixture.mixture_id, "split": mixture.split, "rows": rendered.rows, "files": files}


def write_file(file: AudioFile, dataset_dir: Path, mix: Mix) -> Record:
    """Write one file, unless it is there already; returns its row of ``files.csv``, and its size."""
    path = dataset_dir / file.path
    num_bytes = path.stat().st_size if file.is_there else write_audio(path, file.samples, file.sample_rate, mix.encoding)
    return {
        "path": file.path,
        "sample_rate": file.sample_rate,
        "num_samples": len(file.samples),
        "peak": stored_peak(file.samples),
        "sha256": samples_digest(file.samples),
        "num_bytes": num_bytes,
        **({"is_there": True} if file.is_there else {}),
    }


def stored_peak(samples: np.ndarray[Any, Any]) -> float:
    """The largest absolute sample, full scale at 1."""
    largest = max(float(samples.max(initial=0)), -float(samples.min(initial=0)))
    return largest / 2**15 if samples.dtype == np.int16 else largest


def samples_digest(samples: np.ndarray[Any, Any]) -> str:
    """SHA-256 of samples [time], little-endian."""
    return hashlib.sha256(np.ascontiguousarray(samples, dtype=samples.dtype.newbyteorder("<")).data).hexdigest()


def _files_are_there(dataset_dir: Path, record: Record) -> bool:
    """Whether the files of a journal record exist with the sizes they were written with."""
    try:
        return all((dataset_dir / file["path"]).stat().st_size == file["num_bytes"] for file in record["files"])
    except OSError:
        return False


def write_tables(journal: Path, dataset_dir: Path) -> None:
    """Write all tables of a dataset from its journal, record after record, ``mixtures.csv`` last.

    Raises:
        DatasetError: the journal names a table outside of the dataset.
        WorkError: the folder cannot be written, or the disk is full.
    """
    columns = _columns_of_tables(read_records(journal))
    require_inside(journal, columns)
    with ExitStack() as stack:
        # What is opened first is finished last.
        tables = {
            path: stack.enter_context(table_writer(dataset_dir / path, columns[path], _schema_of(path)))
            for path in sorted(columns, key=lambda path: path != MIXTURES_FILE)
        }
        write_file_row = stack.enter_context(table_writer(dataset_dir / FILES_FILE, FILES.required(), FILES))
        for record in read_records(journal):
            for file in record["files"]:
                write_file_row({name: file.get(name, record.get(name)) for name in FILES.required()})
            for path, row in record["rows"].items():
                tables[path](row)


def require_inside(journal: Path, paths: Iterable[str]) -> None:
    """Raise DatasetError where a journal names a file outside of its dataset, which no rendering has written."""
    for path in paths:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise DatasetError(
                f"{journal}: names {path}, which is outside of the dataset, so somebody has changed the journal; "
                "remove the folder and render it again"
            )


def _columns_of_tables(records: Iterable[Record]) -> dict[str, list[str]]:
    """The columns of every table, in the order in which rows have them."""
    columns: dict[str, dict[str, None]] = {}
    for record in records:
        for path, row in record["rows"].items():
            columns.setdefault(path, {}).update(dict.fromkeys(row))
    return {path: list(names) for path, names in columns.items()}


def _schema_of(path: str) -> Schema | None:
    """Our own tables have one, those that LibriMix publishes have none."""
    return MIXTURES if Path(path).name.startswith("mixtures") else None
