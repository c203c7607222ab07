"""What torchrun tells each process that it starts, in environment variables; without torchrun there is one process."""

from __future__ import annotations

import os


def rank() -> int:
    """Which of all processes this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes there are, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Which of this machine's processes this is, from 0: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """How many processes this machine has."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def num_restarts() -> int:
    """How often this machine's processes were started again after one of them had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def shares_store() -> bool:
    """Whether processes that are started again find what the earlier ones have stored, addresses included, as if it were new."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def max_restarts() -> int:
    """How often processes may be started again."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
