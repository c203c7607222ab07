"""Waiting in tests: always with an end, which fails with what was seen."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_SECONDS = 60.0
"""Long enough for a busy machine; what takes longer has stopped."""


def wait_until(
    condition: Callable[[], object], *, seen: Callable[[], object] = lambda: "", seconds: float = PATIENCE_SECONDS
) -> None:
    """Wait for a condition; fail with what ``seen`` says once the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain; seen: {seen()}"
        time.sleep(0.002)
