"""The tables of a report: the contents' numbers as grids of words, ready to be laid out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.reports import words
from pipeline.reports.contents import Contents, of_system
from pipeline.reports.grids import Grid


def results_grid(contents: Contents) -> Grid:
    """Every system's improvement, then published ones beside them."""
    first, second = (words.LABELS[metric] for metric in contents.metrics)
    headings = ("system", "mixtures", f"{first}, dB", "95 % interval", f"{second}, dB", "95 % interval")
    headings_of_spread = (f"median {first}", "below 0 dB", "below 5 dB")
    rows = [_result_row(contents, contents.summaries, system) for system in contents.systems]
    rows += [_result_row(contents, contents.oracle_summaries, name) for name in contents.oracle_names]
    rows += [_published_row(contents, system) for system in contents.published]
    named = [*contents.systems, *contents.oracle_names, *contents.published]
    series = tuple(contents.systems.index(name) + 1 if name in contents.systems else 0 for name in named)
    quiet = tuple(k >= len(contents.systems) for k in range(len(rows)))
    return Grid(headings + headings_of_spread, tuple(rows), series, quiet)


def _result_row(contents: Contents, summaries: pd.DataFrame, system: str) -> tuple[str, ...]:
    mine = of_system(summaries, system)
    first, second = (mine[metric] for metric in contents.metrics)
    means = [(words.number(m["mean"]), words.interval(m["low"], m["high"]) or words.NOTHING) for m in (first, second)]
    shares = (words.percent(first["share_below_0"]), words.percent(first["share_below_5"]))
    return (system, words.count_of(first), *means[0], *means[1], words.number(first["median"]), *shares)


def _published_row(contents: Contents, system: str) -> tuple[str, ...]:
    first, second = (words.number(contents.published[system].get(metric)) for metric in contents.metrics)
    return (f"{system}, published", "not rerun", first, "", second, "", "", "", "")


def sources_of_published(contents: Contents) -> str:
    """Where the published numbers stand, in one sentence; empty where nothing is said."""
    sources: dict[str, list[str]] = {}
    for system, figures in contents.published.items():
        if figures.get("source"):
            sources.setdefault(str(figures["source"]), []).append(system)
    return "; ".join(f"{' and '.join(systems)}: {source}" for source, systems in sources.items())


def spread_grid(contents: Contents) -> Grid:
    """How each metric is spread over the mixtures, for every system."""
    headings = ("system", "metric", "mixtures", "mean", "std", "5 %", "25 %", "median", "75 %", "95 %", "below 0")
    rows, series = [], []
    for place, system in enumerate(contents.systems, 1):
        for metric, row in of_system(contents.summaries, system).items():
            numbers = [words.number(row[name]) for name in ("mean", "std", "p5", "p25", "median", "p75", "p95")]
            rows.append((system, words.LABELS[metric], words.count_of(row), *numbers, words.percent(row["share_below_0"])))
            series.append(place)
    return Grid(headings, tuple(rows), tuple(series))


def pairs_grid(contents: Contents) -> Grid:
    """Paired differences of every two systems in the two metrics of the foreground."""
    several = len(contents.systems) > 2
    headings: tuple[str, ...] = ("difference", "metric", "mixtures", "mean, dB", "95 % interval", "std", "wins", "ties", "losses")
    headings += ("Wilcoxon p", "Holm p") if several else ("Wilcoxon p",)
    rows = []
    for row in contents.pairs[contents.pairs["metric"].isin(contents.metrics)].to_dict("records"):
        cells: tuple[str, ...] = (f"{row['system']} − {row['baseline']}", words.LABELS[row["metric"]], str(row["n"]))
        cells += (words.signed(row["difference"]), words.interval(row["low"], row["high"]) or words.NOTHING)
        cells += (words.number(row["std"]), *(words.percent(row[k]) for k in ("win", "tie", "loss")))
        rows.append(cells + tuple(words.p_value(row[k]) for k in (("p", "p_holm") if several else ("p",))))
    return Grid(headings, tuple(rows))


def breakdown_grid(table: pd.DataFrame, heading: str, systems: list[str]) -> Grid:
    """One breakdown: a row per group, mean and interval of each system; with two systems their difference."""
    headings: tuple[str, ...] = (heading, "mixtures")
    for system in systems:
        headings += (f"{system}, dB", "95 % interval")
    rows = []
    for group in dict.fromkeys(table["group"]):
        found = table[table["group"] == group].set_index("system")
        row: tuple[str, ...] = (str(group), f"{found['n'].max():.0f}")
        for system in systems:
            mean, low, high = found.loc[system, ["mean", "low", "high"]] if system in found.index else (np.nan,) * 3
            row += (words.number(mean), words.interval(low, high) or words.NOTHING)
        rows.append(row)
    return Grid(headings, tuple(rows))


# What a model costs: its name in the facts, in words, and how it is printed.
_FACTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "causal": ("causal", lambda value: "yes" if value else "no"),
    "norm": ("normalisation", str),
    "num_parameters": ("parameters", words.large),
    "macs_per_second": ("MACs per second", words.large),
    "receptive_field_seconds": ("receptive field", lambda value: f"{words.number(value)} s"),
    "look_ahead_samples": ("look-ahead, samples", lambda value: f"{value:,}"),
    "look_ahead_seconds": ("look-ahead", lambda value: f"{words.number(1000 * value, 1)} ms"),
    "latency_seconds": ("algorithmic delay", lambda value: f"{words.number(1000 * value, 1)} ms"),
    "causality_deviation": ("deviation before the look-ahead", words.tiny),
    "cpu_real_time_factor": ("real-time factor, CPU", words.factor),
    "cpu": ("the CPU", str),
    "real_time_factor": ("real-time factor", words.factor),
    "device": ("separated on", str),
}


_OF_THE_FUTURE = ("look_ahead_samples", "look_ahead_seconds", "latency_seconds")
"""Facts that are None where a system hears the whole signal before it answers."""


def costs_grid(contents: Contents) -> Grid:
    """What each system costs and needs to know of the future, a column per system."""
    facts = {system: _facts_of(contents, system) for system in contents.systems}
    names = dict.fromkeys(name for name in (*_FACTS, *(key for found in facts.values() for key in found)))
    rows = tuple(
        (_FACTS.get(name, (name.replace("_", " "), str))[0], *(_fact(name, facts[s]) for s in contents.systems))
        for name in names
        if any(_fact(name, facts[s]) != words.NOTHING for s in contents.systems)
    )
    return Grid(("", *contents.systems), rows)


def _facts_of(contents: Contents, system: str) -> dict[str, Any]:
    facts = dict(contents.models.get(system, {}))
    factor, rates = contents.real_time_factor(system), set(contents.scores["sample_rate"])
    if np.isfinite(factor):
        facts["real_time_factor"] = factor
    if "cpu_real_time_factor" in facts and facts.get("device") == "cpu":
        del facts["real_time_factor"]  # the same figure once more
    if "look_ahead_samples" in facts and len(rates) == 1:
        samples = facts["look_ahead_samples"]
        facts["look_ahead_seconds"] = None if samples is None else samples / rates.pop()
    return facts


def _fact(name: str, facts: Mapping[str, Any]) -> str:
    value = facts.get(name)
    if value is None and name in facts and name in _OF_THE_FUTURE:
        return "whole signal"
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return words.NOTHING
    return _FACTS[name][1](value) if name in _FACTS else str(value)


def excluded_grid(contents: Contents) -> Grid:
    """Statuses other than ok, and whether their rows count."""
    rows = [
        (str(row["system"]), str(row["status"]), str(row["rows"]), str(row["mixtures"]), "yes" if row["counted"] else "no")
        for row in contents.excluded.to_dict("records")
    ]
    return Grid(("system", "status", "sources", "mixtures", "in the means"), tuple(rows))


_MOST_FINDINGS = 30


def health_grid(contents: Contents) -> Grid:
    """What looks wrong with the test set; a long list is cut and says so."""
    rows = [tuple(str(cell) or words.NOTHING for cell in row) for row in contents.health.to_numpy()]
    more = len(rows) - _MOST_FINDINGS
    rows = rows[:_MOST_FINDINGS] + ([("…", words.NOTHING, f"{more:,} more in summary.json")] if more > 0 else [])
    return Grid(("finding", "mixture", "detail"), tuple(rows))
