"""A journal of finished work: lines of JSON that survive a kill at any moment and stay on disk, however many there are."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import DatasetError, WorkError
from pipeline.files import parse_json, written_whole

logger = logging.getLogger(__name__)

Record = dict[str, Any]
Key = tuple[str, ...]
Entry = tuple[Key, bytes]
"""A record's key, and its line."""


class Journal:
    """Records of finished work, a line each, after a first line that says which work they belong to.

    Memory holds only where each line begins.

    Args:
        path: of the journal.
        identity: of the work: a digest of everything that decides its results.
        key_fields: the fields that identify a record.
    """

    def __init__(self, path: Path, identity: str, key_fields: tuple[str, ...]) -> None:
        self._path = path
        self._head = _line({"identity": identity})
        self._key_fields = key_fields
        self._offsets: dict[Key, int] = {}
        self._end = len(self._head)

    def __contains__(self, key: Key) -> bool:
        return key in self._offsets

    @property
    def entry(self) -> Callable[[Record], Entry]:
        """Gives a record as it is appended; a worker calls it, so that only text is sent back, and no journal is sent there."""
        return partial(_entry, self._key_fields)

    def is_foreign(self) -> bool:
        """Whether the journal that lies here belongs to other work."""
        return next(self._lines(), self._head) != self._head

    def resume(self, keep: Callable[[Record], bool] = lambda record: True) -> None:
        """Start from the records that an interrupted run of the same work left and for which ``keep(record)`` holds.

        A line that a kill cut short is dropped, and so is one that something else has damaged, with a warning: what it stood for
        is made again.

        Raises:
            WorkError: the journal belongs to other work, or cannot be written.
        """
        if self.is_foreign():
            raise WorkError(f"{self._path}: belongs to other work; remove it or choose another place")
        lines = self._lines()
        next(lines, None)
        self._rewrite((self._key(record), line) for record, line in self._undamaged(lines) if keep(record))

    def _undamaged(self, lines: Iterable[bytes]) -> Iterator[tuple[Record, bytes]]:
        damaged = 0
        for line in lines:
            record = _record(line)
            if record is not None and all(isinstance(record.get(name), str) for name in self._key_fields):
                yield record, line
            else:
                damaged += 1
        if damaged:
            logger.warning("%s: %d of its lines are damaged; what they stood for is made again", self._path, damaged)

    def append(self, entries: Iterable[Entry]) -> None:
        """Add records of finished work; they outlive this process, however it ends.

        Raises:
            WorkError: the journal cannot be written, for example because the disk is full.
        """
        try:
            with self._path.open("ab") as file:
                for key, line in entries:
                    self._note(key, line)
                    file.write(line)
        except OSError as error:
            raise WorkError(f"{self._path}: cannot be written ({error.strerror or error})") from error

    def records(self) -> Iterator[Record]:
        """All records, one after another, in the order of their lines."""
        return read_records(self._path)

    def reorder(self, keys: Iterable[Key]) -> None:
        """Rewrite the journal with exactly these records, in this order."""
        offsets = self._offsets
        with self._path.open("rb") as file:

            def line_of(key: Key) -> bytes:
                file.seek(offsets[key])
                return file.readline()

            self._rewrite((key, line_of(key)) for key in keys)

    def remove(self) -> None:
        """Delete the journal: the result it led to is complete."""
        self._path.unlink(missing_ok=True)

    def _lines(self) -> Iterator[bytes]:
        return _whole_lines(self._path) if self._path.exists() else iter(())

    def _rewrite(self, entries: Iterable[Entry]) -> None:
        self._offsets, self._end = {}, len(self._head)
        with written_whole(self._path) as temporary, temporary.open("wb") as file:
            file.write(self._head)
            for key, line in entries:
                self._note(key, line)
                file.write(line)

    def _note(self, key: Key, line: bytes) -> None:
        self._offsets[key] = self._end
        self._end += len(line)

    def _key(self, record: Record) -> Key:
        return _key(self._key_fields, record)


def _entry(key_fields: Key, record: Record) -> Entry:
    return _key(key_fields, record), _line(record)


def _key(key_fields: Key, record: Record) -> Key:
    return tuple(record[name] for name in key_fields)


def read_records(path: Path) -> Iterator[Record]:
    """The records of a journal, whichever work it belongs to, one after another.

    Raises:
        DatasetError: there is no journal, or a line of it is damaged.
    """
    if not path.exists():
        raise DatasetError(f"{path}: no such file; it is written with the dataset and lists what belongs there")
    return _records(path)


def _records(path: Path) -> Iterator[Record]:
    for number, line in enumerate(_whole_lines(path), start=1):
        record = _record(line)
        if record is None:
            raise DatasetError(f"{path}, line {number}: is damaged; restore the file, or remove its folder and run again")
        if number > 1:
            yield record


def _record(line: bytes) -> Record | None:
    """The record that a line holds; None where it holds none."""
    try:
        record = parse_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def drop_records(path: Path, unwanted: Callable[[Record], bool]) -> None:
    """Remove records from a journal, so that the next run regenerates what they stand for."""
    lines = _whole_lines(path)
    with written_whole(path) as temporary, temporary.open("wb") as file:
        file.write(next(lines))
        file.writelines(line for line in lines if (record := _record(line)) is not None and not unwanted(record))


def _whole_lines(path: Path) -> Iterator[bytes]:
    """The lines with their ends; half a line, which a kill may have left, is skipped."""
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


def _line(value: Record) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
