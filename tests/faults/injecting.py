"""Lets a command fail in one of its system calls, runs the same command again, and looks at what came of it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.cli.commands import RECIPE
from tests.nursery import Nursery
from tests.voices import write_voices

ACTIONS = {
    "kill -9": -1,
    "SIGTERM": -2,
    "half a read or write": -3,
    "no space left": errno.ENOSPC,
    "input/output error": errno.EIO,
    "permission denied": errno.EACCES,
}
"""What happens in the call; see ``shim.c``."""
KEPT = (
    "scan/*/manifest.csv", "plan/*/plan.csv", "mix/*/**/*.wav", "mix/*/*.csv", "pack/*/*.shard", "train/*/best.safetensors",
    "score/*/scores.csv", "oracles/*/scores.csv",
)  # fmt: skip
"""Results that must not depend on what happened on the way."""
TARGETS = {"pack": None, "train:noncausal": "pack", "report": "train:noncausal"}
"""The stage up to which a command runs, and the one that is done when it begins."""
RUN = (
    "run",
    "tiny.toml",
    "--corpus",
    "folder=speech",
    "--device",
    "cpu",
    "-j",
    "1",
    "--set",
    "systems={noncausal={causal=false}}",
)


@dataclass(frozen=True)
class Fault:
    """One fault, and what came of it."""

    target: str
    action: str
    at: int
    code: int
    """The command's exit code; minus the signal that ended it."""
    wrong: str
    """Empty where every promise was kept."""


class Ground:
    """A folder with a recipe, speech and undisturbed results, and a process whose system calls can fail.

    Args:
        folder: to work in; emptied by nobody.
        targets: of the faults to come.
    """

    def __init__(self, folder: Path, targets: Sequence[str] = tuple(TARGETS)) -> None:
        self.folder = folder
        (folder / "tiny.toml").write_text(RECIPE)
        write_voices(folder / "speech")
        self.nursery = _preloaded(build_shim(folder))
        self.calls: dict[str, int] = {}
        for target in targets:
            self._begin(target, TARGETS[target])
            code, self.calls[target] = self._run(target, self._base(target))
            if code:
                raise AssertionError(f"{target} fails without a fault: {self.nursery.stderr}")

    def fault(self, target: str, seed: int) -> Fault:
        """One fault, in a call and of a kind that the seed chooses."""
        random = Random(f"{target} {seed}")
        action, at = random.choice(sorted(ACTIONS)), random.randrange(1, self.calls[target] + 1)
        work = self.folder / "work"
        self._begin(target, TARGETS[target], work)
        code, _ = self._run(target, work, at=at, action=ACTIONS[action])
        wrong = self._what_is_wrong(code)
        if not wrong:
            code_after, _ = self._run(target, work)
            wrong = self._what_is_left(target, work, code_after)
        return Fault(target, action, at, code, wrong)

    def _what_is_wrong(self, code: int) -> str:
        """With the command that met the fault."""
        if "Traceback" in self.nursery.stderr:
            return f"a traceback: {self.nursery.stderr[-600:]}"
        usual = (0, 2, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM)
        return "" if code in usual else f"exit code {code}: {self.nursery.stderr[-600:]}"

    def _what_is_left(self, target: str, work: Path, code: int) -> str:
        """With the same command, given again."""
        if code:
            return f"the same command fails afterwards ({code}): {self.nursery.stderr[-600:]}"
        found, right = results(work), results(self._base(target))
        if found != right:
            differ = [path for path in sorted(found.keys() | right.keys()) if found.get(path) != right.get(path)]
            return f"other results: {', '.join(differ[:5])}"
        left = [str(path.relative_to(work)) for path in work.rglob(".*.tmp")]
        return f"temporary files are left: {', '.join(left[:5])}" if left else ""

    def _base(self, target: str) -> Path:
        return self.folder / f"done-{target.replace(':', '-')}"

    def _begin(self, target: str, before: str | None, work: Path | None = None) -> None:
        """A work folder in which the stages before are done."""
        work = work or self._base(target)
        shutil.rmtree(work, ignore_errors=True)
        if before:
            shutil.copytree(self._base(before), work)

    def _run(self, target: str, work: Path, *, at: int = 2**60, action: int = 0) -> tuple[int, int]:
        """Exit code, and calls that could have failed."""
        counted = self.folder / "calls.txt"
        prelude = (
            "import atexit, ctypes; shim = ctypes.CDLL(None); shim.fault_count.restype = ctypes.c_long; "
            "shim.fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]; "
            f"atexit.register(lambda: open({str(counted)!r}, 'w').write(str(shim.fault_count()))); "
            f"shim.fault_arm({str(self.folder).encode()!r}, {at}, {action})"
        )
        counted.unlink(missing_ok=True)
        stages = [] if target == "report" else [target]
        ended = self.nursery.run(*RUN, *stages, "--work", work, cwd=self.folder, prelude=prelude)
        return ended.returncode, int(counted.read_text() or 0) if counted.is_file() else 0


def results(work: Path) -> dict[str, str]:
    """Digests by path below the work folder."""
    paths = sorted(path for kind in KEPT for path in work.glob(kind))
    return {str(path.relative_to(work)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def build_shim(folder: Path) -> Path:
    """Compile ``shim.c``."""
    shim = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True, timeout=60)
    return shim


def _preloaded(shim: Path) -> Nursery:
    with _environment("LD_PRELOAD", str(shim)):
        return Nursery()


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
