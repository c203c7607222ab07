"""MERL's lists of WSJ0-2mix and its relatives: read, written, and checked against the published levels.

A list ``mix_2_spk_tr.txt`` holds a row per mixture: path, level in dB, path, level in dB, and a blank at the end::

    wsj0/si_tr_s/40n/40na010x.wav 1.9857 wsj0/si_tr_s/01x/01xo031a.wav -1.9857

The mixture is called ``40na010x_1.9857_01xo031a_-1.9857``. Source: create_wav_2speakers.m, Hershey et al., ICASSP 2016.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from math import log10
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from pipeline.audio.files import read_audio
from pipeline.audio.levels import active_level
from pipeline.audio.resampling import resample
from pipeline.compute.workers import chunked, map_parallel
from pipeline.corpora.wsj0 import MERL_SPLITS
from pipeline.errors import AudioError, PlanError
from pipeline.files import written_whole
from pipeline.mixtures.plans.adapter import Adapter, Listed, Roots
from pipeline.mixtures.plans.drawn import draw_plan, mixture_name
from pipeline.mixtures.plans.planned import NOISE, first_hours
from pipeline.mixtures.plans.published import (
    ListedNames,
    check_listed_path,
    find_list,
    read_lines,
    read_number,
    unique_rows,
    with_ids,
)
from pipeline.mixtures.renderers.wsj0mix import LEVEL_RATE, Wsj0MixRenderer
from pipeline.recipe.schema import Recipe, Wsj0MixPlan
from pipeline.tables import PLAN

RULE = "active_8k"
TOP = "wsj0/"
"""What every path of the lists begins with; a corpus root is that folder."""
TOLERANCE_DB = 0.3
"""Versions of the published level meter differ by up to 0.12 dB; the far-field microphone by 1 to 4.5 dB."""
MOST_DB = 200
"""No list relates speech of levels that are further apart."""
_CHUNK = 32


class Wsj0MixDataset(Adapter[Wsj0MixPlan]):
    """WSJ0-2mix and its relatives: MERL's own mixtures of WSJ0, or new ones of any corpus by the same rules."""

    renderer = Wsj0MixRenderer
    level_rules = (RULE,)

    def draw(self, plan: Wsj0MixPlan, recipe: Recipe, manifest: pd.DataFrame) -> pd.DataFrame:
        """See :func:`draw_lists`."""
        return first_hours(draw_lists(manifest, plan, seed=recipe.seed), manifest, plan.limit_hours)

    def is_published(self, plan: Wsj0MixPlan) -> bool:
        """Whether MERL's own lists are read."""
        return plan.lists == "published"

    def list_names(self, plan: Wsj0MixPlan, recipe: Recipe, folder: Path) -> Iterable[str]:
        """One list for every split."""
        return [list_name(plan.num_sources, split) for split in plan.splits]

    def read_lists(self, plan: Wsj0MixPlan, recipe: Recipe, roots: Roots) -> tuple[pd.DataFrame, Listed]:
        """See :func:`read_lists`."""
        assert roots.lists is not None
        table, speech = read_lists(roots.lists, plan)
        return table, [(speech, roots.speech)]

    def check_levels(self, recipe: Recipe, manifest: pd.DataFrame, roots: Roots, *, num_workers: int | None = None) -> None:
        """Compare the speech with the levels MERL measured, where their tables are beside the lists."""
        if roots.lists is not None and (published := read_levels(roots.lists)):
            check_levels(manifest, roots.speech, published, channel=recipe.corpus.channel, num_workers=num_workers)

    def write_lists(self, plan: pd.DataFrame, manifest: pd.DataFrame, folder: Path) -> None:
        """See :func:`write_lists`."""
        write_lists(plan, manifest, folder)


def list_name(num_sources: int, split: str) -> str:
    """The published file name: ``mix_2_spk_tr.txt``."""
    return f"mix_{num_sources}_spk_{MERL_SPLITS[split]}.txt"


def read_lists(folder: Path, plan: Wsj0MixPlan) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the lists of the splits a plan asks for.

    Args:
        folder: holds them, or a folder below it does.
        plan: number of sources, splits and limit; ``limit_hours`` needs lengths: see ``planned.first_hours``.

    Returns:
        The plan (``tables.PLAN``), and the utterances it uses (``utterance_id, speaker_id, sex, split, path``), paths from the
        folder ``wsj0`` on.

    Raises:
        PlanError: a list is missing, or a line of it is not as above or listed twice, naming file and line.
    """
    rows: list[dict[str, Any]] = []
    utterances: list[dict[str, Any]] = []
    names = ListedNames()
    for split in plan.splits:
        path = find_list(folder, list_name(plan.num_sources, split))
        for number, line in enumerate(read_lines(path)[: plan.limit], start=1):
            origin = f"{path}, line {number}"
            files, levels = parse_row(line, plan.num_sources, origin)
            name = names.add(split, mixture_name([file.stem for file in files], levels), origin)
            rows += _plan_rows(name, files, levels, split)
            utterances += [_utterance(file, split) for file in files]
    table = pd.DataFrame(rows, columns=PLAN.required())
    table, speech = with_ids(table, unique_rows(utterances))
    return table, speech


def parse_row(line: str, num_sources: int, origin: str) -> tuple[list[PurePosixPath], list[float]]:
    """The paths, without ``wsj0/``, and the levels of one row of a list.

    Raises:
        PlanError: the row is not as above; ``origin`` names it.
    """
    words = line.split()
    if len(words) != 2 * num_sources:
        raise PlanError(f"{origin}: expected {num_sources} pairs of a path and a level in dB, found {line.strip()!r}")
    levels = [read_number(word, "a level in dB", origin, largest=MOST_DB) for word in words[1::2]]
    return [PurePosixPath(check_listed_path(word.removeprefix(TOP), origin)) for word in words[0::2]], levels


def _plan_rows(mixture_id: str, files: list[PurePosixPath], levels: list[float], split: str) -> list[dict[str, Any]]:
    return [
        {
            "mixture_id": mixture_id,
            "split": split,
            "source": f"s{number}",
            "utterance_id": str(file),
            "level_rule": RULE,
            "level": level,
            "start_seconds": 0.0,
        }
        for number, (file, level) in enumerate(zip(files, levels, strict=True), start=1)
    ]


def _utterance(file: PurePosixPath, split: str) -> dict[str, Any]:
    return {"utterance_id": str(file), "speaker_id": file.parent.name, "sex": "", "split": split, "path": str(file)}


def draw_lists(manifest: pd.DataFrame, plan: Wsj0MixPlan, *, seed: int) -> pd.DataFrame:
    """Draw mixtures of any corpus by the published rules, as :func:`read_lists` would read them.

    Raises:
        PlanError: a split has fewer speakers than a mixture needs.
    """
    drawn = draw_plan(manifest, plan.drawing, seed=seed)
    drawn["level_rule"] = RULE
    if plan.limit is None:
        return drawn
    place = drawn.groupby("split")["mixture_id"].transform(lambda names: pd.factorize(names)[0])
    return drawn[place < plan.limit].reset_index(drop=True)


def write_lists(plan: pd.DataFrame, manifest: pd.DataFrame, folder: Path) -> list[Path]:
    """Write a plan as MERL's lists, one per split, for other tools to read.

    Args:
        plan: of active levels, two or more sources each.
        manifest: with its utterances.
        folder: gets ``mix_2_spk_tr.txt`` and so on.

    Returns:
        The files written.
    """
    path_of = manifest.set_index("utterance_id")["path"]
    written = []
    for split, rows in plan[plan["source"] != NOISE].groupby("split", sort=False):
        columns = zip(rows["mixture_id"], TOP + rows["utterance_id"].map(path_of), rows["level"], strict=True)
        words = pd.DataFrame([(name, f"{path} {level:.5g}") for name, path, level in columns], columns=["mixture_id", "words"])
        lines = words.groupby("mixture_id", sort=False)["words"].agg(" ".join)
        num_sources = rows.groupby("mixture_id").size().iloc[0]
        path = folder / list_name(num_sources, str(split))
        with written_whole(path) as temporary:
            temporary.write_text("".join(f"{line} \n" for line in lines), encoding="utf-8")
        written.append(path)
    return written


# ---------------------------------------------------------------------------------------------------------------- levels
def read_levels(folder: Path) -> dict[str, float]:
    """Read MERL's active levels (power, at 8 kHz) of WSJ0's utterances: ``activlev_*.txt`` in a folder or below it.

    Empty where there are no such files.

    Raises:
        PlanError: a line is not a name and a power.
    """
    files = sorted(Path(folder).rglob("activlev_*.txt"))
    levels: dict[str, float] = {}
    for file in files:
        for number, line in enumerate(read_lines(file), start=1):
            name, _, power = line.strip().partition(" ")
            if name:
                levels[name] = read_number(power, "an active level", f"{file}, line {number}", largest=1e12)
    return levels


def check_levels(
    manifest: pd.DataFrame,
    corpus_root: Path,
    published: Mapping[str, float],
    *,
    channel: int | None = None,
    num_workers: int | None = None,
) -> None:
    """Compare the active level of every file with its published level, where there is one.

    Raises:
        AudioError: one line for every file whose level differs by more than versions of the level meter do.
    """
    known = manifest[manifest["utterance_id"].isin(published)]
    rows = [(name, path, published[name]) for name, path in zip(known["utterance_id"], known["path"], strict=True)]
    compare = partial(_level_findings, Path(corpus_root), channel)
    chunks = map_parallel(compare, chunked(rows, _CHUNK), num_workers=num_workers, description="check levels", size=len)
    findings = [finding for chunk in chunks for finding in chunk]
    if findings:
        raise AudioError("\n".join(findings))


def _level_findings(root: Path, channel: int | None, rows: Sequence[tuple[str, str, float]]) -> list[str]:
    findings = []
    for name, path, published in rows:
        samples, own_rate = read_audio(root / path, channel=channel)
        power = active_level(resample(samples, own_rate, LEVEL_RATE), LEVEL_RATE).power
        difference_db = 10 * log10(power / published) if power > 0 else float("-inf")
        if abs(difference_db) > TOLERANCE_DB:
            findings.append(
                f"{root / path}: its active level is {difference_db:+.1f} dB from the published level of {name}; if this is the "
                "far-field microphone (.wv2), convert the .wv1 file instead"
            )
    return findings
