"""Work spread over processes, of this machine or of a cluster, each with one BLAS thread; results come in order.

:func:`map_parallel` is the one door to it; who calls it need not know which kind of process does the work.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import partial
from itertools import pairwise
from typing import TypeVar

import joblib
import numpy as np
from joblib.externals.loky import get_reusable_executor
from threadpoolctl import threadpool_limits

from pipeline.compute.cluster import AHEAD, connected_cluster, from_cluster
from pipeline.compute.forks import KILLED, can_fork, end_with, forked
from pipeline.compute.locks import WorkersLock, held_by_worker, workers_lock
from pipeline.compute.progress import progress_bar
from pipeline.compute.torchrun import local_world_size
from pipeline.errors import WorkError

Argument = TypeVar("Argument")
Result = TypeVar("Result")

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""What the numerical libraries of a fresh process take their number of threads from, before they are loaded."""


def cpu_count() -> int:
    """Cores this process may use (a container's or SLURM's share, not the machine's)."""
    return int(joblib.cpu_count())


def map_parallel(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    *,
    num_workers: int | None = None,
    description: str = "",
    size: Callable[[Argument], int] = lambda argument: 1,
) -> Iterator[Result]:
    """Apply a picklable function to every argument; yield results in the order of the arguments, as they come.

    An error is raised after the results before it; nothing more is begun then, and what has begun may end. The same goes for a
    caller who takes no more results. Only a few calls are worked ahead of the result that is taken.

    Args:
        function: defined at module level (or a functools.partial of such).
        arguments: one per call; keep them coarse enough, 10 ms or more each.
        num_workers: processes; by default one per core. With 1 everything runs in this process. They are forks of it where that
            is sound, and start at once; otherwise joblib's loky starts fresh ones, which import everything again. In a block of
            :func:`~pipeline.compute.cluster.on_cluster` the cluster's workers do everything, however many they are.
        description: names the progress bar on stderr, empty for none, and the tasks on a cluster's dashboard.
        size: steps of the progress bar that an argument is worth; ``len`` for the pieces of :func:`chunked`.

    Raises:
        WorkError: a worker was killed.
    """
    num_workers = min(num_workers or cpu_count(), max(len(arguments), 1))
    # The bar runs in a thread, which must not be there yet when this process forks.
    with (
        _results(function, arguments, num_workers, description) as results,
        progress_bar(description, sum(map(size, arguments))) as advance,
    ):
        for argument, result in zip(arguments, results, strict=True):
            yield result
            advance(size(argument))


def chunked(
    arguments: Sequence[Argument], size: int, seconds: Callable[[Argument], float] | None = None
) -> list[Sequence[Argument]]:
    """The arguments in pieces of ``size``, the last one shorter: coarse enough to be worth sending to another process.

    With the ``seconds`` of audio of each, a piece is about as long as ``size`` arguments of mean length: none takes much longer.
    """
    if seconds is None or not arguments:
        return [arguments[start : start + size] for start in range(0, len(arguments), size)]
    lengths = np.fromiter(map(seconds, arguments), float, len(arguments))
    middles = np.cumsum(lengths) - lengths / 2
    pieces = np.floor(middles / max(size * lengths.mean(), 1e-9))
    bounds = [0, *(np.flatnonzero(np.diff(pieces)) + 1).tolist(), len(arguments)]
    return [arguments[start:stop] for start, stop in pairwise(bounds)]


@contextmanager
def _results(
    function: Callable[[Argument], Result], arguments: Sequence[Argument], num_workers: int, description: str
) -> Iterator[Iterator[Result]]:
    if cluster := connected_cluster():
        with closing(from_cluster(cluster, function, arguments, description)) as results:
            yield results
    elif num_workers == 1:
        with threadpool_limits(1):
            yield map(function, arguments)
    elif can_fork():
        with forked(function, arguments, num_workers) as results:
            yield results
    else:
        with closing(_from_fresh_processes(function, arguments, num_workers)) as results:
            yield results


def _from_fresh_processes(
    function: Callable[[Argument], Result], arguments: Sequence[Argument], num_workers: int
) -> Generator[Result, None, None]:
    """The same as :func:`~pipeline.compute.forks.forked`, by processes that share nothing with this one."""
    executor = get_reusable_executor(num_workers, initializer=_begin, initargs=(os.getpid(),), env=dict.fromkeys(_THREADS, "1"))
    call = partial(_work, workers_lock(), function)
    begun: deque[Future[Result]] = deque()
    try:
        for argument in arguments:
            begun.append(executor.submit(call, argument))
            if len(begun) >= AHEAD * num_workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    except BrokenProcessPool as error:
        raise WorkError(KILLED) from error
    finally:
        # What has begun may end, as it may be writing; nothing more is begun. After an interrupt too: loky's own way to kill
        # workers leaves tracebacks of its threads.
        wait([future for future in begun if not future.cancel()])


def _begin(master: int) -> None:
    """In a fresh process: end with the master, which alone takes interrupts from the keyboard."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(master)


def _work(lock: WorkersLock | None, function: Callable[[Argument], Result], argument: Argument) -> Result:
    """One call in a fresh process."""
    with held_by_worker(lock):
        return function(argument)


def worker_threads() -> int:
    """Threads torch may use in this process: the cores at hand, shared with what torchrun has started beside it."""
    return int(os.environ.get("OMP_NUM_THREADS") or max(1, cpu_count() // local_world_size()))
