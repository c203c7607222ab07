"""A journal of finished work: lines of JSON that survive a kill at any moment, and stay on disk however many they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import DatasetError, WorkError
from pipeline.files import written_whole

Record = dict[str, Any]
Key = tuple[str, ...]
Entry = tuple[Key, bytes]
"""What a record is found by, and its line."""


class Journal:
    """What a generation has written so far: a line for every record, after one that says of which dataset.

    Only where each line begins is kept in memory.

    Args:
        path: of the journal.
        identity: digest of everything that decides the dataset.
        fields: of a record, that it is found by.
    """

    def __init__(self, path: Path, identity: str, fields: tuple[str, ...]) -> None:
        self._path = path
        self._head = _line({"identity": identity})
        self._fields = fields
        self._places: dict[Key, int] = {}
        self._end = len(self._head)

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def entry(self, record: Record) -> Entry:
        """A record as it is appended; made where the record is, so that only text need be sent from there."""
        return self._key(record), _line(record)

    def resume(self, holds: Callable[[Record], bool]) -> None:
        """Keep the records of an interrupted run for which ``holds(record)``, and no others.

        Raises:
            DatasetError: the journal is of another dataset.
        """
        lines = _whole_lines(self._path) if self._path.exists() else iter(())
        if next(lines, self._head) != self._head:
            raise DatasetError(
                f"{self._path.parent}: holds the beginnings of another dataset; remove the folder or choose another"
            )
        read = ((json.loads(line), line) for line in lines)
        self._write_anew((self._key(record), line) for record, line in read if holds(record))

    def append(self, entries: Iterable[Entry]) -> None:
        """Add records of finished work.

        Raises:
            WorkError: the disk is full.
        """
        try:
            with self._path.open("ab") as file:
                for key, line in entries:
                    self._note(key, line)
                    file.write(line)
        except OSError as error:
            raise WorkError(f"{self._path}: cannot be written ({error.strerror or error})") from error

    def settle(self, keys: Iterable[Key]) -> None:
        """Write the records anew, in their final order, once everything is done."""
        places = self._places
        with self._path.open("rb") as file:

            def line_of(key: Key) -> bytes:
                file.seek(places[key])
                return file.readline()

            self._write_anew((key, line_of(key)) for key in keys)

    def _write_anew(self, entries: Iterable[Entry]) -> None:
        self._places, self._end = {}, len(self._head)
        with written_whole(self._path) as temporary, temporary.open("wb") as file:
            file.write(self._head)
            for key, line in entries:
                self._note(key, line)
                file.write(line)

    def _note(self, key: Key, line: bytes) -> None:
        self._places[key] = self._end
        self._end += len(line)

    def _key(self, record: Record) -> Key:
        return tuple(record[name] for name in self._fields)


def read_records(path: Path) -> Iterator[Record]:
    """The whole lines of a journal but the first, whichever dataset it is of, one after another.

    Raises:
        DatasetError: there is no journal.
    """
    if not path.exists():
        raise DatasetError(f"{path}: no such file; it is written with the dataset and says what belongs there")
    lines = _whole_lines(path)
    next(lines, None)
    return map(json.loads, lines)


def drop_records(path: Path, unwanted: Callable[[Record], bool]) -> None:
    """Take records out of a journal, so that the next generation makes what they stand for anew."""
    lines = _whole_lines(path)
    with written_whole(path) as temporary, temporary.open("wb") as file:
        file.write(next(lines))
        file.writelines(line for line in lines if not unwanted(json.loads(line)))


def _whole_lines(path: Path) -> Iterator[bytes]:
    """The lines with their ends; a kill may have left half of one, which is none."""
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


def _line(value: Record) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
