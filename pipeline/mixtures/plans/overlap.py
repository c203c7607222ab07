"""Partial overlap: speakers begin one after another, and each overlaps with the next for a share of the shorter one's time.

A ratio of 1 is the full overlap of the published datasets, where all begin with the mixture; at 0 they take turns. In between,
each speaker begins early enough to overlap with the one before for ``ratio`` times the shorter of the two. The ratios
0, 0.2, 0.4, 0.6, 0.8 and 1 are SparseLibriMix's (Cosentino et al., "LibriMix", 2020).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import groupby, pairwise
from math import ceil

import pandas as pd

FULL = 1.0


def begin_times(seconds: Sequence[float], ratio: float, order: Sequence[int]) -> tuple[float, ...]:
    """Return when each source begins, in seconds, rounded up to the millisecond.

    Args:
        seconds: how long each source lasts.
        ratio: overlap of neighbours, from 0 to 1, as a share of the shorter of the two.
        order: the sources' places in ``seconds`` in the order in which they begin.
    """
    begins = [0.0] * len(seconds)
    if ratio == FULL:
        return tuple(begins)
    for before, after in pairwise(order):
        together = ratio * min(seconds[before], seconds[after])
        begins[after] = _milliseconds_up(begins[before] + seconds[before] - together)
    return tuple(begins)


def _milliseconds_up(seconds: float) -> float:
    # Nanoseconds are beyond the rounding of the sums above.
    return ceil(round(1000 * seconds, 6)) / 1000


def ratio_for(ratios: Sequence[float], index: int) -> float:
    """Return the ratio of mixture ``index`` of a split: the ratios take turns, so every split has equal shares of them."""
    return ratios[index % len(ratios)]


def begin_order(num_sources: int, key: str) -> list[int]:
    """Draw who begins first, second, …; all orders are equally likely, so the loudest is not always first."""
    order = list(range(num_sources))
    random.Random(key).shuffle(order)
    return order


def with_overlap(plan: pd.DataFrame, manifest: pd.DataFrame, ratios: Sequence[float], *, seed: int) -> pd.DataFrame:
    """Delay the sources of a plan by the ratios and add a column ``overlap``; with full overlap alone the plan stays as it is.

    Args:
        plan: see ``tables.PLAN``, without noise.
        manifest: with its utterances' lengths.
        ratios: from 0 to 1, taken in turns by the mixtures of each split.
        seed: of the recipe; with split and mixture it decides who begins first.
    """
    if list(ratios) == [FULL]:
        return plan
    seconds_of = dict(zip(manifest["utterance_id"], manifest["num_samples"] / manifest["sample_rate"], strict=True))
    begins: list[float] = []
    overlaps: list[float] = []
    indices: Counter[str] = Counter()
    for (split, name), rows in groupby(
        plan[["split", "mixture_id", "utterance_id"]].itertuples(index=False), lambda row: row[:2]
    ):
        seconds = [seconds_of[row.utterance_id] for row in rows]
        ratio = ratio_for(ratios, indices[split])
        indices[split] += 1
        begins += begin_times(seconds, ratio, begin_order(len(seconds), f"{seed}/{split}/{name}/order"))
        overlaps += [ratio] * len(seconds)
    return plan.assign(start_seconds=begins, overlap=overlaps)
