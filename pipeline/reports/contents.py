"""Everything a report says, computed once from the scores; the pages only lay it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from pipeline.errors import ScoreError
from pipeline.reports import repeats, statistics, words

Facts = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Contents:
    """The numbers of a report; every attribute follows from the arguments alone.

    Attributes:
        scores: what is compared: of a system with several runs, their mean.
        run_scores: the rows as they were given.
        runs: by system, the names of its runs, where there are several; see ``repeats``.
    """

    title: str
    scores: pd.DataFrame
    baseline: str
    histories: Mapping[str, pd.DataFrame]
    models: Facts
    published: Facts
    provenance: Mapping[str, str]
    oracles: pd.DataFrame = field(default_factory=pd.DataFrame)
    verification: Mapping[str, Any] = field(default_factory=dict)
    run_scores: pd.DataFrame = field(default_factory=pd.DataFrame)
    runs: repeats.Runs = field(default_factory=dict)
    seed: int = 0

    @cached_property
    def systems(self) -> list[str]:
        """Names of the systems, the baseline first; their place decides their colour."""
        names = list(dict.fromkeys(self.scores["system"]))
        return [self.baseline, *(name for name in names if name != self.baseline)]

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics in the foreground, one or two, see ``statistics.headline_metrics``."""
        return statistics.headline_metrics(self.scores)

    @cached_property
    def oracle_names(self) -> list[str]:
        """Names of the oracles, in the order of their table."""
        return [] if self.oracles.empty else list(dict.fromkeys(self.oracles["system"]))

    @property
    def metric(self) -> str:
        """The first of them: what figures and breakdowns show."""
        return self.metrics[0]

    @property
    def label(self) -> str:
        """Its name, as on an axis."""
        return words.LABELS[self.metric]

    @cached_property
    def summaries(self) -> pd.DataFrame:
        """See ``statistics.summaries``."""
        return statistics.summaries(self.scores, seed=self.seed)

    @cached_property
    def oracle_summaries(self) -> pd.DataFrame:
        """The same of what masks made from the references reach: context, and no part of any comparison."""
        if self.oracles.empty:
            return self.summaries.iloc[:0]
        return statistics.summaries(self.oracles, self.metrics, seed=self.seed)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """See ``statistics.paired_differences``, all metrics below each other."""
        tables = [
            statistics.paired_differences(self.scores, metric, baseline=self.baseline, seed=self.seed)
            for metric in statistics.metrics_in(self.scores)
        ]
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def means(self) -> pd.DataFrame:
        """The first metric per mixture and system."""
        return statistics.mixture_means(self.scores, self.metric)[self.systems]

    @cached_property
    def breakdowns(self) -> dict[str, pd.DataFrame]:
        """The first metric by input level, sexes, length, overlap and speaker, where known."""
        groups: dict[str, pd.Series] = {
            "input SI-SNR": statistics.input_bins(self.scores),
            "sexes": statistics.sex_pairs(self.scores),
            "length": statistics.length_bins(self.scores),
            "overlap": statistics.overlap_bins(self.scores),
        }
        if "speaker_id" in self.scores:
            groups["speaker"] = self.scores["speaker_id"].where(self.scores["speaker_id"] != "")
        tables = {
            name: statistics.breakdown(self.scores, self.metric, by, seed=self.seed)
            for name, by in groups.items()
            if by.notna().any()
        }
        return {name: table for name, table in tables.items() if len(set(table["group"])) > 1}

    @cached_property
    def excluded(self) -> pd.DataFrame:
        """Rows without a value or with a remark, by system and status."""
        return statistics.excluded(self.scores, self.metric)

    @cached_property
    def health(self) -> pd.DataFrame:
        """What looks wrong with the test set."""
        return statistics.health(self.scores, self.metric)

    @cached_property
    def headline(self) -> str:
        """The sentence on top."""
        return words.headline(self.summaries, self.pairs, self.metric, self.run_differences)

    @cached_property
    def conclusions(self) -> list[str]:
        """What may be concluded: of two systems in both metrics of the foreground, of more against the baseline in the first."""
        shown = self.metrics if len(self.systems) == 2 else self.metrics[:1]
        rows = self.pairs[self.pairs["metric"].isin(shown) & (self.pairs["baseline"] == self.baseline)]
        found = [
            (row, self.run_differences.get((row["metric"], row["system"], row["baseline"]), []))
            for row in rows.to_dict("records")
        ]
        return [words.conclusion(row) + words.by_run(values) for row, values in found]

    @cached_property
    def scope(self) -> str:
        """What was measured, in one sentence."""
        speakers = statistics.mixture_speakers(self.scores)
        seconds = float(statistics.seconds_of(self.scores.drop_duplicates("mixture_id")).sum())
        rates = sorted(set(self.scores["sample_rate"].dropna()))
        parts = [words.plural(len(self.means), "test mixture")]
        if seconds > 0:
            parts.append(words.duration(seconds))
        if speakers is not None:
            parts.append(words.plural(len(pd.unique(speakers.to_numpy().ravel())), "speaker"))
        if rates:
            parts.append(f"{' and '.join(f'{rate / 1000:g}' for rate in rates)} kHz")
        return ", ".join(parts) + "."

    @cached_property
    def disagreements(self) -> int:
        """Mixtures and systems for which SI-SNR and SIR assign the estimates differently."""
        rows = self.scores[["system", "mixture_id", "permutations_agree"]].drop_duplicates(["system", "mixture_id"])
        return int((~rows["permutations_agree"].astype(bool)).sum())

    def heard(self, system: str) -> str:
        """The run whose estimates stand for a system: the first."""
        return self.runs.get(system, [system])[0]

    def facts(self, system: str) -> dict[str, Any]:
        """What is known of a system's model, of its first run where it has several."""
        return dict(self.models.get(system) or self.models.get(self.heard(system)) or {})

    @cached_property
    def run_spread(self) -> dict[str, pd.DataFrame]:
        """By metric, what the runs of every repeated system reached; see ``repeats.spread``."""
        return {metric: repeats.spread(self.run_scores, self.runs, metric) for metric in self.metrics if self.runs}

    @cached_property
    def run_differences(self) -> dict[tuple[str, str, str], list[float]]:
        """By metric, system and baseline, the differences run by run, of pairs that are repeated."""
        found: dict[tuple[str, str, str], list[float]] = {}
        pairs = list(dict.fromkeys(zip(self.pairs["system"], self.pairs["baseline"], strict=True)))
        for metric in self.metrics:
            for row in repeats.spread_of_differences(self.run_scores, self.runs, metric, pairs).to_dict("records"):
                found[metric, row["system"], row["baseline"]] = row["values"]
        return found

    @cached_property
    def effects(self) -> list[tuple[str, Mapping[Any, Any]]]:
        """Pairs that differ in nothing but causality or norm: what changes, and the pair's row of the first metric."""
        rows = self.pairs[self.pairs["metric"] == self.metric].to_dict("records") if len(self.systems) > 2 else []
        named = ((_effect(self.facts(row["baseline"]), self.facts(row["system"])), row) for row in rows)
        return [(change, row) for change, row in named if change]

    def real_time_factor(self, system: str) -> float:
        """Seconds of computing per second of audio: from the model's facts, or else from the scores."""
        stated = self.facts(system).get("real_time_factor")
        if stated is not None or "seconds" not in self.scores:
            return float(stated) if stated is not None else float("nan")
        rows = self.scores[self.scores["system"] == system].drop_duplicates("mixture_id").dropna(subset="seconds")
        audio = (rows["num_samples"] / rows["sample_rate"]).sum()
        return float(rows["seconds"].sum() / audio) if audio > 0 else float("nan")


def gather(
    scores: pd.DataFrame,
    *,
    title: str,
    histories: Mapping[str, pd.DataFrame],
    models: Facts,
    published: Facts,
    baseline: str | None,
    provenance: Mapping[str, str],
    oracles: pd.DataFrame | None = None,
    verification: Mapping[str, Any] | None = None,
) -> Contents:
    """Check the scores and choose the baseline.

    Raises:
        ScoreError: there are no scores, a row is there twice, or the baseline has none.
    """
    if scores.empty:
        raise ScoreError("there are no scores to report")
    context = pd.DataFrame() if oracles is None else oracles.reset_index(drop=True)
    _refuse_doubles(pd.concat([scores, context], ignore_index=True))
    runs = repeats.runs_in(list(dict.fromkeys(scores["system"])))
    averaged = repeats.over_runs(scores.reset_index(drop=True), runs)
    names = list(dict.fromkeys(averaged["system"]))
    chosen = next((system for system, members in runs.items() if baseline in members), baseline)
    if chosen is not None and chosen not in names:
        raise ScoreError(f"baseline: no scores are of a system called {baseline!r}; there are {', '.join(map(str, names))}")
    facts = (dict(histories), dict(models), dict(published), dict(provenance), context, dict(verification or {}))
    return Contents(title, averaged, chosen or names[0], *facts, run_scores=scores.reset_index(drop=True), runs=runs)


def _effect(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What changes from one model to the other, where it is one setting alone; else nothing."""
    alike = before.get("num_parameters") == after.get("num_parameters") is not None
    changed = [name for name in ("causal", "norm") if before.get(name) != after.get(name)]
    if not alike or len(changed) != 1 or not {"causal", "norm"} <= set(before) & set(after):
        return ""
    if changed == ["norm"]:
        return f"{before['norm']} → {after['norm']} norm, {'causal' if after['causal'] else 'non-causal'}"
    return f"{'causal → non-causal' if before['causal'] else 'non-causal → causal'}, {after['norm']} norm"


def _refuse_doubles(scores: pd.DataFrame) -> None:
    doubled = scores[scores.duplicated(["system", "mixture_id", "source"])]
    if len(doubled):
        row = doubled.iloc[0]
        raise ScoreError(
            f"scores: {row['system']}, {row['mixture_id']}, {row['source']} is there more than once; "
            "give systems that share mixtures different names, or remove one"
        )


def of_system(summaries: pd.DataFrame, system: str) -> dict[str, dict[Any, Any]]:
    """One system's summary rows by metric."""
    return {row["metric"]: row for row in summaries[summaries["system"] == system].to_dict("records")}
