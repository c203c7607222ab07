"""Mixtures drawn from any manifest: speakers first, then each speaker's least used utterance, then levels.

Every draw has its own random numbers, keyed by its purpose ("seed/split/index"). So a plan does not depend on the order of the
corpus listing or the number of workers, and a longer plan begins with the shorter one.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from typing import Any

import pandas as pd

from pipeline.audio.levels import LevelRule
from pipeline.corpora.manifests import is_noise
from pipeline.errors import PlanError
from pipeline.mixtures.dynamic import uniform
from pipeline.mixtures.plans.adapter import Adapter
from pipeline.mixtures.plans.overlap import FULL, with_overlap
from pipeline.mixtures.renderers.drawn import DrawnRenderer
from pipeline.recipe.schema import SPLITS, RandomPlan, Recipe
from pipeline.tables import PLAN

HALF_RANGE_DB = 2.5
"""Relative levels are U(0, 5) dB, split symmetrically."""
LOUDNESS_LUFS = (-33.0, -25.0)
SILENT_DB = -math.inf
"""The level of a source that is silent throughout: its gain is zero."""
MAX_ID_LENGTH = 180
_TRIES = 20


@dataclass(frozen=True)
class Draw:
    """One mixture: who speaks and how loud."""

    utterance_ids: tuple[str, ...]
    levels_db: tuple[float, ...]
    """dB or LUFS, by the plan's level rule; -inf of a silent source."""
    overlap: float = 1.0
    """Of neighbours, as a share of the shorter."""
    order: tuple[int, ...] = ()
    """The sources' places in the order in which they begin; nothing where all begin at once."""


class RandomDataset(Adapter[RandomPlan]):
    """Mixtures of any corpus by rules of the recipe's own choice."""

    renderer = DrawnRenderer
    level_rules = ("active", "loudness", "rms")

    def draw(self, plan: RandomPlan, recipe: Recipe, manifest: pd.DataFrame) -> pd.DataFrame:
        """See :func:`draw_plan`."""
        return draw_plan(manifest, plan, seed=recipe.seed)


def draw_plan(manifest: pd.DataFrame, plan: RandomPlan, *, seed: int) -> pd.DataFrame:
    """Draw all mixtures of a plan.

    Args:
        manifest: see ``tables.MANIFEST``; the order of its rows does not matter.
        plan: how many mixtures of how many sources, and at which levels.
        seed: of the recipe.

    Returns:
        A table as ``tables.PLAN`` says, a row per source, mixtures in the order they were drawn.

    Raises:
        PlanError: a split has fewer speakers than a mixture needs, naming the split and the counts.
    """
    columns: dict[str, list[Any]] = {name: [] for name in PLAN.required()}
    for split in SPLITS:
        if split in plan.num_mixtures:
            draws = _draw_split(usable_utterances(manifest, plan, split), plan, split=split, seed=seed)
            _add_rows(columns, draws, plan.level, split)
    table = pd.DataFrame(columns)
    return with_overlap(table, manifest, plan.overlap, seed=seed)


def usable_utterances(manifest: pd.DataFrame, plan: RandomPlan, split: str) -> list[list[str]]:
    """The utterances of every speaker of a split that are long enough, sorted: [speaker][utterance].

    Raises:
        PlanError: fewer speakers than a mixture needs.
    """
    here = manifest[(manifest["split"] == split) & ~is_noise(manifest)]
    seconds = here["num_samples"] / here["sample_rate"]
    usable = here[seconds >= plan.min_seconds].sort_values(["speaker_id", "utterance_id"])
    by_speaker = [list(ids) for _, ids in usable.groupby("speaker_id")["utterance_id"]]
    if len(by_speaker) < plan.num_sources:
        longest = f", the longest {seconds.max():.2f} s" if len(here) else ""
        raise PlanError(
            f"split {split}: mixtures of {plan.num_sources} need {plan.num_sources} speakers with an utterance of at least "
            f"{plan.min_seconds:g} s, and only {len(by_speaker)} of its {here['speaker_id'].nunique()} speakers have one "
            f"({len(here)} utterances{longest}); add speech or lower plan.min_seconds"
        )
    return by_speaker


def _draw_split(by_speaker: Sequence[Sequence[str]], plan: RandomPlan, *, split: str, seed: int) -> Iterator[Draw]:
    """The mixtures of one split; no set of utterances comes twice unless the split has hardly any other."""
    sizes = [len(utterances) for utterances in by_speaker]
    firsts, total = [0, *accumulate(sizes)], sum(sizes)
    fresh = [list(range(size)) for size in sizes]  # of every speaker, the utterances used once less than the others
    seen: set[int] = set()  # sets of utterances, each as one number: there may be millions
    for index in range(plan.num_mixtures[split]):  # type: ignore[index]  # a plain str from SPLITS
        keyed = random.Random(f"{seed}/{split}/{index}/plan")
        for _ in range(_TRIES):
            chosen = [
                (speaker, fresh[speaker][int(keyed.random() * len(fresh[speaker]))])
                for speaker in _distinct(len(by_speaker), plan.num_sources, keyed)
            ]
            numbers = sorted(firsts[speaker] + utterance for speaker, utterance in chosen)
            together = reduce(lambda known, number: known * total + number, numbers, 0)
            if together not in seen:
                break
        seen.add(together)
        for speaker, utterance in chosen:
            fresh[speaker].remove(utterance)
            fresh[speaker] = fresh[speaker] or list(range(sizes[speaker]))
        utterances = tuple(by_speaker[speaker][utterance] for speaker, utterance in chosen)
        yield Draw(utterances, _levels(plan.level, plan.num_sources, plan.single_speaker_share, index, keyed))


def _distinct(population: int, count: int, keyed: random.Random) -> list[int]:
    """``count`` different numbers below ``population``, all orders equally likely."""
    drawn: list[int] = []
    while len(drawn) < count:
        number = int(keyed.random() * population)
        if number not in drawn:
            drawn.append(number)
    return drawn


def _levels(
    rule: LevelRule, num_sources: int, single_speaker_share: float, index: int, keyed: random.Random
) -> tuple[float, ...]:
    """The levels of mixture number ``index``: see :func:`draw_levels`. An evenly spread share of the mixtures has one speaker."""
    levels = draw_levels(rule, num_sources, keyed)
    is_single = math.floor((index + 1) * single_speaker_share) > math.floor(index * single_speaker_share)
    return (levels[0], *(SILENT_DB,) * (num_sources - 1)) if is_single else levels


def draw_levels(rule: LevelRule, num_sources: int, keyed: random.Random) -> tuple[float, ...]:
    """Levels of the sources of one mixture, to five significant digits as in MERL's lists.

    ``loudness``: U(-33, -25) LUFS each (LibriMix). Otherwise the published order of signs: +x, -x for two, +x, -x, 0 for three,
    +x, +y, -y, -x for four, with x and y from U(0, 2.5) dB, so that the first speaker is never the quieter.
    """
    if rule == "loudness":
        return tuple(_five_digits(uniform(LOUDNESS_LUFS, keyed)) for _ in range(num_sources))
    louder = [_five_digits(HALF_RANGE_DB * keyed.random()) for _ in range(num_sources // 2)]
    middle = [0.0] * (num_sources % 2)
    return (*louder, *(-level for level in reversed(louder)), *middle)


def _five_digits(value: float) -> float:
    return float(f"{value:.5g}")


def _add_rows(columns: dict[str, list[Any]], draws: Iterable[Draw], rule: LevelRule, split: str) -> None:
    """Add to the plan table's columns, mixture by mixture."""
    taken: set[str] = set()
    for draw in draws:
        number = len(draw.utterance_ids)
        mixture_id = unique_id(mixture_name(draw.utterance_ids, draw.levels_db), taken)
        columns["mixture_id"] += [mixture_id] * number
        columns["source"] += [f"s{each}" for each in range(1, number + 1)]
        columns["utterance_id"] += draw.utterance_ids
        columns["level"] += draw.levels_db
        for name, value in (("split", split), ("level_rule", rule), ("start_seconds", 0.0)):
            columns[name] += [value] * number


def mixture_name(utterance_ids: Sequence[str], levels_db: Sequence[float]) -> str:
    """WSJ0-mix's way of naming, ``utterance_level_utterance_level``, fit for any file system.

    Characters beyond letters, digits and ``.+-_`` become ``-``; a name too long is cut and closed with a digest of the whole.
    """
    return safe_name("_".join(f"{utterance}_{level:.5g}" for utterance, level in zip(utterance_ids, levels_db, strict=True)))


def safe_name(whole: str) -> str:
    """A name fit for any file system: see :func:`mixture_name`."""
    safe = re.sub(r"[^A-Za-z0-9.+_-]", "-", whole).lstrip(".-") or "mixture"
    if len(safe) <= MAX_ID_LENGTH:
        return safe
    return f"{safe[: MAX_ID_LENGTH - 13]}_{hashlib.sha256(whole.encode()).hexdigest()[:12]}"


def unique_id(name: str, taken: set[str]) -> str:
    """Return the name, or the first of name_2, name_3, … that is not taken (ignoring case), and mark it as taken."""
    candidate, count = name, 1
    while candidate.casefold() in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate.casefold())
    return candidate


class MixtureSampler:
    """Draws mixtures on the fly, each by itself: for dynamic mixing.

    Args:
        manifest: see ``tables.MANIFEST``.
        plan: the rules; ``num_mixtures`` does not matter here.
        split: whose speakers to draw from.
        seed: of the recipe.

    Raises:
        PlanError: the split has fewer speakers than a mixture needs.
    """

    def __init__(self, manifest: pd.DataFrame, plan: RandomPlan, *, split: str, seed: int) -> None:
        self.utterances = usable_utterances(manifest, plan, split)
        """[speaker][utterance]"""
        self.rule: LevelRule = plan.level
        self.num_sources = plan.num_sources
        self.overlap = plan.overlap
        self.single_speaker_share = plan.single_speaker_share
        self.split = split
        self.seed = seed

    def draw(self, epoch: int, index: int) -> Draw:
        """Draw the mixture at one place of one epoch; it depends on nothing but the arguments and the seed."""
        keyed = self.keyed(epoch, index, "mixture")
        chosen = [self.utterances[k] for k in _distinct(len(self.utterances), self.num_sources, keyed)]
        utterances = tuple(ids[int(keyed.random() * len(ids))] for ids in chosen)
        levels = _levels(self.rule, self.num_sources, self.single_speaker_share, index, keyed)
        if list(self.overlap) == [FULL]:
            return Draw(utterances, levels)
        apart = self.keyed(epoch, index, "overlap")
        return Draw(
            utterances, levels, apart.choice(self.overlap), tuple(apart.sample(range(self.num_sources), self.num_sources))
        )

    def keyed(self, epoch: int, index: int, purpose: str) -> random.Random:
        """Random numbers for one purpose at one place of one epoch, independent of all others."""
        return random.Random(f"{self.seed}/{self.split}/{epoch}/{index}/{purpose}")
