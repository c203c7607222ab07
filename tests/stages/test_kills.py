"""One generation killed twenty times with ``kill -9``, each time continued at once: the tree is that of an undisturbed one.

Also a disk that fills up: one line, nothing half done under a final name, and the same command continues once there is room.
"""

import hashlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys

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
from pipeline.cli import app, terminal
from pipeline.mixtures import rendering
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
    """Runs the command line, each time in a process of its own."""

    def __init__(self, cwd):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "bufsize": 0}
        self._process = subprocess.Popen([sys.executable, "-c", NURSERY], cwd=cwd, **pipes)

    def start(self, *arguments, max_file_bytes=2**40):
        """Begin a command that cannot write larger files; returns its process."""
        self._process.stdin.write(" ".join(map(str, [max_file_bytes, *arguments])).encode() + b"\n")
        return self._told("started")

    def ended(self):
        """Wait for the end of the command; returns its exit code, minus the signal that killed it."""
        return self._told("ended")

    def _told(self, what):
        """What the nursery says; the results of the command share its pipe."""
        seen = []
        wait_until(lambda: self._lines(seen) and seen[-1].startswith(f"{what} "), seen=lambda: seen)
        return int(seen[-1].split()[1])

    def _lines(self, seen):
        """Add the next line to those seen, if there is one within a moment."""
        ready, _, _ = select.select([self._process.stdout], [], [], 0.1)
        if ready:
            line = self._process.stdout.readline()
            assert line, f"the nursery has ended; seen: {seen}"
            seen.append(line.decode())
        return ready

    def close(self):
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a recipe and speech, and an undisturbed generation in ``whole``."""
    folder = tmp_path_factory.mktemp("kills")
    (folder / "kills.toml").write_text(RECIPE)
    write_voices(folder / "speech", speakers=8, takes=2, seconds=1.0)
    nursery = Nursery(folder)
    nursery.start(*_command("whole", 1))
    assert nursery.ended() == 0
    yield folder, nursery
    nursery.close()


def _command(work, num_workers):
    return "run", "kills.toml", "mix", "--corpus", "folder=speech", "--work", work, "-j", num_workers


def _dataset(work):
    """The folder of the mixtures, once there is one."""
    return next((path for path in work.glob("mix/*") if path.is_dir()), None)


def _num_written(work):
    """Audio files under their final names."""
    return sum(name.endswith(".wav") and name[0] != "." for _, _, names in os.walk(work / "mix") for name in names)


def _tree(work):
    dataset = _dataset(work)
    paths = (path for path in dataset.rglob("*") if path.is_file() and path.name not in ("log.txt", "stage.json"))
    return {str(path.relative_to(dataset)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


def _journalled(work):
    """Mixtures that the journal counts as done; a kill may have cut its last line."""
    lines = (_dataset(work) / "journal.jsonl").read_text().split("\n")[1:-1]
    return {json.loads(line)["mixture_id"] for line in lines}


@pytest.mark.parametrize(("num_workers", "kill"), [(1, os.kill), (2, os.kill), (2, os.killpg)], ids=["1", "2-master", "2-group"])
def test_twenty_kills_at_random_moments_of_one_generation(place, num_workers, kill):
    folder, nursery = place
    work = folder / f"killed-{num_workers}-{kill.__name__}"
    moments = random.Random(num_workers)
    done = []
    for _ in range(NUM_KILLS):
        until = min(_num_written(work) + moments.randrange(NUM_FILES // NUM_KILLS), NUM_FILES - 30)
        process = nursery.start(*_command(work.name, num_workers))
        wait_until(lambda until=until: _num_written(work) >= until, seen=lambda: (folder / "stderr.txt").read_text())
        assert process > 1
        kill(process, signal.SIGKILL)
        assert nursery.ended() == -signal.SIGKILL
        assert not (_dataset(work) / "mixtures.csv").exists()
        done.append(len(_journalled(work)))
    # The kills fell within the generation, most of them with something to resume from, and nothing that was done was lost.
    assert sum(0 < number < NUM_FILES / 3 for number in done) > NUM_KILLS / 2
    assert done == sorted(done)
    nursery.start(*_command(work.name, num_workers))
    assert nursery.ended() == 0
    assert _tree(work) == _tree(folder / "whole")


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_disk_without_room_is_one_line_and_the_same_command_continues(place, num_workers):
    folder, nursery = place
    work = folder / f"full-{num_workers}"
    sizes = sorted(path.stat().st_size for path in (folder / "whole").rglob("*.wav"))
    # Shorter mixtures fit, longer ones do not; nor do the tables of the stages before, so they are there already.
    shutil.copytree(folder / "whole", work, ignore=lambda _, names: [name for name in names if name == "mix"])
    nursery.start(*_command(work.name, num_workers), max_file_bytes=sizes[len(sizes) // 2])
    assert nursery.ended() == 2
    said = [line for line in (folder / "stderr.txt").read_text().splitlines() if line.startswith("tasnet: ")]
    assert len(said) == 1
    assert "File too large" in said[0]
    assert "Traceback" not in (folder / "stderr.txt").read_text()
    written = list(work.rglob("*.wav"))
    whole = _dataset(folder / "whole")
    assert all(path.read_bytes() == (whole / path.relative_to(_dataset(work))).read_bytes() for path in written)
    assert not (_dataset(work) / "mixtures.csv").exists()
    nursery.start(*_command(work.name, num_workers))
    assert nursery.ended() == 0
    assert _tree(work) == _tree(folder / "whole")
