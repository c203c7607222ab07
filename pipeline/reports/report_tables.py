"""The tables of a report: the numbers of the analysis as grids of text, ready to be laid out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from pipeline.reports.analysis import Analysis, of_system
from pipeline.reports.best import best_places, not_told_apart
from pipeline.reports.failures import IMPROVEMENTS
from pipeline.reports.formatting import (
    LABELS,
    NOTHING,
    count_of,
    digits_of,
    factor,
    interval,
    large,
    level,
    number,
    p_value,
    percent,
    signed,
    tiny,
)
from pipeline.reports.grids import Grid

MOST_SYSTEMS_IN_FULL = 3
"""Tables with columns for every system show less of each if there are more."""

_MOST_FINDINGS = 30

ONE_SPEAKER_LEVELS = {
    "si_snr_db": "speaker, median SI-SNR",
    "silent_level_db": "silent outputs, median level",
    "silent_level_p95_db": "95th percentile",
}
"""Columns of ``analysis.one_speaker``, and their headings."""

_Summaries: TypeAlias = Mapping[str, Mapping[Any, Any]]


# --------------------------------------------------------------------------------------------------------------- results
def floored_heading(metric: str) -> str:
    """Heading of the mean that counts failures."""
    return f"{LABELS[metric]}, failures as {'0 dB' if metric in IMPROVEMENTS else 'input'}"


@dataclass(frozen=True)
class _Column:
    """A column of the table of results: its text from a system's summaries by metric, and the value that ranks systems."""

    heading: str
    text: Callable[[_Summaries], str]
    metric: str = ""
    value: str = ""
    """Name of the value in the summary of ``metric``; empty if the column ranks nobody."""
    lower_is_better: bool = False


def _result_columns(analysis: Analysis) -> list[_Column]:
    """Where a system failed, the means that leave failures out rank nobody: systems are compared with failures counted."""
    first, failing = analysis.metric, analysis.any_failed
    ranks = not failing
    columns = [_Column("mixtures", lambda mine: count_of(mine[first]))]
    if failing:
        columns.append(_Column("failed", lambda mine: f"{mine[first]['num_failed']:,}"))
    for metric in analysis.metrics:
        columns += [_number_column(f"{LABELS[metric]}, dB", metric, "mean", ranks=ranks), _interval_column(metric)]
    columns += [_number_column(floored_heading(metric), metric, "floored_mean") for metric in analysis.metrics if failing]
    columns.append(_number_column(f"median {LABELS[first]}", first, "median", ranks=ranks))
    return [*columns, *(_share_column(f"below {limit} dB", first, f"share_below_{limit}") for limit in (0, 5))]


def _number_column(heading: str, metric: str, value: str, *, ranks: bool = True) -> _Column:
    return _Column(heading, lambda mine: number(mine[metric][value]), metric, value if ranks else "")


def _interval_column(metric: str) -> _Column:
    return _Column("95% interval", lambda mine: interval(mine[metric]["low"], mine[metric]["high"]))


def _share_column(heading: str, metric: str, value: str) -> _Column:
    return _Column(heading, lambda mine: percent(mine[metric][value]), metric, value, lower_is_better=True)


def results_grid(analysis: Analysis) -> Grid:
    """Every system's improvement, then oracles and published figures beside them; the best values are marked."""
    columns = _result_columns(analysis)
    given = [(name, of_system(analysis.summaries, name)) for name in analysis.systems]
    given += [(name, of_system(analysis.oracle_summaries, name)) for name in analysis.oracle_names]
    rows = [(name, *(column.text(mine) for column in columns)) for name, mine in given]
    rows += [_published_row(analysis, system, len(columns) + 1) for system in analysis.context.published]
    named = [*analysis.systems, *analysis.oracle_names, *analysis.context.published]
    series = tuple(analysis.systems.index(name) + 1 if name in analysis.systems else 0 for name in named)
    quiet = tuple(k >= len(analysis.systems) for k in range(len(rows)))
    marks = [
        _marks(analysis, (column.metric, column.value), [row[place] for row in rows], lower_is_better=column.lower_is_better)
        for place, column in enumerate(columns, 1)
    ]
    best, alike = (frozenset((k, p) for p, found in enumerate(marks, 1) for k in found[which]) for which in (0, 1))
    return Grid(("system", *(column.heading for column in columns)), tuple(rows), series, quiet, best, alike)


def _marks(
    analysis: Analysis, ranking: tuple[str, str], texts: Sequence[str], *, lower_is_better: bool = False
) -> tuple[frozenset[int], frozenset[int]]:
    """Places of the systems with the best value, and of those that cannot be told apart from them; none without a ranking."""
    metric, value = ranking
    if not value or metric not in analysis.ranked_metrics:
        return frozenset(), frozenset()
    values = [of_system(analysis.summaries, name)[metric][value] for name in analysis.systems]
    best = best_places(values, texts[: len(values)], lower_is_better=lower_is_better)
    if lower_is_better and len(best) == len(values):
        return frozenset(), frozenset()  # nobody stands out
    if not best or value not in ("mean", "floored_mean"):
        return best, frozenset()
    first = analysis.systems[max(best, key=lambda k: float(values[k]))]
    alike = not_told_apart(analysis, metric, first)
    return best, frozenset(k for k, name in enumerate(analysis.systems) if name in alike) - best


def _published_row(analysis: Analysis, system: str, num_columns: int) -> tuple[str, ...]:
    found = [number(analysis.context.published[system].get(metric)) for metric in analysis.metrics]
    cells = (f"{system}, published", "not rerun", *([""] if analysis.any_failed else []))
    cells += tuple(cell for value in found for cell in (value, ""))
    return cells + ("",) * (num_columns - len(cells))


def sources_of_published(analysis: Analysis) -> str:
    """Where the published numbers come from, in one sentence; empty if that is not said."""
    sources: dict[str, list[str]] = {}
    for system, figures in analysis.context.published.items():
        if figures.get("source"):
            sources.setdefault(str(figures["source"]), []).append(system)
    return "; ".join(f"{' and '.join(systems)}: {source}" for source, systems in sources.items())


def spread_grid(analysis: Analysis) -> Grid:
    """Distribution of each metric over the mixtures, for every system; the best mean of each metric is marked."""
    headings = ["system", "metric", "mixtures", *(["failed"] if analysis.any_failed else [])]
    headings += ["mean", *(["with failures"] if analysis.any_failed else []), "std", "5%", "25%", "median", "75%", "95%"]
    headings += ["below 0", "below 5"]
    rows, series = [], []
    for place, system in enumerate(analysis.systems, 1):
        for metric, row in of_system(analysis.summaries, system).items():
            digits = digits_of(metric)
            failed = ([f"{row['num_failed']:,}"], [number(row["floored_mean"], digits)]) if analysis.any_failed else ([], [])
            cells = [system, LABELS[metric], count_of(row), *failed[0], number(row["mean"], digits), *failed[1]]
            cells += [number(row[name], digits) for name in ("std", "p5", "p25", "median", "p75", "p95")]
            rows.append((*cells, *(percent(row[name]) for name in ("share_below_0", "share_below_5"))))
            series.append(place)
    return Grid(tuple(headings), tuple(rows), tuple(series), (), *_spread_marks(analysis, rows, headings))


def _spread_marks(analysis: Analysis, rows: Sequence[Sequence[str]], headings: Sequence[str]) -> list[frozenset[tuple[int, int]]]:
    """The best mean of each metric, and what cannot be told apart from it, as cells of the table of distributions."""
    value = "floored_mean" if analysis.any_failed else "mean"
    column = headings.index("with failures" if analysis.any_failed else "mean")
    found: list[set[tuple[int, int]]] = [set(), set()]
    for metric, label in LABELS.items():
        places = [k for k, row in enumerate(rows) if row[1] == label]
        if places:
            for cells, marked in zip(found, _marks(analysis, (metric, value), [rows[k][column] for k in places]), strict=True):
                cells |= {(places[k], column) for k in marked}
    return [frozenset(cells) for cells in found]


# ----------------------------------------------------------------------------------------------------------- differences
def pairs_grid(analysis: Analysis, *, of_baseline: bool) -> Grid:
    """Paired differences in the main metrics: from the baseline, or of all other pairs."""
    several = len(analysis.systems) > 2
    named = several and of_baseline
    headings = [f"difference from {analysis.baseline}" if named else "difference", "metric", "mixtures", "mean, dB"]
    headings += ["95% interval", "std", "wins", "ties", "losses", "Wilcoxon p", *(["Holm p"] if several else [])]
    headings += ["failed", "failures counted, dB", "95% interval"] if analysis.any_failed else []
    headings += ["by run"] if analysis.run_differences else []
    pairs = analysis.pairs
    wanted = pairs["metric"].isin(analysis.metrics) & ((pairs["baseline"] == analysis.baseline) == of_baseline)
    rows = [_pair_row(analysis, row, named=named) for row in pairs[wanted].to_dict("records")]
    return Grid(tuple(headings), tuple(rows))


def _pair_row(analysis: Analysis, row: Mapping[Any, Any], *, named: bool) -> tuple[str, ...]:
    cells = [row["system"] if named else f"{row['system']} − {row['baseline']}", LABELS[row["metric"]], f"{row['n']:,}"]
    cells += [signed(row["difference"]), interval(row["low"], row["high"]), number(row["std"])]
    cells += [percent(row[k]) for k in ("win", "tie", "loss")]
    cells += [p_value(row[k]) for k in (("p", "p_holm") if len(analysis.systems) > 2 else ("p",))]
    if analysis.any_failed:
        cells += [f"{row['num_failed']:,} / {row['num_failed_baseline']:,}", *_floored(row)]
    return (*cells, *([_by_run(analysis, row)] if analysis.run_differences else []))


def _floored(row: Mapping[Any, Any]) -> list[str]:
    """The difference with failures counted, and its interval."""
    return [signed(row["floored_difference"]), interval(row["floored_low"], row["floored_high"])]


def _by_run(analysis: Analysis, row: Mapping[Any, Any]) -> str:
    values = analysis.run_differences.get((row["metric"], row["system"], row["baseline"]), [])
    return ", ".join(map(signed, values)) or NOTHING


def effects_grid(analysis: Analysis) -> Grid:
    """What each change of one setting does: of causality with the same norm, of the norm with the same causality."""
    by_run = ("by run",) if analysis.run_differences else ()
    headings = ("change", f"{analysis.label}, dB", "95% interval", *by_run, "difference")
    rows = []
    for change, row in analysis.effects:
        runs = (_by_run(analysis, row),) if by_run else ()
        rows.append((change, *_floored(row), *runs, f"{row['system']} − {row['baseline']}"))
    return Grid(headings, tuple(rows))


def runs_grid(analysis: Analysis) -> Grid:
    """The spread over the runs of every repeated system, in the main metrics."""
    found = [(metric, row) for metric, table in analysis.run_spread.items() for row in table.to_dict("records")]
    failing = any(any(row["num_failed"]) for _, row in found)
    rows = [_run_row(analysis, metric, row, failing=failing) for metric, row in found]
    series = tuple(analysis.systems.index(row[0]) + 1 for row in rows)
    headings = (
        "system",
        "metric",
        "runs",
        "mean, dB",
        "std over runs",
        "each run, dB",
        *(("failed in each",) if failing else ()),
    )
    return Grid(headings, tuple(rows), series)


def _run_row(analysis: Analysis, metric: str, row: Mapping[Any, Any], *, failing: bool) -> tuple[str, ...]:
    names = [name.rpartition("@")[2] for name in analysis.runs[row["system"]]]
    each = ", ".join(f"{name}: {number(value)}" for name, value in zip(names, row["values"], strict=True))
    failed = ", ".join(f"{name}: {count:,}" for name, count in zip(names, row["num_failed"], strict=True))
    cells = (row["system"], LABELS[metric], str(row["n"]), number(row["mean"]), number(row["std"]), each)
    return (*cells, *((failed,) if failing else ()))


def breakdown_grid(table: pd.DataFrame, heading: str, systems: list[str]) -> Grid:
    """One breakdown: a row per group with each system's mean, its interval if systems are few, and its failures if any."""
    in_full, failing = len(systems) <= MOST_SYSTEMS_IN_FULL, bool(table["num_failed"].any())
    headings = [heading, "mixtures"]
    for system in systems:
        headings += [f"{system}, dB", *(["95% interval"] if in_full else []), *(["failed"] if failing else [])]
    rows = []
    for group in dict.fromkeys(table["group"]):
        found = table[table["group"] == group].set_index("system")
        cells = [str(group), f"{found['n'].max():,.0f}"]
        for system in systems:
            row = found.loc[system]
            cells += [number(row["mean"]), *([interval(row["low"], row["high"])] if in_full else [])]
            cells += [f"{row['num_failed']:,}"] if failing else []
        rows.append(tuple(cells))
    return Grid(tuple(headings), tuple(rows))


# ----------------------------------------------------------------------------------------------------------------- costs
# What a model costs: its name in the facts, its name in the table, and how it is printed.
_FACTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "causal": ("causal", lambda value: "yes" if value else "no"),
    "norm": ("normalisation", str),
    "num_parameters": ("parameters", large),
    "macs_per_second": ("MACs per second", large),
    "receptive_field_seconds": ("receptive field", lambda value: f"{number(value)} s"),
    "look_ahead_samples": ("look-ahead, samples", lambda value: f"{value:,}"),
    "look_ahead_seconds": ("look-ahead", lambda value: f"{number(1000 * value, 1)} ms"),
    "latency_seconds": ("algorithmic delay", lambda value: f"{number(1000 * value, 1)} ms"),
    "causality_deviation": ("deviation before the look-ahead", tiny),
    "cpu_real_time_factor": ("real-time factor, CPU", factor),
    "cpu": ("CPU", str),
    "real_time_factor": ("real-time factor", factor),
    "device": ("separated on", str),
}

_OF_THE_FUTURE = ("look_ahead_samples", "look_ahead_seconds", "latency_seconds")
"""Facts that are None for a system that needs the whole signal before it can answer."""

_OF_THE_MACHINE = ("cpu", "device")


def costs_grid(analysis: Analysis) -> Grid:
    """What each system costs and how far it looks ahead, a column per system."""
    facts = {system: _facts_of(analysis, system) for system in analysis.systems}
    names = dict.fromkeys(name for name in (*_FACTS, *(key for found in facts.values() for key in found)))
    common = _common_machine(analysis)
    rows = tuple(
        (_FACTS.get(name, (name.replace("_", " "), str))[0], *(_fact(name, facts[s]) for s in analysis.systems))
        for name in names
        if name not in common and any(_fact(name, facts[s]) != NOTHING for s in analysis.systems)
    )
    return Grid(("", *analysis.systems), rows)


def machine_sentence(analysis: Analysis) -> str:
    """What all systems were separated and timed on if it is the same; otherwise it is in the table of costs."""
    common = _common_machine(analysis)
    parts = [f"Separated on {common['device']}."] if "device" in common else []
    return " ".join([*parts, f"The CPU is {common['cpu']}."] if "cpu" in common else parts)


def _common_machine(analysis: Analysis) -> dict[str, str]:
    found = {name: {analysis.facts(system).get(name) for system in analysis.systems} for name in _OF_THE_MACHINE}
    return {name: str(*values) for name, values in found.items() if len(values) == 1 and values != {None}}


def _facts_of(analysis: Analysis, system: str) -> dict[str, Any]:
    facts = analysis.facts(system)
    seconds_per_second, rates = analysis.real_time_factor(system), set(analysis.scores["sample_rate"].dropna())
    if np.isfinite(seconds_per_second):
        facts["real_time_factor"] = seconds_per_second
    if "cpu_real_time_factor" in facts and facts.get("device") == "cpu":
        facts.pop("real_time_factor", None)  # the same figure again
    if "look_ahead_samples" in facts and len(rates) == 1:
        samples = facts["look_ahead_samples"]
        facts["look_ahead_seconds"] = None if samples is None else samples / rates.pop()
    return facts


def _fact(name: str, facts: Mapping[str, Any]) -> str:
    value = facts.get(name)
    if value is None and name in facts and name in _OF_THE_FUTURE:
        return "whole signal"
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return NOTHING
    return _FACTS[name][1](value) if name in _FACTS else str(value)


# -------------------------------------------------------------------------------------------------------------- test set
def one_speaker_grid(analysis: Analysis) -> Grid:
    """What the systems make of mixtures in which one speaker is alone."""
    rows = [
        (str(row["system"]), f"{row['n']:,}", f"{row['num_failed']:,}", *(level(row[name]) for name in ONE_SPEAKER_LEVELS))
        for row in analysis.one_speaker.to_dict("records")
    ]
    return Grid(("system", "mixtures", "failed", *ONE_SPEAKER_LEVELS.values()), tuple(rows))


def excluded_grid(analysis: Analysis) -> Grid:
    """Statuses other than ok, and whether their rows have a score."""
    rows = [
        (str(row["system"]), str(row["status"]), f"{row['rows']:,}", f"{row['mixtures']:,}", "yes" if row["counted"] else "no")
        for row in analysis.excluded.to_dict("records")
    ]
    return Grid(("system", "status", "sources", "mixtures", "scored"), tuple(rows))


def health_grid(health: pd.DataFrame) -> Grid:
    """What looks wrong with the test set; a long list is cut and says so."""
    rows = [tuple(str(cell) or NOTHING for cell in row) for row in health.to_numpy()]
    more = len(rows) - _MOST_FINDINGS
    rows = rows[:_MOST_FINDINGS] + ([("…", NOTHING, f"{more:,} more in summary.json")] if more > 0 else [])
    return Grid(("finding", "mixture", "detail"), tuple(rows))
