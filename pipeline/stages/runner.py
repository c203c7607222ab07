"""Stages that run once: a fingerprint names the folder, ``stage.json`` written last means done.

A stage is a function with the settings it reads and the stages it needs. Its fingerprint is the SHA-256 of its name, its
version, those settings and the fingerprints of what it needs; so the folder of a finished stage can be used by every recipe that
asks for the same thing, and a changed setting leads to a new folder instead of a stale result. A folder without ``stage.json``
was left by a run that was killed: it is entered again and the stage continues in it.

This module knows nothing of audio.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.compute.locks import locked
from pipeline.errors import WorkError
from pipeline.files import remove_temporaries, written_whole

RECORD = "stage.json"
STARTED = "started.json"
LOG = "log.txt"

logger = logging.getLogger("pipeline")


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        name: the step, as users type it (``train``).
        label: tells apart stages of one name (the system); empty where there is one only.
        version: raised by us when the stage's output changes for the same settings.
        settings: what decides the output, as JSON values.
        needs: stages whose folders this one reads.
        run: does the work in the folder it is given; called again after an interruption, it continues.
    """

    name: str
    version: int
    settings: Mapping[str, Any]
    run: Callable[[Path], None] = field(repr=False, compare=False)
    needs: tuple[Stage, ...] = ()
    label: str = ""

    @property
    def title(self) -> str:
        """``train causal``."""
        return f"{self.name} {self.label}".strip()

    @property
    def inputs(self) -> dict[str, Any]:
        """Everything the fingerprint is made of."""
        return {
            "stage": self.name,
            "version": self.version,
            "settings": dict(self.settings),
            "needs": {need.title: need.fingerprint for need in self.needs},
        }

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with anything that could change the output."""
        text = json.dumps(self.inputs, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def folder(self, work: Path) -> Path:
        """Where the stage's output lies: ``work/train/causal-1f2e3d4c5b6a``."""
        return work / self.name / "-".join(filter(None, (self.label, self.fingerprint[:12])))


@dataclass(frozen=True)
class Status:
    """What a stage would do if it were run, and why."""

    stage: Stage
    state: Literal["done", "started", "new", "waiting"]
    reasons: tuple[str, ...] = ()


def ordered(stages: Iterable[Stage]) -> list[Stage]:
    """The stages and all they need, each after what it needs, in the order they were given."""
    done: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        for need in stage.needs:
            visit(need)
        done.setdefault(stage.fingerprint, stage)

    for stage in stages:
        visit(stage)
    return list(done.values())


def is_done(stage: Stage, work: Path) -> bool:
    """Whether the stage's record stands in its folder."""
    return (stage.folder(work) / RECORD).is_file()


def status(stages: Sequence[Stage], work: Path) -> list[Status]:
    """The state of every stage (and of what they need), with the reasons a new one would run."""
    found: list[Status] = []
    waiting: set[str] = set()
    for stage in ordered(stages):
        if is_done(stage, work):
            found.append(Status(stage, "done"))
            continue
        needed = [need.title for need in stage.needs if need.fingerprint in waiting or not is_done(need, work)]
        waiting.add(stage.fingerprint)
        if (stage.folder(work) / STARTED).is_file():
            found.append(Status(stage, "started", ("interrupted: will continue", *_after(needed))))
        else:
            found.append(Status(stage, "new", (*_reasons(stage, work), *_after(needed))))
    return found


def _after(titles: list[str]) -> tuple[str, ...]:
    return (f"after {', '.join(titles)}",) if titles else ()


def run_stage(stage: Stage, work: Path) -> Path:
    """Run one stage whose needs are done, unless it is done itself; return its folder.

    Raises:
        WorkError: when another process is running the same stage, or the folder cannot be written.
    """
    folder = stage.folder(work)
    if is_done(stage, work):
        return folder
    with locked(folder):
        if is_done(stage, work):
            return folder
        folder.mkdir(exist_ok=True)
        with _writable(folder), _logged(folder / LOG):
            _write_json(folder / STARTED, {**stage.inputs, "fingerprint": stage.fingerprint, "started": _now()})
            remove_temporaries(folder)
            logger.debug("%s: started in %s", stage.title, folder)
            stage.run(folder)
            logger.debug("%s: done", stage.title)
            _write_json(folder / RECORD, {**stage.inputs, "fingerprint": stage.fingerprint, "finished": _now()})
            (folder / STARTED).unlink()
    return folder


def forget(stage: Stage, work: Path) -> None:
    """Remove a stage's output, so that it runs anew."""
    folder = stage.folder(work)
    if not folder.exists():
        return
    with locked(folder):
        # The record goes first: a removal that is interrupted must not look like a finished stage.
        (folder / RECORD).unlink(missing_ok=True)
        shutil.rmtree(folder)


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Append everything the pipeline says to the stage's own log."""
    handler = _Log(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    except Exception as error:
        logger.debug("%s", error, exc_info=True)
        raise
    finally:
        logger.removeHandler(handler)
        with suppress(OSError):
            handler.close()


class _Log(logging.FileHandler):
    """A log file; that it cannot be written is no failure, for whoever fills the disk has said so already."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Leave the record out."""


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Say in one line that the disk is full or the folder closed to us, wherever in the stage that shows."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise WorkError(
            f"{error.filename or folder}: cannot be written ({error.strerror}); make room and run the same command"
        ) from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _reasons(stage: Stage, work: Path) -> tuple[str, ...]:
    """Why a stage that was never run with these inputs would run: what differs from the most similar finished one."""
    records = [_read_record(path) for path in sorted((work / stage.name).glob(f"*/{RECORD}"))]
    mine = _flat(stage.inputs)
    candidates = [_differences(_flat(record), mine) for record in records if record and _same_system(record, stage)]
    if not candidates:
        return ("never run",)
    return tuple(sorted(candidates, key=len)[0])


def _same_system(record: Mapping[str, Any], stage: Stage) -> bool:
    """Whether a record tells of the same system (or of a stage without systems)."""
    return bool(record.get("settings", {}).get("system") == stage.settings.get("system"))


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return (
        {key: record[key] for key in ("stage", "version", "settings", "needs") if key in record}
        if isinstance(record, dict)
        else {}
    )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as dotted keys; ``settings.`` is dropped, since users never wrote it."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{prefix}.{key}" if prefix and prefix != "settings" else str(key)
        flat |= _flat(inner, name)
    return flat


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """``key: old → new`` for every differing key; an upstream fingerprint is only said to have changed."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) == new.get(key):
            continue
        if key.startswith("needs."):
            lines.append(f"{key.removeprefix('needs.')} changed")
        else:
            lines.append(f"{key}: {_shown(old, key)} → {_shown(new, key)}")
    return lines


def _shown(flat: Mapping[str, Any], key: str) -> str:
    if key not in flat:
        return "(not set)"
    text = json.dumps(flat[key], ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}…"
