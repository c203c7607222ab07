"""Everything a report says, computed once from the scores; the pages only lay it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from pipeline.errors import ScoreError
from pipeline.reports import alone, bootstrap, breakdowns, formatting, health, means, repeats, sentences, statistics
from pipeline.reports.failures import Outcomes, outcomes, shared_mixtures
from pipeline.reports.sentences import Coverage

Facts = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Context:
    """What is shown beside the scores; see ``write_report`` for each."""

    title: str = ""
    histories: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    models: Facts = field(default_factory=dict)
    published: Facts = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    verification: Mapping[str, Any] = field(default_factory=dict)
    dataset_findings: Sequence[tuple[str, str, str]] = ()
    ageing: pd.DataFrame | None = None


@dataclass(frozen=True)
class Analysis:
    """The numbers of a report; every attribute follows from the arguments alone.

    Attributes:
        given_scores: all rows; of a system with several runs, their mean.
        scores: the rows that are compared: mixtures for which every system has rows (all rows if there are none).
        run_scores: the rows as they were given.
        runs: by system, the names of its runs if it has several; see ``repeats``.
        one_speaker: what is said of the mixtures in which one speaker is alone, which no other table has; see ``alone``.
    """

    context: Context
    given_scores: pd.DataFrame
    scores: pd.DataFrame
    coverage: Coverage
    baseline: str
    oracles: pd.DataFrame
    run_scores: pd.DataFrame
    runs: repeats.Runs = field(default_factory=dict)
    one_speaker: pd.DataFrame = field(default_factory=pd.DataFrame)
    seed: int = 0

    @cached_property
    def systems(self) -> list[str]:
        """Names of the systems, the baseline first; their place decides their colour."""
        names = list(dict.fromkeys(self.scores["system"]))
        return [self.baseline, *(name for name in names if name != self.baseline)]

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The one or two metrics that systems are compared in, see ``means.headline_metrics``."""
        return means.headline_metrics(self.scores)

    @cached_property
    def oracle_names(self) -> list[str]:
        """Names of the oracles, in the order of their table."""
        return [] if self.oracles.empty else list(dict.fromkeys(self.oracles["system"]))

    @property
    def metric(self) -> str:
        """The first of the metrics: what figures and breakdowns show."""
        return self.metrics[0]

    @property
    def label(self) -> str:
        """Name of the first metric, as on an axis."""
        return formatting.LABELS[self.metric]

    @cached_property
    def summaries(self) -> pd.DataFrame:
        """See ``statistics.summaries``."""
        return statistics.summaries(self.scores, seed=self.seed)

    @cached_property
    def any_failed(self) -> bool:
        """Whether any system failed on any mixture, in a metric that systems are compared in."""
        return bool(self.summaries.loc[self.summaries["metric"].isin(self.metrics), "num_failed"].any())

    @cached_property
    def oracle_summaries(self) -> pd.DataFrame:
        """Summaries of masks made from the references: context, and no part of any comparison."""
        if self.oracles.empty:
            return self.summaries.iloc[:0]
        return statistics.summaries(self.oracles, self.metrics, seed=self.seed)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """See ``statistics.paired_differences``, all metrics in one table."""
        tables = [
            statistics.paired_differences(self.scores, metric, baseline=self.baseline, seed=self.seed)
            for metric in means.metrics_in(self.scores)
        ]
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def outcomes(self) -> Outcomes:
        """What came of every mixture, in the first metric."""
        return outcomes(self.scores, self.metric)

    @cached_property
    def ranked_metrics(self) -> frozenset[str]:
        """The metrics in which every system that has any value has means over the same mixtures as the others."""
        if not self.coverage.num_shared:
            return frozenset()
        known = means.metrics_in(self.scores)
        return frozenset(metric for metric in known if outcomes(self.scores, metric).are_on_same_mixtures)

    @cached_property
    def means(self) -> pd.DataFrame:
        """The first metric per mixture and system, of mixtures that every system has a score for; NaN in other rows."""
        return self.outcomes.common[self.systems]

    @cached_property
    def common_scores(self) -> pd.DataFrame:
        """The rows of those mixtures, the baseline's first."""
        ids = self.means.dropna(how="all").index
        rows = self.scores[self.scores["mixture_id"].isin(ids)]
        return pd.concat([rows[rows["system"] == system] for system in self.systems], ignore_index=True)

    @cached_property
    def breakdowns(self) -> dict[str, pd.DataFrame]:
        """The first metric by input level, sexes, length, overlap and speaker, as far as they are known."""
        groups: dict[str, pd.Series] = {
            "input SI-SNR": breakdowns.input_bins(self.scores),
            "sexes": breakdowns.sex_pairs(self.scores),
            "length": breakdowns.length_bins(self.scores),
            "overlap": breakdowns.overlap_bins(self.scores),
        }
        if "speaker_id" in self.scores:
            groups["speaker"] = self.scores["speaker_id"].where(self.scores["speaker_id"] != "")
        tables = {
            name: breakdowns.breakdown(self.scores, self.metric, by, seed=self.seed)
            for name, by in groups.items()
            if by.notna().any()
        }
        return {name: table for name, table in tables.items() if len(set(table["group"])) > 1}

    @cached_property
    def excluded(self) -> pd.DataFrame:
        """Rows without a value or with a remark, by system and status."""
        return health.excluded(self.given_scores, self.metric)

    @cached_property
    def num_excluded(self) -> int:
        """Mixtures without a score from at least one system."""
        own = means.mixture_means(self.given_scores, self.metric)
        return int(own.isna().any(axis=1).sum())

    @cached_property
    def health(self) -> pd.DataFrame:
        """What looks wrong with the test set."""
        found = health.findings(self.given_scores, self.metric)
        beside = pd.DataFrame(list(self.context.dataset_findings), columns=health.COLUMNS)
        return pd.concat([found, beside], ignore_index=True) if len(beside) else found

    @cached_property
    def headline(self) -> str:
        """The sentences at the top."""
        return sentences.headline(self.summaries, self.pairs, self.metric, self.coverage, self.run_differences)

    @cached_property
    def conclusions(self) -> list[str]:
        """What may be concluded: of two systems in both metrics, of more against the baseline in the first."""
        shown = self.metrics if len(self.systems) == 2 else self.metrics[:1]
        rows = self.pairs[self.pairs["metric"].isin(shown) & (self.pairs["baseline"] == self.baseline)]
        found = [
            (row, self.run_differences.get((row["metric"], row["system"], row["baseline"]), []))
            for row in rows.to_dict("records")
        ]
        return [sentences.conclusion(row) + sentences.by_run(values) for row, values in found]

    @cached_property
    def scope(self) -> str:
        """What was measured, in one or two sentences."""
        speakers = bootstrap.mixture_speakers(self.scores)
        seconds = float(means.seconds_of(self.scores.drop_duplicates("mixture_id")).sum())
        rates = sorted(set(self.scores["sample_rate"].dropna()))
        parts = [formatting.plural(len(self.means), "test mixture")]
        if seconds > 0:
            parts.append(formatting.duration(seconds))
        if speakers is not None:
            parts.append(formatting.plural(len(pd.unique(speakers.to_numpy().ravel())), "speaker"))
        if rates:
            parts.append(f"{' and '.join(f'{rate / 1000:g}' for rate in rates)} kHz")
        return f"{', '.join(parts)}. {sentences.same_mixtures(self.coverage)}".strip()

    @cached_property
    def disagreements(self) -> int:
        """Mixtures and systems for which SI-SNR and SIR assign the estimates differently."""
        rows = self.scores[["system", "mixture_id", "permutations_agree"]].drop_duplicates(["system", "mixture_id"])
        return int((~rows["permutations_agree"].astype(bool)).sum())

    def played_run(self, system: str) -> str:
        """The run whose estimates are played for a system: the first."""
        return self.runs.get(system, [system])[0]

    def facts(self, system: str) -> dict[str, Any]:
        """What is known of a system's model; of its first run if it has several."""
        models = self.context.models
        return dict(models.get(system) or models.get(self.played_run(system)) or {})

    @cached_property
    def run_spread(self) -> dict[str, pd.DataFrame]:
        """By metric, what the runs of every repeated system reached; see ``repeats.spread``."""
        return {metric: repeats.spread(self._shared_runs(metric), self.runs, metric) for metric in self.metrics if self.runs}

    @cached_property
    def run_differences(self) -> dict[tuple[str, str, str], list[float]]:
        """By metric, system and baseline, the differences run by run, of pairs that are repeated."""
        found: dict[tuple[str, str, str], list[float]] = {}
        pairs = list(dict.fromkeys(zip(self.pairs["system"], self.pairs["baseline"], strict=True)))
        for metric in self.metrics:
            for row in repeats.spread_of_differences(self._shared_runs(metric), self.runs, metric, pairs).to_dict("records"):
                found[metric, row["system"], row["baseline"]] = row["values"]
        return found

    def _shared_runs(self, metric: str) -> pd.DataFrame:
        """The runs' rows of the mixtures that the systems are compared on, with failures counted."""
        ids = outcomes(self.scores, metric).counted.dropna(how="all").index
        return self.run_scores[self.run_scores["mixture_id"].isin(ids)]

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


def analyse(
    scores: pd.DataFrame, context: Context | None = None, *, baseline: str | None = None, oracles: pd.DataFrame | None = None
) -> Analysis:
    """Check the scores, choose the baseline, and find the mixtures that all systems can be compared on.

    Raises:
        ScoreError: there are no scores, a row appears twice, or the baseline has no scores.
    """
    if scores.empty:
        raise ScoreError("there are no scores to report")
    masks = pd.DataFrame() if oracles is None else oracles.reset_index(drop=True)
    _refuse_doubles(pd.concat([scores, masks], ignore_index=True))
    check_sources(scores)
    scores, one_speaker = alone.set_apart(scores)
    runs = repeats.runs_in(list(dict.fromkeys(scores["system"])))
    given = repeats.over_runs(scores.reset_index(drop=True), runs)
    mismatched = {mixture_id for _, mixture_id, _ in health.mismatched(given)}
    shared = shared_mixtures(given, mismatched).reset_index(drop=True)
    compared = given if shared.empty else shared
    if not masks.empty and masks["mixture_id"].isin(compared["mixture_id"]).any():
        masks = masks[masks["mixture_id"].isin(compared["mixture_id"])].reset_index(drop=True)
    return Analysis(
        context or Context(),
        given_scores=given,
        scores=compared,
        coverage=_coverage(given, shared, mismatched),
        baseline=_baseline_of(given, runs, baseline),
        oracles=masks,
        run_scores=scores.reset_index(drop=True),
        runs=runs,
        one_speaker=one_speaker,
    )


def _coverage(given: pd.DataFrame, shared: pd.DataFrame, mismatched: set[str]) -> Coverage:
    num_given = given["mixture_id"].nunique()
    counts = given.groupby("system", sort=False)["mixture_id"].nunique()
    missing = {str(system): int(num_given - count) for system, count in counts.items() if count < num_given}
    return Coverage(num_given, shared["mixture_id"].nunique(), missing, len(mismatched))


def _baseline_of(given: pd.DataFrame, runs: repeats.Runs, baseline: str | None) -> str:
    """The baseline's name: of its system if it is a run, and the first system by default."""
    names = list(dict.fromkeys(given["system"]))
    chosen = next((system for system, members in runs.items() if baseline in members), baseline)
    if chosen is not None and chosen not in names:
        raise ScoreError(f"baseline {chosen!r} has no scores; choose one of {', '.join(map(str, names))}")
    return str(chosen or names[0])


def _effect(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What changes from one model to the other if it is a single setting; otherwise empty."""
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
            f"scores: {row['system']}, {row['mixture_id']}, {row['source']} appears more than once; "
            "give systems that share mixtures different names, or remove one"
        )


def check_sources(scores: pd.DataFrame) -> None:
    """Raise ScoreError if systems call the sources of a mixture by different names, so that none could be matched."""
    sources = scores[scores["source"] != means.WHOLE_MIXTURE].groupby("mixture_id")["source"].nunique()
    most = scores.groupby(["mixture_id", "system"])["source"].nunique().groupby("mixture_id").max()
    odd = sources.index[sources > most.reindex(sources.index)]
    if len(odd):
        mine = scores[scores["mixture_id"] == odd[0]].groupby("system", sort=False)["source"].agg(", ".join)
        named = "; ".join(f"{names} ({system})" for system, names in mine.items())
        raise ScoreError(f"scores: the sources of {odd[0]} have different names: {named}; name them alike, for example s1, s2")


def of_system(summaries: pd.DataFrame, system: str) -> dict[str, dict[Any, Any]]:
    """One system's summary rows by metric."""
    return {row["metric"]: row for row in summaries[summaries["system"] == system].to_dict("records")}
