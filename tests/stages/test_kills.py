"""One generation killed twenty times with ``kill -9``, each time continued at once: the tree is that of an undisturbed one.

Also a disk that fills up: one line, nothing half done under a final name, and the same command continues once there is room.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.voices import write_voices
from tests.waiting import wait_until

NUM_KILLS = 20
RECIPE = """
name = "kills"
corpus = { kind = "folder", valid_share = 0.25, test_share = 0.25 }
plan = { kind = "random", num_mixtures = { train = 140, valid = 10, test = 10 }, min_seconds = 0.5 }
systems = { only = {} }
"""
NUM_FILES = 3 * (140 + 10 + 10)

# The command line, started again and again: by a fork, which spares twenty imports. Its workers are forks too.
NURSERY = """
import os, resource, sys
from joblib.externals.loky.backend import context
from pipeline.cli import app
from pipeline.mixtures import rendering
from pipeline.stages import run
context.set_start_method("fork")
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        print("started", os.getpid(), flush=True)
        limit, *arguments = line.split()
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
        os.dup2(os.open("stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.argv = ["tasnet", *arguments]
        app.main()
        os._exit(0)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Nursery:
    """Runs the command line in ``folder``, each time in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands, self._answers = self._process.stdin, self._process.stdout

    def start(self, work: Path, num_workers: int, *, max_file_bytes: int = 2**40) -> int:
        """Begin to make the mixtures, with no file larger than so many bytes; returns the process id."""
        command = ("run", "kills.toml", "mix", "--corpus", "folder=speech", "--work", work.name, "-j", num_workers)
        self._commands.write(" ".join(map(str, [max_file_bytes, *command])).encode() + b"\n")
        return self._answer("started")

    def ended(self) -> int:
        """Wait for the end of the command; returns its exit code, minus the signal that killed it."""
        return self._answer("ended")

    @property
    def stderr(self) -> str:
        """What the last command has written there."""
        return (self.folder / "stderr.txt").read_text()

    def _answer(self, kind: str) -> int:
        """The number the nursery answers with; the command's own output shares its pipe."""
        seen: list[str] = []
        wait_until(lambda: self._read_line(seen) and seen[-1].startswith(f"{kind} "), seen=lambda: seen, running=self._process)
        return int(seen[-1].split()[1])

    def _read_line(self, seen: list[str]) -> bool:
        """Add the next line to those seen, if there is one within a moment."""
        ready, _, _ = select.select([self._answers], [], [], 0.1)
        if ready:
            line = self._answers.readline()
            assert line, f"the nursery has ended; seen: {seen}"
            seen.append(line.decode())
        return bool(ready)

    def close(self) -> None:
        self._commands.close()
        try:
            self._process.wait(60)
        finally:
            self._process.kill()
            self._answers.close()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """In a folder with a recipe and speech, and an undisturbed generation in ``whole``."""
    folder = tmp_path_factory.mktemp("kills")
    (folder / "kills.toml").write_text(RECIPE)
    write_voices(folder / "speech", speakers=8, takes=2, seconds=1.0)
    started = Nursery(folder)
    try:
        started.start(folder / "whole", 1)
        assert started.ended() == 0
        yield started
    finally:
        started.close()


def dataset(work: Path) -> Path:
    """The folder of the mixtures."""
    return next(path for path in work.glob("mix/*") if path.is_dir())


def num_written(work: Path) -> int:
    """Audio files under their final names."""
    return sum(name.endswith(".wav") and name[0] != "." for _, _, names in os.walk(work / "mix") for name in names)


def tree(work: Path) -> dict[str, str]:
    """Digests of all that must not depend on interruptions, by path."""
    folder = dataset(work)
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("log.txt", "stage.json"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


def journalled(work: Path) -> set[str]:
    """Mixtures that the journal counts as done; a kill may have cut its last line."""
    lines = (dataset(work) / "journal.jsonl").read_text().split("\n")[1:-1]
    return {json.loads(line)["mixture_id"] for line in lines}


@pytest.mark.parametrize(("num_workers", "kill"), [(1, os.kill), (2, os.kill), (2, os.killpg)], ids=["1", "2-master", "2-group"])
def test_twenty_kills_at_random_moments_of_one_generation(
    nursery: Nursery, num_workers: int, kill: Callable[[int, int], None]
) -> None:
    work = nursery.folder / f"killed-{num_workers}-{kill.__name__}"
    moments = random.Random(num_workers)
    done = []
    for _ in range(NUM_KILLS):
        until = min(num_written(work) + moments.randrange(NUM_FILES // NUM_KILLS), NUM_FILES - 30)
        process = nursery.start(work, num_workers)
        wait_until(lambda until=until: num_written(work) >= until, seen=lambda: nursery.stderr)  # type: ignore[misc]
        assert process > 1
        kill(process, signal.SIGKILL)
        assert nursery.ended() == -signal.SIGKILL
        assert not (dataset(work) / "mixtures.csv").exists()
        done.append(len(journalled(work)))
    # The kills fell within the generation, most of them with something to resume from, and nothing that was done was lost.
    assert sum(0 < number < NUM_FILES / 3 for number in done) > NUM_KILLS / 2
    assert done == sorted(done)
    nursery.start(work, num_workers)
    assert nursery.ended() == 0
    assert tree(work) == tree(nursery.folder / "whole")


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_disk_without_room_is_one_line_and_the_same_command_continues(nursery: Nursery, num_workers: int) -> None:
    whole, work = nursery.folder / "whole", nursery.folder / f"full-{num_workers}"
    sizes = sorted(path.stat().st_size for path in whole.rglob("*.wav"))
    # Shorter mixtures fit, longer ones do not; nor do the tables of the stages before, so they are there already.
    shutil.copytree(whole, work, ignore=lambda _, names: [name for name in names if name == "mix"])
    nursery.start(work, num_workers, max_file_bytes=sizes[len(sizes) // 2])
    assert nursery.ended() == 2
    errors = [line for line in nursery.stderr.splitlines() if line.startswith("tasnet: ")]
    assert len(errors) == 1
    assert "File too large" in errors[0]
    assert "Traceback" not in nursery.stderr
    undisturbed = dataset(whole)
    for path in work.rglob("*.wav"):
        assert path.read_bytes() == (undisturbed / path.relative_to(dataset(work))).read_bytes()
    assert not (dataset(work) / "mixtures.csv").exists()
    nursery.start(work, num_workers)
    assert nursery.ended() == 0
    assert tree(work) == tree(whole)
