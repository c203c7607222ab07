"""Warnings about a plan: the faults that published lists of mixtures have had."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pandas as pd

from pipeline.corpora.manifests import some_of
from pipeline.mixtures.plans.planned import NOISE


def lint(plan: pd.DataFrame, manifest: pd.DataFrame) -> list[str]:
    """Return the warnings about a plan, one line each.

    One speaker twice in a mixture; the same utterances in two mixtures of a split; utterances or speakers in more than one split.

    Args:
        plan: see ``tables.PLAN``.
        manifest: ``utterance_id`` and ``speaker_id`` of its utterances.
    """
    speech = plan[plan["source"] != NOISE].merge(manifest[["utterance_id", "speaker_id"]], on="utterance_id", how="left")
    return [*_same_speaker(speech), *_same_utterances(speech), *_leaks(speech, "utterance_id"), *_leaks(speech, "speaker_id")]


def _same_speaker(speech: pd.DataFrame) -> Iterator[str]:
    by_mixture = speech.groupby(["split", "mixture_id"], sort=False)["speaker_id"]
    repeated = (by_mixture.nunique() < by_mixture.size()).rename("repeated").reset_index()
    for split, rows in repeated.groupby("split", sort=False):
        faulty = list(rows["mixture_id"][rows["repeated"]])
        if faulty:
            yield f"split {split}: the same speaker more than once in {len(faulty)} of {len(rows)} mixtures ({some_of(faulty)})"


def _same_utterances(speech: pd.DataFrame) -> Iterator[str]:
    sets = speech.groupby(["split", "mixture_id"], sort=False)["utterance_id"].agg(frozenset).reset_index()
    for split, rows in sets.groupby("split", sort=False):
        faulty = list(rows["mixture_id"][rows.duplicated("utterance_id")])
        if faulty:
            counts = f"{len(faulty)} of {len(rows)} mixtures ({some_of(faulty)})"
            yield f"split {split}: the same utterances as another mixture in {counts}"


def _leaks(speech: pd.DataFrame, column: str) -> Iterator[str]:
    names = {str(split): set(rows[column]) for split, rows in speech.groupby("split", sort=False)}
    what = {"utterance_id": "utterances", "speaker_id": "speakers"}[column]
    for a, b in combinations(names, 2):
        common = sorted(names[a] & names[b])
        if common:
            yield f"splits {a} and {b} share {len(common)} {what} ({some_of(common)})"
