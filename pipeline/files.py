"""Files that are written completely or not at all, what a killed process leaves, names fit for files, and JSON from outside."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import WorkError

MAX_NAME_BYTES = 200
"""Of a name that comes from outside; file systems allow 255, endings and temporary names included."""
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}
_SEPARATORS = "/\\"
_RESERVED = ':*?"<>|'


def name_fault(name: str) -> str | None:
    """Why a name that comes from outside must not become part of a path; None where it may.

    The names of mixtures, utterances and speakers in lists, tables and corpora pass here before anything is written under them; a
    name that passes is one component of a path, and a legal one on Linux, macOS and Windows.

    Returns:
        What the name does wrong, to follow the name in a message: ``has a slash``.
    """
    faults = (
        (not name, "is empty"),
        (any(sign in name for sign in _SEPARATORS), "has a slash, as if it were a path"),
        (name.startswith("."), "begins with a dot"),
        (name != name.strip() or name.endswith("."), "begins with a space, or ends with a space or a dot"),
        (not name.isprintable(), "has a character that cannot be printed"),
        (any(sign in name for sign in _RESERVED), f"has one of the characters {_RESERVED}"),
        (name.partition(".")[0].rstrip().upper() in _DEVICES, "is the name of a device on Windows"),
        (len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES, f"is longer than {MAX_NAME_BYTES} bytes"),
    )
    return next((fault for is_faulty, fault in faults if is_faulty), None)


def same_file_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of different names that some file systems take for one: the same letters in other Unicode forms."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(unicodedata.normalize("NFC", name), name), name) for name in names]
    return [(known, name) for known, name in pairs if known != name]


def parse_json(text: str | bytes) -> Any:
    """A value written as JSON.

    Raises:
        ValueError: it is not JSON, is not text, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files that a killed process has left below a folder, those of :func:`written_whole`."""
    for path in folder.rglob(".*.tmp"):
        if is_temporary(path):
            path.unlink()


def is_temporary(path: Path) -> bool:
    """Whether a file has the name of a temporary of :func:`written_whole`: ``.NAME.PROCESS.tmp``."""
    return re.fullmatch(r"\..+\.\d+\.tmp", path.name) is not None


def expand_user(path: str | Path) -> Path:
    """A path with a leading ``~`` or ``~user`` replaced by that user's home folder; unchanged if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def cache_folder() -> Path | None:
    """Where this user's caches lie, without making it; None for a user who has no home, as in some containers."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tasnet-pipeline"
    except RuntimeError:
        return None


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; the file there replaces it, flushed to disk, when the block succeeds.

    Args:
        path: the final name; its folder is created.

    Raises:
        WorkError: when the folder cannot be written or the disk is full; nothing is left behind.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise WorkError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_quickly(path: Path, content: bytes) -> None:
    """Write a file completely or not at all, without waiting for the disk: for the many files that a journal records.

    A killed process leaves no half-written file; a power cut may.

    Raises:
        WorkError: when the folder cannot be written or the disk is full; nothing is left behind.
    """
    temporary = _temporary(path)
    try:
        try:
            temporary.write_bytes(content)
        except FileNotFoundError:  # only the first file of a folder has to create it
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise WorkError(f"{path}: cannot be written ({error.strerror or error})") from error


_MACHINE = int.from_bytes(os.urandom(4), "big")
"""Tells apart processes of one number on several machines, or in several containers, that write to one disk."""


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{_MACHINE:010d}.tmp")
