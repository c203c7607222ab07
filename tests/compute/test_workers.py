"""Work in processes: results in order, and no worker outlives the process it works for."""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from pipeline.compute.workers import map_parallel
from pipeline.errors import WorkError
from tests.waiting import PATIENCE_SECONDS, process, wait_until

PROGRAM = """
import os, pathlib, sys, threading, time
from pipeline.compute.forks import can_fork
from pipeline.compute.workers import map_parallel

def work(number):
    pathlib.Path(sys.argv[1], str(os.getpid())).touch()
    time.sleep(0.05)

if __name__ == "__main__":
    if sys.argv[2] == "joblib":
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    assert can_fork() == (sys.argv[2] == "forks")
    list(map_parallel(work, range(100_000), num_workers=2))
"""


@contextmanager
def working(place: Path, route: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A program that works with two workers, and their process ids."""
    (place / "program.py").write_text(PROGRAM)
    seen = place / "seen"
    seen.mkdir()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with process([sys.executable, place / "program.py", seen, route], env=environment, stderr=subprocess.PIPE) as running:
        wait_until(lambda: len(list(seen.iterdir())) >= 2, running=running)
        workers = [int(path.name) for path in seen.iterdir()]
        assert all(map(_is_alive, workers))
        yield running, workers


@pytest.fixture(params=["forks", "joblib"], autouse=True)
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of worker processes, whatever else runs in this one."""
    if request.param == "forks" and not sys.platform.startswith("linux"):
        pytest.skip("forks are for Linux")
    monkeypatch.setattr("pipeline.compute.workers.can_fork", lambda: request.param == "forks")
    return str(request.param)


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("num_workers", [1, 2])
def test_results_come_in_the_order_of_the_arguments(num_workers: int) -> None:
    assert list(map_parallel(abs, range(-50, 0), num_workers=num_workers)) == list(range(50, 0, -1))


needs_proc = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux's /proc to see processes")


@needs_proc
def test_workers_end_with_the_process_they_work_for(tmp_path: Path, route: str) -> None:
    with working(tmp_path, route) as (running, workers):
        os.kill(running.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(_is_alive, workers)), seen=lambda: [pid for pid in workers if _is_alive(pid)])


@needs_proc
def test_ctrl_c_is_for_the_master_alone(tmp_path: Path, route: str) -> None:
    """The keyboard interrupts the whole group; only the master says so, and nobody stays."""
    with working(tmp_path, route) as (running, workers):
        os.killpg(running.pid, signal.SIGINT)
        said = running.communicate(timeout=PATIENCE_SECONDS)[1]
        assert running.returncode == -signal.SIGINT
        assert said.splitlines()[-1] == "KeyboardInterrupt", said
        assert said.count("KeyboardInterrupt") == 1
        wait_until(lambda: not any(map(_is_alive, workers)))


def _mostly_fails(folder: Path, number: int) -> int:
    (folder / str(number)).touch()
    if number >= 20:
        raise WorkError(f"{number} fails")
    return number


@pytest.mark.parametrize("num_workers", [1, 2])
def test_after_a_failure_nothing_more_is_begun_and_earlier_results_are_kept(tmp_path: Path, num_workers: int) -> None:
    done: list[int] = []
    with pytest.raises(WorkError, match="20 fails"):
        done.extend(map_parallel(partial(_mostly_fails, tmp_path), range(1000), num_workers=num_workers))
    with pytest.raises(WorkError, match="20 fails"):
        for result in map_parallel(partial(_mostly_fails, tmp_path), range(1000), num_workers=num_workers):
            done.append(result)  # noqa: PERF402 - one by one, as they come
    assert done[-20:] == list(range(20))
    assert len(list(tmp_path.iterdir())) < 500


@pytest.mark.parametrize("num_workers", [1, 2])
def test_closing_the_results_early_is_quiet(num_workers: int, capfd: pytest.CaptureFixture[str]) -> None:
    results = map_parallel(abs, range(100_000), num_workers=num_workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()  # type: ignore[attr-defined]
    assert list(map_parallel(abs, range(-3, 0), num_workers=num_workers)) == [3, 2, 1]
    assert "Traceback" not in capfd.readouterr().err


def _is_killed(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_a_one_line_error() -> None:
    with pytest.raises(WorkError, match="killed from outside"):
        list(map_parallel(_is_killed, range(4), num_workers=2))
    assert list(map_parallel(abs, range(-3, 0), num_workers=2)) == [3, 2, 1]


def _raises(number: int) -> None:
    raise ZeroDivisionError(f"of {number}")


def test_an_unexpected_error_keeps_its_type_and_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(map_parallel(_raises, range(4), num_workers=2))
    assert "_raises" in "".join(traceback.format_exception(caught.value))


def _long(number: int) -> bytes:
    return bytes([number]) * 3_000_000


def test_results_may_be_larger_than_a_pipe_holds() -> None:
    assert all(result == _long(k) for k, result in enumerate(map_parallel(_long, range(30), num_workers=3)))


def test_a_slow_call_does_not_change_the_order() -> None:
    assert list(map_parallel(_sleepy, range(12), num_workers=2)) == list(range(12))


def _sleepy(number: int) -> int:
    time.sleep(0.2 if number == 0 else 0.001)
    return number


def _leaves_a_trace(folder: Path, number: int) -> int:
    (folder / str(number)).touch()
    return number


def test_only_a_few_calls_are_worked_ahead_of_a_slow_caller(tmp_path: Path) -> None:
    """Results that pile up would cost memory."""
    results = map_parallel(partial(_leaves_a_trace, tmp_path), range(1000), num_workers=2)
    for _ in range(5):
        next(results)
        time.sleep(0.1)
    assert len(list(tmp_path.iterdir())) < 30
    results.close()  # type: ignore[attr-defined]
