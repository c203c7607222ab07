"""What the parts of the kit share: their arguments, their lines of JSON, and how time is measured on a device."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

TOY = {
    "num_filters": 32,
    "bottleneck_channels": 8,
    "skip_channels": 8,
    "hidden_channels": 16,
    "blocks_per_repeat": 2,
    "num_repeats": 1,
}
"""A network for a CPU that only tries the kit."""


def arguments(description: str | None, **positional: type) -> argparse.Namespace:
    """The arguments that all parts take, after some of their own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in positional.items():
        parser.add_argument(name, type=kind)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--speech", type=Path)
    parser.add_argument("--system", default="noncausal", help="of own-speech.toml: noncausal or causal")
    parser.add_argument("--rate", type=float, help="segments of 4 seconds a second")
    given = parser.parse_args()
    given.device = "cuda:0" if given.device == "cuda" else given.device
    return given


def say(**row: Any) -> None:
    """Print a row of results."""
    print(json.dumps(row), flush=True)


def synchronise(device: torch.device) -> None:
    """Wait for what the device still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_each(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Median over some runs, each timed by the device's own clock where it has one; two runs come first, unmeasured."""
    for _ in range(2):
        work()
    synchronise(device)
    if device.type != "cuda":
        return statistics.median(_host_seconds(work) for _ in range(times))
    events = [torch.cuda.Event(enable_timing=True) for _ in range(times + 1)]
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    synchronise(device)
    return statistics.median(a.elapsed_time(b) for a, b in pairwise(events)) / 1e3


def _host_seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
