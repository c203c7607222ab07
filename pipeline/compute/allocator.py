"""What the C library does with freed memory: by default it hands much of it back, and the system has it zeroed page by page."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt


def keep_freed_memory(*, largest_block: int, most_free: int) -> None:
    """Let this process keep what it frees, for work that asks for the same memory again and again; only glibc can.

    Args:
        largest_block: bytes; larger blocks still come from the system and go back to it.
        most_free: bytes; what is free beyond them at the end of the heap goes back.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, largest_block)
        libc.mallopt(_M_TRIM_THRESHOLD, most_free)
