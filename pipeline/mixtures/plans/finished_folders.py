"""Finished mixtures in folders: which file is a mixture, and which are its sources.

    ROOT/SPLIT/{mix,s1,s2}/ID.wav       WSJ0-2mix, LibriMix, WHAM! and trees like theirs
    ROOT/SPLIT/{noisy,clean}/ID.wav     corpus.mixture = "noisy", corpus.sources = ["clean"]
    ROOT/noisy_SPLIT/x_ID.wav           corpus.mixture = "noisy_{split}/*_{id}.wav", corpus.sources = ["clean_{split}/{id}.wav"]

A mixture and its sources have the same ``{id}``, which may be a path: ``p226/001`` becomes the mixture ``p226-001``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import normpath

from pipeline.corpora.listing import describe_other_audio, list_files
from pipeline.corpora.manifests import SPLIT_MEANT_BY, some_of
from pipeline.errors import CorpusError
from pipeline.mixtures.plans.published import ListedNames
from pipeline.recipe.schema import FinishedPlan, MixturesCorpus

ENDINGS = (".flac", ".wav", ".ogg", ".mp3")
MIXTURE_FOLDERS = ("mix", "mix_clean", "mix_both", "mix_single", "mixed", "mixture", "mixtures", "noisy")


@dataclass(frozen=True)
class FinishedMixture:
    """A mixture and its sources: paths relative to the corpus, or absolute where they lie outside of it."""

    mixture_id: str
    split: str
    path: str
    sources: tuple[str | None, ...]
    """None where there is no file."""


@dataclass
class FoundMixtures:
    """What a corpus of finished mixtures holds."""

    mixtures: list[FinishedMixture] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """Files that are not used."""


def find_in_folders(corpus: MixturesCorpus, plan: FinishedPlan, root: Path) -> FoundMixtures:
    """Find the mixtures of the plan's splits, in the order of their names; files are listed and not opened.

    Raises:
        CorpusError: a folder is missing, could be either of two, or holds no audio; two files are one mixture or source.
        PlanError: no file can be called like a mixture, or two mixtures have one name.
    """
    found, names = FoundMixtures(), ListedNames()
    for split in plan.splits:
        folder = _folder_of(corpus, split, root)
        mixtures = _files_by_id(root, _pattern(corpus.mixture or _mixture_folder(root, folder), folder))
        sources = [_files_by_id(root, _pattern(place, folder)) for place in corpus.sources]
        for id_ in sorted(mixtures)[: plan.limit]:
            name = names.add(split, id_.replace("/", "-"), str(root / mixtures[id_]))
            found.mixtures.append(FinishedMixture(name, split, mixtures[id_], tuple(each.get(id_) for each in sources)))
        for place, each in zip(corpus.sources, sources, strict=True):
            if unused := [each[id_] for id_ in each.keys() - mixtures.keys()]:
                found.warnings.append(f"{root}: {len(unused):,} files of {place} belong to no mixture ({some_of(unused)})")
        found.warnings += _unused_folders(corpus, root / folder)
    return found


def _folder_of(corpus: MixturesCorpus, split: str, root: Path) -> str:
    """The folder of a split, or what stands for ``{split}`` where patterns alone say where the files are."""
    if split in corpus.subsets:
        return corpus.subsets[split]
    if corpus.mixture and all("{split}" in place for place in (corpus.mixture, *corpus.sources)):
        return split
    there = sorted(path.name for path in root.iterdir() if path.is_dir() and _split_meant_by(path.name) == split)
    if len(there) == 1:
        return there[0]
    usual = ", ".join(name for name, meant in SPLIT_MEANT_BY.items() if meant == split)
    fault = (
        f"{' and '.join(there)} could each be the split {split}" if there else f"has no folder for the split {split} ({usual})"
    )
    raise CorpusError(
        f"{root}: {fault}; name it with --set corpus.subsets.{split}=FOLDER, or leave the split out with --set 'plan.splits=[…]'"
    )


def _split_meant_by(folder: str) -> str | None:
    """The split that a folder is called like: ``train-100`` is ``train``."""
    return SPLIT_MEANT_BY.get(re.sub(r"[-_ ]?\d+.*", "", folder).casefold())


def _mixture_folder(root: Path, folder: str) -> str:
    there = [name for name in MIXTURE_FOLDERS if (root / folder / name).is_dir()]
    if len(there) == 1:
        return there[0]
    if there:
        raise CorpusError(f"{root / folder}: has {' and '.join(there)}; choose one with --set corpus.mixture={there[0]}")
    raise CorpusError(
        f"{root / folder}: has none of the folders {', '.join(MIXTURE_FOLDERS)}; say where the mixtures are with "
        "--set corpus.mixture=FOLDER"
    )


def _pattern(place: str, folder: str) -> str:
    """The whole pattern of a place: from the corpus on, with an ``{id}``."""
    whole = place.replace("{split}", folder) if "{split}" in place else f"{folder}/{place}"
    return normpath(whole if "{id}" in whole else f"{whole}/{{id}}.*")


def _files_by_id(root: Path, pattern: str) -> dict[str, str]:
    """The files that fit a pattern, by what stands for ``{id}``."""
    below = re.split(r"[{*]", pattern)[0].rpartition("/")[0]
    if not (root / below).is_dir():
        raise CorpusError(
            f"{root / below}: no such folder; say where files are with corpus.mixture, corpus.sources, corpus.subsets"
        )
    expression = re.compile(_expression(pattern))
    files: dict[str, str] = {}
    for file in list_files(root, ENDINGS, below=below):
        if fits := expression.fullmatch(file.path):
            first = files.setdefault(fits["id"], file.path)
            if first != file.path:
                raise CorpusError(f"{root / file.path}: is taken for the same as {first}, by {pattern}; move one of them away")
    if not files:
        others = describe_other_audio(root, ENDINGS, below=(below,))
        raise CorpusError(f"{root}: no audio ({', '.join(ENDINGS)}) fits {pattern}{others}")
    return files


def _expression(pattern: str) -> str:
    """A pattern as a regular expression."""
    if pattern.endswith("/{id}.*"):  # a folder: any name, any ending
        return re.escape(pattern.removesuffix("{id}.*")) + r"(?P<id>.+)\.[^./]+"
    first, *others = re.escape(pattern).replace(r"\*", "[^/]*").split(r"\{id\}")
    return first + "(?P<id>.+)" + "(?P=id)".join(others)


def _unused_folders(corpus: MixturesCorpus, folder: Path) -> Iterator[str]:
    """A line about a further source, where folders are numbered."""
    places: Sequence[str] = corpus.sources
    following = f"s{len(places) + 1}"
    if places == [f"s{number}" for number in range(1, len(places) + 1)] and (folder / following).is_dir():
        yield f"{folder}: {following} is not used; if it is a source to separate, set corpus.sources = {[*places, following]}"
