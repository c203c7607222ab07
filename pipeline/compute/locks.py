"""Locks on a folder: one run works in it at a time, and none beside a worker of a run that was killed.

A run holds two locks beside the folder. ``.NAME.lock`` is the run's own: forks close it, so it is free as soon as the run has
ended, however it ended. ``.NAME.workers.lock`` is shared with its workers: forks inherit it and fresh processes take it
themselves, so it is free once nobody writes any more. A new run takes the first, signs it, and waits for the second. A fresh
process that holds the second looks at the signature, so it never works for a run that has been replaced.

The kernel releases both when their holders end; the files stay, as an unheld lock means nothing, and are never removed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import WorkError
from pipeline.files import parse_json

PATIENCE_SECONDS = 10.0
OWN, WORKERS = ".lock", ".workers.lock"
_POLL_SECONDS = 0.05
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}

logger = logging.getLogger("pipeline")


@dataclass(frozen=True)
class WorkersLock:
    """What a worker needs to hold the lock of its run: where the folder is, and how the run has signed."""

    folder: Path
    signature: str


_own: set[int] = set()
"""Descriptors of the locks that this process holds for itself."""
_shared: list[WorkersLock] = []
"""The locks that workers of this process share, innermost last."""
_without_locks = ContextVar("without_locks", default=False)


@contextmanager
def without_locks() -> Iterator[None]:
    """Let :func:`locked` lock nothing in this block, for file systems that cannot: the user sees to it that no other run, and no
    worker of a killed one, works in the same folders."""
    logger.warning("no folder is locked: make sure that no other run uses this work folder, and no worker of a killed one")
    token = _without_locks.set(True)
    try:
        yield
    finally:
        _without_locks.reset(token)


@contextmanager
def locked(folder: Path, *, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold a folder for this process and its workers; wait for a while if another run holds it.

    Args:
        folder: need not exist; its parent is made.
        patience_seconds: how long to wait, with a line on stderr that says for whom.

    Raises:
        WorkError: it is still held, or cannot be locked; in :func:`without_locks` neither.
    """
    if _without_locks.get():
        _make(folder.parent)
        yield
        return
    deadline = time.monotonic() + patience_seconds
    lock = _acquire(_beside(folder, OWN), deadline)
    _own.add(lock)
    try:
        _sign(lock)
        with _shared_with_workers(folder, deadline):
            yield
    finally:
        _own.discard(lock)
        os.close(lock)


@contextmanager
def _shared_with_workers(folder: Path, deadline: float) -> Iterator[None]:
    """Wait until no worker holds the lock, then hold it in a way that forks inherit."""
    path = _beside(folder, WORKERS)
    lock = _acquire(path, deadline)
    shared = WorkersLock(folder, _signature(folder))
    try:
        _take(lock, fcntl.LOCK_SH, path)
        _shared.append(shared)
        try:
            yield
        finally:
            _shared.remove(shared)
    finally:
        os.close(lock)


def workers_lock() -> WorkersLock | None:
    """The lock that a worker of this process must hold while it works; None where no folder is locked."""
    return _shared[-1] if _shared else None


@contextmanager
def held_by_worker(shared: WorkersLock | None) -> Iterator[None]:
    """Hold a run's :func:`workers_lock` in a process that is no fork of the run and has inherited nothing.

    Raises:
        WorkError: another run has taken the folder over, so this worker's own has ended.
    """
    if shared is None:
        yield
        return
    path = _beside(shared.folder, WORKERS)
    lock = _open(path)
    try:
        # In this order: a run that signs after this look waits until this worker lets go.
        if not _take(lock, fcntl.LOCK_SH | fcntl.LOCK_NB, path) or _signature(shared.folder) != shared.signature:
            raise WorkError(f"{shared.folder}: another run has taken this stage over; this worker's own run has ended")
        yield
    finally:
        os.close(lock)


def _close_own() -> None:
    """In a fork: close what is its parent's alone."""
    for lock in _own:
        os.close(lock)
    _own.clear()


os.register_at_fork(after_in_child=_close_own)


# -------------------------------------------------------------------------------------------------------------- one file
def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(f".{folder.name}{ending}")


def _acquire(path: Path, deadline: float) -> int:
    """The descriptor of a lock once it is this process's alone.

    Raises:
        WorkError: somebody else still holds it at the deadline, or it cannot be locked.
    """
    announced = False
    while (lock := _try_to_acquire(path)) is None:
        if time.monotonic() > deadline:
            raise WorkError(_refusal(path))
        if not announced:
            logger.info("waiting for %s to end", _holder(path))
            announced = True
        time.sleep(_POLL_SECONDS)
    return lock


def _try_to_acquire(path: Path) -> int | None:
    with ExitStack() as stack:
        lock = _open(path)
        stack.callback(os.close, lock)
        if _take(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, path) and _is_at(path, lock):
            stack.pop_all()
            return lock
    return None


def _open(path: Path) -> int:
    _make(path.parent)
    try:
        return os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise _unwritable(path.parent, error) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> WorkError:
    return WorkError(f"{folder}: cannot be written ({error.strerror}); choose another place with --work or --out")


def _take(lock: int, operation: int, path: Path) -> bool:
    """Whether the lock could be taken.

    Raises:
        WorkError: the file system cannot lock.
    """
    try:
        fcntl.flock(lock, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise WorkError(
                f"{path}: this file system cannot lock files ({error.strerror}); choose another one with --work or "
                "--out, or, if no other run uses it, add --no-lock"
            ) from error
        raise
    return True


def _is_at(path: Path, lock: int) -> bool:
    """Whether the lock's file is still there; if somebody has removed it, another run may have made a new one."""
    try:
        return os.path.samestat(path.stat(), os.fstat(lock))
    except FileNotFoundError:
        return False


# ------------------------------------------------------------------------------------------------------------ signatures
def _sign(lock: int) -> None:
    """Write into a run's own lock whose it is; a full disk leaves it unsigned, which only costs the others a name."""
    facts = {"process": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="microseconds")}
    with suppress(OSError):
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(facts).encode(), 0)


def _signature(folder: Path) -> str:
    """What stands in a run's own lock; nothing where it cannot be read."""
    try:
        return _beside(folder, OWN).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _signer(path: Path) -> dict[str, str]:
    """Who has signed a run's own lock; empty where that cannot be read."""
    with suppress(OSError, ValueError):
        facts = parse_json(path.read_bytes())
        if isinstance(facts, dict) and facts.keys() >= {"process", "host", "since"}:
            return {name: str(fact) for name, fact in facts.items()}
    return {}


def _holder(path: Path) -> str:
    """Who holds a lock, in words."""
    if path.name.endswith(WORKERS):
        return "the workers of a killed run"
    signer = _signer(path)
    if not signer:
        return "another run"
    return f"another run (process {signer['process']} on {signer['host']}, since {signer['since'][:19]} UTC)"


def _refusal(path: Path) -> str:
    """What to do about a lock that is not released."""
    if path.name.endswith(WORKERS):
        return f"{path}: workers of a killed run are still writing; end them and run the same command again"
    refusal = f"{path}: held by {_holder(path)}; wait for it to end and run the same command again"
    if _signer(path).get("host", socket.gethostname()) == socket.gethostname():
        return refusal
    return f"{refusal}. If that machine is gone for good, remove this file first"
