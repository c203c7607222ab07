"""Locks on a folder: one run works in it at a time, and none beside a worker of a run that was killed.

A run holds two locks beside the folder. ``.NAME.lock`` is the run's own: forks close it, so it is free as soon as the run has
ended, however it ended. ``.NAME.workers.lock`` is shared with its workers: forks inherit it and fresh processes take it
themselves, so it is free once nobody writes any more. A new run takes the first and waits for the second.

The kernel releases both when their holders end; the files stay, empty of meaning, and are never removed.
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
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import WorkError

PATIENCE_SECONDS = 10.0
OWN, WORKERS = ".lock", ".workers.lock"
_POLL_SECONDS = 0.05
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}

logger = logging.getLogger("pipeline")

_own: set[int] = set()
"""Descriptors of the locks that this process holds for itself."""
_shared: list[Path] = []
"""The locks that workers of this process share, innermost last."""


@contextmanager
def locked(folder: Path, *, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold a folder for this process and its workers; wait for a while for one that is held.

    Args:
        folder: need not exist; its parent is made.
        patience_seconds: how long to wait, with a line on stderr that says for whom.

    Raises:
        WorkError: it is still held, or cannot be locked.
    """
    own, workers = (folder.with_name(f".{folder.name}{ending}") for ending in (OWN, WORKERS))
    deadline = time.monotonic() + patience_seconds
    lock = _acquire(own, deadline)
    _own.add(lock)
    try:
        _sign(lock)
        with _shared_with_workers(workers, deadline):
            yield
    finally:
        _own.discard(lock)
        os.close(lock)


@contextmanager
def _shared_with_workers(path: Path, deadline: float) -> Iterator[None]:
    """Wait until no worker holds the lock, then hold it in a way that forks inherit."""
    lock = _acquire(path, deadline)
    try:
        _take(lock, fcntl.LOCK_SH, path)
        _shared.append(path)
        try:
            yield
        finally:
            _shared.pop()
    finally:
        os.close(lock)


def workers_lock() -> Path | None:
    """The lock that a worker of this process must hold while it works; None where no folder is locked."""
    return _shared[-1] if _shared else None


@contextmanager
def held_by_worker(path: Path | None) -> Iterator[None]:
    """Hold a run's :func:`workers_lock` in a process that is no fork of the run and has inherited nothing.

    Raises:
        WorkError: another run has taken the folder over, so this worker's own has ended.
    """
    if path is None:
        yield
        return
    lock = _open(path)
    try:
        if not _take(lock, fcntl.LOCK_SH | fcntl.LOCK_NB, path):
            raise WorkError(f"{path}: another run has taken this stage over")
        yield
    finally:
        os.close(lock)


def _close_parents_locks() -> None:
    """In a fork: close what is its parent's alone."""
    for lock in _own:
        os.close(lock)
    _own.clear()


os.register_at_fork(after_in_child=_close_parents_locks)


def _acquire(path: Path, deadline: float) -> int:
    """The descriptor of a lock once it is this process's alone; gives up at the deadline.

    Raises:
        WorkError: somebody else still holds it, or it cannot be locked.
    """
    told = False
    while True:
        lock = _open(path)
        try:
            if _take(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, path) and _is_at(path, lock):
                return lock
        except WorkError:
            os.close(lock)
            raise
        os.close(lock)
        if time.monotonic() > deadline:
            raise WorkError(_refusal(path))
        if not told:
            logger.info("waiting for %s", _holder(path))
            told = True
        time.sleep(_POLL_SECONDS)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise WorkError(f"{path.parent}: cannot be written ({error.strerror}); choose another place with --work") from error


def _is_at(path: Path, lock: int) -> bool:
    """Whether the file is still that of the lock; somebody may have removed it, and another run made a new one."""
    try:
        return os.path.samestat(path.stat(), os.fstat(lock))
    except FileNotFoundError:
        return False


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
                f"{path}: this file system cannot lock files ({error.strerror}); choose a place on another one with --work"
            ) from error
        raise
    return True


def _sign(lock: int) -> None:
    """Write into the lock whose it is."""
    signature = {"process": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps(signature).encode(), 0)


def _signature(path: Path) -> dict[str, str]:
    """Who signed the run's own lock; empty where nobody legibly did."""
    own = path.with_name(path.name.removesuffix(WORKERS).removesuffix(OWN) + OWN)
    with suppress(OSError, ValueError):
        signature = json.loads(own.read_text(encoding="utf-8"))
        return {name: str(signature[name]) for name in ("process", "host", "since") if name in signature}
    return {}


def _holder(path: Path) -> str:
    """Whom a lock is held by, in words."""
    if path.name.endswith(WORKERS):
        return "workers of a run that was killed to end"
    holder = _signature(path)
    if not holder:
        return "another run, which works on the same stage"
    return (
        f"another run, which works on the same stage (process {holder.get('process')} on {holder.get('host')}, "
        f"since {holder.get('since')})"
    )


def _refusal(path: Path) -> str:
    """What to do about a lock that is not released."""
    if path.name.endswith(WORKERS):
        return f"{path}: workers of a run that was killed are still writing; end them and run the same command again"
    host = _signature(path).get("host", socket.gethostname())
    if host != socket.gethostname():
        return (
            f"{path}: {_holder(path)}; wait for it to end. If that machine is gone for good, remove this file and run the same "
            "command again"
        )
    return f"{path}: {_holder(path)}; wait for it to end and run the same command again"
