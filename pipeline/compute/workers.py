"""Work spread over processes: one per core, each with one BLAS thread, results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from itertools import takewhile
from typing import TypeVar

import joblib
from threadpoolctl import threadpool_limits

from pipeline.compute.forks import KILLED, can_fork, end_with, forked
from pipeline.compute.locks import WorkersLock, held_by_worker, workers_lock
from pipeline.compute.progress import progress_bar
from pipeline.compute.torchrun import local_world_size
from pipeline.errors import TasnetError, WorkError

Argument = TypeVar("Argument")
Result = TypeVar("Result")


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

    Args:
        function: defined at module level (or a functools.partial of such).
        arguments: one per call; keep them coarse enough, 10 ms or more each.
        num_workers: processes; by default one per core. With 1 everything runs in this process. They are its forks where that
            is sound, and start in no time; otherwise joblib starts fresh ones, which import everything anew.
        description: names the progress bar on stderr; empty for none.
        size: steps of the progress bar that an argument is worth; ``len`` for the pieces of :func:`chunked`.
    """
    num_workers = min(num_workers or cpu_count(), max(len(arguments), 1))
    # The bar runs in a thread, which must not be there yet when this process forks.
    with _results(function, arguments, num_workers) as results, progress_bar(description, sum(map(size, arguments))) as advance:
        for argument, result in zip(arguments, results, strict=True):
            yield result
            advance(size(argument))


def chunked(arguments: Sequence[Argument], size: int) -> list[Sequence[Argument]]:
    """The arguments in pieces of ``size``, the last one shorter: coarse enough to be worth sending to another process."""
    return [arguments[start : start + size] for start in range(0, len(arguments), size)]


@contextmanager
def _results(
    function: Callable[[Argument], Result], arguments: Sequence[Argument], num_workers: int
) -> Iterator[Iterator[Result]]:
    if num_workers == 1:
        with threadpool_limits(1):
            yield map(function, arguments)
    elif can_fork():
        with forked(function, arguments, num_workers) as results:
            yield results
    else:
        with closing(_from_joblib(function, arguments, num_workers)) as results:
            yield results


def _from_joblib(
    function: Callable[[Argument], Result], arguments: Sequence[Argument], num_workers: int
) -> Generator[Result, None, None]:
    pool = joblib.Parallel(n_jobs=num_workers, return_as="generator", batch_size="auto", pre_dispatch="4*n_jobs")
    failures: list[BaseException] = []
    waiting = takewhile(lambda argument: not failures, arguments)
    results = pool(joblib.delayed(_work)(os.getpid(), workers_lock(), function, argument) for argument in waiting)
    # Where anything fails, nothing more is begun and what has begun may end: joblib would end it with words of its own.
    try:
        for result in results:
            if isinstance(result, TasnetError):
                failures.append(result)
            else:
                yield result
    except GeneratorExit as closed:
        failures.append(closed)
        deque(results, maxlen=0)
        raise
    except BrokenProcessPool as error:
        raise WorkError(KILLED) from error
    if failures:
        raise failures[0]


def _work(
    master: int, lock: WorkersLock | None, function: Callable[[Argument], Result], argument: Argument
) -> Result | TasnetError:
    """One call in a worker process, on one thread; an error of the user's is a result."""
    end_with(master)
    try:
        with held_by_worker(lock), threadpool_limits(1):
            return function(argument)
    except TasnetError as error:
        return error


def worker_threads() -> int:
    """Threads torch may use in this process: the cores at hand, shared with what torchrun has started beside it."""
    return int(os.environ.get("OMP_NUM_THREADS") or max(1, cpu_count() // local_world_size()))
