"""Let commands fail in one system call after the other until the time is up: python -m tests.faults [--seconds 600] [--seed 0]"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.injecting import TARGETS, Ground


def main() -> None:
    """Print every fault after which something was wrong, and how many were survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only these; may be repeated")
    given = parser.parse_args()
    deadline, seed = time.monotonic() + given.seconds, given.seed
    tried: Counter[tuple[str, str]] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as place:
        ground = Ground(Path(place))
        print("system calls that can fail:", ground.calls, flush=True)
        while time.monotonic() < deadline:
            for target in given.target or TARGETS:
                fault = ground.fault(target, seed)
                tried[target, fault.action] += 1
                if fault.wrong:
                    wrong += 1
                    print(
                        f"seed {seed}, {target}, {fault.action} in call {fault.at}, exit code {fault.code}: {fault.wrong}",
                        flush=True,
                    )
            seed += 1
        ground.nursery.close()
    for (target, action), number in sorted(tried.items()):
        print(f"{target}, {action}: {number}")
    print(f"{tried.total()} faults, {wrong} not survived; next seed {seed}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
