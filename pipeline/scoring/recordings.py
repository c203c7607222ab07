"""Recordings to be scored: finding them in anybody's folders, and reading them whatever state they are in.

A pattern describes how a folder is laid out: ``s{source}/{mixture_id}`` matches ``s1/abc.wav``, ``s2/abc.wav``, …, and
``{mixture_id}_est{source}`` matches ``abc_est1.flac``, …. Patterns leave out the file extension: wav, flac, ogg and mp3 are all
found. Without a pattern the layouts that separation tools write are tried in turn, and the first that matches any file is used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.audio.files import read_audio
from pipeline.errors import AudioError, ScoreError
from pipeline.scoring.bss_eval import Signals

EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3")

SOURCE_PATTERNS = (
    "s{source}/{mixture_id}",
    "spk{source}/{mixture_id}",
    "source{source}/{mixture_id}",
    "{mixture_id}/s{source}",
    "{mixture_id}/s{source}_estimate",
    "{mixture_id}/spk{source}",
    "{mixture_id}_s{source}",
    "{mixture_id}-s{source}",
    "{mixture_id}_spk{source}",
    "{mixture_id}_source{source}",
    "{mixture_id}_est{source}",
    "{mixture_id}_{source}",
    "{mixture_id}-{source}",
)
MIXTURE_PATTERNS = ("{mixture_id}", "mix/{mixture_id}", "mix_clean/{mixture_id}", "{mixture_id}/mixture", "{mixture_id}_mix")

MISSING = Path("missing")
"""Stands in for a recording that does not exist."""

NO_SAMPLES = np.zeros(0)

_FIELDS = {"mixture_id": r"(?P<mixture_id>[^/]+)", "source": r"(?P<source>\d{1,2})"}


@dataclass(frozen=True)
class Recording:
    """A recording as it was found: its samples, or why there are none."""

    samples: Signals
    """[time]; empty where there is a problem."""
    problem: str = ""
    """``missing``, ``unreadable`` or ``other_rate``; ``absent`` for a mixture that nobody expects."""


def read_recording(path: Path, sample_rate: int) -> Recording:
    """Read a recording; a problem becomes part of its scores instead of an error.

    Args:
        path: of the file.
        sample_rate: Hz that it must have.
    """
    if not path.is_file():
        return Recording(NO_SAMPLES, "missing")
    try:
        samples, actual_rate = read_audio(path, finite_only=False)
    except AudioError:
        return Recording(NO_SAMPLES, "unreadable")
    return Recording(samples) if actual_rate == sample_rate else Recording(NO_SAMPLES, "other_rate")


def find_sources(folder: Path, pattern: str = "") -> dict[str, tuple[Path, ...]]:
    """The recordings of every mixture, one per source, in the order of their numbers, which begin at 0 or 1.

    A gap in the numbers (``s1`` and ``s3``) is filled with a path that does not exist, so that the source counts as missing.

    Raises:
        ScoreError: the folder does not exist, or no file in it matches a pattern.
    """
    found = _find(folder, (pattern,) if pattern else SOURCE_PATTERNS, ("mixture_id", "source"))
    mixtures: dict[str, dict[int, Path]] = {}
    for fields, path in found:
        mixtures.setdefault(fields["mixture_id"], {})[int(fields["source"])] = path
    first = 0 if any(0 in paths for paths in mixtures.values()) else 1
    return {
        mixture_id: tuple(paths.get(number, MISSING) for number in range(first, max(paths) + 1))
        for mixture_id, paths in sorted(mixtures.items())
    }


def find_mixtures(folder: Path, pattern: str = "") -> dict[str, Path]:
    """The recording of every mixture.

    Raises:
        ScoreError: the folder does not exist, or no file in it matches a pattern.
    """
    found = _find(folder, (pattern,) if pattern else MIXTURE_PATTERNS, ("mixture_id",))
    return {fields["mixture_id"]: path for fields, path in found}


def _find(folder: Path, patterns: Sequence[str], fields: Sequence[str]) -> list[tuple[dict[str, str], Path]]:
    """Fields and path of every file that matches, by the first pattern that matches any."""
    if not folder.is_dir():
        raise ScoreError(f"{folder}: no such folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    for pattern in patterns:
        expression = _expression(pattern, fields)
        matches = [(expression.fullmatch(path.relative_to(folder).with_suffix("").as_posix()), path) for path in paths]
        found = [(match.groupdict(), path) for match, path in matches if match]
        if found:
            return found
    raise ScoreError(f"{folder}: none of its {len(paths)} audio files is named like {' or '.join(patterns[:3])}; give a pattern")


def _expression(pattern: str, fields: Sequence[str]) -> re.Pattern[str]:
    """The expression that a pattern stands for; each of the fields must occur in it once."""
    parts = re.split(r"\{(\w+)\}", pattern)
    if sorted(parts[1::2]) != sorted(fields):
        wanted = " and ".join(f"{{{field}}}" for field in fields)
        raise ScoreError(f"pattern {pattern!r}: write {wanted} once, and nothing else in braces")
    return re.compile("".join(_FIELDS[part] if index % 2 else re.escape(part) for index, part in enumerate(parts)))
