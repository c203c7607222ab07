"""What the parts of the kit share: their arguments, their lines of JSON, and how time is measured on a device."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.compute import devices

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
    # The line and its end in one piece: several processes say their rows to one place.
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def seconds_each(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Median over some runs; two runs come first, unmeasured."""
    for _ in range(2):
        work()
    devices.synchronise(device)
    return statistics.median(devices.seconds_each(work, times, device))
