"""LibriMix's published metadata: which files at which gains make up each mixture.

``libri2mix_test-clean.csv`` has a row per mixture; paths start from LibriSpeech and from WHAM's noise, gains are linear::

    mixture_ID,source_1_path,source_1_gain,source_2_path,source_2_gain,noise_path,noise_gain

Source: Cosentino et al., "LibriMix: An open-source dataset for generalizable speech separation", 2020.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from pipeline.errors import PlanError
from pipeline.files import written_whole
from pipeline.mixtures.plans.planned import NOISE
from pipeline.mixtures.plans.published import (
    ListedNames,
    check_listed_path,
    find_list,
    read_number,
    read_rows,
    unique_rows,
    with_ids,
)
from pipeline.recipe.schema import LibriMixPlan
from pipeline.tables import PLAN

RULE = "gain"
MOST_GAIN = 1e6
"""Published gains are below 1000, for the faintest of recordings."""
LONG_NAMES = 10
"""With this many sources or more, a mixture's file is named by the MD5 of its id, as the id is too long for a file name."""


def list_name(num_sources: int, subset: str) -> str:
    """The published file name: ``libri2mix_test-clean.csv``."""
    return f"libri{num_sources}mix_{subset}.csv"


def folder_of(subset: str) -> str:
    """The published tree's name of a LibriSpeech subset: ``train-100`` for ``train-clean-100``."""
    return subset.replace("-clean", "")


def read_lists(
    folder: Path, plan: LibriMixPlan, subsets_of: Callable[[str], Iterable[str]]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Read the metadata of the splits a plan asks for.

    Args:
        folder: holds the published CSV files, or a folder below it does.
        plan: number of sources, splits and limit; ``limit_hours`` needs lengths: see ``planned.first_hours``.
        subsets_of: LibriSpeech's subsets of a split, as ``recipe.corpus.subsets.of``.

    Returns:
        The plan (``tables.PLAN`` and ``subset``, the folder in the published tree), the utterances it uses (``utterance_id,
        speaker_id, sex, split, path``, paths from LibriSpeech's root on), and its noises (the same, from WHAM's noise root on).

    Raises:
        PlanError: a file or some of its columns are missing; a row is malformed, leads out of the corpora, or has the name of
            another mixture or one that no file can have.
    """
    rows: list[dict[str, Any]] = []
    speech: list[dict[str, Any]] = []
    noises: list[dict[str, Any]] = []
    names = ListedNames()
    for split in plan.splits:
        for subset in subsets_of(split):
            sexes = read_sexes(folder, subset)
            for origin, mixture in _read(find_list(folder, list_name(plan.num_sources, subset)), plan):
                parts = _parts(mixture, plan.num_sources, origin)
                name = names.add(split, file_name(mixture["mixture_ID"], plan.num_sources), origin)
                rows += _plan_rows(name, parts, split, subset)
                speech += [_utterance(path, split, sexes) for name, path, _ in parts if name != NOISE]
                noises += [_noise(path, split) for name, path, _ in parts if name == NOISE]
    table = pd.DataFrame(rows, columns=[*PLAN.required(), "subset"])
    table, utterances, clips = with_ids(table, unique_rows(speech), unique_rows(noises))
    return table, utterances, clips


def _read(path: Path, plan: LibriMixPlan) -> list[tuple[str, dict[str, str]]]:
    numbers = range(1, plan.num_sources + 1)
    needed = ["mixture_ID", *(f"source_{k}_{what}" for k in numbers for what in ("path", "gain"))]
    rows = read_rows(path, needed, limit=plan.limit)
    if len({"noise_path", "noise_gain"} & set(rows[0][1])) == 1:
        raise PlanError(f"{path}: has one of the columns noise_path and noise_gain; it needs both or neither")
    return rows


def _parts(mixture: Mapping[str, str], num_sources: int, origin: str) -> list[tuple[str, str, float]]:
    """Name, path and gain of every source, and of the noise where the list has any."""
    columns = [(f"s{k}", f"source_{k}") for k in range(1, num_sources + 1)]
    if "noise_path" in mixture:
        columns.append((NOISE, NOISE))
    return [
        (
            name,
            check_listed_path(mixture[f"{column}_path"], origin),
            read_number(mixture[f"{column}_gain"], f"{column}_gain", origin, largest=MOST_GAIN),
        )
        for name, column in columns
    ]


def file_name(mixture_id: str, num_sources: int) -> str:
    """What the files of a mixture are called: its id, or a digest of it with :data:`LONG_NAMES` sources or more."""
    return hashlib.md5(mixture_id.encode(), usedforsecurity=False).hexdigest() if num_sources >= LONG_NAMES else mixture_id


def _plan_rows(name: str, parts: list[tuple[str, str, float]], split: str, subset: str) -> list[dict[str, Any]]:
    return [
        {
            "mixture_id": name,
            "split": split,
            "source": source,
            "utterance_id": path,
            "level_rule": RULE,
            "level": gain,
            "start_seconds": 0.0,
            "subset": folder_of(subset),
        }
        for source, path, gain in parts
    ]


def _utterance(path: str, split: str, sexes: Mapping[str, str]) -> dict[str, Any]:
    parts = PurePosixPath(path).parts  # SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac
    speaker = parts[1] if len(parts) > 2 else PurePosixPath(path).stem.split("-")[0]
    return {"utterance_id": path, "speaker_id": speaker, "sex": sexes.get(speaker, ""), "split": split, "path": path}


def _noise(path: str, split: str) -> dict[str, Any]:
    return {"utterance_id": path, "speaker_id": "", "sex": "", "split": split, "path": path}


def read_sexes(folder: Path, subset: str) -> dict[str, str]:
    """Read each speaker's sex from the published list of a LibriSpeech subset, if it is beside LibriMix's."""
    found = sorted(Path(folder).rglob(f"LibriSpeech/{subset}.csv"))
    if not found:
        return {}
    return {row["speaker_ID"]: row["sex"] for _, row in read_rows(found[0], ["speaker_ID", "sex"])}


# --------------------------------------------------------------------------------------------------------------- writing
def write_lists(plan: pd.DataFrame, manifest: pd.DataFrame, folder: Path) -> list[Path]:
    """Write a plan of gains as LibriMix's metadata: ``libri2mix_dev.csv`` and ``libri2mix_dev_info.csv`` for every subset.

    Args:
        plan: see :func:`draw_lists`.
        manifest: of its speech and noise.
        folder: gets the files.

    Returns:
        The files written.
    """
    facts = manifest.set_index("utterance_id")[["path", "speaker_id", "sex"]]
    written = []
    for subset, rows in plan.join(facts, on="utterance_id").groupby("subset", sort=False):
        mixtures = [list(group.itertuples()) for _, group in rows.groupby("mixture_id", sort=False)]
        num_sources = len([row for row in mixtures[0] if row.source != NOISE])
        path = folder / list_name(num_sources, str(subset))
        written.append(_write(path, [_metadata_row(mixture) for mixture in mixtures]))
        written.append(_write(path.with_name(f"{path.stem}_info.csv"), [_info_row(mixture) for mixture in mixtures]))
    return written


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with written_whole(path) as temporary:
        pd.DataFrame(list(rows)).to_csv(temporary, index=False, lineterminator="\n")
    return path


def _metadata_row(mixture: Sequence[Any]) -> dict[str, Any]:
    cells: dict[str, Any] = {"mixture_ID": mixture[0].mixture_id}
    for row in mixture:
        column = NOISE if row.source == NOISE else f"source_{row.source.removeprefix('s')}"
        cells |= {f"{column}_path": row.path, f"{column}_gain": row.level}
    return cells


def _info_row(mixture: Sequence[Any]) -> dict[str, Any]:
    cells: dict[str, Any] = {"mixture_ID": mixture[0].mixture_id}
    for row in mixture:
        if row.source != NOISE:
            number = row.source.removeprefix("s")
            cells |= {f"speaker_{number}_ID": row.speaker_id, f"speaker_{number}_sex": row.sex}
    return cells
