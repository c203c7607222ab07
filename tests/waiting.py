"""Waiting in tests: always with an end, which fails with what was seen; and processes that end with their test."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

PATIENCE_SECONDS = 240.0
"""Long enough for a slow and busy machine, and within a test's own limit; what takes longer has stopped."""


def wait_until(
    condition: Callable[[], object],
    *,
    seen: Callable[[], object] = lambda: "",
    running: subprocess.Popen[Any] | None = None,
    seconds: float = PATIENCE_SECONDS,
) -> None:
    """Wait for a condition.

    Fails with what ``seen`` says once the time is over, or once the process that should bring it about is no longer running.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        code = running.poll() if running else None
        assert code is None or condition(), f"the process has ended with {code}; seen: {seen()}"
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain; seen: {seen()}"
        time.sleep(0.002)


@contextmanager
def process(command: Sequence[Any], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own; what is still running of the group when the block ends is ended too."""
    started = subprocess.Popen(command, start_new_session=True, text=True, **options)
    try:
        yield started
    finally:
        if started.poll() is None:
            started.terminate()  # torchrun passes it on to its processes, which are in other groups
            with suppress(subprocess.TimeoutExpired):
                started.communicate(timeout=30)
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.communicate(timeout=PATIENCE_SECONDS)
