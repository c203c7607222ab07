"""A journal of finished work: lines of JSON that survive a kill at any moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pipeline.errors import DatasetError, WorkError
from pipeline.tables import written_whole

Record = dict[str, Any]


class Journal:
    """What a generation has written so far: a line for every record, after one that says of which dataset.

    Args:
        path: of the journal.
        identity: digest of everything that decides the dataset.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path = path
        self._identity = identity

    def resume(self, holds: Callable[[Record], bool]) -> list[Record]:
        """The records of an interrupted run for which ``holds(record)``; the journal is left with just these.

        Raises:
            DatasetError: the journal is of another dataset.
        """
        records = [record for record in self._records() if holds(record)]
        self.settle(records)
        return records

    def append(self, records: Iterable[Record]) -> None:
        """Add records of finished work.

        Raises:
            WorkError: the disk is full.
        """
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(map(_line, records)))
        except OSError as error:
            raise WorkError(f"{self._path}: cannot be written ({error.strerror or error})") from error

    def settle(self, records: Iterable[Record]) -> None:
        """Write the records anew, in their final order, once everything is done."""
        with written_whole(self._path) as temporary:
            temporary.write_text("".join(map(_line, [{"identity": self._identity}, *records])), encoding="utf-8")

    def _records(self) -> list[Record]:
        if not self._path.exists():
            return []
        # A kill may leave half a line at the end.
        lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]
        if not lines:
            return []
        if json.loads(lines[0]).get("identity") != self._identity:
            raise DatasetError(
                f"{self._path.parent}: holds the beginnings of another dataset; remove the folder or choose another"
            )
        return [json.loads(line) for line in lines[1:]]


def read_records(path: Path) -> list[Record]:
    """The whole lines of a journal but the first, whichever dataset it is of.

    Raises:
        DatasetError: there is no journal.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; it is written with the dataset and says what belongs there") from None
    return [json.loads(line) for line in lines[1:]]


def drop_records(path: Path, unwanted: Callable[[Record], bool]) -> None:
    """Take records out of a journal, so that the next generation makes what they stand for anew."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    kept = [line for line in lines[1:] if not unwanted(json.loads(line))]
    with written_whole(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in [lines[0], *kept]), encoding="utf-8")


def _line(value: Record) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n"
