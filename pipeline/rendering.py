"""Plans become audio: every file written whole, resumable at the mixture, the same bytes for any number of workers.

dataset/2speakers/wav8k/min/{tr,cv,tt}/{mix,s1,s2}/MIXTURE.wav    the published tree of WSJ0-2mix
dataset/mixtures.csv                                             written last: with it the dataset is whole
dataset/files.csv                                                length, peak and checksum of every file
dataset/.journal.jsonl                                           what is already there, while it is being made
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.audio import (
    Encoding,
    choose_channel,
    quantise,
    read_audio,
    read_header,
    resample,
    write_audio,
)
from pipeline.errors import AudioError, DatasetError, PlanError
from pipeline.levels import LevelRule, level_db
from pipeline.mixing import Mixed, Utterance, mix_at_levels
from pipeline.parallel import chunked, map_parallel
from pipeline.recipe import Mix
from pipeline.tables import MIXTURES, Column, Schema, write_table, written_whole

FOLDERS = {"train": "tr", "valid": "cv", "test": "tt"}
"""The published trees' names of the splits."""
VERSION = 1
"""Raised when the same plan would give other samples."""

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

_CHUNK = 16
_HEADER_CHUNK = 64
_CACHE_BYTES = 128 * 2**20


@dataclass(frozen=True)
class PlannedSource:
    """One source of a planned mixture, with what the manifest says of its utterance."""

    name: str
    utterance_id: str
    speaker_id: str
    sex: str
    path: str
    level: float


@dataclass(frozen=True)
class PlannedMixture:
    """One mixture of a plan."""

    mixture_id: str
    split: str
    rule: LevelRule
    sources: tuple[PlannedSource, ...]


@dataclass(frozen=True)
class AudioFile:
    """Samples and the place they go to."""

    path: str
    samples: npt.NDArray[Any]
    sample_rate: int


# ---------------------------------------------------------------------------------------------------------------- inputs
def check_inputs(
    plan: pd.DataFrame,
    manifest: pd.DataFrame,
    corpus_root: Path,
    mix: Mix,
    *,
    channel: int | None = None,
    num_workers: int | None = None,
) -> None:
    """Look at the header of every file a plan needs, before anything is written.

    Raises:
        PlanError: the plan names utterances that the manifest lacks.
        AudioError: one line for every file that is missing, unreadable, empty, of several channels with none chosen, below the
            mixtures' sample rate, or of another length than the manifest says.
    """
    needed = manifest[manifest["utterance_id"].isin(_needed_ids(plan, manifest))].sort_values("path")
    rows = list(zip(needed["path"], needed["num_samples"], strict=True))
    look = partial(_header_findings, Path(corpus_root), mix.sample_rate, channel)
    chunks = map_parallel(look, chunked(rows, _HEADER_CHUNK), num_workers=num_workers, description="check inputs")
    findings = [finding for chunk in chunks for finding in chunk]
    if findings:
        raise AudioError("\n".join(findings))


def _needed_ids(plan: pd.DataFrame, manifest: pd.DataFrame) -> set[str]:
    needed = set(plan["utterance_id"])
    unknown = sorted(needed - set(manifest["utterance_id"]))
    if unknown:
        raise PlanError(
            f"the plan names {len(unknown)} utterance(s) that the manifest lacks: {', '.join(unknown[:5])}; draw it anew"
        )
    return needed


def _header_findings(root: Path, sample_rate: int, channel: int | None, rows: Sequence[tuple[str, int]]) -> list[str]:
    findings = []
    for path, num_samples in rows:
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
            f"{path}: is sampled at {header.sample_rate} Hz, below the mixtures' {sample_rate} Hz; lower mix.sample_rate"
        )
    if header.num_samples != num_samples:
        raise AudioError(f"{path}: has {header.num_samples} samples where the manifest says {num_samples}; scan the corpus anew")


# ------------------------------------------------------------------------------------------------------------- utterances
@dataclass(frozen=True)
class Reading:
    """How utterances are read: where, which channel, and at which rate."""

    root: Path
    sample_rate: int
    channel: int | None
    session: str
    """Utterances are remembered within one session only: the files may change before the next."""


class UtteranceReader:
    """Reads, resamples and measures utterances; remembers all levels, and as many signals as fit a fixed share of memory."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._levels: dict[tuple[str, LevelRule], float] = {}
        self._signals: OrderedDict[str, npt.NDArray[np.float32]] = OrderedDict()
        self._bytes = 0

    def utterance(self, path: str, rule: LevelRule) -> Utterance:
        """One utterance, resampled to float32, and its level over the whole of it.

        Raises:
            AudioError: the file cannot be decoded, or is silent.
        """
        samples = self._signal(path)
        if (path, rule) not in self._levels:
            self._levels[path, rule] = self._level_db(path, samples, rule)
        return Utterance(samples, self._levels[path, rule], float(np.abs(samples).max()))

    def _level_db(self, path: str, samples: npt.NDArray[np.float32], rule: LevelRule) -> float:
        level = level_db(samples, self._reading.sample_rate, rule)
        if not np.isfinite(level):
            raise AudioError(
                f"{self._reading.root / path}: is silent, so no gain brings it to a level; remove it from the corpus"
            )
        return level

    def _signal(self, path: str) -> npt.NDArray[np.float32]:
        if path in self._signals:
            self._signals.move_to_end(path)
            return self._signals[path]
        samples = read_resampled(self._reading.root / path, self._reading.sample_rate, self._reading.channel)
        self._signals[path] = samples
        self._bytes += samples.nbytes
        while self._bytes > _CACHE_BYTES and len(self._signals) > 1:
            self._bytes -= self._signals.popitem(last=False)[1].nbytes
        return samples


@lru_cache(maxsize=1)
def _reader(reading: Reading) -> UtteranceReader:
    """This process's reader of the session."""
    return UtteranceReader(reading)


def read_resampled(path: Path, sample_rate: int, channel: int | None) -> npt.NDArray[np.float32]:
    """An utterance as every drawn mixture uses it: resampled in double precision, then float32 [time]."""
    samples, own_rate = read_audio(path, channel=channel)
    return resample(samples, own_rate, sample_rate).astype(np.float32)


# -------------------------------------------------------------------------------------------------------------- mixtures
def planned_mixtures(plan: pd.DataFrame, manifest: pd.DataFrame) -> list[PlannedMixture]:
    """The plan's rows gathered by mixture, in the plan's order."""
    _needed_ids(plan, manifest)
    joined = plan.merge(manifest[["utterance_id", "speaker_id", "sex", "path"]], on="utterance_id", how="left")
    rows = joined.itertuples(index=False)
    return [_planned(list(group)) for _, group in groupby(rows, key=lambda row: (row.split, row.mixture_id))]


def _planned(rows: Sequence[Any]) -> PlannedMixture:
    sources = tuple(PlannedSource(r.source, r.utterance_id, r.speaker_id, r.sex, r.path, r.level) for r in rows)
    return PlannedMixture(rows[0].mixture_id, rows[0].split, rows[0].level_rule, sources)


def mixture_path(mixture: PlannedMixture, part: str, mix: Mix) -> str:
    """Where ``mix``, ``s1``, … of a mixture goes, relative to the dataset: the tree of WSJ0-2mix."""
    top = f"{len(mixture.sources)}speakers/wav{mix.sample_rate / 1000:g}k/{mix.mode}"
    suffix = "flac" if mix.encoding == "flac" else "wav"
    return f"{top}/{FOLDERS[mixture.split]}/{part}/{mixture.mixture_id}.{suffix}"


def render_mixture(mixture: PlannedMixture, reader: UtteranceReader, mix: Mix) -> Mixed:
    """The samples of one planned mixture."""
    utterances = [reader.utterance(source.path, mixture.rule) for source in mixture.sources]
    return mix_at_levels(utterances, [source.level for source in mixture.sources], rule=mixture.rule, mode=mix.mode)


def _files_of(mixture: PlannedMixture, mixed: Mixed, mix: Mix) -> list[AudioFile]:
    parts = {"mix": mixed.mixture} | {s.name: samples for s, samples in zip(mixture.sources, mixed.sources, strict=True)}
    return [AudioFile(mixture_path(mixture, part, mix), samples, mix.sample_rate) for part, samples in parts.items()]


def _mixture_row(mixture: PlannedMixture, mixed: Mixed, mix: Mix) -> dict[str, Any]:
    """The mixture's row of ``mixtures.csv``."""
    row: dict[str, Any] = {
        "mixture_id": mixture.mixture_id,
        "split": mixture.split,
        "sample_rate": mix.sample_rate,
        "mode": mix.mode,
        "num_samples": len(mixed.mixture),
        "num_sources": len(mixture.sources),
        "scale": mixed.scale,
        "mixture_path": mixture_path(mixture, "mix", mix),
    }
    for number, (source, gain) in enumerate(zip(mixture.sources, mixed.gains, strict=True), start=1):
        row[f"source_{number}_path"] = mixture_path(mixture, source.name, mix)
        row[f"source_{number}_utterance_id"] = source.utterance_id
        row[f"source_{number}_speaker_id"] = source.speaker_id
        row[f"source_{number}_sex"] = source.sex
        row[f"source_{number}_gain"] = gain
    return row


# ------------------------------------------------------------------------------------------------------------- rendering
def render(
    plan: pd.DataFrame,
    manifest: pd.DataFrame,
    corpus_root: Path,
    dataset_dir: Path,
    mix: Mix,
    *,
    channel: int | None = None,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """Write every mixture of a plan, or what an interrupted call has left to write.

    Args:
        plan: see ``tables.PLAN``.
        manifest: see ``tables.MANIFEST``, with every utterance of the plan.
        corpus_root: the folder the manifest's paths start from; it is only read.
        dataset_dir: gets the tree, ``files.csv`` and, last, ``mixtures.csv``.
        mix: rate, mode and sample format.
        channel: of files with several.
        num_workers: processes; one per core by default. The bytes do not depend on it.

    Returns:
        The table of mixtures, as ``mixtures.csv`` holds it.

    Raises:
        AudioError: an utterance turns out damaged or silent; what is written so far stays and is resumed from.
        DatasetError: the folder holds the beginnings of another dataset.
        WorkError: the folder cannot be written, or the disk is full.
    """
    mixtures = planned_mixtures(plan, manifest)
    dataset_dir = Path(dataset_dir)
    (dataset_dir / "mixtures.csv").unlink(missing_ok=True)
    journal = Journal(dataset_dir / ".journal.jsonl", _identity(mixtures, mix, channel))
    done = journal.resume(partial(_files_are_there, dataset_dir))
    _remove_temporaries(mixtures, mix, dataset_dir)
    todo = sorted((m for m in mixtures if _key(m) not in done), key=lambda m: [s.path for s in m.sources])
    reading = Reading(Path(corpus_root), mix.sample_rate, channel, session=uuid.uuid4().hex)
    write = partial(_write_chunk, reading, dataset_dir, mix)
    for records in map_parallel(write, chunked(todo, _CHUNK), num_workers=num_workers, description="mix"):
        journal.append(records)
        done |= {(r["mixture"]["split"], r["mixture"]["mixture_id"]): r for r in records}
    return _finish([done[_key(m)] for m in mixtures], dataset_dir, journal)


def _key(mixture: PlannedMixture) -> tuple[str, str]:
    return mixture.split, mixture.mixture_id


def _identity(mixtures: Sequence[PlannedMixture], mix: Mix, channel: int | None) -> str:
    """A digest of all that decides the bytes, the utterances' own content apart."""
    digest = hashlib.sha256(f"{VERSION} {mix.model_dump_json()} {channel}\n".encode())
    for mixture in mixtures:
        digest.update(repr(mixture).encode())
    return digest.hexdigest()


def _write_chunk(reading: Reading, dataset_dir: Path, mix: Mix, mixtures: Sequence[PlannedMixture]) -> list[dict[str, Any]]:
    """Render and write some mixtures; returns their journal records."""
    reader = _reader(reading)
    records = []
    for mixture in mixtures:
        mixed = render_mixture(mixture, reader, mix)
        files = [write_file(file, dataset_dir, mix.encoding) for file in _files_of(mixture, mixed, mix)]
        records.append({"mixture": _mixture_row(mixture, mixed, mix), "files": files})
    return records


def write_file(file: AudioFile, dataset_dir: Path, encoding: Encoding) -> dict[str, Any]:
    """Write one file; returns what ``files.csv`` says of it, and its size."""
    stored = file.samples.astype("<f4") if encoding == "float32" else quantise(file.samples).astype("<i2", copy=False)
    path = dataset_dir / file.path
    write_audio(path, stored, file.sample_rate, encoding)
    peak = float(np.abs(stored.astype(np.float64)).max(initial=0))
    return {
        "path": file.path,
        "sample_rate": file.sample_rate,
        "num_samples": len(stored),
        "peak": peak if encoding == "float32" else peak / 2**15,
        "sha256": hashlib.sha256(stored.data).hexdigest(),
        "num_bytes": path.stat().st_size,
    }


def _files_are_there(dataset_dir: Path, record: dict[str, Any]) -> bool:
    """Whether the files of a journal record exist with the sizes they were written with."""
    try:
        return all((dataset_dir / file["path"]).stat().st_size == file["num_bytes"] for file in record["files"])
    except OSError:
        return False


def _remove_temporaries(mixtures: Iterable[PlannedMixture], mix: Mix, dataset_dir: Path) -> None:
    """Remove what a killed run was just writing."""
    folders = {
        (dataset_dir / mixture_path(mixture, part, mix)).parent
        for mixture in mixtures
        for part in ("mix", *(source.name for source in mixture.sources))
    }
    for folder in folders:
        for left_over in folder.glob(".*.tmp"):
            left_over.unlink()


def _finish(records: Sequence[dict[str, Any]], dataset_dir: Path, journal: Journal) -> pd.DataFrame:
    """Flush the files to the disk, then write the tables that say so, ``mixtures.csv`` last."""
    if hasattr(os, "sync"):
        os.sync()
    owners = [
        (record["mixture"]["mixture_id"], record["mixture"]["split"], file) for record in records for file in record["files"]
    ]
    files = pd.DataFrame([{**file, "mixture_id": name, "split": split} for name, split, file in owners])
    write_table(files.drop(columns="num_bytes"), dataset_dir / "files.csv", FILES)
    mixtures = pd.DataFrame([record["mixture"] for record in records])
    write_table(mixtures, dataset_dir / "mixtures.csv", MIXTURES)
    journal.remove()
    return mixtures


class Journal:
    """What a generation has written so far: a line of JSON per mixture, after a line that says of which dataset.

    Args:
        path: of the journal.
        identity: digest of the plan and settings it belongs to.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path = path
        self._identity = identity

    def resume(self, holds: Callable[[dict[str, Any]], bool]) -> dict[tuple[str, str], dict[str, Any]]:
        """The records of an interrupted run for which ``holds(record)``; the journal is left with just these.

        Raises:
            DatasetError: the journal is of another dataset.
        """
        records = [record for record in self._records() if holds(record)]
        with written_whole(self._path) as temporary:
            temporary.write_text("".join(map(_json_line, [{"identity": self._identity}, *records])))
        return {(r["mixture"]["split"], r["mixture"]["mixture_id"]): r for r in records}

    def append(self, records: Iterable[dict[str, Any]]) -> None:
        """Add the records of mixtures whose files are all written."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(map(_json_line, records)))

    def remove(self) -> None:
        """Forget: the dataset is whole."""
        self._path.unlink(missing_ok=True)

    def _records(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        # A kill may leave half a line at the end.
        lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]
        if not lines:
            return []
        if json.loads(lines[0]).get("identity") != self._identity:
            raise DatasetError(
                f"{self._path.parent}: holds the beginnings of another dataset; remove the folder or choose another"
            )
        return [json.loads(line) for line in lines[1:]]


def _json_line(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n"
