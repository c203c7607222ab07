"""Locks: who waits for whom, for how long, and with what message."""

import errno
import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.compute import locks
from pipeline.compute.locks import held_by_worker, locked, without_locks, workers_lock
from pipeline.errors import WorkError
from tests.waiting import PATIENCE_SECONDS, wait_until

ROOT = Path(__file__).parents[2]

# What the programs do once they hold a lock: make the file ``sign``, and take it away when there is a file ``release``.
HOLD = """
import os, subprocess, sys, time
from pathlib import Path
from pipeline.compute.locks import WorkersLock, held_by_worker, locked, workers_lock

folder, sign, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def hold():
    sign.touch()
    deadline = time.monotonic() + 200
    while not sign.with_name("release").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    sign.unlink()
"""

HOLDER = (
    HOLD
    + """
with locked(folder):
    hold()
"""
)

# A run with a worker, made by a fork or started afresh, that goes on for a while after the run has been killed.
ORPHANED = (
    HOLD
    + """
if kind == "worker":
    with held_by_worker(WorkersLock(folder, sys.argv[4])):
        hold()
    sys.exit()
with locked(folder):
    if kind == "fork" and os.fork() == 0:
        hold()
        os._exit(0)
    if kind == "fresh":
        subprocess.Popen([sys.executable, __file__, str(folder), str(sign), "worker", workers_lock().signature])
    time.sleep(200)
"""
)


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Path]:
    """The file that ends the programs; it is there after the test at the latest."""
    yield tmp_path / "release"
    (tmp_path / "release").touch()


class Releasing(logging.Handler):
    """Ends the programs as soon as somebody says that it waits for them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        self.path.touch()


@pytest.fixture
def released_by_the_message(release: Path) -> Iterator[None]:
    handler = Releasing(release)
    logging.getLogger("pipeline").addHandler(handler)
    yield
    logging.getLogger("pipeline").removeHandler(handler)


def started(program: str, place: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """Run a program that makes the file ``sign`` once it holds the lock."""
    (place / "program.py").write_text(program)
    command: list[Any] = [sys.executable, place / "program.py", place / "stage", place / "sign", *map(str, arguments)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
    wait_until((place / "sign").exists, running=process)
    return process


@pytest.mark.usefixtures("released_by_the_message")
def test_a_run_says_whom_it_waits_for_and_starts_once_the_other_has_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    holder = started(HOLDER, tmp_path, "run")
    with caplog.at_level(logging.INFO, logger="pipeline"), locked(tmp_path / "stage"):
        pass
    assert holder.wait(PATIENCE_SECONDS) == 0
    assert len(caplog.messages) == 1
    assert f"process {holder.pid} on {socket.gethostname()}, since 20" in caplog.messages[0]


@pytest.mark.usefixtures("release")
def test_a_lock_that_stays_held_is_a_one_line_error(tmp_path: Path) -> None:
    holder = started(HOLDER, tmp_path, "run")
    with (
        pytest.raises(WorkError, match=f"process {holder.pid} on .* wait for it to end and run the same command again"),
        locked(tmp_path / "stage", patience_seconds=0.2),
    ):
        pass
    holder.kill()
    holder.wait(PATIENCE_SECONDS)
    with locked(tmp_path / "stage", patience_seconds=60):
        pass


@pytest.mark.usefixtures("released_by_the_message")
@pytest.mark.parametrize("kind", ["fork", "fresh"])
def test_nobody_writes_beside_a_worker_of_a_run_that_was_killed(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = started(ORPHANED, tmp_path, kind)
    os.kill(run.pid, signal.SIGKILL)
    run.wait(PATIENCE_SECONDS)
    assert (tmp_path / "sign").exists()  # the worker is still there
    with caplog.at_level(logging.INFO, logger="pipeline"), locked(tmp_path / "stage"):
        assert not (tmp_path / "sign").exists()
    assert caplog.messages == ["waiting for the workers of a killed run to end"]


@pytest.mark.usefixtures("release")
def test_a_worker_that_stays_is_a_one_line_error(tmp_path: Path) -> None:
    run = started(ORPHANED, tmp_path, "fork")
    os.kill(run.pid, signal.SIGKILL)
    run.wait(PATIENCE_SECONDS)
    with (
        pytest.raises(WorkError, match="workers of a killed run are still writing; end them"),
        locked(tmp_path / "stage", patience_seconds=0.1),
    ):
        pass


def test_forks_do_not_hold_the_lock_of_the_run_itself(tmp_path: Path) -> None:
    here, there = socket.socketpair()
    with locked(tmp_path / "stage"):
        if (child := os.fork()) == 0:
            there.send(b"begun")
            there.recv(1)
            os._exit(0)
        assert here.recv(5) == b"begun"
    with open(tmp_path / ".stage.lock", "rb") as file:  # noqa: PTH123 - a descriptor, as another run has it
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    here.send(b".")
    os.waitpid(child, 0)
    here.close()
    there.close()


def test_a_worker_whose_run_was_taken_over_ends(tmp_path: Path) -> None:
    with locked(tmp_path / "stage"):
        shared = workers_lock()
    assert shared is not None
    assert workers_lock() is None
    with held_by_worker(shared), held_by_worker(shared), held_by_worker(None):
        pass
    with (tmp_path / ".stage.workers.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(WorkError, match="taken this stage over"), held_by_worker(shared):
            pass
    with held_by_worker(shared):
        pass
    # The other run shares the lock with its own workers by now: the signature tells whose it is.
    with locked(tmp_path / "stage"), pytest.raises(WorkError, match="taken this stage over"), held_by_worker(shared):
        pass


def test_a_lock_of_another_machine_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / ".stage.lock"
    path.write_text(json.dumps({"process": 7, "host": "another", "since": "2026-01-01T00:00:00+00:00"}))
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with (
            pytest.raises(WorkError, match=r"process 7 on another, .*If that machine is gone for good, remove this file first"),
            locked(tmp_path / "stage", patience_seconds=0),
        ):
            pass
        path.unlink()  # as the message says: a new lock takes its place, and is the one that counts
        with locked(tmp_path / "stage", patience_seconds=0):
            assert json.loads(path.read_text())["process"] == os.getpid()


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "5", '"process host since"', '{"process": 1}'])
def test_an_unsigned_lock_is_waited_for_all_the_same(tmp_path: Path, content: str) -> None:
    path = tmp_path / ".stage.lock"
    path.write_text(content)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(WorkError, match="another run"), locked(tmp_path / "stage", patience_seconds=0):
            pass
    with locked(tmp_path / "stage", patience_seconds=0):
        pass


def test_a_lock_that_was_removed_while_waiting_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".stage.lock"
    take = locks._take
    removed: list[Path] = []

    def take_and_remove(lock: int, operation: int, of: Path) -> bool:
        if not removed:
            removed.append(path)
            path.unlink()
        return take(lock, operation, of)

    monkeypatch.setattr(locks, "_take", take_and_remove)
    with locked(tmp_path / "stage"):
        assert path.exists()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_no_descriptor_is_left_open_whatever_goes_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    before = os.listdir("/dev/fd")  # noqa: PTH208
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", fail)
        with pytest.raises(type(error)), locked(tmp_path / "stage"):
            pass
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "stage"):
        raise ZeroDivisionError
    assert os.listdir("/dev/fd") == before  # noqa: PTH208
    assert workers_lock() is None


def test_a_full_disk_does_not_keep_a_run_from_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with locked(tmp_path / "stage"), held_by_worker(workers_lock()):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(WorkError, match=r"cannot lock files .*--work"), locked(tmp_path / "stage"):
        pass


def test_without_locks_works_on_a_file_system_that_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with without_locks(), locked(tmp_path / "new" / "stage"), held_by_worker(workers_lock()):
        assert workers_lock() is None
        (tmp_path / "new" / "stage").mkdir()
    assert "no folder is locked" in caplog.text
    with pytest.raises(WorkError, match="--no-lock"), locked(tmp_path / "stage"):
        pass
