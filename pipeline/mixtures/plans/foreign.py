"""Lists of mixtures by anybody, in MERL's or LibriMix's format, read to be linted; no audio is needed.

mix_2_spk_tr.txt                   MERL's: see ``wsj0mix``; any number of speakers
libri2mix_train-clean-100.csv      LibriMix's: see ``librimix``; its ``…_info.csv`` beside it says who speaks
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.errors import PlanError
from pipeline.mixtures.plans.librimix_lists import file_name
from pipeline.mixtures.plans.published import ListedNames, check_listed_path, read_lines, read_rows
from pipeline.mixtures.plans.wsj0mix import parse_row

INFO = "_info.csv"
_MERL_NAME = re.compile(r"mix_\d+_spk_(\w+)")
_LIBRIMIX_NAME = re.compile(r"libri\d+mix_(.+)")

Utterance = tuple[str, str]
"""Path as listed, and speaker."""
Mixture = tuple[str, list[Utterance]]
"""Its name, or the line it stands in, and its utterances."""


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
        families[_family_name(path, _num_sources(path))].append(path)
    for name, paths in sorted(families.items()):
        splits = _split_names(paths, target)
        mixtures = [(split, *mixture) for split, path in zip(splits, paths, strict=True) for mixture in _read(path)]
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
    first = read_lines(path)[0]
    return len(_path_columns(next(csv.reader([first])))) if path.suffix == ".csv" else max(len(first.split()) // 2, 1)


def _path_columns(columns: Iterable[str]) -> list[str]:
    return [name for name in columns if re.fullmatch(r"source_\d+_path", name)]


def _read(path: Path) -> list[Mixture]:
    """The mixtures of one list."""
    return list(_read_librimix(path) if path.suffix == ".csv" else _read_merl(path))


def _read_merl(path: Path) -> Iterator[Mixture]:
    num_sources = _num_sources(path)
    for number, line in enumerate(read_lines(path), start=1):
        files, _ = parse_row(line, num_sources, f"{path}, line {number}")
        yield f"line {number}", [(str(file), file.parent.name) for file in files]


def _read_librimix(path: Path) -> Iterator[Mixture]:
    rows = read_rows(path, ["mixture_ID", "source_1_path"])
    columns = _path_columns(rows[0][1])
    speakers = _speakers(path, columns)
    names = ListedNames()
    for origin, row in rows:
        name = row["mixture_ID"]
        names.add("", file_name(name, len(columns)), origin)
        files = [check_listed_path(row[column], origin) for column in columns]
        yield name, list(zip(files, speakers.get(name) or _of_librispeech(files), strict=True))


def _speakers(path: Path, columns: Sequence[str]) -> dict[str, list[str]]:
    """The speakers of each mixture, where the list has its ``…_info.csv``."""
    info = path.with_name(f"{path.stem}{INFO}")
    if not info.is_file():
        return {}
    names = [column.replace("source", "speaker").replace("path", "ID") for column in columns]
    # The published ones are written as numbers with a decimal point.
    return {row["mixture_ID"]: [row[n].removesuffix(".0") for n in names] for _, row in read_rows(info, ["mixture_ID", *names])}


def _of_librispeech(files: Sequence[str]) -> list[str]:
    """LibriSpeech's files begin with their speaker."""
    return [PurePosixPath(file).stem.split("-")[0] for file in files]
