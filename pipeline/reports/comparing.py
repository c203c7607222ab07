"""The comparison on the terminal, and the gate that fails a build."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.errors import ScoreError
from pipeline.reports import statistics, words
from pipeline.reports.contents import Contents, Facts, gather, of_system
from pipeline.reports.grids import Grid, as_text

_CONDITION = re.compile(r"\s*(\w+)\s*([<>])\s*([-+]?\d+(?:\.\d+)?)\s*(?:dB)?\s*")


def format_comparison(
    scores: pd.DataFrame, *, baseline: str | None = None, published: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """The systems' results and differences as plain text, at most 100 columns wide with names of usual length.

    Raises:
        ScoreError: there are no scores, a row is there twice, or the baseline has none.
    """
    facts: Facts = published or {}
    contents = gather(scores, title="", histories={}, models={}, published=facts, baseline=baseline, provenance={})
    rows = [_brief_row(contents, system) for system in contents.systems]
    rows += [
        (f"{name}, published", "", *(cell for m in contents.metrics for cell in (words.number(found.get(m)), "not rerun")), "")
        for name, found in facts.items()
    ]
    columns = (heading for metric in contents.metrics for heading in (words.LABELS[metric], "95 % interval"))
    headings = ("system", "mixtures", *columns, "below 0 dB")
    parts = [as_text(Grid(headings, tuple(rows)))]
    if contents.conclusions:
        parts.append("\n".join(_wrapped(sentence) for sentence in contents.conclusions))
    return "\n".join(parts).rstrip()


def _brief_row(contents: Contents, system: str) -> tuple[str, ...]:
    mine = of_system(contents.summaries, system)
    means = [mine[name] for name in contents.metrics]
    cells = [cell for m in means for cell in (words.number(m["mean"]), words.interval(m["low"], m["high"]))]
    return (system, words.count_of(means[0]), *cells, words.percent(means[0]["share_below_0"]))


def _wrapped(sentence: str, width: int = 100) -> str:
    lines = [""]
    for word in sentence.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("  ")
        lines[-1] += word if not lines[-1].strip() else f" {word}"
    return "\n".join(lines)


@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Attributes:
        tripped: the condition holds for the whole interval of at least one system.
        text: one line per system compared.
        differences: as ``statistics.paired_differences`` gives them, second minus first scores.
    """

    tripped: bool
    text: str
    differences: pd.DataFrame


def gate(scores_a: pd.DataFrame, scores_b: pd.DataFrame, condition: str) -> Verdict:
    """Whether the second scores differ from the first as the condition says, beyond chance.

    ``"si_snri_db < -0.1"`` trips when the paired mean difference B - A lies below -0.1 dB with its whole 95 % interval, so a
    difference that chance explains never fails a build. Systems are compared by name, or as they are when each table has one.

    Args:
        scores_a: the scores to hold on to.
        scores_b: the scores to be judged.
        condition: a metric's column, ``<`` or ``>``, a number in dB.

    Raises:
        ScoreError: the condition is not of that form, or the tables have no system or mixture in common.
    """
    metric, sign, limit = _parse_condition(condition, [m for m in statistics.metrics_in(scores_a) if m in scores_b.columns])
    tables = []
    for name, one, other in _matched(scores_a, scores_b):
        both = pd.concat([one.assign(system=f"{name}, A"), other.assign(system=f"{name}, B")], ignore_index=True)
        tables.append(statistics.paired_differences(both, metric, baseline=f"{name}, A").assign(system=name, baseline=name))
    table = pd.concat(tables, ignore_index=True)
    if not table["n"].all():
        raise ScoreError("the two score tables have no valid mixture in common for every system; score the same test set")
    holds = table["high"] < limit if sign == "<" else table["low"] > limit
    lines = [_gate_line(row, condition, bool(held)) for row, held in zip(table.to_dict("records"), holds, strict=True)]
    return Verdict(bool(holds.any()), "\n".join(lines), table)


def compare(scores_a: pd.DataFrame, scores_b: pd.DataFrame, *, fail_if: str | None = None) -> tuple[str, bool]:
    """Two score tables side by side as text, and whether the gate trips.

    Raises:
        ScoreError: see ``gate``.
    """
    parts, tripped = [], False
    for name, one, other in _matched(scores_a, scores_b):
        first, second = (f"{name} (A)", f"{name} (B)") if " against " not in name else name.split(" against ")[::-1]
        both = pd.concat([one.assign(system=first), other.assign(system=second)], ignore_index=True)
        parts.append(format_comparison(both, baseline=first))
    if fail_if is not None:
        verdict = gate(scores_a, scores_b, fail_if)
        parts.append(verdict.text + "\n")
        tripped = verdict.tripped
    return "\n".join(parts), tripped


def _parse_condition(condition: str, metrics: list[str]) -> tuple[str, str, float]:
    found = _CONDITION.fullmatch(condition)
    if not found or found[1] not in metrics:
        raise ScoreError(
            f'--fail-if {condition!r}: write a metric, < or >, and a number of dB, as in "si_snri_db < -0.1"; '
            f"the metrics are {', '.join(metrics)}"
        )
    return found[1], found[2], float(found[3])


def _matched(scores_a: pd.DataFrame, scores_b: pd.DataFrame) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    name = next((mixture_id for _, mixture_id, _ in statistics.strangers(pd.concat([scores_a, scores_b]))), None)
    if name is not None:
        raise ScoreError(f"mixture {name} is different audio in the two tables (length or input SI-SNR); score the same test set")
    names_a, names_b = list(dict.fromkeys(scores_a["system"])), list(dict.fromkeys(scores_b["system"]))
    if len(names_a) == len(names_b) == 1:
        name = names_a[0] if names_a == names_b else f"{names_b[0]} against {names_a[0]}"
        return [(name, scores_a, scores_b)]
    common = [name for name in names_a if name in names_b]
    if not common:
        raise ScoreError(f"no system is in both tables: {', '.join(names_a)} there, {', '.join(names_b)} here")
    return [(name, scores_a[scores_a["system"] == name], scores_b[scores_b["system"] == name]) for name in common]


def _gate_line(row: Mapping[Any, Any], condition: str, held: bool) -> str:
    found = f"{words.signed(row['difference'])} dB, 95 % interval {words.interval(row['low'], row['high']) or 'unknown'}"
    return (
        f"{row['system']}: {row['metric']} B − A {found}, {row['n']} mixtures: {condition} {'holds' if held else 'is not shown'}"
    )
