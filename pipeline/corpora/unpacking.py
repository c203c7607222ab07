"""Unpacks archives from sources that need not be trusted.

Only files and folders are unpacked, below the target, with the permissions of new files. An archive with links, devices, absolute
paths, ``..`` or more bytes than allowed is refused as a whole, before anything reaches the target.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from pipeline.corpora.manifests import some_of
from pipeline.errors import CorpusError, first_line

MAX_MEMBERS = 2_000_000
COPY_BYTES = 2**20

_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, RuntimeError, ValueError, OverflowError),
)


@dataclass(frozen=True)
class Member:
    """A file inside an archive: its path, its size as declared, and its content."""

    path: str
    num_bytes: int
    content: IO[bytes]


def unpack(archive: Path, target: Path, *, staging: Path, max_bytes: int, keep: Mapping[str, str] | None = None) -> list[str]:
    """Unpack a ``.tar``, ``.tar.gz`` or ``.zip`` into a folder, all of it or nothing.

    Args:
        archive: the file.
        target: where its content goes; files of the same name there are replaced.
        staging: a folder on the same disk to unpack into first; emptied before and removed after.
        max_bytes: bound on the sum of the files' sizes.
        keep: keep only these files, without their folders: SHA-256 by name, which is checked.

    Returns:
        The paths of the files, relative to the target.

    Raises:
        CorpusError: the archive is damaged or unsafe; the target is unchanged.
    """
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _unpack_all(archive, staging, max_bytes, keep)
        if keep:
            _check_kept(archive, staging, keep)
        return _move_files(staging, target)
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        # An archive's own numbers may ask for a place before its beginning; all else is the disk's fault.
        if error.errno != errno.EINVAL:
            raise
        raise _damaged(archive, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _damaged(archive: Path, error: Exception) -> CorpusError:
    return CorpusError(f"{archive}: is damaged or not an archive ({first_line(error)}); fetch it again")


def _unpack_all(archive: Path, staging: Path, max_bytes: int, keep: Mapping[str, str] | None) -> None:
    total = 0
    members = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive)
    for number, member in enumerate(members, start=1):
        total += member.num_bytes
        if total > max_bytes or number > MAX_MEMBERS:
            raise CorpusError(f"{archive}: unpacks to more than the {max_bytes:,} bytes allowed; nothing was unpacked")
        path = _safe_path(archive, member.path)
        if keep and path.name not in keep:
            continue
        try:
            _write(member, staging / (path.name if keep else path))
        except (FileExistsError, IsADirectoryError, NotADirectoryError):
            raise _refusal(archive, member.path, "is a file in one place and a folder in another") from None


def _tar_members(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive, "r:*") as tar:
        for entry in tar:
            if entry.isdir():
                continue
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is None:
                raise _refusal(archive, entry.name, "is a link or a device")
            yield Member(entry.name, entry.size, content)


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():
            if entry.is_dir():
                continue
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise _refusal(archive, entry.filename, "is a link or a device")
            with packed.open(entry) as content:
                yield Member(entry.filename, entry.file_size, content)


def _safe_path(archive: Path, name: str) -> PurePosixPath:
    """The member's path, if on every system it stays below the folder it is unpacked into."""
    path = PurePosixPath(name)
    windows = PureWindowsPath(name)
    if path.is_absolute() or windows.drive or windows.root or ".." in path.parts or ".." in windows.parts or "\0" in name:
        raise _refusal(archive, name, "leads out of the folder")
    if not path.name:
        raise _refusal(archive, name, "has no name")
    return path


def _refusal(archive: Path, name: str, reason: str) -> CorpusError:
    return CorpusError(f"{archive}: refused, nothing was unpacked: its member {name!r} {reason}; do not trust where it came from")


def _write(member: Member, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(member.content, file, COPY_BYTES)


def _check_kept(archive: Path, staging: Path, keep: Mapping[str, str]) -> None:
    missing = [name for name in keep if not (staging / name).is_file()]
    if missing:
        raise CorpusError(f"{archive}: {some_of(missing, limit=len(missing))} is missing, so it is not the published archive")
    wrong = [name for name, sha256 in keep.items() if hashlib.sha256((staging / name).read_bytes()).hexdigest() != sha256]
    if wrong:
        raise CorpusError(f"{archive}: {some_of(wrong, limit=len(wrong))} in it is not the published file (the checksum differs)")


def _move_files(staging: Path, target: Path) -> list[str]:
    paths = [path.relative_to(staging) for path in sorted(staging.rglob("*")) if path.is_file()]
    for path in paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (staging / path).replace(target / path)
    return [path.as_posix() for path in paths]
