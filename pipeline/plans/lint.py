"""What is doubtful about a plan: the faults that published lists of mixtures have had."""

from __future__ import annotations

import pandas as pd

from pipeline.plans.planned import NOISE


def lint(plan: pd.DataFrame, manifest: pd.DataFrame) -> list[str]:
    """What is doubtful about a plan, a line each.

    One speaker twice in a mixture; the same utterances in two mixtures of a split; utterances or speakers in more than one split.

    Args:
        plan: see ``tables.PLAN``.
        manifest: ``utterance_id`` and ``speaker_id`` of its utterances.
    """
    speech = plan[plan["source"] != NOISE].merge(manifest[["utterance_id", "speaker_id"]], on="utterance_id", how="left")
    return [*_same_speaker(speech), *_same_utterances(speech), *_leaks(speech, "utterance_id"), *_leaks(speech, "speaker_id")]


def _same_speaker(speech: pd.DataFrame) -> list[str]:
    by_mixture = speech.groupby(["split", "mixture_id"], sort=False)["speaker_id"]
    repeated = by_mixture.nunique() < by_mixture.size()
    return [
        f"split {split}: {names.sum()} mixtures hold one speaker more than once (first {names[names].index[0][1]})"
        for split, names in repeated.groupby("split", sort=False)
        if names.any()
    ]


def _same_utterances(speech: pd.DataFrame) -> list[str]:
    sets = speech.groupby(["split", "mixture_id"], sort=False)["utterance_id"].agg(frozenset).reset_index()
    repeated = sets[sets.duplicated(["split", "utterance_id"])]
    return [
        f"split {split}: {len(rows)} mixtures repeat the utterances of another (first {rows['mixture_id'].iloc[0]})"
        for split, rows in repeated.groupby("split", sort=False)
    ]


def _leaks(speech: pd.DataFrame, column: str) -> list[str]:
    names = {str(split): set(rows[column]) for split, rows in speech.groupby("split", sort=False)}
    splits = list(names)
    pairs = [(a, b, names[a] & names[b]) for k, a in enumerate(splits) for b in splits[k + 1 :]]
    what = {"utterance_id": "utterances", "speaker_id": "speakers"}[column]
    return [f"splits {a} and {b} share {len(common)} {what} (first {min(common)})" for a, b, common in pairs if common]
