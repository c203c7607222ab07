"""Files that are written completely or not at all, and the temporary files that a killed process leaves."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import WorkError


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


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
