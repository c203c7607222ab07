"""Work on the workers of a dask cluster: on this machine, behind a scheduler's address, or as SLURM jobs.

For :mod:`pipeline.compute.workers`. Calls are tasks of :mod:`distributed`, whose scheduler repeats what a dead worker was doing.
joblib's dask backend is not used: it puts arguments into the memory of one worker, with which they die, begins more than a slow
caller takes, and drops the results before an error.

On one machine a worker never outlives its run (:mod:`pipeline.compute.locks`). On a cluster it may, by the item it is at: a run
that is killed loses its connection, whereupon the scheduler cancels all its tasks, but what a worker has begun it ends. That does
no harm to the run that follows: a file is moved to its name only when whole (:mod:`pipeline.files`), and as folders are named
by what decides their content, both write the same bytes. So workers hold no locks, which not every shared file system has.
"""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from threadpoolctl import threadpool_limits

from pipeline.compute.version import package_version
from pipeline.errors import UsageError, WorkError, first_line

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster
    from distributed.deploy import Cluster as DaskCluster

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Outcome = tuple[Any, BaseException | None]
"""What a call returned, or what it raised."""

CONNECT_SECONDS = 30.0
SLURM_JOBS = 10
_IDLE_MINUTES = 10
"""SLURM jobs without work end after so long: longer than a stage takes to write its tables, shorter than a training."""
AHEAD = 4
"""Calls per worker that are under way or waiting, however slowly the results are taken."""
_FEWEST_AHEAD = 16
"""The same where hardly any worker is there yet: enough to be worth starting some."""
_RECOUNT_SECONDS = 5.0

logger = logging.getLogger("pipeline")


@dataclass
class Cluster:
    """A cluster that this process is connected to.

    Attributes:
        name: as the command line has it.
        client: the connection.
        most_workers: how many there will be if it grows as it is used, 0 if it does not.
    """

    name: str
    client: Client
    most_workers: int = 0
    _window: int = 0
    _counted: float = -_RECOUNT_SECONDS

    def window(self) -> int:
        """How many calls to send ahead of the results that are taken, by the workers that are there now."""
        if time.monotonic() - self._counted > _RECOUNT_SECONDS:
            num_workers = max(sum(self.client.nthreads().values()), self.most_workers)
            self._window, self._counted = max(AHEAD * num_workers, _FEWEST_AHEAD), time.monotonic()
        return self._window


_connected: ContextVar[Cluster | None] = ContextVar("connected", default=None)


def connected_cluster() -> Cluster | None:
    """The cluster of the :func:`on_cluster` block that this is in, if any."""
    return _connected.get()


# ------------------------------------------------------------------------------------------------------------ connecting
@contextmanager
def on_cluster(name: str | None) -> Iterator[None]:
    """Let :func:`pipeline.compute.workers.map_parallel` work on a cluster in this block.

    Args:
        name: ``tcp://HOST:PORT`` (or ``tls://…``) of a scheduler; ``local`` or ``local:N`` for N workers on this machine, one per
            core by default; ``slurm`` or ``slurm:N`` for up to N jobs; None for no cluster.

    Raises:
        UsageError: it is none of these, or a package is missing.
        WorkError: no scheduler answers, or no cluster can be started.
    """
    if name is None:
        yield
        return
    kind, count = _parsed(name)
    _require("distributed")
    with ExitStack() as stack:
        cluster = _connect(name, kind, count, stack)
        _greet(cluster.client)
        token = _connected.set(cluster)
        try:
            yield
        finally:
            _connected.reset(token)


def _parsed(name: str) -> tuple[str, int | None]:
    """The kind of cluster, ``tcp``, ``local`` or ``slurm``, and the number behind the last two."""
    if re.fullmatch(r"(tcp|tls)://\S+:\d+", name):
        return "tcp", None
    if found := re.fullmatch(r"(local|slurm)(?::([1-9]\d{0,4}))?", name):
        return found[1], int(found[2]) if found[2] else None
    raise UsageError(f"--cluster {name}: write it as tcp://HOST:PORT, local, local:WORKERS, slurm or slurm:JOBS")


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise UsageError(f"--cluster needs the package {package}: pip install 'tasnet-pipeline[cluster]'")


def _connect(name: str, kind: str, count: int | None, stack: ExitStack) -> Cluster:
    from distributed import Client
    from distributed.utils import silence_logging_cmgr

    stack.enter_context(silence_logging_cmgr(logging.CRITICAL))  # what matters of it comes as an error of ours
    most_workers = 0
    address: str | DaskCluster = name
    try:
        if kind == "local":
            address = stack.enter_context(_local(count))
        elif kind == "slurm":
            address, most_workers = _slurm(count or SLURM_JOBS)
            stack.enter_context(address)
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError as error:
        raise WorkError(
            f"--cluster {name}: no scheduler answers there ({first_line(error)}); start one with `dask scheduler`"
        ) from error
    return Cluster(name, stack.enter_context(client), most_workers)


def _local(num_workers: int | None) -> LocalCluster:
    """Workers on this machine that end with this process."""
    import joblib
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=num_workers or joblib.cpu_count(),
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        preload=[__name__],  # finds dask_setup
        silence_logs=logging.CRITICAL,
    )


def dask_setup(worker: Any) -> None:
    """In a worker on this machine: leave interrupts from the keyboard to the process it works for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _slurm(num_jobs: int) -> tuple[DaskCluster, int]:
    """SLURM jobs that come as there is work and go when there is none; dask's own configuration says what a job is."""
    _require("dask_jobqueue")
    import dask
    from dask_jobqueue import SLURMCluster

    job = dask.config.get("jobqueue.slurm", {})
    if not job.get("cores") or not job.get("memory"):
        raise UsageError(
            "--cluster slurm: write into ~/.config/dask/jobqueue.yaml how many cores and how much memory a job has, as shown in "
            "docs/cluster.md"
        )
    scheduler = {"dashboard_address": ":0", **(job.get("scheduler-options") or {})}
    cluster = SLURMCluster(processes=job["cores"], scheduler_options=scheduler)  # one thread each
    cluster.adapt(maximum_jobs=num_jobs, interval="10s", wait_count=_IDLE_MINUTES * 6)
    return cluster, num_jobs * job["cores"]


def _greet(client: Client) -> None:
    """Say where the dashboard is, and what is odd about the workers."""
    threads = client.nthreads()
    dashboard = f", dashboard at {client.dashboard_link}" if find_spec("bokeh") else ""
    logger.info("cluster: %s workers%s", len(threads) or "waiting for", dashboard)
    if any(number > 1 for number in threads.values()):
        logger.warning(
            "cluster: of a worker's threads only one computes; start workers with `dask worker --nworkers -1 --nthreads 1`"
        )


# --------------------------------------------------------------------------------------------------------------- working
def from_cluster(
    cluster: Cluster, function: Callable[[Argument], Result], arguments: Sequence[Argument], description: str
) -> Generator[Result, None, None]:
    """Call a function with every argument on a cluster; yields the results in order, and raises what a call raised in its turn.

    Results are fetched as soon as they are there, so a worker that dies takes with it only what it was computing.

    Raises:
        WorkError: the scheduler is gone, or call after call was killed.
    """
    tasks = _Tasks(cluster, partial(_work, Path.cwd(), package_version(), function), arguments, description or _name_of(function))
    try:
        for number in range(len(arguments)):
            tasks.send(number + _window(cluster))
            yield tasks.result(number)
    finally:
        tasks.cancel()


def _name_of(function: Any) -> str:
    """What a person would call a function's work: ``read digests`` of ``_read_digests``."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", "work").strip("_").replace("_", " ")


class _Tasks:
    """The calls that a cluster has been sent, by number."""

    def __init__(self, cluster: Cluster, call: Callable[[Any], Any], arguments: Sequence[Any], name: str) -> None:
        from distributed import as_completed

        self._cluster, self._call, self._arguments = cluster, call, arguments
        self._key = name, f"of-{len(arguments)}-{uuid4().hex}"
        self._completed = as_completed(loop=cluster.client.loop, with_results=True, raise_errors=False)
        self._num_sent = 0
        self._running: dict[Future, int] = {}
        self._outcomes: dict[int, Outcome] = {}

    def send(self, stop: int) -> None:
        """Send the calls before number ``stop`` that have not been sent."""
        for number in range(self._num_sent, min(stop, len(self._arguments))):
            key = f"{self._key[0]}-{number + 1}-{self._key[1]}"  # the dashboard shows all of it, and groups by the first part
            future = self._cluster.client.submit(self._call, self._arguments[number], key=key)
            self._running[future] = number
            self._completed.add(future)
            self._num_sent = number + 1

    def result(self, number: int) -> Any:
        """Return or raise what came of a call, once it is known."""
        while number not in self._outcomes:
            future, result = next(self._completed)
            self._outcomes[self._running.pop(future)] = _outcome(self._cluster, result)
        result, error = self._outcomes.pop(number)
        if error is not None:
            raise error
        return result

    def cancel(self) -> None:
        """Let the cluster forget what is not finished; what a worker has begun it ends."""
        for future in self._running:
            future.release()


def _window(cluster: Cluster) -> int:
    """How many calls to send ahead.

    Raises:
        WorkError: the scheduler is gone.
    """
    if cluster.client.status != "running":
        raise _lost(cluster)
    try:
        return cluster.window()
    except OSError as error:
        raise _lost(cluster) from error


def _lost(cluster: Cluster) -> WorkError:
    return WorkError(f"--cluster {cluster.name}: the scheduler is gone; once there is one again, the same command continues")


@dataclass(frozen=True)
class _Returned:
    """What a call returned, so that it cannot be taken for an error."""

    value: Any


def _outcome(cluster: Cluster, result: Any) -> Outcome:
    """What came of a task; its status is not asked, as that may be that of a repetition once the worker has died."""
    from distributed import KilledWorker

    if isinstance(result, _Returned):
        return result.value, None
    if not isinstance(result, tuple):  # but a cancellation
        return None, _lost(cluster)
    error = result[1]
    if isinstance(error, KilledWorker):
        return None, WorkError(
            f"--cluster {cluster.name}: one item ended every worker that began it, perhaps because memory ran out"
        )
    if isinstance(error, ModuleNotFoundError):
        return None, WorkError(f"--cluster {cluster.name}: a worker lacks a package of this machine ({error}); install it there")
    return None, error


# ----------------------------------------------------------------------------------------------------------- on a worker
_one_at_a_time = threading.Lock()
"""Calls may change the working directory and keep caches, so a worker with several threads uses one of them."""


def _work(folder: Path, version: str, function: Callable[[Argument], Any], argument: Argument) -> _Returned:
    """One call, in the folder in which the command was given, so that its relative paths mean the same files here."""
    with _one_at_a_time, threadpool_limits(1), _inside(folder):
        if version != package_version():
            raise WorkError(f"worker on {socket.gethostname()}: has tasnet-pipeline {package_version()} instead of {version}")
        try:
            return _Returned(function(argument))
        except Exception as error:
            error.add_note(f"On {socket.gethostname()}:\n{traceback.format_exc()}")
            raise


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(contextlib.chdir(folder))
        except OSError as error:
            raise WorkError(
                f"worker on {socket.gethostname()}: has no folder {folder} ({error.strerror}); give the command in a folder "
                "that all machines share"
            ) from error
        yield
