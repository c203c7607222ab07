"""Ten minutes on a GPU, turned into figures: versions, CUDA tests, speed, equality with the CPU, and a training.

    make gpu                            everything, within 9.5 minutes
    make gpu PARTS="bench checks"       some parts; each writes files of its own, so a later call adds to them
    make gpu PARTS=train SYSTEM=causal  the other system
    make gpu DEVICE=cpu SMALL=1         the same at toy size, to try the kit itself

For a bare machine without network: BUNDLE names a folder made by `make gpu-bundle`: wheels to install and speech to train on.
What is found goes to OUT: `summary.md` for people, `PART.json` with every figure, `log.txt`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PARTS = ("versions", "tests", "kernels", "bench", "checks", "train")
SHARE = {"versions": 0.1, "tests": 0.2, "kernels": 0.2, "bench": 0.55, "checks": 0.5, "train": 1.0}
"""Of the time that is left, what a part may take; the last one takes what there is."""
NO_TESTS = 5
"""pytest's exit code where it found none."""
RESERVE_SECONDS = 20
"""For starting Python, writing the summary and sending files back."""


class Kit:
    """What the parts share: where things lie, how large they are, and how much time is left."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.device: str = given.device
        self.small: bool = given.small
        self.system: str = given.system
        self.out: Path = given.out
        self.bundle: Path | None = given.bundle
        self.deadline = time.monotonic() + given.seconds - RESERVE_SECONDS
        self.out.mkdir(parents=True, exist_ok=True)
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "PYTHONUNBUFFERED": "1",
            "TORCHINDUCTOR_COMPILE_THREADS": "2",
        }

    @property
    def seconds_left(self) -> float:
        """Until the kit must have ended."""
        return self.deadline - time.monotonic()

    def run(self, *command: object, seconds: float) -> subprocess.CompletedProcess[str]:
        """Run a Python program of ours; what it says goes to the log, and a program that takes too long is ended."""
        full = [sys.executable, *map(str, command)]
        try:
            ended = subprocess.run(
                full, cwd=ROOT, env=self.environment, text=True, capture_output=True, timeout=max(seconds, 1), check=False
            )
        except subprocess.TimeoutExpired as error:
            said = "".join(text.decode() if isinstance(text, bytes) else text or "" for text in (error.stdout, error.stderr))
            ended = subprocess.CompletedProcess(full, 124, said, f"ended after {seconds:.0f} s\n")
        with (self.out / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(full)}\n{ended.stdout}{ended.stderr}exit code {ended.returncode}\n\n")
        return ended

    def module(self, name: str, *arguments: object, seconds: float) -> list[dict[str, Any]]:
        """Run a module of the kit; returns the lines of JSON that it printed, and one more where it failed."""
        given = [*arguments, "--device", self.device, *(["--small"] if self.small else []), "--seconds", int(seconds)]
        ended = self.run("-m", f"tests.gpu.{name}", *given, seconds=seconds + 5)
        found = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
        if ended.returncode:
            last = (ended.stderr.strip().splitlines() or ["nothing was said"])[-1]
            found.append({"failed": name, "exit_code": ended.returncode, "said": last[:300]})
        return found


def versions(kit: Kit, seconds: float) -> list[dict[str, Any]]:
    """What the machine is, and what is installed."""
    return kit.module("machine", seconds=seconds)


def tests(kit: Kit, seconds: float) -> list[dict[str, Any]]:
    """The tests that are marked `gpu`; on a CPU, that they are collected."""
    how = ["-n", "4", "-p", "no:benchmark"] if kit.device != "cpu" else ["--collect-only"]
    where = [ROOT / "tests" / wing for wing in ("models", "training")]
    ended = kit.run("-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *how, *where, seconds=seconds)
    lines = ended.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    passed = ended.returncode in (0, NO_TESTS)
    return [{"exit_code": 0 if passed else ended.returncode, "said": lines[-1] if lines else "", "failed_tests": failed[:40]}]


def kernels(kit: Kit, seconds: float) -> list[dict[str, Any]]:
    """Each of our own passes over memory: time, traffic, and its distance from float64."""
    return kit.module("kernels", seconds=seconds) if kit.device != "cpu" else []


def bench(kit: Kit, seconds: float) -> list[dict[str, Any]]:
    """Training steps of every contender, in turn."""
    return kit.module("bench", kit.out.resolve(), seconds=seconds)


def checks(kit: Kit, seconds: float) -> list[dict[str, Any]]:
    """The device against float64 on the CPU, and a training that is killed and resumed."""
    return kit.module("checks", seconds=seconds)


def train(kit: Kit, seconds: float) -> list[dict[str, Any]]:
    """The paper's network on the bundled speech, as many epochs as the measured rate allows."""
    rows = [row for row in read(kit.out / "bench.json") if row.get("contender") == "ours-graphs"]
    rates = [row["segments_per_second"] for row in rows if "segments_per_second" in row]
    given = ["--rate", max(rates)] if rates else []
    speech = ["--speech", kit.bundle.resolve() / "speech"] if kit.bundle and (kit.bundle / "speech").is_dir() else []
    return kit.module("quality", kit.out.resolve(), "--system", kit.system, *given, *speech, seconds=seconds)


RUN: dict[str, Callable[[Kit, float], list[dict[str, Any]]]] = {
    "versions": versions,
    "tests": tests,
    "kernels": kernels,
    "bench": bench,
    "checks": checks,
    "train": train,
}


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a part; none where it has not run."""
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def install(bundle: Path) -> None:
    """Put the bundle's wheels where Python finds them, in front of nothing that is there."""
    wheels = sorted(bundle.glob("wheels/*.whl"))
    if wheels:
        target = Path.home() / "tasnet-gpu-site"
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
            "--upgrade",
            "--target",
            target,
            *wheels,
        ]
        subprocess.run(list(map(str, command)), check=True, timeout=120)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(target)]))


def summary(out: Path) -> str:
    """All parts as Markdown tables."""
    pieces = []
    for part in PARTS:
        rows = read(out / f"{part}.json")
        if rows:
            pieces.append(f"## {part}\n\n" + "\n\n".join(table(alike) for alike in by_columns(rows)))
    return "\n\n".join(pieces) + "\n"


def by_columns(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows with the same columns together, in the order in which they first appear."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append(row)
    return list(groups.values())


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of the same columns as a Markdown table."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([cell(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Any) -> str:
    """A value as a table shows it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/").replace("\n", " ")


def main() -> None:
    """Run the parts that were asked for, in order, within the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "work/gpu")))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="toy sizes")
    parser.add_argument("--bundle", type=Path, help="folder made by `make gpu-bundle`")
    parser.add_argument("--system", choices=("noncausal", "causal"), default="noncausal", help="to train")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=570, help="time for everything")
    given = parser.parse_args()
    if given.bundle:
        install(given.bundle.resolve())
    kit = Kit(given)
    failed = False
    for part in given.parts:
        seconds = kit.seconds_left * (1.0 if kit.small or part == given.parts[-1] else SHARE[part])
        started = time.monotonic()
        rows = RUN[part](kit, seconds)
        (kit.out / f"{part}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        failed |= any("failed" in row or row.get("exit_code") for row in rows)
        print(f"== {part}: {time.monotonic() - started:.0f} s, {kit.seconds_left:.0f} s left", flush=True)
    text = summary(kit.out)
    (kit.out / "summary.md").write_text(text, encoding="utf-8")
    print(text)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
