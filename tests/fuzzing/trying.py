"""Tries a reader on a damaged file: it reads it, or says in a line what is wrong with it. Anything else is our own mistake."""

from __future__ import annotations

import resource
import shutil
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType

from pipeline.errors import TasnetError
from tests.fuzzing.mutations import mutated
from tests.fuzzing.readers import Reader

SECONDS, BYTES, LINES = 20, 2 * 2**30, 12
"""That a reader may take; the memory in addition to what the process has; lines of a message."""


@dataclass(frozen=True)
class Outcome:
    """What came of one file."""

    reader: str
    seed: int
    fault: str
    """Empty where the promise was kept."""
    trace: str = ""


class TooSlowError(Exception):
    """A reader took too long."""


def try_one(reader: Reader, seed: int, folder: Path) -> Outcome:
    """Damage the reader's good file as the seed says, and read it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / reader.file_name
    reader.make(path)
    path.write_bytes(mutated(path.read_bytes(), Random(f"{reader.name} {seed}")))
    try:
        with limited():
            reader.read(path)
    except TasnetError as error:
        return Outcome(reader.name, seed, _fault_of(str(error), path))
    except Exception as error:
        return Outcome(reader.name, seed, f"{type(error).__name__}: {str(error)[:120]}", traceback.format_exc())
    return Outcome(reader.name, seed, "")


def _fault_of(message: str, path: Path) -> str:
    """What is wrong with a message."""
    if not any(name in message for name in (path.name, str(path.parent))):
        return f"the message does not name the file: {message[:200]}"
    if len(message.splitlines()) > LINES:
        return f"the message has {len(message.splitlines())} lines"
    return ""


@contextmanager
def limited() -> Iterator[None]:
    """A limit on time and memory while a file is read."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlowError(f"not done after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + BYTES, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def _address_space() -> int:
    """Bytes that this process has mapped."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
