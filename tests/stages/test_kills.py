"""One generation killed twenty times with ``kill -9``, each time continued at once: the tree is that of an undisturbed one.

Also a disk that fills up: one line, nothing half done under a final name, and the same command continues once there is room.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.nursery import IN_THE_NURSERY, nursery
from tests.voices import write_voices
from tests.waiting import wait_until

pytestmark = IN_THE_NURSERY

NUM_KILLS = 20
RECIPE = """
name = "kills"
corpus = { kind = "folder", valid_share = 0.25, test_share = 0.25 }
plan = { kind = "random", num_mixtures = { train = 140, valid = 10, test = 10 }, min_seconds = 0.5 }
systems = { only = {} }
"""
NUM_FILES = 3 * (140 + 10 + 10)


def start(folder: Path, work: Path, num_workers: int, *, max_file_bytes: int = 2**40) -> int:
    """Begin to make the mixtures of ``folder``; returns the process id."""
    command = ("run", "kills.toml", "mix", "--corpus", "folder=speech", "--work", work.name, "-j", num_workers)
    return nursery().start(*command, cwd=folder, max_file_bytes=max_file_bytes)


def ended() -> int:
    return nursery().ended()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and speech, and an undisturbed generation in ``whole``."""
    folder = tmp_path_factory.mktemp("kills")
    (folder / "kills.toml").write_text(RECIPE)
    write_voices(folder / "speech", speakers=8, takes=2, seconds=1.0)
    start(folder, folder / "whole", 1)
    assert ended() == 0, nursery().stderr
    return folder


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
    place: Path, num_workers: int, kill: Callable[[int, int], None]
) -> None:
    work = place / f"killed-{num_workers}-{kill.__name__}"
    moments = random.Random(num_workers)
    done = []
    for _ in range(NUM_KILLS):
        until = min(num_written(work) + moments.randrange(NUM_FILES // NUM_KILLS), NUM_FILES - 30)
        process = start(place, work, num_workers)
        wait_until(lambda until=until: num_written(work) >= until, seen=lambda: nursery().stderr)  # type: ignore[misc]
        assert process > 1
        kill(process, signal.SIGKILL)
        assert ended() == -signal.SIGKILL
        assert not (dataset(work) / "mixtures.csv").exists()
        done.append(len(journalled(work)))
    # The kills fell within the generation, most of them with something to resume from, and nothing that was done was lost.
    assert sum(0 < number < NUM_FILES / 3 for number in done) > NUM_KILLS / 2
    assert done == sorted(done)
    start(place, work, num_workers)
    assert ended() == 0
    assert tree(work) == tree(place / "whole")


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_disk_without_room_is_one_line_and_the_same_command_continues(place: Path, num_workers: int) -> None:
    whole, work = place / "whole", place / f"full-{num_workers}"
    sizes = sorted(path.stat().st_size for path in whole.rglob("*.wav"))
    # Shorter mixtures fit, longer ones do not; nor do the tables of the stages before, so they are there already.
    shutil.copytree(whole, work, ignore=lambda _, names: [name for name in names if name == "mix"])
    start(place, work, num_workers, max_file_bytes=sizes[len(sizes) // 2])
    assert ended() == 2
    errors = [line for line in nursery().stderr.splitlines() if line.startswith("tasnet: ")]
    assert len(errors) == 1
    assert "File too large" in errors[0]
    assert "Traceback" not in nursery().stderr
    undisturbed = dataset(whole)
    for path in work.rglob("*.wav"):
        assert path.read_bytes() == (undisturbed / path.relative_to(dataset(work))).read_bytes()
    assert not (dataset(work) / "mixtures.csv").exists()
    start(place, work, num_workers)
    assert ended() == 0
    assert tree(work) == tree(whole)
