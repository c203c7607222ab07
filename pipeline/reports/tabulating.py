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
    """Every system's improvement, then oracles and published figures beside them."""
    labels = [words.LABELS[metric] for metric in contents.metrics]
    headings = ("system", "mixtures", *(heading for label in labels for heading in (f"{label}, dB", "95 % interval")))
    headings += (f"median {labels[0]}", "below 0 dB", "below 5 dB")
    rows = [_result_row(contents, contents.summaries, system) for system in contents.systems]
    rows += [_result_row(contents, contents.oracle_summaries, name) for name in contents.oracle_names]
    rows += [_published_row(contents, system) for system in contents.published]
    named = [*contents.systems, *contents.oracle_names, *contents.published]
    series = tuple(contents.systems.index(name) + 1 if name in contents.systems else 0 for name in named)
    quiet = tuple(k >= len(contents.systems) for k in range(len(rows)))
    return Grid(headings, tuple(rows), series, quiet)


def _result_row(contents: Contents, summaries: pd.DataFrame, system: str) -> tuple[str, ...]:
    mine = of_system(summaries, system)
    shown = [mine[metric] for metric in contents.metrics]
    means = [(words.number(m["mean"]), words.interval(m["low"], m["high"]) or words.NOTHING) for m in shown]
    shares = (words.percent(shown[0]["share_below_0"]), words.percent(shown[0]["share_below_5"]))
    return (
        system,
        words.count_of(shown[0]),
        *(cell for pair in means for cell in pair),
        words.number(shown[0]["median"]),
        *shares,
    )


def _published_row(contents: Contents, system: str) -> tuple[str, ...]:
    found = [words.number(contents.published[system].get(metric)) for metric in contents.metrics]
    return (f"{system}, published", "not rerun", *(cell for number in found for cell in (number, "")), "", "", "")


def sources_of_published(contents: Contents) -> str:
    """Where the published numbers stand, in one sentence; empty where nothing is said."""
    sources: dict[str, list[str]] = {}
    for system, figures in contents.published.items():
        if figures.get("source"):
            sources.setdefault(str(figures["source"]), []).append(system)
    return "; ".join(f"{' and '.join(systems)}: {source}" for source, systems in sources.items())


def spread_grid(contents: Contents) -> Grid:
    """How each metric is spread over the mixtures, for every system."""
    headings = ("system", "metric", "mixtures", "mean", "std", "5 %", "25 %", "median", "75 %", "95 %", "below 0", "below 5")
    rows, series = [], []
    for place, system in enumerate(contents.systems, 1):
        for metric, row in of_system(contents.summaries, system).items():
            numbers = [words.number(row[name]) for name in ("mean", "std", "p5", "p25", "median", "p75", "p95")]
            shares = [words.percent(row[name]) for name in ("share_below_0", "share_below_5")]
            rows.append((system, words.LABELS[metric], words.count_of(row), *numbers, *shares))
            series.append(place)
    return Grid(headings, tuple(rows), tuple(series))


def pairs_grid(contents: Contents, *, of_baseline: bool) -> Grid:
    """Paired differences in the metrics of the foreground: from the baseline, or of all other pairs."""
    several = len(contents.systems) > 2
    named = several and of_baseline
    first = f"difference from {contents.baseline}" if named else "difference"
    headings: tuple[str, ...] = (first, "metric", "mixtures", "mean, dB", "95 % interval", "std", "wins", "ties", "losses")
    headings += ("Wilcoxon p", "Holm p") if several else ("Wilcoxon p",)
    headings += ("by run",) if contents.run_differences else ()
    wanted = contents.pairs["metric"].isin(contents.metrics) & ((contents.pairs["baseline"] == contents.baseline) == of_baseline)
    rows = []
    for row in contents.pairs[wanted].to_dict("records"):
        pair = row["system"] if named else f"{row['system']} − {row['baseline']}"
        cells: tuple[str, ...] = (pair, words.LABELS[row["metric"]], str(row["n"]))
        cells += (words.signed(row["difference"]), words.interval(row["low"], row["high"]) or words.NOTHING)
        cells += (words.number(row["std"]), *(words.percent(row[k]) for k in ("win", "tie", "loss")))
        cells += tuple(words.p_value(row[k]) for k in (("p", "p_holm") if several else ("p",)))
        rows.append(cells + ((_by_run(contents, row),) if contents.run_differences else ()))
    return Grid(headings, tuple(rows))


def _by_run(contents: Contents, row: Mapping[Any, Any]) -> str:
    values = contents.run_differences.get((row["metric"], row["system"], row["baseline"]), [])
    return ", ".join(map(words.signed, values)) or words.NOTHING


def effects_grid(contents: Contents) -> Grid:
    """What each change of one setting does: causality with the norm kept, the norm with causality kept."""
    by_run = ("by run",) if contents.run_differences else ()
    headings = ("change", f"{contents.label}, dB", "95 % interval", *by_run, "difference")
    rows = []
    for change, row in contents.effects:
        numbers = (words.signed(row["difference"]), words.interval(row["low"], row["high"]) or words.NOTHING)
        runs = (_by_run(contents, row),) if by_run else ()
        rows.append((change, *numbers, *runs, f"{row['system']} − {row['baseline']}"))
    return Grid(headings, tuple(rows))


def runs_grid(contents: Contents) -> Grid:
    """The spread over the runs of every repeated system, in the metrics of the foreground."""
    rows: list[tuple[str, ...]] = []
    for metric, table in contents.run_spread.items():
        for row in table.to_dict("records"):
            runs = zip(contents.runs[row["system"]], row["values"], strict=True)
            each = ", ".join(f"{name.rpartition('@')[2]}: {words.number(value)}" for name, value in runs)
            numbers = (str(row["n"]), words.number(row["mean"]), words.number(row["std"]), each)
            rows.append((row["system"], words.LABELS[metric], *numbers))
    series = tuple(contents.systems.index(row[0]) + 1 for row in rows)
    return Grid(("system", "metric", "runs", "mean, dB", "std over runs", "each run, dB"), tuple(rows), series)


def breakdown_grid(table: pd.DataFrame, heading: str, systems: list[str]) -> Grid:
    """One breakdown: a row per group, the mean of each system, and of a few systems the interval."""
    in_full = len(systems) <= MOST_SYSTEMS_IN_FULL
    headings: tuple[str, ...] = (heading, "mixtures")
    for system in systems:
        headings += (f"{system}, dB", "95 % interval") if in_full else (f"{system}, dB",)
    rows = []
    for group in dict.fromkeys(table["group"]):
        found = table[table["group"] == group].set_index("system")
        row: tuple[str, ...] = (str(group), f"{found['n'].max():.0f}")
        for system in systems:
            mean, low, high = found.loc[system, ["mean", "low", "high"]] if system in found.index else (np.nan,) * 3
            row += (words.number(mean), words.interval(low, high) or words.NOTHING) if in_full else (words.number(mean),)
        rows.append(row)
    return Grid(headings, tuple(rows))


MOST_SYSTEMS_IN_FULL = 3
"""Tables with columns for every system show less of each where there are more."""


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

_OF_THE_MACHINE = ("cpu", "device")


def costs_grid(contents: Contents) -> Grid:
    """What each system costs and needs to know of the future, a column per system."""
    facts = {system: _facts_of(contents, system) for system in contents.systems}
    names = dict.fromkeys(name for name in (*_FACTS, *(key for found in facts.values() for key in found)))
    common = _common_machine(contents)
    rows = tuple(
        (_FACTS.get(name, (name.replace("_", " "), str))[0], *(_fact(name, facts[s]) for s in contents.systems))
        for name in names
        if name not in common and any(_fact(name, facts[s]) != words.NOTHING for s in contents.systems)
    )
    return Grid(("", *contents.systems), rows)


def machine_sentence(contents: Contents) -> str:
    """What all systems were separated on and timed on, where it is the same; otherwise the table of costs says it."""
    common = _common_machine(contents)
    parts = [f"Separated on {common['device']}."] if "device" in common else []
    return " ".join([*parts, f"The CPU is {common['cpu']}."] if "cpu" in common else parts)


def _common_machine(contents: Contents) -> dict[str, str]:
    found = {name: {contents.facts(system).get(name) for system in contents.systems} for name in _OF_THE_MACHINE}
    return {name: str(*values) for name, values in found.items() if len(values) == 1 and values != {None}}


def _facts_of(contents: Contents, system: str) -> dict[str, Any]:
    facts = contents.facts(system)
    factor, rates = contents.real_time_factor(system), set(contents.scores["sample_rate"].dropna())
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


def health_grid(health: pd.DataFrame) -> Grid:
    """What looks wrong with the test set; a long list is cut and says so."""
    rows = [tuple(str(cell) or words.NOTHING for cell in row) for row in health.to_numpy()]
    more = len(rows) - _MOST_FINDINGS
    rows = rows[:_MOST_FINDINGS] + ([("…", words.NOTHING, f"{more:,} more in summary.json")] if more > 0 else [])
    return Grid(("finding", "mixture", "detail"), tuple(rows))
