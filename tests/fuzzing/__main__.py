"""Damage files and read them until the time is up: python -m tests.fuzzing [--seconds 600] [--only NAME] [--seed 0]"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from tests.fuzzing.readers import READERS
from tests.fuzzing.trying import Outcome, try_one


def main() -> None:
    """Print what failed, each kind once, and how much was tried."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--only", default="", help="readers whose name contains this")
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--trace", action="store_true", help="with the calls that led to it")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    readers = [reader for reader in READERS if given.only in reader.name]
    tried: Counter[str] = Counter()
    kinds: dict[tuple[str, str], Outcome] = {}
    failed: Counter[str] = Counter()
    deadline, seed = time.monotonic() + given.seconds, given.seed
    with tempfile.TemporaryDirectory() as place:
        while time.monotonic() < deadline:
            for reader in readers:
                outcome = try_one(reader, seed, Path(place) / "file")
                tried[reader.name] += 1
                if outcome.fault:
                    failed[reader.name] += 1
                    if (kind := (reader.name, outcome.fault[:40])) not in kinds:
                        kinds[kind] = outcome
                        print(f"{reader.name}, seed {seed}: {outcome.fault}", flush=True)
                        print(outcome.trace if given.trace else "", end="", flush=True)
            seed += 1
    for name, number in tried.items():
        print(f"{name}: {number} tried, {failed[name]} failed")
    print(f"{tried.total()} files, {failed.total()} failed; next seed {seed}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
