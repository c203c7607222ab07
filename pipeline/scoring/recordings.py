"""Finding the recordings of mixtures in anybody's folders.

A pattern says how a folder is laid out: ``s{source}/{mixture_id}`` is ``s1/abc.wav``, ``s2/abc.wav``, …, and
``{mixture_id}_est{source}`` is ``abc_est1.flac``, …. Endings are left out: wav, flac, ogg and mp3 are all found. Without a
pattern the layouts that separation tools write are tried one after another, and the first that fits any file is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ScoreError

ENDINGS = (".wav", ".flac", ".ogg", ".mp3")

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
"""Stands in for a recording that is not there."""

_FIELDS = {"mixture_id": r"(?P<mixture_id>[^/]+)", "source": r"(?P<source>\d{1,2})"}


def find_sources(folder: Path, pattern: str = "") -> dict[str, tuple[Path, ...]]:
    """For every mixture its recordings, one per source, in the order of their numbers, which begin at 0 or 1.

    Where a number is left out (``s1`` and ``s3``) there is a path without a file, so that the source is missed.

    Raises:
        ScoreError: no such folder, or nothing in it fits a pattern.
    """
    found = _find(folder, (pattern,) if pattern else SOURCE_PATTERNS)
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
        ScoreError: no such folder, or nothing in it fits a pattern.
    """
    return {fields["mixture_id"]: path for fields, path in _find(folder, (pattern,) if pattern else MIXTURE_PATTERNS)}


def _find(folder: Path, patterns: Sequence[str]) -> list[tuple[dict[str, str], Path]]:
    """Fields and path of every file that fits the first pattern that fits any."""
    if not folder.is_dir():
        raise ScoreError(f"{folder}: no such folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    for pattern in patterns:
        expression = _expression(pattern)
        fits = [(expression.fullmatch(path.relative_to(folder).with_suffix("").as_posix()), path) for path in paths]
        found = [(fit.groupdict(), path) for fit, path in fits if fit]
        if found:
            return found
    raise ScoreError(f"{folder}: none of its {len(paths)} audio files is named like {' or '.join(patterns[:3])}; give a pattern")


def _expression(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", pattern)
    unknown = set(parts[1::2]) - set(_FIELDS)
    if unknown or parts[1::2].count("mixture_id") != 1:
        raise ScoreError(f"pattern {pattern!r}: write {{mixture_id}} once, {{source}} for its number, and nothing else in braces")
    return re.compile("".join(_FIELDS[part] if index % 2 else re.escape(part) for index, part in enumerate(parts)))
