"""Learning curves as TensorBoard event files, where the package ``tensorboard`` is installed; the only door to it."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

logger = logging.getLogger(__name__)


class WriteEvents(Protocol):
    """Takes the row of an epoch."""

    def __call__(self, row: Mapping[str, float], /) -> None:
        """Write every value of the row as a point of the curve with its name."""


@contextmanager
def event_file(folder: Path, *, first_epoch: int, enabled: bool = True) -> Iterator[WriteEvents]:
    """An open event file in ``folder``; nothing is written without the package, or unless ``enabled``.

    Args:
        folder: made when needed; one file per start of the training.
        first_epoch: points from this epoch on, left by a run that was interrupted, are hidden.
        enabled: false in all processes but one.
    """
    if not enabled or importlib.util.find_spec("tensorboard") is None:
        yield lambda row: None
        return
    curves = _Curves(folder, first_epoch)
    try:
        yield curves.write
    finally:
        curves.close()


class _Curves:
    """An event file that is written at once, not by a thread of its own, so that a disk's faults are met here."""

    def __init__(self, folder: Path, first_epoch: int) -> None:
        # Imported late: it is optional, and slow.
        protocol = importlib.import_module("tensorboard.compat.proto.event_pb2")
        summary = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        records = importlib.import_module("tensorboard.summary.writer.record_writer")
        self._event, self._summary = protocol.Event, summary.Summary
        self._path = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._records: Any = None
        with self._excused():
            folder.mkdir(parents=True, exist_ok=True)
            self._records = records.RecordWriter(self._path.open("wb"))
        self._add(file_version="brain.Event:2")
        started = protocol.SessionLog(status=protocol.SessionLog.START)
        self._add(step=first_epoch, session_log=started)

    def write(self, row: Mapping[str, float], /) -> None:
        """Add an epoch's values."""
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in row.items() if name != "epoch"]
        self._add(step=int(row["epoch"]), summary=self._summary(value=values))

    def close(self) -> None:
        """Close the file."""
        if self._records is not None:
            with self._excused():
                self._records.close()

    def _add(self, **content: Any) -> None:
        if self._records is not None:
            with self._excused():
                self._records.write(self._event(wall_time=time.time(), **content).SerializeToString())
                self._records.flush()

    @contextmanager
    def _excused(self) -> Iterator[None]:
        """The curves are an extra: where they cannot be written, the training goes on without them."""
        try:
            yield
        except OSError as error:
            self._records = None
            logger.warning(
                "%s: cannot be written (%s); there are no more TensorBoard events", self._path, error.strerror or error
            )
