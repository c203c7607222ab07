"""What the C library does with freed memory: by default it returns much of it, and the system zeroes it page by page."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt


def keep_freed_memory(*, largest_block: int, most_free: int) -> None:
    """Let this process keep what it frees, for work that asks for the same memory again and again; works with glibc only.

    Args:
        largest_block: bytes; larger blocks are still taken from the system and returned to it.
        most_free: bytes; more free memory than this at the end of the heap is returned.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, largest_block)
        libc.mallopt(_M_TRIM_THRESHOLD, most_free)
