"""Work spread over forks of this process, which start at once, have all that it has in memory, and are sent only numbers.

For :mod:`pipeline.compute.workers`. As a backend of joblib the same forks would be no simpler: joblib hands out
further calls as results arrive, however slowly they are taken, and needs a thread of its own in this process.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from pipeline.compute.allocator import keep_freed_memory
from pipeline.errors import WorkError

Argument = TypeVar("Argument")
Result = TypeVar("Result")

Outcome = tuple[Any, BaseException | None]
"""What a call returned, or what it raised."""

KILLED = (
    "a worker process was killed from outside, perhaps because memory ran out; run the same command again to continue, "
    "with -j 1 to need less of it"
)

_LARGEST_BLOCK, _MOST_FREE = 2**25, 2**28  # bytes that a fork keeps when they are freed
_AHEAD = 2  # calls that a fork has been sent, so that it never waits for the next


def can_fork() -> bool:
    """Whether forking is safe here: on Linux, and with no other thread that could hold a lock at that moment."""
    return sys.platform == "linux" and threading.active_count() == 1 and not multiprocessing.current_process().daemon


@contextmanager
def forked(function: Callable[[Argument], Result], arguments: Sequence[Argument], num_workers: int) -> Iterator[Iterator[Result]]:
    """Call a function with every argument, in ``num_workers`` forks; yields an iterator over the results, in order.

    The forks live as long as the block, and no longer than this process, however it ends. What a call raises is raised here in
    its turn, after the results before it. Only this process takes interrupts from the keyboard.

    Raises:
        WorkError: a fork was killed.
    """
    forks: dict[Connection, BaseProcess] = {}
    try:
        for _ in range(num_workers):
            connection, process = _fork(function, arguments, list(forks))
            forks[connection] = process
        yield _in_order(forks, len(arguments))
    except KeyboardInterrupt:
        for process in forks.values():
            process.terminate()
        raise
    finally:
        # What has begun may end, as it may be writing; nothing more is begun.
        for connection in forks:
            connection.close()
        for process in forks.values():
            process.join()


def _fork(function: Callable[..., Any], arguments: Sequence[Any], earlier: list[Connection]) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(os.getpid(), function, arguments, there, [*earlier, here]), daemon=True)
    process.start()
    there.close()
    return here, process


def _in_order(forks: dict[Connection, BaseProcess], num_calls: int) -> Iterator[Any]:
    """Send the numbers of the calls; yield or raise what comes back, in their order."""
    numbers = iter(range(num_calls))
    outcomes: dict[int, Outcome] = {}
    for connection in [*forks] * _AHEAD:
        _send_next(connection, numbers)
    for number in range(num_calls):
        while number not in outcomes:
            for connection in _ready(forks):
                finished, outcome = _received(connection)
                outcomes[finished] = outcome
                _send_next(connection, numbers)
        result, error = outcomes.pop(number)
        if error is not None:
            raise error
        yield result


def _ready(forks: Iterable[Connection]) -> list[Connection]:
    return [connection for connection in wait(list(forks)) if isinstance(connection, Connection)]


def _send_next(connection: Connection, numbers: Iterator[int]) -> None:
    number = next(numbers, None)
    if number is not None:
        with suppress(OSError):  # it was killed, and reading from the pipe will say so
            connection.send(number)


def _received(connection: Connection) -> tuple[int, Outcome]:
    try:
        answer: tuple[int, Outcome] = connection.recv()
        return answer
    except (EOFError, OSError) as error:
        raise WorkError(KILLED) from error


# -------------------------------------------------------------------------------------------------------------- in a fork
def _work(
    master: int, function: Callable[[Any], Any], arguments: Sequence[Any], connection: Connection, parents: list[Connection]
) -> None:
    """Answer numbers with results until the parent closes the pipe."""
    for other in parents:  # or the pipes would stay open when the parent closes them
        other.close()
    end_with(master)
    gc.freeze()  # what came with the fork is never garbage here
    # Arrays come and go; asking the system for the memory of each costs a fifth of the time.
    keep_freed_memory(largest_block=_LARGEST_BLOCK, most_free=_MOST_FREE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(EOFError, OSError), threadpool_limits(1):
        while True:
            number = connection.recv()
            connection.send((number, _outcome(function, arguments[number])))


def _outcome(function: Callable[[Any], Any], argument: Any) -> Outcome:
    try:
        return function(argument), None
    except Exception as error:
        error.add_note(f"In the worker process:\n{traceback.format_exc()}")
        return None, error


# ---------------------------------------------------------------------------------------------------------- in any worker
def end_with(master: int) -> None:
    """Let this worker end soon after the process it works for: once that is killed, nothing may go on writing."""
    threading.Thread(target=_watch, args=(master,), daemon=True).start()


def _watch(master: int) -> None:
    while os.getppid() == master:
        time.sleep(0.2)
    os._exit(1)
