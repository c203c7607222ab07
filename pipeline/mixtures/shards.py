"""Packed signals: thousands of recordings in one memory-mapped file, so that training reads samples and never decodes.

A file is ``TASNETSH``, the position of its footer (8 bytes, little-endian), the samples of all signals one after another, and the
footer: JSON with the sample rate, the sample type, and the name, shape, and facts of every signal. It appears under its name only
when whole.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import NonNegativeInt, PositiveInt, TypeAdapter

from pipeline.errors import DatasetError, first_line
from pipeline.files import written_whole

MAGIC = b"TASNETSH"
_HEAD = struct.Struct("<8sQ")


@dataclass(frozen=True)
class Signal:
    """One signal to pack."""

    name: str
    samples: npt.NDArray[Any]
    """[row, time]: the mixture and its sources, or one utterance."""
    facts: Mapping[str, float | str] = field(default_factory=dict)
    """Numbers and text stored with it, such as its level."""


def write_shard(path: Path, signals: Iterable[Signal], *, sample_rate: int, dtype: npt.DTypeLike) -> None:
    """Pack signals, in the order they come, into one file.

    Args:
        path: the final name.
        signals: all of the sample type ``dtype``; they are written one by one, so any number fits in memory.
        sample_rate: Hz, of all of them.
        dtype: int16 or float32.

    Raises:
        WorkError: the folder cannot be written, or the disk is full.
    """
    little = np.dtype(dtype).newbyteorder("<")
    footer: dict[str, Any] = {"sample_rate": sample_rate, "dtype": little.str, "names": [], "shapes": [], "facts": []}
    with written_whole(path) as temporary, temporary.open("wb") as file:
        file.write(_HEAD.pack(MAGIC, 0))
        for signal in signals:
            file.write(np.ascontiguousarray(signal.samples, dtype=little).data)
            footer["names"].append(signal.name)
            footer["shapes"].append(signal.samples.shape)
            footer["facts"].append(dict(signal.facts))
        position = file.tell()
        file.write(json.dumps(footer, separators=(",", ":")).encode())
        file.seek(0)
        file.write(_HEAD.pack(MAGIC, position))


class Shard:
    """A packed file, opened for reading; only the samples asked for are read from disk.

    Args:
        path: written by :func:`write_shard`.

    Raises:
        DatasetError: the file is missing, no shard, or cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        footer, end = _read_footer(path)
        self.sample_rate = footer.sample_rate
        """Hz."""
        self.names = footer.names
        self.facts = footer.facts
        self.shapes = np.array(footer.shapes, dtype=np.int64).reshape(-1, 2)
        """[signal, (rows, samples)]"""
        sizes = self.shapes.prod(axis=1)
        self.offsets = np.concatenate([[0], np.cumsum(sizes)])
        """Where in the samples each signal begins, and the end."""
        dtype = np.dtype(footer.dtype)
        numbers = {len(self.names), len(self.facts), len(self.shapes)}
        if len(numbers) > 1 or _HEAD.size + int(self.offsets[-1]) * dtype.itemsize != end:
            raise DatasetError(f"{path}: is damaged (its samples and its footer disagree); remove it and run again")
        num_values = int(self.offsets[-1])
        self.samples = np.memmap(path, dtype, "r", _HEAD.size, (num_values,)) if num_values else np.empty(0, dtype)
        """Of all signals, one after another, row by row."""

    def __reduce__(self) -> tuple[type[Shard], tuple[Path]]:
        """Sent to another process as a path, opened again there."""
        return Shard, (self.path,)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def num_samples(self) -> npt.NDArray[np.int64]:
        """Length of every signal."""
        return self.shapes[:, 1]

    def read(self, index: int, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """A view of one signal's samples [row, time], from ``start`` to before ``stop``; copy it to keep or change it."""
        rows, length = self.shapes[index]
        whole = self.samples[self.offsets[index] : self.offsets[index + 1]].reshape(rows, length)
        return whole[:, start:stop]

    def index_of(self) -> dict[str, int]:
        """Where each name is."""
        return {name: index for index, name in enumerate(self.names)}


@dataclass(frozen=True)
class _Footer:
    """What stands behind the samples."""

    sample_rate: PositiveInt
    dtype: Literal["<i2", "<f4"]
    names: list[str]
    shapes: list[tuple[NonNegativeInt, NonNegativeInt]]
    facts: list[dict[str, Any]]


_FOOTER = TypeAdapter(_Footer)


def _read_footer(path: Path) -> tuple[_Footer, int]:
    """The footer and its position."""
    try:
        with path.open("rb") as file:
            magic, position = _HEAD.unpack(file.read(_HEAD.size))
            file.seek(position)
            footer = _FOOTER.validate_json(file.read())
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except (OSError, ValueError, struct.error) as error:
        raise DatasetError(f"{path}: is not a complete packed file ({first_line(error)}); remove it and run again") from None
    if magic != MAGIC:
        raise DatasetError(f"{path}: is not a packed file of this project; remove it and run again")
    return footer, position
