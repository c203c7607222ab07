"""Stages that run once: a fingerprint names the folder, and ``stage.json``, written last, means done.

A stage is a function with the settings it reads and the stages it needs. Its fingerprint is the SHA-256 of its id, the versions
of the code that does its work, those settings, and the fingerprints of what it needs. So every recipe that asks for the same
thing finds the same folder, and a changed setting leads to a new folder instead of a stale result. A folder without
``stage.json`` was left by a run that was killed: the stage resumes in it.

Nothing finished is deleted before its successor is whole: a stage that is forced to run again has its old folder moved aside, to
``.NAME.old`` beside it, and removed once the new one is done. The same settings write the same files, so whatever is in the old
folder only was put there by somebody else: it is moved into the new one.

This module knows nothing of audio.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pipeline.compute.locks import locked
from pipeline.errors import WorkError
from pipeline.files import is_temporary, parse_json, remove_temporaries, written_whole

RECORD = "stage.json"
STARTED = "started.json"
LOG = "log.txt"
OLD, DISCARDED, EARLIER = ".old", ".discarded", ".earlier"

logger = logging.getLogger("pipeline")


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        name: the step (``train``).
        versions: of the code that does the work, by name; we raise one when the output changes for the same settings.
        settings: everything else that decides the output, as JSON values.
        run: does the work in the folder it is given; called again after an interruption, it resumes.
        needs: stages whose folders this one reads.
        label: tells stages of one name apart (the system); empty where there is only one.
        varying: files of its own, as patterns, that the same settings need not write again: journals, and names with a time.
    """

    name: str
    versions: Mapping[str, int]
    settings: Mapping[str, Any]
    run: Callable[[Path], None] = field(repr=False, compare=False)
    needs: tuple[Stage, ...] = ()
    label: str = ""
    varying: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """What users call it: ``mix``, ``train:causal``."""
        return f"{self.name}:{self.label}" if self.label else self.name

    @property
    def inputs(self) -> dict[str, Any]:
        """Everything the fingerprint is made of."""
        return {
            "stage": self.id,
            "versions": dict(self.versions),
            "settings": dict(self.settings),
            "needs": {need.id: need.fingerprint for need in self.needs},
        }

    @cached_property
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
    state: Literal["done", "started", "new"]
    reasons: tuple[str, ...] = ()


def ordered(stages: Iterable[Stage]) -> list[Stage]:
    """The stages and all they need, each once, in the order given but after what it needs."""
    found: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        for need in stage.needs:
            visit(need)
        found.setdefault(stage.fingerprint, stage)

    for stage in stages:
        visit(stage)
    return list(found.values())


def is_done(stage: Stage, work: Path) -> bool:
    """Whether the stage has finished: its record is in its folder."""
    return (stage.folder(work) / RECORD).is_file()


# -------------------------------------------------------------------------------------------------------------- running
def run_stage(stage: Stage, work: Path) -> Path:
    """Run one stage whose needs are done, unless it is done itself; return its folder.

    Raises:
        WorkError: another process is running the same stage, or the folder cannot be written.
    """
    folder = stage.folder(work)
    if is_done(stage, work) and not _leftovers(folder):
        return folder
    with locked(folder), _writable(folder):
        if not is_done(stage, work):
            _run(stage, folder)
        # The new output is whole: what was moved aside for it may go.
        kept = [path for leftover in _leftovers(folder) for path in _replace(leftover, folder, stage)]
        if kept:
            logger.warning("%s: kept %d files that this stage did not write, for example %s", stage.id, len(kept), kept[0])
    return folder


def _run(stage: Stage, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with _logged(folder / LOG):
        _write_json(folder / STARTED, {**stage.inputs, "fingerprint": stage.fingerprint, "started": _now()})
        remove_temporaries(folder)
        logger.debug("%s: started in %s", stage.id, folder)
        stage.run(folder)
        logger.debug("%s: done", stage.id)
        _write_json(folder / RECORD, {**stage.inputs, "fingerprint": stage.fingerprint, "finished": _now()})
        (folder / STARTED).unlink()


def set_aside(stage: Stage, work: Path) -> None:
    """Make a stage run again from the start. Finished output is kept beside it until the new output is whole.

    Raises:
        WorkError: another process is running the stage, or the folder cannot be moved.
    """
    folder = stage.folder(work)
    if not folder.exists():
        return
    with locked(folder), _writable(folder):
        # Moves to a new name, so a kill at any time leaves either all of the output under the stage's name or none.
        aside, earlier = _beside(folder, OLD if is_done(stage, work) else DISCARDED), _beside(folder, EARLIER)
        if aside.exists() and earlier.exists():
            _replace(earlier, aside, stage)
        if aside.exists():
            aside.rename(earlier)
        folder.rename(aside)
        if earlier.exists():
            _replace(earlier, aside, stage)


def _replace(old: Path, new: Path, stage: Stage) -> list[Path]:
    """Remove an old folder of a stage, after moving what the stage did not write into the new one; return what that was."""
    kept = []
    for path in sorted(old.rglob("*")):
        target = new / path.relative_to(old)
        is_own = path.name in (RECORD, STARTED) or is_temporary(path) or any(map(path.match, stage.varying))
        is_folder = path.is_dir() and not path.is_symlink()
        if not is_own and not is_folder and not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            kept.append(target)
    shutil.rmtree(old)
    return kept


def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(f".{folder.name}{ending}")


def _leftovers(folder: Path) -> list[Path]:
    """What was moved aside for a stage to run again, and has to go once it is done."""
    return [path for ending in (OLD, DISCARDED, EARLIER) if (path := _beside(folder, ending)).exists()]


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Append everything the pipeline logs to the stage's own log file."""
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
    """A log file. Failing to write it is not an error: whoever filled the disk has already said so."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Leave the record out."""


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
_BROKEN = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN}


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Turn a full or broken disk or missing permissions, wherever in the stage they show, into a one-line error."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM | _BROKEN:
            raise
        where = error.filename or folder
        if error.errno in _BROKEN:
            raise WorkError(f"{where}: the disk fails ({error.strerror}); run the same command again once it works") from error
        raise WorkError(
            f"{where}: cannot be written ({error.strerror}); free some space or fix the permissions, "
            "then run the same command again"
        ) from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# --------------------------------------------------------------------------------------------------------------- status
def status(stages: Sequence[Stage], work: Path) -> list[Status]:
    """The state of every stage (and of what they need), with the reasons a new one would run."""
    found: list[Status] = []
    pending: set[str] = set()
    for stage in ordered(stages):
        if is_done(stage, work):
            found.append(Status(stage, "done"))
            continue
        needed = dict.fromkeys(need.id for need in stage.needs if need.fingerprint in pending)
        after = (f"after {', '.join(needed)}",) if needed else ()
        pending.add(stage.fingerprint)
        if (stage.folder(work) / STARTED).is_file():
            found.append(Status(stage, "started", ("interrupted: will resume", *after)))
        else:
            found.append(Status(stage, "new", (*_reasons(stage, work), *after)))
    return found


def _reasons(stage: Stage, work: Path) -> tuple[str, ...]:
    """Why a stage that is not done with these inputs would run: what differs from the most similar finished one."""
    old = _beside(stage.folder(work), OLD)
    if old.exists():
        return (f"forced; the previous output stays in {old} until the new one is whole",)
    paths = sorted(path for path in (work / stage.name).glob(f"*/{RECORD}") if not path.parent.name.startswith("."))
    records = [record for record in map(_read_record, paths) if record.get("stage") == stage.id]
    differences = [_differences(_flat(record), _flat(stage.inputs)) for record in records]
    return tuple(sorted(differences, key=len)[0]) if differences else ("never run",)


def others_of(stage: Stage, work: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folders of the same stage with other inputs, finished or begun, each with what its fingerprint was made of."""
    for path in sorted((work / stage.name).glob("*/*.json")):
        if path.name in (RECORD, STARTED) and not path.parent.name.startswith("."):
            record = _read_record(path)
            if record.get("stage") == stage.id and record.keys() == stage.inputs.keys() and path.parent != stage.folder(work):
                yield path.parent, record


def recorded_fingerprint(folder: Path) -> str | None:
    """The fingerprint of the stage whose finished output a folder holds, wherever it lies; None where it does not say."""
    fingerprint = _parsed(folder / RECORD).get("fingerprint")
    return fingerprint if isinstance(fingerprint, str) else None


def _parsed(path: Path) -> dict[str, Any]:
    """A record; empty where it cannot be read."""
    try:
        record = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _read_record(path: Path) -> dict[str, Any]:
    """What the fingerprint of a finished stage was made of; empty where the record cannot be read."""
    record = _parsed(path)
    return {key: record[key] for key in ("stage", "versions", "settings", "needs") if key in record}


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
    """``key: old → new`` for every differing key; of an upstream fingerprint, only that it changed."""
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
