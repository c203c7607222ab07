"""Signals as values: noted when they arrive, acted on where the work can be interrupted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from pipeline.compute.torchrun import rank
from pipeline.errors import TasnetError

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name))
SAVING = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))


@dataclass
class Interruptions:
    """What signals have asked for: to stop (SIGINT, SIGTERM), or only to save the state (SIGUSR1 or SIGUSR2).

    The latter is what ``sbatch --signal`` sends some time before the end.
    """

    stop: signal.Signals | None = None
    save: bool = False

    @property
    def any(self) -> bool:
        """Whether the state is to be saved now."""
        return self.save or self.stop is not None

    def raise_if_stopped(self) -> None:
        """Once the state is saved: stop as the signal would have, or go on.

        Raises:
            KeyboardInterrupt, SystemExit: after SIGINT, after SIGTERM.
        """
        self.save = False
        if self.stop == signal.SIGINT:
            raise KeyboardInterrupt
        if self.stop is not None:
            raise SystemExit(128 + self.stop)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number in SAVING:
            self.save = True
        elif self.stop is None:
            self.stop = signal.Signals(number)
        else:  # the second time: now
            raise KeyboardInterrupt


@contextmanager
def noted_interruptions() -> Iterator[Interruptions]:
    """While the block runs, signals are noted; outside the main thread, where they never come, nothing changes."""
    interruptions = Interruptions()
    if threading.current_thread() is not threading.main_thread():
        yield interruptions
        return
    before = {number: signal.signal(number, interruptions._note) for number in (*STOPPING, *SAVING)}
    try:
        yield interruptions
    except TasnetError:
        _restore(before)
        # The mistake is the same for all, and process 0 has reported it, or torchrun would not end this one.
        if interruptions.stop is not None and rank() > 0:
            signal.raise_signal(interruptions.stop)
        raise
    finally:
        _restore(before)


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
