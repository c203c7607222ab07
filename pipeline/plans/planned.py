"""A plan's rows gathered by mixture, joined with what the manifest says of the utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from pipeline.errors import PlanError

NOISE = "noise"


@dataclass(frozen=True)
class PlannedSource:
    """One source of a planned mixture."""

    name: str
    """s1, s2, … or noise"""
    utterance_id: str
    speaker_id: str
    sex: str
    path: str
    """Relative to the corpus, or to the noise corpus."""
    sample_rate: int
    num_samples: int
    level: float
    """What the mixture's level rule applies."""
    start_seconds: float = 0.0
    """Where it begins in the mixture; a negative start means that so much of it has passed before."""


@dataclass(frozen=True)
class PlannedMixture:
    """One mixture of a plan."""

    mixture_id: str
    split: str
    rule: str
    """The level rule of the plan: see ``tables.PLAN``."""
    subset: str
    """Folder of the published tree that holds it, where it is not the split's."""
    sources: tuple[PlannedSource, ...]
    noise: PlannedSource | None


def planned_mixtures(plan: pd.DataFrame, manifest: pd.DataFrame, *, with_noise: bool = False) -> list[PlannedMixture]:
    """Every mixture of a plan, in the plan's order; noise is left out unless asked for.

    Raises:
        PlanError: the plan names utterances that the manifest lacks, noise is asked for and a mixture has none, or speech shall
            begin elsewhere than with its mixture.
    """
    if ((plan["source"] != NOISE) & (plan["start_seconds"] != 0)).any():
        raise PlanError("the plan lets speech begin later than its mixture, which is not implemented; set start_seconds to 0")
    facts = manifest.set_index("utterance_id")[["speaker_id", "sex", "path", "sample_rate", "num_samples"]]
    joined = needed_rows(plan, manifest, with_noise=with_noise).join(facts, on="utterance_id")
    mixtures = [_planned(list(rows)) for _, rows in groupby(joined.itertuples(index=False), _place)]
    lacking = [mixture.mixture_id for mixture in mixtures if with_noise and mixture.noise is None]
    if lacking:
        raise PlanError(f"{len(lacking)} mixtures have no noise (first {lacking[0]}); ask for mix.types = ['mix_clean'] alone")
    return mixtures


def needed_rows(plan: pd.DataFrame, manifest: pd.DataFrame, *, with_noise: bool) -> pd.DataFrame:
    """The plan's rows, those of noise only if asked for.

    Raises:
        PlanError: some of them name utterances that the manifest lacks.
    """
    rows = plan if with_noise else plan[plan["source"] != NOISE]
    unknown = sorted(set(rows["utterance_id"]) - set(manifest["utterance_id"]))
    if unknown:
        raise PlanError(
            f"the plan names {len(unknown)} utterance(s) that the manifest lacks ({', '.join(unknown[:5])}); make the plan anew"
        )
    return rows


def _place(row: Any) -> tuple[str, str]:
    return row.split, row.mixture_id


def _planned(rows: Sequence[Any]) -> PlannedMixture:
    sources = [
        PlannedSource(
            name=row.source,
            utterance_id=row.utterance_id,
            speaker_id=row.speaker_id,
            sex=row.sex,
            path=row.path,
            sample_rate=int(row.sample_rate),
            num_samples=int(row.num_samples),
            level=row.level,
            start_seconds=row.start_seconds,
        )
        for row in rows
    ]
    first = rows[0]
    return PlannedMixture(
        mixture_id=first.mixture_id,
        split=first.split,
        rule=first.level_rule,
        subset=getattr(first, "subset", ""),
        sources=tuple(source for source in sources if source.name != NOISE),
        noise=next((source for source in sources if source.name == NOISE), None),
    )


def first_hours(plan: pd.DataFrame, manifest: pd.DataFrame, limit_hours: float) -> pd.DataFrame:
    """The first mixtures of every split that together last so many hours, each cut to its shortest source."""
    lengths = manifest.set_index("utterance_id")
    seconds = plan["utterance_id"].map(lengths["num_samples"] / lengths["sample_rate"])
    speech = plan.assign(seconds=seconds)[plan["source"] != NOISE]
    shortest = speech.groupby(["split", "mixture_id"], sort=False)["seconds"].min()
    before = shortest.groupby("split").cumsum() - shortest
    kept = before[before < 3600 * limit_hours].index
    return plan[pd.MultiIndex.from_frame(plan[["split", "mixture_id"]]).isin(kept)].reset_index(drop=True)
