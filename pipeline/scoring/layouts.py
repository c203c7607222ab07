"""How folders of recordings are laid out: which file is which source of which mixture.

A pattern describes a layout: ``s{source}/{mixture_id}`` matches ``s1/abc.wav``, ``s2/abc.wav``, …, and
``{mixture_id}_est{source}`` matches ``abc_est1.flac``, …. Patterns leave out the file extension: wav, flac, ogg and mp3 are all
found. Without a pattern, the layouts that separation tools write are compared and the one that explains the most files is used,
so that a stray file does not decide. Tools that write estimates beside their references (``ex_3/s0.wav`` and
``ex_3/s0_estimate.wav``, or ``item3_source1.wav`` and ``item3_source1hat.wav``) have names that only estimates have: where these
occur, they are the estimates.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pipeline.errors import ScoreError

logger = logging.getLogger("pipeline")

Kind = Literal["estimates", "references"]

EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3")

SOURCE_PATTERNS = (
    "s{source}/{mixture_id}",
    "spk{source}/{mixture_id}",
    "source{source}/{mixture_id}",
    "{mixture_id}/s{source}",
    "{mixture_id}/spk{source}",
    "{mixture_id}/source{source}",
    "{mixture_id}_s{source}",
    "{mixture_id}-s{source}",
    "{mixture_id}_spk{source}",
    "{mixture_id}_source{source}",
)
NUMBERED_PATTERNS = ("{mixture_id}_{source}", "{mixture_id}-{source}")
"""A bare number: of the source, or a part of the mixture's name."""

ONE_SOURCE = "{mixture_id}"
"""The layout of speech enhancement: one recording per mixture."""

ESTIMATE_ENDINGS = ("_estimate", "_est", "_hat", "hat")
ESTIMATE_PATTERNS = (
    *("{mixture_id}_est{source}", "{mixture_id}/est{source}"),
    *(pattern + ending for ending in ESTIMATE_ENDINGS for pattern in SOURCE_PATTERNS),
)
MIXTURE_PATTERNS = (
    "{mixture_id}",
    "mix/{mixture_id}",
    "mix_clean/{mixture_id}",
    "mix_both/{mixture_id}",
    "{mixture_id}/mixture",
    "{mixture_id}/mix",
    "{mixture_id}_mix",
    "{mixture_id}_mixture",
)

MISSING = Path("missing")
"""Stands in for a recording that does not exist."""

_MOST_NUMBERED = 9
"""With more sources than this a bare number is not the source's."""

_MOST_TRIED = 30
"""Folders below that are tried for a hint where nothing matches."""

_FIELDS = {"mixture_id": r"(?P<mixture_id>[^/]+)", "source": r"(?P<source>\d{1,2})"}

Match = tuple[dict[str, str], Path]
"""Fields of a pattern, and the file they were found in."""


def find_sources(
    folder: Path, pattern: str = "", *, kind: Kind = "estimates", mixture_names: Collection[str] = ()
) -> dict[str, tuple[Path, ...]]:
    """The recordings of every mixture, one per source, in the order of their numbers, which begin at 0 or 1.

    A gap in the numbers (``s1`` and ``s3``) is filled with a path that does not exist, so that the source counts as missing.

    Args:
        folder: linked folders are followed; hidden files are not recordings.
        pattern: the layout; without one it is recognised.
        kind: what the recordings are; estimates may lie beside their references.
        mixture_names: of the mixtures, where known: ``utt_1`` is a mixture with one source if there is a mixture of that name.

    Raises:
        ScoreError: the folder does not exist, or no file in it matches a pattern.
    """
    paths = _audio_files(folder)
    found = (
        _match(pattern, ("mixture_id", "source"), folder, paths) if pattern else _recognise(folder, paths, kind, mixture_names)
    )
    if not found:
        raise _no_match(folder, paths, (pattern,) if pattern else SOURCE_PATTERNS)
    mixtures: dict[str, dict[int, Path]] = {}
    for fields, path in found:
        sources = mixtures.setdefault(fields["mixture_id"], {})
        number = int(fields.get("source", 1))
        if number in sources:
            logger.warning("%s: is not scored, as %s is the same source of the same mixture", path, sources[number].name)
        sources.setdefault(number, path)
    first = 0 if any(0 in sources for sources in mixtures.values()) else 1
    return {
        mixture_id: tuple(sources.get(number, MISSING) for number in range(first, max(sources) + 1))
        for mixture_id, sources in sorted(mixtures.items())
    }


def find_mixtures(folder: Path, pattern: str = "", *, wanted: Collection[str] = ()) -> dict[str, Path]:
    """The recording of every mixture.

    Args:
        folder: linked folders are followed; hidden files are not recordings.
        pattern: the layout; without one, the layout that finds most of the wanted mixtures is used.
        wanted: names of mixtures; with none, every file counts.

    Raises:
        ScoreError: the folder does not exist, or no file in it matches a pattern.
    """
    paths = _audio_files(folder)
    patterns = (pattern,) if pattern else MIXTURE_PATTERNS
    layouts = [{fields["mixture_id"]: path for fields, path in _match(each, ("mixture_id",), folder, paths)} for each in patterns]
    best = max(layouts, key=lambda found: (len(found.keys() & set(wanted)), len(found)) if wanted else (len(found), 0))
    if not best:
        raise _no_match(folder, paths, patterns)
    return best


def mixtures_beside(references: Path, wanted: Collection[str]) -> tuple[Path, str] | None:
    """The folder and pattern of mixtures that lie with their references; None where there are none.

    Datasets with clean and noisy mixtures hold both: the clean ones are taken, and the log says so.
    """
    folders = [references / name for name in ("mix", "mix_clean", "mix_both") if (references / name).is_dir()]
    if len(folders) > 1:
        others = ", ".join(folder.name for folder in folders[1:])
        logger.warning("%s: the mixtures are those in %s; for %s give --mixtures", references, folders[0].name, others)
    if folders:
        return folders[0], ""
    paths = _audio_files(references)
    for pattern in MIXTURE_PATTERNS[4:]:
        if {fields["mixture_id"] for fields, _ in _match(pattern, ("mixture_id",), references, paths)} & set(wanted):
            return references, pattern
    return None


def audio_names(folder: Path) -> set[str]:
    """Names of the recordings in a folder and below, without their extensions."""
    return {path.stem for path in _audio_files(folder)}


def _recognise(folder: Path, paths: Sequence[Path], kind: Kind, mixture_names: Collection[str]) -> list[Match]:
    """The matches of the layout that explains the most files."""
    if kind == "estimates" and (found := _best(folder, paths, ESTIMATE_PATTERNS)):
        return found
    plain = [path for path in paths if not _is_beside_its_reference(path, set(paths))]
    found = _best(folder, plain, (*SOURCE_PATTERNS, *NUMBERED_PATTERNS))
    flat = _match(ONE_SOURCE, ("mixture_id",), folder, plain)
    if not found:
        return flat
    is_numbered = all(path.parent == folder and path.stem.endswith(("_" + f["source"], "-" + f["source"])) for f, path in found)
    if is_numbered and _are_names(flat, found, mixture_names):
        return flat
    if is_numbered and len({fields["mixture_id"] for fields, _ in found}) < len({fields["source"] for fields, _ in found}):
        example = found[0][1].name
        logger.warning("%s: %s is read as a source of %s, not as a mixture", folder, example, found[0][0]["mixture_id"])
    return found


def _are_names(flat: Sequence[Match], numbered: Sequence[Match], mixture_names: Collection[str]) -> bool:
    """Whether numbers at the end of names belong to the mixtures: there are mixtures of these names, or more than sources."""
    if any(fields["mixture_id"] in mixture_names for fields, _ in flat):
        return True
    return max(int(fields["source"]) for fields, _ in numbered) > _MOST_NUMBERED


def _is_beside_its_reference(path: Path, paths: Collection[Path]) -> bool:
    """Whether a file is ``NAME_estimate`` or the like beside ``NAME``."""
    names = (path.stem.removesuffix(ending) for ending in ESTIMATE_ENDINGS if path.stem.endswith(ending))
    return any(path.with_name(name + path.suffix) in paths for name in names)


def _best(folder: Path, paths: Sequence[Path], patterns: Sequence[str]) -> list[Match]:
    """The matches of the pattern that matches most files; of several, the first."""
    return max((_match(pattern, ("mixture_id", "source"), folder, paths) for pattern in patterns), key=len)


def _match(pattern: str, fields: Sequence[str], folder: Path, paths: Sequence[Path]) -> list[Match]:
    """Fields and path of every file that matches."""
    expression = _expression(pattern, fields)
    matches = ((expression.fullmatch(path.relative_to(folder).with_suffix("").as_posix()), path) for path in paths)
    return [(match.groupdict(), path) for match, path in matches if match]


def _audio_files(folder: Path) -> list[Path]:
    """Recordings in a folder and below it, in the order of their names."""
    if not folder.is_dir():
        raise ScoreError(f"{folder}: no such folder")
    return sorted(path for path in _files(folder, frozenset()) if path.suffix.lower() in EXTENSIONS)


def _files(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """Files in a folder and below, through links, but not round in circles; without hidden ones (macOS leaves ``._abc.wav``)."""
    real = folder.resolve()
    if real in above:
        return
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    for entry in visible:
        if entry.is_dir():
            yield from _files(folder / entry.name, above | {real})
        else:
            yield folder / entry.name


def _no_match(folder: Path, paths: Sequence[Path], patterns: Sequence[str]) -> ScoreError:
    names = " or ".join(patterns[:3])
    advice = "give a pattern"
    for below in sorted({parent for path in paths for parent in path.parents if folder in parent.parents})[:_MOST_TRIED]:
        inside = [path for path in paths if below in path.parents]
        if any(_match(pattern, _fields_of(pattern), below, inside) for pattern in patterns if "/" in pattern):
            advice = f"give {below}, or a pattern"
            break
    return ScoreError(f"{folder}: none of its {len(paths)} audio files is named like {names}; {advice}")


def _fields_of(pattern: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", pattern)


def _expression(pattern: str, fields: Sequence[str]) -> re.Pattern[str]:
    """The expression that a pattern stands for; each field must occur in it once, but one source needs no number."""
    parts = re.split(r"\{(\w+)\}", pattern)
    if sorted(parts[1::2]) not in (sorted(fields), ["mixture_id"]):
        wanted = " and ".join(f"{{{field}}}" for field in fields)
        raise ScoreError(f"pattern {pattern!r}: write {wanted} once, and nothing else in braces")
    return re.compile("".join(_FIELDS[part] if index % 2 else re.escape(part) for index, part in enumerate(parts)))
