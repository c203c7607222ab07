"""What published lists have in common: finding and reading them, and the manifest of just the files they name."""

from __future__ import annotations

import csv
import logging
import unicodedata
from collections.abc import Sequence
from functools import partial
from itertools import islice
from math import nan
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from pipeline.audio.headers import read_header
from pipeline.compute.workers import chunked, map_parallel
from pipeline.corpora.digests import content_digests
from pipeline.corpora.manifests import describe_missing
from pipeline.errors import AudioError, PlanError
from pipeline.files import name_fault
from pipeline.tables import MANIFEST

_CHUNK = 2048  # headers take microseconds
_ENDINGS = (".flac", ".wav", ".wv1")
SPED_UP = {"sp08": 0.8, "sp12": 1.2}
"""How LibriMix marks clips of noise at another speed."""

logger = logging.getLogger("pipeline")


def find_list(folder: Path, name: str) -> Path:
    """The file of this name in a folder or anywhere below it.

    Raises:
        PlanError: there is none, or a folder in its place.
    """
    if (folder / name).is_dir():
        raise PlanError(f"{folder / name}: is a folder, and should be a list; move it away")
    if (folder / name).is_file():
        return folder / name
    found = sorted((path for path in Path(folder).rglob(name) if path.is_file()), key=lambda path: (len(path.parts), path))
    if not found:
        raise PlanError(f"{folder}: no {name} here or in any subfolder; point to the folder of the published lists")
    return found[0]


def read_lines(path: Path) -> list[str]:
    """The lines of a list, a byte order mark left out.

    Raises:
        PlanError: the file is empty, no UTF-8 text, or cannot be read.
    """
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise PlanError(f"{path}, line {row}: is not UTF-8 text; save the list as UTF-8") from None
    if "\0" in (lines[0] if lines else ""):
        raise PlanError(f"{path}, line 1: has NUL characters, as UTF-16 text has; save the list as UTF-8")
    if not any(line.strip() for line in lines):
        raise PlanError(f"{path}: is empty; fetch or copy the list again")
    return lines


def read_rows(path: Path, needed: Sequence[str], *, limit: int | None = None) -> list[tuple[str, dict[str, str]]]:
    """The rows of a list in CSV, as text, each with what to call it in messages: ``FILE, line 2``.

    Args:
        path: of the list.
        needed: columns that it must have.
        limit: rows to read; None for all.

    Raises:
        PlanError: as :func:`read_lines`; a column is missing, there are no rows, or one lacks cells or has too many.
    """
    lines = csv.reader(read_lines(path))
    rows = []
    try:
        columns = next(lines)
        if missing := [name for name in needed if name not in columns]:
            raise PlanError(f"{path}: the columns {', '.join(missing)} are missing; found {', '.join(columns)}")
        for cells in islice(filter(None, lines), limit):
            origin = f"{path}, line {lines.line_num}"
            if len(cells) != len(columns):
                raise PlanError(f"{origin}: has {len(cells)} cells, and the list has {len(columns)} columns")
            rows.append((origin, dict(zip(columns, cells, strict=True))))
    except csv.Error as error:
        raise PlanError(f"{path}, line {lines.line_num}: cannot be read as CSV ({error})") from error
    if not rows:
        raise PlanError(f"{path}: has column names and no rows; fetch or copy the list again")
    return rows


def read_number(text: str, what: str, origin: str, *, largest: float) -> float:
    """A gain or level of a list.

    Raises:
        PlanError: it is not a number, or its size is above ``largest``; ``what`` and ``origin`` name it.
    """
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not abs(value) <= largest:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise PlanError(f"{origin}: {what} is {shown!r}, not a number up to {largest:,g}")
    return value


def check_listed_path(path: str, origin: str) -> str:
    """The path of a file in a corpus, as it is listed.

    Raises:
        PlanError: it is empty, or leads out of the corpus; ``origin`` names its row.
    """
    parts = PurePosixPath(path)
    if not parts.name or parts.is_absolute() or ".." in parts.parts or not path.isprintable():
        raise PlanError(f"{origin}: {path!r} is no file within the corpus; write paths relative to the corpus folder")
    return path


class ListedNames:
    """The mixtures of a dataset's lists, none of which may overwrite another's files, or any file elsewhere."""

    def __init__(self) -> None:
        self._origins: dict[tuple[str, str], str] = {}

    def add(self, folder: str, name: str, origin: str) -> str:
        """Take the name of the next mixture, whose files will lie in ``folder``.

        Raises:
            PlanError: no file can be called so, or another mixture is; ``origin`` names the row.
        """
        if fault := name_fault(name):
            raise PlanError(f"{origin}: the mixture's name {name!r} {fault}, so no file can be called so; rename it")
        first = self._origins.setdefault((folder, unicodedata.normalize("NFC", name)), origin)
        if first != origin:
            raise PlanError(f"{origin}: mixture {name} is listed twice, first in {first}; remove or rename one")
        return name


def listed_manifest(utterances: pd.DataFrame, root: Path, *, num_workers: int | None = None) -> pd.DataFrame:
    """Make the manifest of the files that lists name, from their headers; the rest of the corpus may be missing.

    Args:
        utterances: ``utterance_id, speaker_id, sex, split, path``; a file may be of another format than the list says.
        root: the folder the paths start from.
        num_workers: processes.

    Returns:
        A table as ``tables.MANIFEST`` says, with the digest of every file.

    Raises:
        AudioError: the missing files by folder, and one line for every unreadable one.
    """
    chunks = map_parallel(
        partial(_read_headers, Path(root)),
        chunked(list(utterances["path"]), _CHUNK),
        num_workers=num_workers,
        description="read headers",
        size=len,
    )
    headers = [header for chunk in chunks for header in chunk]
    missing = [path for path, header in zip(utterances["path"], headers, strict=True) if header is None]
    findings = [describe_missing(root, missing, len(headers))] if missing else []
    findings += [header for header in headers if isinstance(header, str)]
    if findings:
        raise AudioError("\n".join(findings))
    facts = pd.DataFrame(headers, columns=["path", "sample_rate", "num_samples"], index=utterances.index)
    facts["sha256"] = facts["path"].map(content_digests(root, sorted(set(facts["path"])), num_workers=num_workers))
    facts["speed"] = [find_listed(Path(root), path)[1] for path in utterances["path"]]
    columns = [column.name for column in MANIFEST.columns if column.name != "speed" or (facts["speed"] != 1).any()]
    return utterances.drop(columns="path").join(facts)[columns]


def listed_manifests(listed: Sequence[tuple[pd.DataFrame, Path]], *, num_workers: int | None = None) -> pd.DataFrame:
    """One manifest of the files that lists name in several corpora: see :func:`listed_manifest`.

    Raises:
        AudioError: what is missing or unreadable, of all of them.
    """
    manifests, findings = [], []
    for utterances, root in listed:
        try:
            manifests.append(listed_manifest(utterances, root, num_workers=num_workers))
        except AudioError as error:
            findings.append(str(error))
    if findings:
        raise AudioError("\n".join(findings))
    whole = pd.concat(manifests, ignore_index=True)
    return whole.fillna({"speed": 1.0}) if "speed" in whole else whole


def listed_paths(utterances: pd.DataFrame, root: Path) -> list[str]:
    """The files that lists name as they are called in the corpus: what ``corpora.digest_files`` takes, missing ones included."""
    return [find_listed(root, path)[0] for path in utterances["path"]]


def _read_headers(root: Path, paths: Sequence[str]) -> list[str | tuple[str, int, int] | None]:
    """Path, sample rate and length of every file, or what is wrong with it; None where there is no file."""
    headers: list[str | tuple[str, int, int] | None] = []
    for path in paths:
        try:
            there, _ = find_listed(root, path)
            if not (root / there).exists():
                headers.append(None)
                continue
            header = read_header(root / there, check_end=True)
            headers.append((there, header.sample_rate, header.num_samples))
        except AudioError as error:
            headers.append(str(error))
    return headers


def find_listed(root: Path, path: str) -> tuple[str, float]:
    """A listed file as it is on disk, and the speed to play it at.

    Lists say ``.wav``, and the corpus may be kept as FLAC. LibriMix's lists for train-clean-360 also name clips such as
    ``CLIPsp08.wav``, which its script writes into the noise corpus: ``CLIP.wav`` at 0.8 times the speed. Where nobody has run
    that script, the clip itself is found, to be played at that speed.
    """
    if there := _with_any_ending(root, path):
        return there, 1.0
    stem, dot, ending = path.rpartition(".")
    for mark, speed in SPED_UP.items():
        clip = f"{stem.removesuffix(mark)}{dot}{ending}"
        if stem.endswith(mark) and (there := _with_any_ending(root, clip)):
            return there, speed
    return path, 1.0


def _with_any_ending(root: Path, path: str) -> str | None:
    """The path, perhaps with another ending, if there is such a file."""
    others = (Path(path).with_suffix(ending).as_posix() for ending in _ENDINGS)
    return next((other for other in (path, *others) if (root / other).exists()), None)


def without_utterances(plan: pd.DataFrame, skipped: set[str]) -> pd.DataFrame:
    """A plan without the mixtures that any of these utterances is in."""
    keys = pd.MultiIndex.from_frame(plan[["split", "mixture_id"]])
    lost = keys.isin(keys[plan["utterance_id"].isin(skipped)])
    if lost.any():
        logger.warning(
            "%d of %d mixtures are left out, as corpus.skip leaves out their speech", keys[lost].nunique(), keys.nunique()
        )
    return plan[~lost].reset_index(drop=True)


def unique_rows(utterances: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A row for every file, as it is first listed."""
    columns = ["utterance_id", "speaker_id", "sex", "split", "path"]
    return pd.DataFrame(list(utterances), columns=columns).drop_duplicates("path", ignore_index=True)


def with_ids(plan: pd.DataFrame, *tables: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
    """Replace the paths in ``utterance_id`` by names: that of the file; of its folders too where two files have one name; and the
    whole path where they differ in nothing but the ending.

    In trees such as TIMIT's, every speaker's folder holds an ``SA1.wav``: a name alone would make them one utterance.
    """
    paths = pd.concat([table["path"] for table in tables]).unique()
    stems = pd.Series([PurePosixPath(path).stem for path in paths], index=paths, dtype="str")
    whole = pd.Series([str(PurePosixPath(path).with_suffix("")).replace("/", "-") for path in paths], index=paths, dtype="str")
    names = stems.where(~stems.duplicated(keep=False), whole)
    names = names.where(~names.duplicated(keep=False), pd.Series(paths, index=paths, dtype="str"))
    return tuple(table.assign(utterance_id=table["utterance_id"].map(names)) for table in (plan, *tables))
