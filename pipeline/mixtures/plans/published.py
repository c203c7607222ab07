"""What published lists have in common: finding them, and the manifest of just the files they name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.audio.files import read_header
from pipeline.compute.workers import chunked, map_parallel
from pipeline.errors import AudioError, PlanError
from pipeline.tables import MANIFEST

_CHUNK = 2048  # headers take microseconds
_ENDINGS = (".flac", ".wav", ".wv1")


def find_list(folder: Path, name: str) -> Path:
    """The file of this name in a folder or anywhere below it.

    Raises:
        PlanError: there is none.
    """
    found = sorted(Path(folder).rglob(name), key=lambda path: (len(path.parts), path))
    if not found:
        raise PlanError(f"{folder}: no {name} here or in any subfolder; point to the folder of the published lists")
    return found[0]


def listed_manifest(utterances: pd.DataFrame, root: Path, *, num_workers: int | None = None) -> pd.DataFrame:
    """Make the manifest of the files that lists name, from their headers; the rest of the corpus may be missing.

    Args:
        utterances: ``utterance_id, speaker_id, sex, split, path``; a file may be of another format than the list says.
        root: the folder the paths start from.
        num_workers: processes.

    Returns:
        A table as ``tables.MANIFEST`` says.

    Raises:
        AudioError: one line for every file that is missing or unreadable.
    """
    chunks = map_parallel(
        partial(_read_headers, Path(root)),
        chunked(list(utterances["path"]), _CHUNK),
        num_workers=num_workers,
        description="read headers",
        size=len,
    )
    headers = [header for chunk in chunks for header in chunk]
    findings = [header for header in headers if isinstance(header, str)]
    if findings:
        raise AudioError("\n".join(findings))
    facts = pd.DataFrame(headers, columns=["path", "sample_rate", "num_samples"], index=utterances.index)
    return utterances.drop(columns="path").join(facts)[[column.name for column in MANIFEST.columns]]


def _read_headers(root: Path, paths: Sequence[str]) -> list[str | tuple[str, int, int]]:
    """Path, sample rate and length of every file, or what is wrong with it."""
    headers: list[str | tuple[str, int, int]] = []
    for path in paths:
        try:
            there = _with_any_ending(root, path)
            header = read_header(root / there)
            headers.append((there, header.sample_rate, header.num_samples))
        except AudioError as error:
            headers.append(str(error))
    return headers


def _with_any_ending(root: Path, path: str) -> str:
    """The path as it is on disk: lists say ``.wav``, and the corpus may be kept as FLAC."""
    if (root / path).exists():
        return path
    others = (str(Path(path).with_suffix(ending).as_posix()) for ending in _ENDINGS)
    return next((other for other in others if (root / other).exists()), path)


def unique_rows(utterances: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per utterance, as it is first listed."""
    return pd.DataFrame(list(utterances)).drop_duplicates("utterance_id", ignore_index=True)
