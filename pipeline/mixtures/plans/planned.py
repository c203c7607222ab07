"""A plan's rows gathered by mixture, joined with what the manifest says of the utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

import pandas as pd

from pipeline.audio.resampling import length_at_speed
from pipeline.errors import PlanError
from pipeline.files import name_fault

NOISE = "noise"
MIXTURE = "mix"
"""What plans of finished mixtures call the row of the mixture's own file."""


@dataclass(frozen=True, slots=True)
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
    """Where it begins in the mixture; noise with a negative start begins that far into its file."""
    # Not in the repr, which identifies a dataset: the utterance's id says it.
    speed: float = field(default=1.0, repr=False)
    """At which the file is played; ``num_samples`` is the length at that speed."""

    @property
    def end_seconds(self) -> float:
        """Where it ends in a mixture that is not cut."""
        return self.start_seconds + self.num_samples / self.sample_rate

    def start(self, sample_rate: int) -> int:
        """Samples of silence before it at a sample rate in Hz."""
        return round(self.start_seconds * sample_rate)


@dataclass(frozen=True, slots=True)
class PlannedMixture:
    """One mixture of a plan."""

    mixture_id: str
    split: str
    rule: str
    """The level rule of the plan: see ``tables.PLAN``."""
    subset: str
    """Its folder in the published tree, where that is not the split's."""
    sources: tuple[PlannedSource, ...]
    noise: PlannedSource | None
    # Not in the repr, which identifies a dataset: the starts already say it.
    overlap: float | None = field(default=None, repr=False)
    """The ratio that the starts were made by, in plans of partial overlap: see ``plans.overlap``."""
    finished: PlannedSource | None = field(default=None, repr=False)
    """The mixture's own file, where it is finished already; None where it is to be made."""

    @property
    def seconds(self) -> float:
        """How long it lasts where nothing is cut."""
        return max(source.end_seconds for source in self.sources)

    def starts(self, sample_rate: int) -> list[int]:
        """Samples of silence before each source at a sample rate in Hz."""
        return [source.start(sample_rate) for source in self.sources]


def planned_mixtures(plan: pd.DataFrame, manifest: pd.DataFrame, *, with_noise: bool = False) -> list[PlannedMixture]:
    """Every mixture of a plan, in the plan's order; noise is left out unless asked for.

    Raises:
        PlanError: the plan names utterances that the manifest does not have, noise is asked for and a mixture has none, speech
            begins before its mixture, or the name of a mixture cannot be a file name.
    """
    names = [*plan["mixture_id"].unique(), *(plan["subset"].unique() if "subset" in plan else ())]
    faults = [f"{name!r} {fault}" for name in names if (fault := name_fault(name))]
    if faults:
        raise PlanError(f"the plan names a mixture {faults[0]}, so no file can be called so; rename it in its list")
    if ((plan["source"] != NOISE) & ~(plan["start_seconds"] >= 0)).any():
        raise PlanError("the plan has speech that begins before its mixture; only noise may have a negative start_seconds")
    columns = ["speaker_id", "sex", "path", "sample_rate", "num_samples", *(["speed"] if "speed" in manifest else [])]
    facts = manifest.set_index("utterance_id")[columns]
    joined = needed_rows(plan, manifest, with_noise=with_noise).join(facts, on="utterance_id")
    mixtures = [_planned(list(rows)) for _, rows in groupby(joined.itertuples(index=False), attrgetter("split", "mixture_id"))]
    without_noise = [mixture.mixture_id for mixture in mixtures if with_noise and mixture.noise is None]
    if without_noise:
        raise PlanError(
            f"{len(without_noise)} mixtures have no noise (first {without_noise[0]}); ask for mix.types = ['mix_clean'] alone"
        )
    return mixtures


def is_source(plan: pd.DataFrame) -> pd.Series[bool]:
    """Which rows of a plan are sources to separate, rather than noise or a finished mixture."""
    return ~plan["source"].isin([NOISE, MIXTURE])


def of_splits(plan: pd.DataFrame, splits: Sequence[str]) -> pd.DataFrame:
    """The plan's rows of these splits."""
    return plan[plan["split"].isin(splits)].reset_index(drop=True)


def needed_rows(plan: pd.DataFrame, manifest: pd.DataFrame, *, with_noise: bool) -> pd.DataFrame:
    """Return the plan's rows, those of noise only if asked for.

    Raises:
        PlanError: some of them name utterances that the manifest does not have.
    """
    rows = plan if with_noise else plan[plan["source"] != NOISE]
    unknown = sorted(set(rows["utterance_id"]) - set(manifest["utterance_id"]))
    if unknown:
        raise PlanError(
            f"the manifest does not have {len(unknown)} utterances of the plan ({', '.join(unknown[:5])}); draw the plan again"
        )
    return rows


def _planned(rows: Sequence[Any]) -> PlannedMixture:
    sources = [
        PlannedSource(
            name=row.source,
            utterance_id=row.utterance_id,
            speaker_id=row.speaker_id,
            sex=row.sex,
            path=row.path,
            sample_rate=int(row.sample_rate),
            num_samples=length_at_speed(int(row.num_samples), getattr(row, "speed", 1.0)),
            level=row.level,
            start_seconds=row.start_seconds,
            speed=getattr(row, "speed", 1.0),
        )
        for row in rows
    ]
    first = rows[0]
    return PlannedMixture(
        mixture_id=first.mixture_id,
        split=first.split,
        rule=first.level_rule,
        subset=getattr(first, "subset", ""),
        sources=tuple(source for source in sources if source.name not in (NOISE, MIXTURE)),
        noise=next((source for source in sources if source.name == NOISE), None),
        overlap=getattr(first, "overlap", None),
        finished=next((source for source in sources if source.name == MIXTURE), None),
    )


def first_hours(plan: pd.DataFrame, manifest: pd.DataFrame, limit_hours: float | None) -> pd.DataFrame:
    """Keep the first mixtures of every split that together last ``limit_hours``; None keeps all.

    Each counts as long as its shortest source, as in mode ``min``; where some begin late, until the last source has ended.
    """
    if limit_hours is None:
        return plan
    lengths = manifest.set_index("utterance_id")
    seconds = plan["utterance_id"].map(lengths["num_samples"] / lengths["sample_rate"])
    speech = plan.assign(ends=plan["start_seconds"] + seconds)[is_source(plan)]
    mixtures = speech.groupby(["split", "mixture_id"], sort=False)
    counted = mixtures["ends"].max() if (speech["start_seconds"] > 0).any() else mixtures["ends"].min()
    before = counted.groupby("split").cumsum() - counted
    kept = before[before < 3600 * limit_hours].index
    return plan[pd.MultiIndex.from_frame(plan[["split", "mixture_id"]]).isin(kept)].reset_index(drop=True)
