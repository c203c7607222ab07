"""Arrays that are too long for memory, in files without a name: they are gone with the process, however it ends."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pipeline.errors import WorkError

Rows = npt.NDArray[Any]


class Scratch:
    """Rows of numbers on disk, read and written in any order; rows that were never written are zeros.

    They are not mapped into memory: pages of a mapped file count as the process's own.

    Args:
        folder: where the disk has room.
        width: numbers in a row.
        dtype: of the numbers.

    Raises:
        WorkError: from any method, when the disk cannot be used or is full.
    """

    def __init__(self, folder: Path, width: int, dtype: npt.DTypeLike = np.float32) -> None:
        self.folder = folder
        self.width = width
        self.dtype = np.dtype(dtype)
        self._row_bytes = width * self.dtype.itemsize
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise self._failure(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def read(self, start: int, stop: int) -> Rows:
        """Rows ``[stop - start, width]``."""
        rows = np.zeros((max(0, stop - start), self.width), self.dtype)
        room, offset = rows.data.cast("B") if rows.size else memoryview(b""), start * self._row_bytes
        try:
            while room and (count := os.preadv(self._file.fileno(), [room], offset)):
                room, offset = room[count:], offset + count
        except OSError as error:
            raise self._failure(error) from error
        return rows

    def write(self, start: int, rows: Rows) -> None:
        """Put rows ``[row, width]`` from row ``start`` on."""
        content = np.ascontiguousarray(rows, self.dtype).reshape(-1, self.width)
        left, offset = content.data.cast("B") if content.size else memoryview(b""), start * self._row_bytes
        try:
            while left:
                count = os.pwrite(self._file.fileno(), left, offset)
                left, offset = left[count:], offset + count
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> WorkError:
        return WorkError(f"{self.folder}: no intermediate results can be kept there ({error.strerror or error})")


def free_bytes(folder: Path) -> int:
    """Room on the disk on which a folder lies, or will lie."""
    for place in (folder, *folder.absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return 0
