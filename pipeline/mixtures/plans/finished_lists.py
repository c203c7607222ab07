"""Finished mixtures in lists: a CSV file for each split, as Asteroid's and SpeechBrain's recipes read them.

mixture_ID,mixture_path,source_1_path,source_2_path,noise_path,length       Asteroid, LibriMix; paths are mostly absolute
ID,duration,mix_wav,s1_wav,s2_wav                                           SpeechBrain; paths begin with ``$data_root``

Other columns are not used. A file that is only read may lie anywhere: absolute paths are allowed, and ``..`` is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from pipeline.errors import PlanError
from pipeline.mixtures.plans.finished_folders import FinishedMixture, FoundMixtures
from pipeline.mixtures.plans.published import ListedNames, check_listed_path, find_list, read_rows
from pipeline.recipe.schema import FinishedPlan, MixturesCorpus

ID_COLUMNS = ("mixture_ID", "mixture_id", "ID", "id")
MIXTURE_COLUMNS = ("mixture_path", "mix_path", "noisy_path", "mix_wav", "mixture_wav", "noisy_wav")
_SOURCE_COLUMN = re.compile(r"source_\d+_path|s\d+_(wav|path)")
_ROOT = re.compile(r"(\$\{?|\{)data_(root|folder)\}?/")


def find_in_lists(corpus: MixturesCorpus, plan: FinishedPlan, root: Path) -> FoundMixtures:
    """Read the mixtures of the plan's splits, in the order of their lists; no audio is looked for.

    Raises:
        PlanError: a list is missing or malformed, a column is missing, a path is none, or two mixtures have one name.
    """
    found, names = FoundMixtures(), ListedNames()
    for split in plan.splits:
        if split not in corpus.lists:
            raise PlanError(f"corpus.lists: has no list of the split {split}; add it, or set plan.splits = {list(corpus.lists)}")
        path = find_list(root, corpus.lists[split])
        rows = read_rows(path, (), limit=plan.limit)
        mixture, sources = _columns(corpus, list(rows[0][1]), path)
        for origin, row in rows:
            files = [_path(row[column], root, f"{origin}, {column}") for column in (mixture, *sources)]
            name = names.add(split, _id(row) or PurePosixPath(files[0]).stem, origin)
            found.mixtures.append(FinishedMixture(name, split, files[0], tuple(files[1:])))
        if unused := [column for column in rows[0][1] if _SOURCE_COLUMN.fullmatch(column) and column not in sources]:
            found.warnings.append(
                f"{path}: {', '.join(unused)} is not used; if it is a source to separate, add it to corpus.sources"
            )
    found.warnings += _outside(found.mixtures, root)
    return found


def _columns(corpus: MixturesCorpus, columns: Sequence[str], path: Path) -> tuple[str, list[str]]:
    """The columns of the mixture and of its sources."""
    places = [(place, _called(place)) for place in corpus.sources]
    sources = [
        _column((*names, f"source_{k}_path"), columns, f"source {k}", path) for k, (_, names) in enumerate(places, start=1)
    ]
    return _column(_called(corpus.mixture) if corpus.mixture else MIXTURE_COLUMNS, columns, "the mixture", path), sources


def _called(place: str) -> tuple[str, ...]:
    return place, f"{place}_wav", f"{place}_path"


def _column(names: Iterable[str], columns: Sequence[str], what: str, path: Path) -> str:
    column = next((name for name in names if name in columns), None)
    if column is None:
        raise PlanError(
            f"{path}: has no column for {what} ({', '.join(names)}); found {', '.join(columns)}: name it in "
            f"{'corpus.mixture' if what == 'the mixture' else 'corpus.sources'}"
        )
    return column


def _id(row: Mapping[str, str]) -> str | None:
    return next((row[column] for column in ID_COLUMNS if column in row), None)


def _path(listed: str, root: Path, origin: str) -> str:
    """A listed file: relative to the corpus if it is in there, else absolute."""
    path = _ROOT.sub("", listed, count=1) if _ROOT.match(listed) else listed
    for home in dict.fromkeys((root.absolute(), root.resolve())):
        if PurePosixPath(path).is_relative_to(home.as_posix()):
            path = PurePosixPath(path).relative_to(home.as_posix()).as_posix()
    # An absolute path is checked without its first slash: what else a path must not have, it must not have either.
    check_listed_path(path.removeprefix("/"), origin)
    return path


def _outside(mixtures: Sequence[FinishedMixture], root: Path) -> Iterable[str]:
    """A line about files that are not in the corpus."""
    files = {path for mixture in mixtures for path in (mixture.path, *mixture.sources) if path}
    if outside := sorted(path for path in files if path.startswith("/")):
        yield (
            f"{root}: {len(outside):,} of {len(files):,} listed files lie outside of it ({outside[0]}, …); "
            "they are read where they are"
        )
