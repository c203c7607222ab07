"""A dask scheduler and two workers in processes of their own, which any of them may lose."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import process, wait_until

ROOT = str(Path(__file__).parents[2])

# What `dask scheduler` and `dask worker` do, without the seconds that importing takes in each of their processes.
PROGRAM = """
import asyncio, os, sys
from distributed import Scheduler, Worker
import pipeline.mixtures.packing, pipeline.mixtures.verification, pipeline.scoring.scoring, pipeline.separation.offline

async def schedule():
    async with Scheduler(host="127.0.0.1", port=int(sys.argv[1]), dashboard=False) as scheduler:
        await scheduler.finished()

async def work():
    async with Worker(f"tcp://127.0.0.1:{sys.argv[1]}", nthreads=1, dashboard=False) as worker:
        await worker.finished()

pids = []
for main in (schedule, work, work):
    pids.append(os.fork())
    if pids[-1] == 0:
        os.chdir("/")
        os.dup2(2, 1)  # or whoever reads the first line waits for all of them
        asyncio.run(main())
        os._exit(0)
print(*pids, flush=True)
for pid in pids:
    os.waitpid(pid, 0)
"""


@dataclass(frozen=True)
class Processes:
    """What is running; a process that has been killed stays in the list."""

    address: str
    scheduler: int
    workers: tuple[int, ...]


@contextmanager
def dask_processes(log: Path) -> Iterator[Processes]:
    """A scheduler and two workers, whose working directory is not that of the tests."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    environment = os.environ | {"PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(port)]
    with log.open("w") as stderr, process(command, env=environment, stdout=subprocess.PIPE, stderr=stderr) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        assert line, log.read_text()
        scheduler, *workers = map(int, line.split())
        yield Processes(f"tcp://127.0.0.1:{port}", scheduler, tuple(workers))


def kill(pid: int) -> None:
    """As running out of memory does."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), seen=lambda: pid)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def process_id(number: int) -> int:
    """Which process does the work."""
    return os.getpid()
