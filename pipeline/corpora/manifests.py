"""Manifests: the table of a corpus, one row per utterance, and what must hold of it.

A corpus adapter lists its utterances (who speaks, in which split, in which file); the headers of the files add rate and length;
together they are a manifest (``tables.MANIFEST``), sorted by utterance so that it never depends on the order of a folder listing.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import pandas as pd

from pipeline.errors import CorpusError
from pipeline.files import name_fault, same_file_names
from pipeline.recipe.schema import SPLITS

VERSION = 1
"""Raise it when the same corpus would yield another manifest."""

MAX_FINDINGS = 50
MAX_EXAMPLES = 10
LIBRISPEECH_SUBSETS = (
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
)
MIN_SPEAKERS = 2
UNKNOWN_SPEAKER = "?"
"""The ``speaker_id`` of speech by nobody knows whom; noise has an empty one."""
SPLIT_MEANT_BY = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev", "cv"), "valid"),
    **dict.fromkeys(("test", "testing", "tt", "eval"), "test"),
}
MAX_ID_BYTES = 100
"""Of an utterance: a mixture is called by two or more of them, and file names end at 255 bytes."""


@dataclass(frozen=True)
class Utterance:
    """What a corpus says of one recording before its header is read; ``path`` is relative, with forward slashes."""

    utterance_id: str
    speaker_id: str
    sex: str
    split: str
    path: str


class Header(Protocol):
    """The facts of an audio header that a manifest keeps: rate in Hz and samples per channel."""

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def num_samples(self) -> int:
        """Samples per channel."""


def is_noise(manifest: pd.DataFrame) -> pd.Series[bool]:
    """Which rows of a manifest are noise rather than speech: those without a speaker."""
    return manifest["speaker_id"] == ""


def make_manifest(utterances: Sequence[Utterance], headers: Sequence[Header], digests: Mapping[str, str]) -> pd.DataFrame:
    """Join utterances with their headers (same order) and digests (by path); sorted by ``utterance_id``, then path."""
    pairs = sorted(zip(utterances, headers, strict=True), key=lambda pair: (pair[0].utterance_id, pair[0].path))
    return pd.DataFrame(
        {
            "utterance_id": pd.Series([u.utterance_id for u, _ in pairs], dtype="str"),
            "speaker_id": pd.Series([u.speaker_id for u, _ in pairs], dtype="str"),
            "sex": pd.Series([u.sex for u, _ in pairs], dtype="str"),
            "split": pd.Series([u.split for u, _ in pairs], dtype="str"),
            "path": pd.Series([u.path for u, _ in pairs], dtype="str"),
            "sample_rate": pd.Series([h.sample_rate for _, h in pairs], dtype="int64"),
            "num_samples": pd.Series([h.num_samples for _, h in pairs], dtype="int64"),
            "sha256": pd.Series([digests[u.path] for u, _ in pairs], dtype="str"),
        }
    )


def check_manifest(
    manifest: pd.DataFrame, *, origin: str, splits: Collection[str] = SPLITS, shared_splits: Collection[str] = ()
) -> None:
    """Raise CorpusError with every finding unless mixtures can be drawn from the manifest.

    Args:
        manifest: a table of ``tables.MANIFEST``.
        origin: names the corpus in the messages.
        splits: those that mixtures are asked for; others may have too few speakers.
        shared_splits: splits that may have speakers (never utterances) in common; WSJ0-2mix shares train and valid.

    Raises:
        CorpusError: no rows; ids that repeat or cannot be part of a file name; paths out of the corpus; splits that do not exist
            or, of those asked for, have fewer than two speakers; speakers in two splits; files without samples.
    """
    if manifest.empty:
        raise CorpusError(f"{origin}: holds no utterances")
    checks = (_bad_ids, _repeated_ids, _bad_paths, _bad_splits, _empty_files)
    findings = [finding for check in checks for finding in check(manifest)]
    findings += _leaking_speakers(manifest, shared_splits)
    findings += _too_few_speakers(manifest, splits)
    raise_findings(f"{origin}: {finding}" for finding in findings)


def raise_findings(findings: Iterable[str]) -> None:
    """Raise one CorpusError with a line per finding; none, no error; very many, the first fifty and a count."""
    lines = list(findings)
    if len(lines) > MAX_FINDINGS:
        lines[MAX_FINDINGS:] = [f"… and {len(lines) - MAX_FINDINGS} more findings like these"]
    if lines:
        raise CorpusError("\n".join(lines))


def some_of(names: Collection[str], limit: int = 3) -> str:
    """The first few names of a collection, sorted, as a phrase: ``a, b, c and 14 more``."""
    shown = sorted(names)[:limit]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def describe_missing(root: Path, missing: Collection[str], num_wanted: int) -> str:
    """What to tell somebody whose corpus lacks files: how many, in which folders, ten examples, and what to do.

    Args:
        root: the corpus.
        missing: paths relative to it.
        num_wanted: how many files are needed altogether.
    """
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in sorted(missing):
        by_folder[path.rpartition("/")[0].partition("/")[0] or "."].append(path)
    limit = max(1, MAX_EXAMPLES // len(by_folder))
    lines = [f"{root}: no such file for {len(missing):,} of the {num_wanted:,} that are needed"]
    for folder, paths in list(by_folder.items())[:MAX_EXAMPLES]:
        lines.append(f"  {folder}: {len(paths):,} missing: {some_of(paths, limit)}")
    if len(by_folder) > MAX_EXAMPLES:
        lines.append(f"  … and {len(by_folder) - MAX_EXAMPLES:,} more folders")
    subsets = [folder for folder in by_folder if folder in LIBRISPEECH_SUBSETS]
    fetch = "".join(f"`tasnet fetch librispeech-{subset}`, " for subset in subsets)
    lines.append(f"  to fix it: {fetch}copy or merge the missing folders into {root}, or ask for fewer splits or mixtures")
    return "\n".join(lines)


def keyed_order(names: Iterable[str], *key: object) -> list[str]:
    """Names in an order drawn from ``key`` (a seed and a purpose): the same for any order they come in."""
    prefix = "\0".join(map(str, key))
    return sorted(names, key=lambda name: (hashlib.sha256(f"{prefix}\0{name}".encode("utf-8", "surrogateescape")).digest(), name))


def _bad_ids(manifest: pd.DataFrame) -> Iterator[str]:
    for column in ("utterance_id", "speaker_id"):
        names = pd.unique(manifest[column])
        for name in names:
            if fault := name_fault(name):
                yield f"{column} {name!r} {fault}, so it cannot be part of a file name; use letters, digits, '-', '_' and '.'"
            elif len(name.encode("utf-8", "surrogateescape")) > MAX_ID_BYTES:
                yield f"{column} {name} is longer than {MAX_ID_BYTES} bytes; give shorter names, in metadata.csv or to the files"
        for first, second in same_file_names(names):
            yield f"{column} {first!r} and {second!r} differ only in how Unicode writes them; rename one"


def _repeated_ids(manifest: pd.DataFrame) -> Iterator[str]:
    repeated = manifest[manifest["utterance_id"].duplicated(keep=False)]
    for utterance_id, rows in repeated.groupby("utterance_id", sort=True):
        if twice := same_file_names(rows["path"]):
            yield f"{twice[0][0]} is there twice, as its name is in different Unicode forms; remove one"
            continue
        yield f"utterance_id {utterance_id} belongs to {len(rows)} files ({some_of(list(rows['path']))}); rename or remove one"


def _bad_paths(manifest: pd.DataFrame) -> Iterator[str]:
    for path in manifest["path"]:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            yield f"path {path} leaves the corpus; write it relative to the corpus folder"


def _bad_splits(manifest: pd.DataFrame) -> Iterator[str]:
    for split, rows in manifest.groupby("split", sort=True):
        if split not in SPLITS:
            meant = SPLIT_MEANT_BY.get(str(split).strip().casefold())
            hint = f"; write {meant!r}" if meant else ""
            yield f"split {split!r} ({len(rows)} utterances) is none of {', '.join(SPLITS)}{hint}"


def _empty_files(manifest: pd.DataFrame) -> Iterator[str]:
    for path in manifest.loc[manifest["num_samples"] <= 0, "path"]:
        yield f"{path}: holds no samples; remove it"


def _leaking_speakers(manifest: pd.DataFrame, shared_splits: Collection[str]) -> Iterator[str]:
    splits_of = manifest.groupby("speaker_id", sort=True)["split"].unique()
    for speaker_id, splits in splits_of.items():
        if len(splits) > 1 and not set(splits) <= set(shared_splits):
            yield f"speaker {speaker_id} is in the splits {', '.join(sorted(splits))}; a speaker belongs to one split"


def _too_few_speakers(manifest: pd.DataFrame, splits: Collection[str]) -> Iterator[str]:
    speakers = manifest["speaker_id"].unique()
    if len(speakers) == 1:
        yield f"all {len(manifest)} utterances are of one speaker ({speakers[0]}); a mixture needs two or more"
        return
    for split in splits:
        num_speakers = manifest.loc[manifest["split"] == split, "speaker_id"].nunique()
        if num_speakers < MIN_SPEAKERS:
            yield f"split {split} has {num_speakers} speaker{'s' * (num_speakers != 1)}; a mixture needs at least {MIN_SPEAKERS}"
