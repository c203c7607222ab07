"""Listing a corpus folder: its audio files and their headers, fast and the same for any order of the file system."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.audio.files import choose_channel
from pipeline.audio.headers import AudioHeader, read_header
from pipeline.compute.workers import chunked, map_parallel
from pipeline.corpora.manifests import raise_findings
from pipeline.errors import AudioError, CorpusError

FILES_PER_CHUNK = 2048
"""Coarse, because starting worker processes takes as long as reading a few thousand headers."""


_FORMATS = (
    "flac wav wave ogg oga opus spx mp3 mp4 m4a aac wma amr 3gp webm mka wv1 wv2 sph nist aiff aif aifc au snd caf w64 rf64"
)
AUDIO_ENDINGS = frozenset(map(".{}".format, _FORMATS.split(" ")))
"""What audio files are called; those that an adapter does not read are counted and reported."""


@dataclass(frozen=True, order=True)
class ListedFile:
    """A file of the corpus: its path relative to the root, with forward slashes, and its size in bytes."""

    path: str
    num_bytes: int


def list_files(root: Path, endings: Collection[str], *, below: str = "") -> list[ListedFile]:
    """Files under ``root/below`` with one of the endings (lower case, with dot), sorted by path; hidden ones are left out.

    Raises:
        CorpusError: a folder that cannot be read.
    """
    try:
        return sorted(_walk(root / below, f"{below}/" if below else "", frozenset(endings), ()))
    except OSError as error:
        raise CorpusError(f"{error.filename}: cannot be listed ({error.strerror})") from error


def describe_other_audio(root: Path, endings: Collection[str], *, below: Sequence[str] = ("",)) -> str:
    """A clause that counts the audio files of other formats, which are left out; empty where there are none."""
    others = AUDIO_ENDINGS - set(endings)
    found = Counter(Path(file.path).suffix.lower() for folder in below for file in list_files(root, others, below=folder))
    counts = ", ".join(f"{number:,} {ending}" for ending, number in sorted(found.items()))
    return f"; left out: {counts} files, which must be converted to .wav or .flac first" if found else ""


def _walk(folder: Path, prefix: str, endings: frozenset[str], above: tuple[str, ...]) -> Iterator[ListedFile]:
    """Files below a folder; a link back to a folder above is not followed again."""
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", endings, (*above, here))
            elif os.path.splitext(entry.name)[1].lower() in endings:  # noqa: PTH122 - Path is slow on 300,000 files
                if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
                    raise CorpusError(f"{entry.path}: is a link to a file that is not there; remove it or restore the file")
                found = entry.stat()
                if not stat.S_ISREG(found.st_mode):
                    raise CorpusError(f"{entry.path}: is a pipe, a socket or a device, and not an audio file; remove it")
                yield ListedFile(prefix + entry.name, found.st_size)


def read_headers(root: Path, paths: Sequence[str], *, channel: int | None, num_workers: int | None = None) -> list[AudioHeader]:
    """Read the headers of many files in parallel, in the order of ``paths``.

    Args:
        root: the corpus.
        paths: relative to it.
        channel: ``corpus.channel``; without it, files with several channels are findings.
        num_workers: processes; by default one per core.

    Raises:
        CorpusError: with one line for every file that is missing, damaged, empty or has channels to choose from.
    """
    chunks = chunked(paths, FILES_PER_CHUNK)
    read = partial(_read_chunk, root, channel)
    answers = map_parallel(read, chunks, num_workers=num_workers, description="scan", size=len)
    outcomes = [outcome for chunk in answers for outcome in chunk]
    raise_findings(outcome for outcome in outcomes if isinstance(outcome, str))
    return [outcome for outcome in outcomes if isinstance(outcome, AudioHeader)]


def _read_chunk(root: Path, channel: int | None, paths: Sequence[str]) -> list[AudioHeader | str]:
    return [_read_one(root / path, channel) for path in paths]


def _read_one(path: Path, channel: int | None) -> AudioHeader | str:
    """The header, or the finding that stands in its way."""
    try:
        header = read_header(path, check_end=True)
        choose_channel(path, header, channel)
    except AudioError as error:
        return str(error)
    return header
