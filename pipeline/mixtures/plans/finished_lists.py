"""Finished mixtures in lists: a file for each split, as Asteroid's and SpeechBrain's recipes read them.

mixture_ID,mixture_path,source_1_path,source_2_path,noise_path,length       Asteroid, LibriMix; paths are mostly absolute
ID,duration,mix_wav,s1_wav,s2_wav                                           SpeechBrain; paths begin with ``$data_root``
[["/data/tr/mix_both/a.wav", 32000], …]                                     Asteroid: ``mix_both.json``; beside it ``s1.json`` …
{"a": {"mix_wav": "{data_root}/…", "s1_wav": …, "duration": 4.0}, …}        SpeechBrain: the columns of its table by ``ID``

Other columns are not used. A file that is only read may lie anywhere: absolute paths are allowed, and ``..`` is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import PlanError, first_line
from pipeline.files import parse_json
from pipeline.mixtures.plans.finished_folders import FinishedMixture, FoundMixtures
from pipeline.mixtures.plans.published import ListedNames, check_listed_path, find_list, read_lines, read_rows
from pipeline.recipe.schema import FinishedPlan, MixturesCorpus

ID_COLUMNS = ("mixture_ID", "mixture_id", "ID", "id")
MIXTURE_COLUMNS = ("mixture_path", "mix_path", "noisy_path", "mix_wav", "mixture_wav", "noisy_wav")
_SOURCE_COLUMN = re.compile(r"source_\d+_path|s\d+_(wav|path)")
_EXAMPLE = '[["tt/mix/a.wav", 32000], …] or {"a": {"mix_wav": "tt/mix/a.wav", "s1_wav": …}, …}'
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
        rows = _json_rows(path, corpus)[: plan.limit] if _is_json(path) else read_rows(path, (), limit=plan.limit)
        mixture, sources = _columns(corpus, list(rows[0][1]), path)
        for origin, row in rows:
            files = [_path(row.get(column, ""), root, f"{origin}, {column}") for column in (mixture, *sources)]
            name = names.add(split, _id(row) or PurePosixPath(files[0]).stem, origin)
            found.mixtures.append(FinishedMixture(name, split, files[0], tuple(files[1:])))
        if unused := [column for column in rows[0][1] if _SOURCE_COLUMN.fullmatch(column) and column not in sources]:
            found.warnings.append(
                f"{path}: {', '.join(unused)} is not used; if it is a source to separate, add it to corpus.sources"
            )
    found.warnings += _outside(found.mixtures, root)
    return found


def list_names(corpus: MixturesCorpus, plan: FinishedPlan, root: Path) -> list[str]:
    """The lists of the plan's splits, and those of the sources that lie beside a list of mixtures alone.

    Raises:
        PlanError: a list is missing or is no JSON.
    """
    names = [corpus.lists[split] for split in plan.splits if split in corpus.lists]
    for name in list(names):
        path = find_list(root, name) if _is_json(Path(name)) else None
        if path and isinstance(_parsed(path), list):
            names += [(path.relative_to(root).parent / f"{place}.json").as_posix() for place in corpus.sources]
    return names


# ----------------------------------------------------------------------------------------------------------------- JSON
def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _json_rows(path: Path, corpus: MixturesCorpus) -> list[tuple[str, dict[str, str]]]:
    """The rows of a list in JSON under the names of columns, each with what to call it in messages."""
    content = _parsed(path)
    if isinstance(content, dict):
        odd = next((name for name, columns in content.items() if not isinstance(columns, dict)), None)
        if odd is not None or not content:
            raise PlanError(f"{path}: {'lists nothing' if odd is None else f'{odd} has no columns, as in {_EXAMPLE}'}")
        return [(f"{path}, {name}", {"ID": name, **_texts(columns)}) for name, columns in content.items()]
    paths = _listed_paths(path, content)
    beside = {place: _beside(path, f"{place}.json", paths) for place in corpus.sources}
    unused = [each.stem for each in sorted(path.parent.glob("s[0-9].json")) if each.stem not in beside]
    parts = [beside[place] for place in corpus.sources]
    names = [corpus.mixture or MIXTURE_COLUMNS[0], *(f"{place}_path" for place in (*corpus.sources, *unused))]
    rows = zip(paths, *parts, *([""] * len(paths) for _ in unused), strict=True)
    return [(f"{path}, entry {number}", dict(zip(names, row, strict=True))) for number, row in enumerate(rows, start=1)]


def _parsed(path: Path) -> Any:
    try:
        return parse_json("\n".join(read_lines(path)))
    except ValueError as error:
        raise PlanError(f"{path}: is not valid JSON ({first_line(error)})") from None


def _texts(columns: Mapping[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else "" for name, value in columns.items()}


def _listed_paths(path: Path, content: Any) -> list[str]:
    """The paths of ``[[path, samples], …]``; their lengths are read from the files."""
    if not isinstance(content, list) or not content:
        raise PlanError(f"{path}: lists nothing; it should hold {_EXAMPLE}")
    for number, entry in enumerate(content, start=1):
        if not isinstance(entry, list) or not entry or not isinstance(entry[0], str):
            raise PlanError(f"{path}, entry {number}: is no path with a number of samples, as in {_EXAMPLE}")
    return [entry[0] for entry in content]


def _beside(path: Path, name: str, mixtures: Sequence[str]) -> list[str]:
    """The files of a source in the order of the mixtures: by their names where these are the same, else as they are listed."""
    other = path.with_name(name)
    if not other.is_file():
        raise PlanError(f"{path}: has no {name} beside it, which should list the files of that source; see corpus.sources")
    files = _listed_paths(other, _parsed(other))
    if len(files) != len(mixtures):
        raise PlanError(f"{other}: lists {len(files):,} files, and {path.name} lists {len(mixtures):,} mixtures; make them again")
    by_name = {PurePosixPath(file).name: file for file in files}
    names = [PurePosixPath(mixture).name for mixture in mixtures]
    if len(set(names)) < len(names) or not by_name.keys() & set(names):
        return files
    if missing := sorted(set(names) - by_name.keys()):
        raise PlanError(f"{other}: has no {missing[0]}, as {path.name} has; make the lists again")
    return [by_name[name] for name in names]


# -------------------------------------------------------------------------------------------------------------- columns
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
