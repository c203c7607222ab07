"""Anybody's speech: one folder per speaker, and perhaps a table that says more.

Terms: those of whoever owns the recordings; nothing is copied into the project and nothing is written to the folder.

Layout::

    ROOT/SPEAKER/anything.{flac,wav,ogg,mp3}      folders may be nested below the speaker
    ROOT/metadata.csv                             optional, in one of two forms

``metadata.csv`` with a column ``path`` has a row per file: ``path, speaker_id`` and, where known, ``utterance_id, split, sex``.
Without ``path`` it has a row per speaker: ``speaker_id`` (the folder's name) and, where known, ``split, sex``.

Without a ``split`` column the speakers are split by a rule that depends only on the seed and their names, and the log says so.
Without ``utterance_id`` an utterance is called by its path: ``ann/day-1/07.wav`` becomes ``ann-day-1-07``.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path

import pandas as pd

from pipeline.corpora.listing import ListedFile, describe_other_audio, list_files
from pipeline.corpora.manifests import MIN_SPEAKERS, Utterance, keyed_order, raise_findings, some_of
from pipeline.errors import CorpusError
from pipeline.recipe.schema import SPLITS, FolderCorpus
from pipeline.tables import Column, Schema, bare_name, read_table

FOLDER_NAMES = ("speech", "folder")
ENDINGS = (".flac", ".wav", ".ogg", ".mp3")
METADATA = "metadata.csv"
SHARED_SPLITS: tuple[str, ...] = ()

METADATA_TABLE = Schema(
    "metadata table",
    (
        Column("speaker_id", "text", "who speaks", synonyms=("speaker", "spk", "spk_id", "speaker_name", "reader", "talker")),
        Column(
            "path",
            "text",
            "audio file, relative to the corpus; without it a row stands for a speaker",
            optional=True,
            synonyms=("file", "filename", "filepath", "audio", "audio_path", "audio_file", "wav", "wav_path"),
        ),
        Column("utterance_id", "text", "unique in the corpus", optional=True, synonyms=("utterance", "utt", "utt_id")),
        Column("split", "text", "train, valid or test", optional=True, synonyms=("subset", "set", "partition", "fold")),
        Column("sex", "text", "F or M", optional=True, synonyms=("gender",)),
    ),
)

logger = logging.getLogger("pipeline")


def files(corpus: FolderCorpus, root: Path, *, splits: Collection[str] = SPLITS) -> list[ListedFile]:
    """The audio files of the corpus, of all splits."""
    return list_files(root, ENDINGS)


def metadata_files(corpus: FolderCorpus) -> list[str]:
    """Tables whose content decides the manifest."""
    return [METADATA]


def utterances(
    corpus: FolderCorpus, root: Path, *, seed: int, splits: Collection[str] = SPLITS, extra_columns: Collection[str] = ()
) -> list[Utterance]:
    """Every recording with its speaker, sex and split.

    Args:
        corpus: the recipe's table.
        root: the corpus.
        seed: of the recipe.
        splits: those that mixtures are asked for; speakers too few for all splits are split among these alone.
        extra_columns: of ``metadata.csv``, which are there for other readers; any others are said not to be used.

    Raises:
        CorpusError: no audio, files outside speaker folders, a table that does not match the files, too few speakers to split.
    """
    paths = [file.path for file in files(corpus, root)]
    if not paths:
        others = describe_other_audio(root, ENDINGS)
        raise CorpusError(f"{root}: holds no audio ({', '.join(ENDINGS)}); expected {root}/SPEAKER/anything.flac{others}")
    table = _table(root, paths, extra_columns)
    if "split" not in table.columns:
        table["split"] = table["speaker_id"].map(_split_speakers(corpus, root, set(table["speaker_id"]), seed, splits))
    return [
        Utterance(row["utterance_id"], row["speaker_id"], _sex(row.get("sex", "")), row["split"], row["path"])
        for row in table.to_dict("records")
    ]


def _table(root: Path, paths: Sequence[str], extra_columns: Collection[str]) -> pd.DataFrame:
    """A row per file with ``path, speaker_id, utterance_id`` and what the corpus's own table adds."""
    if not (root / METADATA).is_file():
        _check_similar_tables(root)
        return _by_folder(root, paths)
    listed = read_table(root / METADATA, METADATA_TABLE)
    unused = [name for name in listed.columns if METADATA_TABLE.kind_of(name) is None and name not in extra_columns]
    _check_typing_errors(root, listed, unused)
    if unused:
        logger.info("%s: the columns %s are not used", root / METADATA, ", ".join(map(repr, unused)))
    listed["speaker_id"] = listed["speaker_id"].map(_composed)
    if "path" not in listed.columns:
        return _join_speakers(root, _by_folder(root, paths), listed)
    # A table and a disk may write one name in two Unicode forms; the file is called as the disk says.
    on_disk = {_composed(path): path for path in paths}
    listed["path"] = [on_disk.get(_composed(path), path) for path in listed["path"]]
    _match(root, "file", set(paths), list(listed["path"]))
    if "utterance_id" not in listed.columns:
        listed["utterance_id"] = [_id_of(path) for path in listed["path"]]
    return listed


def _check_typing_errors(root: Path, listed: pd.DataFrame, unused: Sequence[str]) -> None:
    """Raise CorpusError for a column that is called nearly like one that is not there: ``spilt``."""
    for wanted in (column.name for column in METADATA_TABLE.columns if column.name not in listed.columns):
        for name in unused:
            if SequenceMatcher(None, bare_name(name), bare_name(wanted)).ratio() >= 0.8:
                raise CorpusError(f"{root / METADATA}: is the column {name!r} meant to be {wanted!r}? Rename it, or remove it")


def _check_similar_tables(root: Path) -> None:
    """Raise CorpusError for a table that is nearly called ``metadata.csv``, or has its columns: what it says would be ignored."""
    similar = [path.name for path in sorted(root.iterdir()) if path.is_file() and (_is_similar(path.name) or _has_splits(path))]
    if similar:
        raise CorpusError(f"{root / similar[0]}: must be called {METADATA}, as a CSV file; rename or convert it, or move it away")


def _is_similar(name: str) -> bool:
    return not name.casefold().endswith(ENDINGS) and "".join(filter(str.isalnum, name)).casefold().startswith("metadata")


def _has_splits(path: Path) -> bool:
    """Whether a table says who is in which split."""
    if path.suffix.casefold() not in (".csv", ".tsv"):
        return False
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            columns = {bare_name(cell) for cell in re.split(r"[,;\t]", file.readline(4096))}
    except OSError:
        return False
    split, *others = (
        {bare_name(name) for column in METADATA_TABLE.columns if column.name == called for name in (called, *column.synonyms)}
        for called in ("split", "speaker_id", "path")
    )
    return bool(columns & split) and any(columns & names for names in others)


def _by_folder(root: Path, paths: Sequence[str]) -> pd.DataFrame:
    """The first folder of every path is the speaker."""
    loose = [path for path in paths if "/" not in path]
    if loose:
        raise CorpusError(
            f"{root}: {len(loose)} audio files lie outside any speaker's folder ({some_of(loose)}); "
            f"put them into one folder per speaker, or list them with their speakers in {METADATA}"
        )
    rows = [{"path": path, "speaker_id": _composed(path.split("/")[0]), "utterance_id": _id_of(path)} for path in paths]
    return pd.DataFrame(rows, dtype="str")


def _id_of(path: str) -> str:
    return _composed(path.rpartition(".")[0].replace("/", "-"))


def _composed(name: str) -> str:
    """The name in Unicode's composed form; macOS and some archives write ``ë`` as two characters."""
    return unicodedata.normalize("NFC", name)


def _join_speakers(root: Path, by_folder: pd.DataFrame, speakers: pd.DataFrame) -> pd.DataFrame:
    """Add what a table with one row per speaker says."""
    _match(root, "speaker", set(by_folder["speaker_id"]), list(speakers["speaker_id"]))
    wanted = [name for name in ("speaker_id", "split", "sex") if name in speakers.columns]
    return by_folder.merge(speakers[wanted], on="speaker_id", how="left", validate="many_to_one")


def _match(root: Path, noun: str, found: set[str], listed: Sequence[str]) -> None:
    """Raise CorpusError unless the table lists exactly what the folder holds, once each."""
    raise_findings(f"{root / METADATA}: {finding}" for finding in _mismatches(noun, found, listed))


def _mismatches(noun: str, found: set[str], listed: Sequence[str]) -> Iterator[str]:
    missing, unlisted = set(listed) - found, found - set(listed)
    repeated = set(pd.Series(list(listed))[pd.Series(list(listed)).duplicated()])
    if missing:
        yield f"{len(missing)} rows name a {noun} that does not exist ({some_of(missing)}); remove the rows or add the audio"
    if unlisted:
        yield f"{len(unlisted)} {noun}s have no row ({some_of(unlisted)}); add rows or move the audio away"
    if repeated:
        yield f"{len(repeated)} {noun}s have more than one row ({some_of(repeated)}); keep one each"


def _sex(text: str) -> str:
    """F, M, or empty where the corpus says anything else."""
    letter = text.strip()[:1].upper()
    return letter if letter in ("F", "M") else ""


def _split_speakers(corpus: FolderCorpus, root: Path, speakers: set[str], seed: int, splits: Collection[str]) -> dict[str, str]:
    """Split speakers by the recipe's shares, at least two each; the draw is keyed by seed and name, so it ignores order.

    Enough speakers are split the same for all recipes, whatever splits they ask for; fewer, among those asked for.
    """
    if len(speakers) < MIN_SPEAKERS * len(SPLITS):
        return _split_few(root, speakers, seed, [split for split in SPLITS if split in splits])
    num_valid, num_test = _held_out(len(speakers), corpus.valid_share, corpus.test_share)
    order = keyed_order(speakers, seed, "split")
    counts = {"valid": num_valid, "test": num_test, "train": len(order) - num_valid - num_test}
    logger.info("%s: no split given; speakers split by seed %d: %s", root, seed, ", ".join(f"{counts[s]} {s}" for s in SPLITS))
    names = [split for split, count in counts.items() for _ in range(count)]
    return dict(zip(order, names, strict=True))


def _split_few(root: Path, speakers: set[str], seed: int, splits: Sequence[str]) -> dict[str, str]:
    """Two speakers for each split, and what is left for the first."""
    least = MIN_SPEAKERS * len(splits)
    if len(speakers) < least:
        raise CorpusError(
            f"{root}: {len(speakers)} speakers are too few to split; it takes at least {least} "
            f"({MIN_SPEAKERS} for each of {', '.join(splits)})"
        )
    names = [split for split in splits for _ in range(MIN_SPEAKERS)] + [splits[0]] * (len(speakers) - least)
    counts = ", ".join(f"{names.count(split)} {split}" for split in splits)
    logger.info("%s: no split given; speakers split by seed %d among the splits asked for: %s", root, seed, counts)
    return dict(zip(keyed_order(speakers, seed, "split"), names, strict=True))


def _held_out(num_speakers: int, valid_share: float, test_share: float) -> tuple[int, int]:
    """How many speakers validate and test: the shares rounded, two at least, and two left to train on."""
    num_valid = max(MIN_SPEAKERS, round(num_speakers * valid_share))
    num_test = max(MIN_SPEAKERS, round(num_speakers * test_share))
    while num_valid + num_test > num_speakers - MIN_SPEAKERS:
        if num_valid >= num_test:
            num_valid -= 1
        else:
            num_test -= 1
    return num_valid, num_test
