"""Progress on stderr: a bar on a terminal, a plain line every minute in a log."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

FIRST_LINE_SECONDS = 10.0
"""Shorter work leaves no line in a log."""
LINE_SECONDS = 60.0

stderr = Console(stderr=True)


class Advance(Protocol):
    """Moves a progress bar by some steps; a note, once given, stands beside it until the next one."""

    def __call__(self, steps: int, note: str = "", /, *, milestone: bool = False) -> None:
        """Move by ``steps``; a milestone is worth a line in a log, whenever the last one was."""


@contextmanager
def progress_bar(
    description: str,
    total: int,
    *,
    done: int = 0,
    console: Console = stderr,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Advance]:
    """Show progress while the block runs; yields the function that advances it.

    Args:
        description: names the work; nothing is shown without one.
        total: steps of the work; 0 where nobody knows.
        done: steps that an earlier run has done; they do not count for the rate.
        console: where to. Where it is no terminal (SLURM, CI, ``nohup``) it gets plain lines: the first after ten seconds, one
            a minute from then on, and one at every milestone.
        clock: seconds.
    """
    if not description:
        yield _show_nothing
    elif console.is_interactive or console.is_jupyter:
        with _bar(console) as bar:
            yield _advance_of(bar, description, total, done)
    else:
        lines = _Lines(description, total, done, console, clock)
        yield lines.advance
        lines.finish()


def _show_nothing(steps: int, note: str = "", /, *, milestone: bool = False) -> None:
    pass


# ---------------------------------------------------------------------------------------------------------- on a terminal
class _Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def _advance_of(bar: Progress, description: str, total: int, done: int) -> Advance:
    task = bar.add_task(description, total=total, completed=done, note="")

    def advance(steps: int, note: str = "", /, *, milestone: bool = False) -> None:
        if note:
            bar.update(task, advance=steps, note=note)
        else:
            bar.advance(task, steps)

    return advance


# ---------------------------------------------------------------------------------------------------------------- in a log
class _Lines:
    """Plain lines; they are written as the work advances, so no thread is needed that a fork would have to do without."""

    def __init__(self, description: str, total: int, done: int, console: Console, clock: Callable[[], float]) -> None:
        self._description, self._total, self._done, self._note = description, total, done, ""
        self._console, self._clock = console, clock
        # When each of the last lines was written, and how much was done: the rate follows the last few minutes.
        self._earlier = deque([(clock(), done)], maxlen=5)
        self._next_line = clock() + FIRST_LINE_SECONDS
        self._last_written: int | None = None

    def advance(self, steps: int, note: str = "", /, *, milestone: bool = False) -> None:
        self._done += steps
        self._note = note or self._note
        if milestone or self._clock() >= self._next_line:
            self._write()

    def finish(self) -> None:
        """Say how it ended, to those who have seen it begin."""
        if self._last_written not in (None, self._done):
            self._write()

    def _write(self) -> None:
        now = self._clock()
        since, before = self._earlier[0]
        rate = (self._done - before) / max(now - since, 1e-9)
        speed = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
        parts = [self._share(), speed, *self._left(rate), *filter(None, [self._note])]
        self._console.out(f"{self._description}: {', '.join(parts)}", highlight=False)
        self._earlier.append((now, self._done))
        self._next_line = now + LINE_SECONDS
        self._last_written = self._done

    def _share(self) -> str:
        return f"{self._done:,}/{self._total:,} ({100 * self._done // self._total}%)" if self._total else f"{self._done:,}"

    def _left(self, rate: float) -> list[str]:
        """The time left as hours, minutes and seconds; nothing where it cannot be known."""
        missing = self._total - self._done
        return [f"{timedelta(seconds=round(missing / rate))} left"] if missing > 0 and rate > 0 else []
