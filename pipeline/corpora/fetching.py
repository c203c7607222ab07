"""Downloads of public corpora and lists: resumable, checksummed, safely unpacked. The only door to pooch.

``manifests/sources.toml`` says what can be fetched. A file is fetched into ``.downloads`` of the target folder, where an
interrupted download continues; it is checked, unpacked beside its place, and only then moved there. Archives may hold files and
folders only, none outside the target, and no more bytes than their source says. Nothing that is fetched is ever executed.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch

from pipeline.compute.progress import progress_bar
from pipeline.corpora.manifests import some_of
from pipeline.corpora.unpacking import unpack
from pipeline.errors import CorpusError, WorkError
from pipeline.files import parse_json, written_whole

MEBIBYTE = 2**20
CHUNK_BYTES = MEBIBYTE
TIMEOUT_SECONDS = 60
MAX_EMPTY_ATTEMPTS = 5
"""A download fails after this many attempts in a row that receive nothing."""
DEFAULT_MAX_UNPACKED_BYTES = 10**9

logger = logging.getLogger("pipeline")


@dataclass(frozen=True)
class RemoteFile:
    """One file of a source; None where something was never published."""

    url: str
    path: str = ""
    num_bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    unpack: bool = False
    keep: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The last part of the URL, which is also the file's name in a mirror."""
        return urlsplit(self.url).path.rpartition("/")[2]

    @property
    def known_hash(self) -> str | None:
        """The published checksum as pooch writes it."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}" if self.md5 else None


@dataclass(frozen=True)
class Source:
    """A corpus or list that can be fetched, or instructions where to get it."""

    name: str
    title: str
    terms: str
    homepage: str
    folder: str
    files: tuple[RemoteFile, ...] = ()
    needs: str = ""
    max_unpacked_bytes: int = DEFAULT_MAX_UNPACKED_BYTES


def load_sources(path: Path | None = None) -> dict[str, Source]:
    """The registry of sources by name.

    Args:
        path: a file like ``manifests/sources.toml``, which is the default.
    """
    path = path or _registry_path()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        return {name: _source(name, facts) for name, facts in raw.items()}
    except (OSError, ValueError, TypeError) as error:
        raise CorpusError(f"{path}: not a readable list of sources ({error})") from error


def _registry_path() -> Path:
    """``manifests/sources.toml`` in a checkout; an installed package carries a copy beside this module (see ``setup.py``)."""
    installed = Path(__file__).with_name("sources.toml")
    return installed if installed.is_file() else Path(__file__).parents[2] / "manifests" / "sources.toml"


def _source(name: str, facts: dict[str, Any]) -> Source:
    files = tuple(RemoteFile(**file) for file in facts.pop("files", []))
    return Source(name=name, files=files, **facts)


def fetch(name: str, target: Path, *, mirror: str | None = None, sources: dict[str, Source] | None = None) -> Path:
    """Download a source into a corpora folder, unless all of its files are there.

    Args:
        name: of a source.
        target: the corpora folder; the source's own folder is made in it.
        mirror: a URL or a folder that has the source's files under their own names; in a folder they may lie at any depth.
        sources: by default the registry.

    Returns:
        The folder with the files.

    Raises:
        CorpusError: there is no such source, or it is licensed (the message says what to do); the server fails, or sends
            something other than the published file; an archive is unsafe.
        WorkError: the folder cannot be written, or the disk is full.
    """
    source = _named(name, load_sources() if sources is None else sources)
    folder, record = target / source.folder, target / ".downloads" / f"{name}.fetched"
    if record.is_file():
        missing = _missing_files(record, folder)
        if not missing:
            logger.info("%s: fetched already; remove %s to fetch it again", name, record)
            return folder
        logger.warning("%s: %s files are gone from %s (%s); fetching it again", name, len(missing), folder, some_of(missing))
    downloads = target / ".downloads"
    placed = [_fetch_file(file, folder, downloads, mirror, source.max_unpacked_bytes) for file in source.files]
    with written_whole(record) as temporary:
        temporary.write_text(json.dumps([path for paths in placed for path in paths], indent=0), encoding="utf-8")
    return folder


def _missing_files(record: Path, folder: Path) -> list[str]:
    """Files that were fetched and are no longer there; all of them where the record does not say which."""
    try:
        paths = [str(path) for path in parse_json(record.read_bytes())]
    except (ValueError, TypeError):
        paths = []
    return [path for path in paths or ["."] if not (folder / path).exists()]


def _named(name: str, sources: dict[str, Source]) -> Source:
    if name not in sources:
        raise CorpusError(f"{name}: no such source; there are {some_of(sources, limit=len(sources))}")
    source = sources[name]
    if source.needs:
        raise CorpusError(f"{name}: cannot be downloaded, it is {source.terms}, {source.homepage}; {source.needs}")
    return source


def _fetch_file(file: RemoteFile, folder: Path, downloads: Path, mirror: str | None, max_unpacked_bytes: int) -> list[str]:
    """Put one file in its place, and remove the downloaded archive once it is unpacked. Returns the paths written."""
    if not file.unpack and (folder / file.path).is_file() and _is_right(folder / file.path, file):
        return [file.path]
    with _written_in(folder):
        folder.mkdir(parents=True, exist_ok=True)
        downloads.mkdir(parents=True, exist_ok=True)
        local = _in_mirror(Path(mirror), file.name) if mirror and Path(mirror).is_dir() else None
        packed = _checked(local, file) if local else _download(file, downloads, mirror)
        if file.unpack:
            placed = unpack(
                packed, folder, staging=downloads / f"{file.name}.unpacked", max_bytes=max_unpacked_bytes, keep=file.keep
            )
        else:
            with written_whole(folder / file.path) as temporary:
                shutil.copyfile(packed, temporary)
            placed = [file.path]
        if local is None:
            packed.unlink()
    return placed


@contextmanager
def _written_in(folder: Path) -> Iterator[None]:
    """Turn a full disk or missing permissions into a one-line error."""
    try:
        yield
    except OSError as error:
        raise WorkError(f"{error.filename or folder}: cannot be written ({error.strerror or error})") from error


def _in_mirror(mirror: Path, name: str) -> Path:
    """A file in a mirror that is a folder, at any depth."""
    direct = mirror / name
    return direct if direct.is_file() else min(mirror.rglob(name), default=direct)


def _checked(path: Path, file: RemoteFile) -> Path:
    """A mirror's file, after checking that its size and checksum are the published ones."""
    if not path.is_file():
        raise CorpusError(f"{path}: no such file in the mirror")
    if not _is_right(path, file):
        raise CorpusError(f"{path}: is not the published file (its size or checksum differs); replace it")
    return path


def _is_right(path: Path, file: RemoteFile) -> bool:
    if file.num_bytes is not None and path.stat().st_size != file.num_bytes:
        return False
    if file.known_hash is None:
        return True
    algorithm, _, expected = file.known_hash.partition(":")
    return bool(pooch.file_hash(str(path), alg=algorithm) == expected)


def _download(file: RemoteFile, downloads: Path, mirror: str | None) -> Path:
    """Download through pooch, which compares the checksum before the file gets its name."""
    url = f"{mirror.rstrip('/')}/{file.name}" if mirror else file.url
    if urlsplit(url).scheme not in ("http", "https"):
        raise CorpusError(f"{url}: neither an http address nor a folder that exists")
    if file.known_hash is None:
        logger.warning("%s: there is no published checksum, so only size and structure are checked", url)
    part = downloads / f"{file.name}.part"
    downloader = partial(_resume, part=part, num_bytes=file.num_bytes)
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(pooch.retrieve(url, file.known_hash, fname=file.name, path=downloads, downloader=downloader))
    except ValueError as error:
        raise CorpusError(
            f"{url}: what the server sent is not the published file (its checksum differs); fetch it again"
        ) from error


def _resume(url: str, output_file: str, _pooch: object, *, part: Path, num_bytes: int | None) -> None:
    """Pooch's downloader: continue ``part`` until it is complete, then rename it.

    When the connection breaks, the download continues from there, unless several attempts in a row receive nothing.
    """
    empty = 0
    while True:
        before = _size(part)
        try:
            _receive(url, part, num_bytes)
        except urllib.error.HTTPError as error:
            raise CorpusError(
                f"{url}: the server answers {error.code} ({error.reason}); try again, or name a mirror with --from"
            ) from error
        except (HTTPException, ConnectionError, TimeoutError, urllib.error.URLError) as error:
            empty = 0 if _size(part) > before else empty + 1
            if empty == MAX_EMPTY_ATTEMPTS:
                raise CorpusError(f"{url}: cannot be reached ({error}); try again, or name a mirror with --from") from error
            time.sleep(min(0.1 * 2**empty, 10))
        else:
            break
    part.replace(output_file)


def _receive(url: str, part: Path, num_bytes: int | None) -> None:
    """Request the missing bytes of ``part`` and append them; raises if the connection ends early."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={_size(part)}-", "User-Agent": "tasnet-pipeline"})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and _complete(error.headers.get("Content-Range", ""), part):
            return
        if error.code == 416:
            part.unlink()
            raise ConnectionError("the partial download is longer than the file; starting again") from error
        raise
    with response:
        start = _size(part) if response.status == 206 else 0
        total = _total(response, start)
        if num_bytes is not None and total not in (None, num_bytes):
            raise CorpusError(
                f"{url}: the server offers {total:,} bytes where {num_bytes:,} were published; name a mirror with --from"
            )
        total = num_bytes or total
        _check_room(part, (total or 0) - start)
        with part.open("ab" if start else "wb") as file:
            _copy(response, file.write, url, start, total)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _complete(content_range: str, part: Path) -> bool:
    """Whether a server that refused the range says that the file was already complete (``bytes */TOTAL``)."""
    return content_range.rpartition("/")[2] == str(_size(part))


def _total(response: HTTPResponse, start: int) -> int | None:
    """Bytes of the whole file, as the server says."""
    length = response.headers.get("Content-Length")
    return start + int(length) if length else None


def _check_room(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise WorkError(
            f"{part.parent}: has {free / 1e9:.1f} GB free where {needed / 1e9:.1f} GB are needed; make room, or fetch elsewhere"
        )


def _copy(response: HTTPResponse, write: Callable[[bytes], object], url: str, start: int, total: int | None) -> None:
    """Copy the body with a progress bar in MiB; an end before ``total`` is a broken connection."""
    received = start
    description = f"{urlsplit(url).path.rpartition('/')[2]} (MiB)"
    with progress_bar(description, (total or 0) // MEBIBYTE, done=start // MEBIBYTE) as advance:
        while chunk := response.read(CHUNK_BYTES):
            write(chunk)
            advance((received + len(chunk)) // MEBIBYTE - received // MEBIBYTE)
            received += len(chunk)
            if total is not None and received > total:
                raise CorpusError(f"{url}: the server sends more than the {total:,} bytes it should; name a mirror with --from")
    if total is not None and received < total:
        raise ConnectionError(f"the connection ended after {received:,} of {total:,} bytes")
