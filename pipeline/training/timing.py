"""The clock of a training epoch."""

from __future__ import annotations

import time

REFRESH_SECONDS = 2.0
"""How often the loss is fetched from the device for the progress bar, and looked at."""


class Timer:
    """Says when the progress bar and the saved state are due again, and how long a lap took."""

    def __init__(self, saving_seconds: float) -> None:
        self._saving_seconds = saving_seconds
        self._last = self._refreshed = self._saved = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap."""
        before, self._last = self._last, time.perf_counter()
        return self._last - before

    def refresh_is_due(self) -> bool:
        """True once every two seconds."""
        due = time.perf_counter() - self._refreshed >= REFRESH_SECONDS
        if due:
            self._refreshed = time.perf_counter()
        return due

    def saving_is_due(self) -> bool:
        """True once every so many minutes."""
        due = time.perf_counter() - self._saved >= self._saving_seconds
        if due:
            self._saved = time.perf_counter()
        return due
