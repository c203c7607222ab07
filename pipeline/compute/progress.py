"""Progress bars on stderr."""

from __future__ import annotations

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

stderr = Console(stderr=True)


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


class Advance(Protocol):
    """Moves a progress bar by some steps; a note, once given, stands beside it until the next one."""

    def __call__(self, steps: int, note: str = "", /) -> None:
        """Move by ``steps``."""


class progress_bar:  # noqa: N801 - used as a function: `with progress_bar("mix", 100) as advance: advance(1)`
    """A progress bar on stderr, silent without a description; yields a function that advances it."""

    def __init__(self, description: str, total: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=stderr, disable=not description)
        self._task = self._progress.add_task(description, total=total, note="")

    def __enter__(self) -> Advance:
        self._progress.start()
        return self._advance

    def _advance(self, steps: int, note: str = "", /) -> None:
        if note:
            self._progress.update(self._task, advance=steps, note=note)
        else:
            self._progress.advance(self._task, steps)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
