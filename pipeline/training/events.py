"""Learning curves as TensorBoard event files, where the package ``tensorboard`` is installed; the only door to it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol


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
    # Imported late: it is optional, and slow.
    writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(folder), purge_step=first_epoch)

    def write(row: Mapping[str, float], /) -> None:
        for name, value in row.items():
            if name != "epoch":
                writer.add_scalar(name, value, global_step=int(row["epoch"]))

    try:
        yield write
    finally:
        writer.close()
