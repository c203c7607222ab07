"""Progress: a bar on a terminal, lines in a log that are few, plain and right."""

import io

import pytest
from rich.console import Console

from pipeline.compute.progress import progress_bar


class Log:
    """A console that is no terminal, and a clock that goes when it is told to."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.console = Console(file=self.file, force_terminal=False, width=40)
        self.seconds = 1000.0

    def clock(self) -> float:
        return self.seconds

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_log_gets_a_line_after_ten_seconds_and_then_every_minute(log: Log) -> None:
    with progress_bar("mix", 2000, console=log.console, clock=log.clock) as advance:
        for _ in range(150):
            log.seconds += 1
            advance(8)
    assert log.lines == [
        "mix: 80/2,000 (4%), 8.0/s, 0:04:00 left",
        "mix: 560/2,000 (28%), 8.0/s, 0:03:00 left",
        "mix: 1,040/2,000 (52%), 8.0/s, 0:02:00 left",
        "mix: 1,200/2,000 (60%), 8.0/s, 0:01:40 left",
    ]


def test_short_work_leaves_no_line(log: Log) -> None:
    with progress_bar("mix", 9, console=log.console, clock=log.clock) as advance:
        for _ in range(9):
            log.seconds += 1
            advance(1)
    assert log.lines == []


def test_nothing_is_written_without_a_description(log: Log) -> None:
    with progress_bar("", 9, console=log.console, clock=log.clock) as advance:
        log.seconds += 1000
        advance(9, "note", milestone=True)
    assert log.lines == []


def test_every_milestone_is_a_line_with_its_note_which_stays_until_the_next(log: Log) -> None:
    with progress_bar("train causal", 3600, console=log.console, clock=log.clock) as advance:
        log.seconds += 2
        advance(20, "epoch 1/180, loss -1.00 dB")
        advance(0, "epoch 1/180, loss -1.10 dB, valid loss -1.00 dB", milestone=True)
        log.seconds += 60
        advance(600)
    assert log.lines == [
        "train causal: 20/3,600 (0%), 10.0/s, 0:05:58 left, epoch 1/180, loss -1.10 dB, valid loss -1.00 dB",
        "train causal: 620/3,600 (17%), 10.0/s, 0:04:58 left, epoch 1/180, loss -1.10 dB, valid loss -1.00 dB",
    ]


def test_what_an_earlier_run_has_done_does_not_count_for_the_rate(log: Log) -> None:
    with progress_bar("train", 2000, done=1000, console=log.console, clock=log.clock) as advance:
        log.seconds += 100
        advance(100)
    assert log.lines == ["train: 1,100/2,000 (55%), 1.0/s, 0:15:00 left"]


def test_the_rate_follows_the_last_minutes(log: Log) -> None:
    with progress_bar("train", 10_000, console=log.console, clock=log.clock) as advance:
        log.seconds += 600  # the network is compiled
        advance(1)
        for _ in range(5):
            log.seconds += 60
            advance(600)
    assert ", 10.0/s," in log.lines[-1]


def test_work_without_a_known_end_or_without_progress_gives_no_time_left(log: Log) -> None:
    with progress_bar("list.csv (MiB)", 0, console=log.console, clock=log.clock) as advance:
        log.seconds += 10
        advance(25)
    with progress_bar("score", 5, console=log.console, clock=log.clock) as advance:
        log.seconds += 10
        advance(0)
    assert log.lines == ["list.csv (MiB): 25, 2.5/s", "score: 0/5 (0%), 0.0/min"]


def test_the_end_is_written_once_and_only_when_it_was_reached(log: Log) -> None:
    with progress_bar("mix", 100, console=log.console, clock=log.clock) as advance:
        log.seconds += 10
        advance(50)
        log.seconds += 10
        advance(50)
    assert log.lines[1:] == ["mix: 100/100 (100%), 5.0/s"]
    with pytest.raises(ZeroDivisionError), progress_bar("mix", 3, console=log.console, clock=log.clock) as advance:
        log.seconds += 10
        advance(1)
        advance(1)
        raise ZeroDivisionError
    assert log.lines[2:] == ["mix: 1/3 (33%), 6.0/min, 0:00:20 left"]


def test_a_terminal_gets_a_bar_and_no_lines() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, force_interactive=True, width=120)
    with progress_bar("mix", 8, done=2, console=console) as advance:
        advance(5)
        advance(1, "the note", milestone=True)
    shown = file.getvalue()
    assert all(part in shown for part in ("mix", "8/8", "the note", "\x1b["))
    assert "(100%)" not in shown
