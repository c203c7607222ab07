"""A corpus is the content of its files: digests, remembered so that a file is read once and not again until it changes.

Names and sizes do not identify a corpus: two copies of a data set, one of them resampled badly or with the wrong channel, have
the same. So everything that is made from a corpus is identified by what its files hold:

* ``content_digests`` hashes whole files (SHA-256), many at a time. What a file's digest was is kept in a cache beside the
  compiled kernels (``$XDG_CACHE_HOME/tasnet-pipeline/digests``), never in the corpus, and holds as long as the file's size,
  modification time, change time and inode are the same. Whoever replaces, overwrites, restores or resamples a file changes one
  of these, even where the modification time is put back.
* ``scan`` records the digest of every file in the manifest (column ``sha256``), so that a later stage can ask
  ``changed_files`` whether the corpus is still the one that was planned, and name the files that are not.
* ``digest_files`` is a digest over relative paths, contents and tables, which stages take into their fingerprint
  (``listing_digest`` of the adapters). A dataset from published lists digests just the files that the lists name: it needs no
  others, and does not notice them.

Cost: the first time, reading the corpus: 3,000 LibriSpeech utterances of 5 s (260 MB) take 0.5 s of processor time, so
train-clean-100 (6.3 GB) about 12 s on one core and WHAM! noise (17.7 GB) 35 s, or as long as the disk needs. After that a look
at every file's status: 5 µs each. ``fresh=True`` reads everything again; it finds what no time stamp shows, such as a disk that
decays. Where the cache cannot be written, everything is read each time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pandas as pd

from pipeline.compute.workers import chunked, map_parallel
from pipeline.corpora.manifests import some_of
from pipeline.errors import CorpusError, WorkError
from pipeline.files import cache_folder, parse_json, written_whole

CACHED_FROM_BYTES = 2**26
"""Smaller corpora are read each time, in a fraction of a second, and leave nothing in the cache."""
FILES_PER_CHUNK = 128
MISSING = "missing"
"""Stands for the digest of a file that is not there, so that it changes when the file arrives."""
_SETTLED_NS = 2 * 10**9  # a file this young may change again within the resolution of its time stamps

Stamp = list[int]
"""Size in bytes, modification and change time in ns, and inode."""

logger = logging.getLogger("pipeline")


def content_digests(root: Path, paths: Sequence[str], *, num_workers: int | None = None, fresh: bool = False) -> dict[str, str]:
    """SHA-256 of the content of files, by path.

    Args:
        root: the corpus.
        paths: relative to it.
        num_workers: processes; by default one per core.
        fresh: read every file, whatever the cache remembers.

    Returns:
        Hexadecimal digests; ``MISSING`` for files that are not there.

    Raises:
        CorpusError: a file is there and cannot be read.
    """
    stamps = {path: _stamp(root / path) for path in paths}
    cache = _cache_path(root) if sum(stamp[0] for stamp in stamps.values() if stamp) >= CACHED_FROM_BYTES else None
    known = _read_cache(cache)
    valid = {path: known[path][1] for path in paths if path in known and known[path][0] == stamps[path]}
    digests = {} if fresh else dict(valid)
    unread = [path for path in paths if path not in digests and stamps[path]]
    pieces = chunked(unread, FILES_PER_CHUNK)
    results = map_parallel(
        partial(_digest_chunk, root), pieces, num_workers=num_workers, description="digest" if cache else "", size=len
    )
    try:
        for piece, found in zip(pieces, results, strict=True):
            digests.update(zip(piece, found, strict=True))
    finally:
        if cache and any(path in digests for path in unread):
            _write_cache(cache, known, stamps, digests)
    if decayed := sorted(path for path, sha256 in valid.items() if digests[path] != sha256):
        logger.warning("%s: %d files hold other bytes under the same time stamps: %s", root, len(decayed), some_of(decayed, 10))
    return {path: digests.get(path, MISSING) for path in paths}


def digest_files(
    root: Path,
    paths: Iterable[str],
    metadata: Iterable[str] = (),
    *,
    num_workers: int | None = None,
    fresh: bool = False,
) -> str:
    """SHA-256 over the relative paths and contents of ``paths``, and of those ``metadata`` files that exist.

    The order of ``paths`` does not matter, nor how often one is given, nor what else the folder holds. Files that are missing
    count as missing: a digest can be taken before the whole corpus is there.
    """
    digest = hashlib.sha256()
    contents = content_digests(root, sorted(set(paths)), num_workers=num_workers, fresh=fresh)
    tables = content_digests(root, sorted(name for name in set(metadata) if (root / name).is_file()), num_workers=1)
    for marker, files in ((b"", contents), (b"\0", tables)):
        for path, sha256 in files.items():
            digest.update(marker + f"{path}\0{sha256}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def changed_files(manifest: pd.DataFrame, root: Path, *, num_workers: int | None = None, fresh: bool = False) -> list[str]:
    """Paths of a manifest whose files no longer hold what they held when it was made, or are gone.

    A manifest without the column ``sha256``, of an earlier version, says nothing: the list is empty.
    """
    if "sha256" not in manifest.columns:
        return []
    recorded: Mapping[str, str] = dict(zip(manifest["path"], manifest["sha256"], strict=True))
    now = content_digests(root, list(recorded), num_workers=num_workers, fresh=fresh)
    return sorted(path for path, sha256 in recorded.items() if sha256 and now[path] != sha256)


def _stamp(path: Path) -> Stamp | None:
    """What changes whenever a file does; None where there is no file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - Path is slow on 300,000 files
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _digest_chunk(root: Path, paths: Sequence[str]) -> list[str]:
    return [_digest(root / path) for path in paths]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror or error}); run again once it can be") from error


def _cache_path(root: Path) -> Path | None:
    """The cache of one corpus folder; None where this user has no home."""
    top = cache_folder()
    name = hashlib.sha256(os.path.realpath(root).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return top / "digests" / f"{name}.json" if top else None


def _read_cache(path: Path | None) -> dict[str, tuple[Stamp, str]]:
    """What was known; nothing where there is no cache or it is damaged."""
    if path is None:
        return {}
    try:
        known = parse_json(path.read_bytes())
        return {str(name): (list(stamp), str(sha256)) for name, (stamp, sha256) in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write_cache(
    path: Path, known: Mapping[str, tuple[Stamp, str]], stamps: Mapping[str, Stamp | None], digests: Mapping[str, str]
) -> None:
    """Add what was read just now, except of files so young that their time stamps cannot be trusted yet."""
    settled = time.time_ns() - _SETTLED_NS
    learned = {
        name: (stamp, digests[name])
        for name, stamp in stamps.items()
        if stamp and digests.get(name, MISSING) != MISSING and max(stamp[1], stamp[2]) < settled
    }
    with suppress(WorkError), written_whole(path) as temporary:
        temporary.write_text(json.dumps(dict(known) | learned), encoding="utf-8")
