"""Lists of mixtures by anybody, in MERL's or LibriMix's format, read to be linted; no audio is needed.

mix_2_spk_tr.txt                   MERL's: see ``wsj0mix``; any number of speakers
libri2mix_train-clean-100.csv      LibriMix's: see ``librimix``; its ``…_info.csv`` beside it says who speaks
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

import pandas as pd

from pipeline.errors import PlanError
from pipeline.mixtures.plans.wsj0mix import parse_row

INFO = "_info.csv"
_MERL_NAME = re.compile(r"mix_\d+_spk_(\w+)")
_LIBRIMIX_NAME = re.compile(r"libri\d+mix_(.+)")

Utterance = tuple[str, str]
"""Path as listed, and speaker."""
Mixture = tuple[str, list[Utterance]]
"""Its name, or the line it stands in, and its utterances."""
Read = TypeVar("Read")


def read_families(target: Path) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Read the lists in a file or below a folder, those of one format and number of speakers together.

    Yields:
        What to call them in messages; their rows (``split, mixture_id, source, utterance_id``: an utterance is called by its
        path, a split as :func:`split_name` says); and the speakers (``utterance_id, speaker_id``).

    Raises:
        PlanError: there are none, or one is malformed.
    """
    families: dict[str, list[Path]] = defaultdict(list)
    for path in _lists_in(target):
        families[_family_name(path, _readable(path, _num_sources))].append(path)
    for name, paths in sorted(families.items()):
        splits = _split_names(paths, target)
        mixtures = [(split, *mixture) for split, path in zip(splits, paths, strict=True) for mixture in _readable(path, _read)]
        rows = [
            (split, mixture_id, f"s{number}", *utterance)
            for split, mixture_id, utterances in mixtures
            for number, utterance in enumerate(utterances, start=1)
        ]
        table = pd.DataFrame(rows, columns=["split", "mixture_id", "source", "utterance_id", "speaker_id"])
        speakers = table[["utterance_id", "speaker_id"]].drop_duplicates("utterance_id")
        called = paths[0] if len(paths) == 1 else target / name
        yield str(called), table.drop(columns="speaker_id"), speakers


def _family_name(path: Path, num_sources: int) -> str:
    return f"libri{num_sources}mix_*.csv" if path.suffix == ".csv" else f"mix_{num_sources}_spk_*.txt"


def _readable(path: Path, read: Callable[[Path], Read]) -> Read:
    """What ``read`` makes of a file; an error of one line where it cannot."""
    try:
        return read(path)
    except (OSError, ValueError) as error:
        raise PlanError(f"{path}: cannot be read as a list of mixtures ({error})") from error


def split_name(path: Path) -> str:
    """The split in a list's name, such as ``tr`` or ``train-clean-100``; else its whole name."""
    found = _MERL_NAME.fullmatch(path.stem) or _LIBRIMIX_NAME.fullmatch(path.stem)
    return found[1] if found else path.stem


def _split_names(paths: Sequence[Path], target: Path) -> list[str]:
    """The lists' splits; where two lists have the same name, what tells them apart."""
    names = [split_name(path) for path in paths]
    return names if len(set(names)) == len(names) else [str(path.relative_to(target)) for path in paths]


def _lists_in(target: Path) -> list[Path]:
    if target.is_file():
        return [target]
    found = [path for pattern in ("mix_*_spk_*.txt", "libri*mix_*.csv") for path in sorted(target.rglob(pattern))]
    lists = [path for path in found if not path.name.endswith(INFO)]
    if not lists:
        raise PlanError(
            f"{target}: no lists here; expected a recipe, MERL's mix_2_spk_tr.txt … or LibriMix's libri2mix_dev-clean.csv …"
        )
    return lists


def _num_sources(path: Path) -> int:
    """Speakers in each mixture, from the first row."""
    if path.suffix == ".csv":
        return len(_path_columns(pd.read_csv(path, nrows=0)))
    with path.open(encoding="utf-8") as file:
        num_words = len(file.readline().split())
    if num_words == 0:
        raise PlanError(f"{path}: has no mixtures")
    return max(num_words // 2, 1)


def _path_columns(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if re.fullmatch(r"source_\d+_path", name)]


def _read(path: Path) -> list[Mixture]:
    """The mixtures of one list."""
    return list(_read_librimix(path) if path.suffix == ".csv" else _read_merl(path))


def _read_merl(path: Path) -> Iterator[Mixture]:
    num_sources = _num_sources(path)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        files, _ = parse_row(line, num_sources, f"{path}, line {number}")
        yield f"line {number}", [(str(file), file.parent.name) for file in files]


def _read_librimix(path: Path) -> Iterator[Mixture]:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    columns = _path_columns(table)
    if "mixture_ID" not in table.columns or not columns:
        raise PlanError(f"{path}: needs the columns mixture_ID, source_1_path, …")
    speakers = _speakers(path, columns)
    for row in table.to_dict("records"):
        files = [row[column] for column in columns]
        yield row["mixture_ID"], list(zip(files, speakers.get(row["mixture_ID"]) or _of_librispeech(files), strict=True))


def _speakers(path: Path, columns: Sequence[str]) -> dict[str, list[str]]:
    """The speakers of each mixture, where the list has its ``…_info.csv``."""
    info = path.with_name(f"{path.stem}{INFO}")
    if not info.is_file():
        return {}
    table = pd.read_csv(info, dtype=str, keep_default_na=False)
    names = [column.replace("source", "speaker").replace("path", "ID") for column in columns]
    # The published ones are written as numbers with a decimal point.
    ids = table[names].apply(lambda column: column.str.removesuffix(".0"))
    return dict(zip(table["mixture_ID"], ids.to_numpy().tolist(), strict=True))


def _of_librispeech(files: Sequence[str]) -> list[str]:
    """LibriSpeech's files begin with their speaker."""
    return [PurePosixPath(file).stem.split("-")[0] for file in files]
