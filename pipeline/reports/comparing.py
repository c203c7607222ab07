"""The comparison on the terminal, and the gate that fails a build."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import ScoreError
from pipeline.reports import health, matching, means, sentences, statistics
from pipeline.reports.analysis import Analysis, Context, Facts, analyse, check_sources, of_system
from pipeline.reports.failures import outcomes
from pipeline.reports.formatting import LABELS, count_of, digits_of, interval, number, percent, plural, signed, with_unit
from pipeline.reports.grids import Grid, as_text
from pipeline.reports.report_tables import floored_heading

ALLOWANCES = ("failures", "missing")
"""What may be worse without tripping the gate."""

_CONDITION = re.compile(r"\s*(\w+)\s*([<>])\s*([-+]?\d+(?:\.\d+)?)\s*(?:dB)?\s*")


# ------------------------------------------------------------------------------------------------------------- comparison
def format_comparison(
    scores: pd.DataFrame, *, baseline: str | None = None, published: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """The systems' results and differences as plain text; at most 100 columns wide if names are short and nothing failed.

    Raises:
        ScoreError: there are no scores, a row appears twice, or the baseline has no scores.
    """
    facts: Facts = published or {}
    analysis = analyse(scores, Context(published=facts), baseline=baseline)
    rows = [_brief_row(analysis, system) for system in analysis.systems]
    rows += [_published_row(analysis, name, found) for name, found in facts.items()]
    columns = [heading for metric in analysis.metrics for heading in (LABELS[metric], "95% interval")]
    if analysis.any_failed:
        columns = ["failed", *columns, floored_heading(analysis.metric)]
    parts = [as_text(Grid(("system", "mixtures", *columns, "below 0 dB"), tuple(rows))), *_other_metrics(analysis)]
    notes = [note for note in (sentences.same_mixtures(analysis.coverage), *analysis.conclusions) if note]
    return "\n".join([*parts, *map(_wrapped, notes)]).rstrip()


def _other_metrics(analysis: Analysis) -> list[str]:
    """The means of metrics that were computed on request, as a table of their own; none, no table."""
    others = [metric for metric in means.EXTRA_METRICS if metric in set(analysis.summaries["metric"])]
    headings = tuple(LABELS[metric] for metric in others)
    rows = []
    for system in analysis.systems:
        mine = of_system(analysis.summaries, system)
        rows.append((system, *(number(mine[metric]["mean"], digits_of(metric)) for metric in others)))
    return [as_text(Grid(("system", *headings), tuple(rows)))] if others else []


def _brief_row(analysis: Analysis, system: str) -> tuple[str, ...]:
    mine = of_system(analysis.summaries, system)
    shown = [mine[name] for name in analysis.metrics]
    first = shown[0]
    cells = [cell for m in shown for cell in (number(m["mean"]), interval(m["low"], m["high"]))]
    if analysis.any_failed:
        cells = [f"{first['num_failed']:,}", *cells, number(first["floored_mean"])]
    return (system, count_of(first), *cells, percent(first["share_below_0"]))


def _published_row(analysis: Analysis, name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    cells = [cell for metric in analysis.metrics for cell in (number(found.get(metric)), "not rerun")]
    return (f"{name}, published", "", *(["", *cells, ""] if analysis.any_failed else cells), "")


def _wrapped(sentence: str, width: int = 100) -> str:
    lines = [""]
    for word in sentence.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("  ")
        lines[-1] += word if not lines[-1].strip() else f" {word}"
    return "\n".join(lines)


def compare(
    scores_a: pd.DataFrame, scores_b: pd.DataFrame, *, fail_if: str | None = None, allow: Collection[str] = ()
) -> tuple[str, bool]:
    """Two score tables side by side as text, and whether the gate trips.

    Raises:
        ScoreError: see ``gate``.
        TableError: the tables have no mixture or no metric in common.
    """
    matching.check_mixtures({"A": scores_a, "B": scores_b})
    matching.check_metrics({"A": scores_a, "B": scores_b})
    parts, tripped = [], False
    for name, one, other in _matched(scores_a, scores_b):
        first, second = (f"{name} (A)", f"{name} (B)") if " against " not in name else name.split(" against ")[::-1]
        both = pd.concat([one.assign(system=first), other.assign(system=second)], ignore_index=True)
        parts.append(format_comparison(both, baseline=first) + "\n")
    if fail_if is not None:
        verdict = gate(scores_a, scores_b, fail_if, allow=allow)
        parts.append(verdict.text + "\n")
        tripped = verdict.tripped
    return "\n".join(parts).rstrip("\n"), tripped


# ------------------------------------------------------------------------------------------------------------------- gate
@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Attributes:
        tripped: for at least one system the condition holds for the whole interval, or B failed more often or lost mixtures.
        text: the findings, a line each.
        differences: as ``statistics.paired_differences`` returns them, second minus first scores, one row per system.
    """

    tripped: bool
    text: str
    differences: pd.DataFrame


def gate(scores_a: pd.DataFrame, scores_b: pd.DataFrame, condition: str, *, allow: Collection[str] = ()) -> Verdict:
    """Whether the second scores differ from the first as the condition says, beyond chance, or are incomplete.

    ``"si_snri_db < -0.1"`` trips when the paired mean difference B - A lies below -0.1 dB with its whole 95% interval, so a
    difference that chance explains never fails a build. A failed mixture counts as the unprocessed mixture. The gate also trips
    if B fails on a larger share of the mixtures than A, and if mixtures or systems of A have no scores in B. Systems are
    compared by name, or as they are if each table has one.

    Args:
        scores_a: the reference.
        scores_b: the scores that may be worse.
        condition: a metric's column, ``<`` or ``>``, a number in dB.
        allow: ``failures`` compares only the mixtures without failures and does not count these; ``missing`` accepts mixtures
            and systems without scores in B.

    Raises:
        ScoreError: the condition or an allowance is not of that form, or the tables have no system or mixture in common.
    """
    unknown = set(allow) - set(ALLOWANCES)
    if unknown:
        raise ScoreError(f"--allow {', '.join(sorted(unknown))}: choose {' or '.join(ALLOWANCES)}")
    metric, sign, limit = _parse_condition(condition, [m for m in means.metrics_in(scores_a) if m in scores_b.columns])
    checks = [_Check.of(name, one, other, metric) for name, one, other in _matched(scores_a, scores_b)]
    tripped, lines = False, []
    for check in checks:
        low, high = check.interval(allow)
        holds = bool(high < limit if sign == "<" else low > limit)
        complaints = list(check.complaints(allow))
        lines += [f"{check.described(allow)}: {condition} {'holds' if holds else 'is not shown'}", *complaints]
        tripped |= holds or bool(complaints)
    if "missing" not in allow:
        lost = list(_lost_systems(scores_a, scores_b))
        lines, tripped = lines + lost, tripped or bool(lost)
    return Verdict(tripped, "\n".join(lines), pd.DataFrame([check.row for check in checks]))


def _metrics_with_values(table: pd.DataFrame) -> list[str]:
    return [metric for metric in means.METRICS if metric in table and np.isfinite(table[metric]).any()]


@dataclass(frozen=True)
class _Check:
    """One system in both tables: the paired difference, failures on the mixtures of both, and mixtures that B lacks."""

    name: str
    row: Mapping[Any, Any]
    num_common: int
    num_missing: int
    num_mixtures_of_a: int

    @classmethod
    def of(cls, name: str, one: pd.DataFrame, other: pd.DataFrame, metric: str) -> _Check:
        both = pd.concat([one.assign(system="A"), other.assign(system="B")], ignore_index=True)
        found = outcomes(both, metric)
        scored = (found.means.notna() | found.failed).reindex(columns=["A", "B"], fill_value=False)
        common = scored.index[scored.all(axis=1)]
        if common.empty:
            for which, table in (("A", one), ("B", other)):
                if not np.isfinite(table[metric]).any() and len(has := _metrics_with_values(table)):
                    raise ScoreError(f"{name}: {which} has no {metric}, only {', '.join(has)}; name one of these in --fail-if")
            raise ScoreError(f"{name}: the two tables have no scored mixture in common; score the same test set")
        pairs = statistics.paired_differences(both[both["mixture_id"].isin(common)], metric, baseline="A")
        row = {**pairs.iloc[0].to_dict(), "system": name, "baseline": name}
        return cls(name, row, len(common), int((scored["A"] & ~scored["B"]).sum()), int(scored["A"].sum()))

    def _kind(self, allow: Collection[str]) -> str:
        return "" if "failures" in allow else "floored_"

    def interval(self, allow: Collection[str]) -> tuple[float, float]:
        """Of the difference, with failures counted unless they are allowed."""
        return self.row[f"{self._kind(allow)}low"], self.row[f"{self._kind(allow)}high"]

    def described(self, allow: Collection[str]) -> str:
        """The difference in words."""
        kind = self._kind(allow)
        count = self.row[f"{kind}n"]
        metric, digits = self.row["metric"], digits_of(self.row["metric"])
        difference = with_unit(metric, signed(self.row[f"{kind}difference"], digits))
        found = f"{difference}, 95% interval {interval(*self.interval(allow), digits)}"
        return f"{self.name}: {metric} B − A {found}, {plural(count, 'mixture')}"

    def complaints(self, allow: Collection[str]) -> Iterator[str]:
        """What is worse about B whatever its scores are."""
        failed, before = self.row["num_failed"], self.row["num_failed_baseline"]
        if failed > before and "failures" not in allow:
            mixtures = plural(self.num_common, "mixture")
            yield f"{self.name}: B failed on {failed:,} of {mixtures}, A on {before:,} (accept this with --allow failures)"
        if self.num_missing and "missing" not in allow:
            mixtures = plural(self.num_mixtures_of_a, "mixture")
            yield f"{self.name}: {self.num_missing:,} of {mixtures} of A have no scores in B (accept this with --allow missing)"


def _lost_systems(scores_a: pd.DataFrame, scores_b: pd.DataFrame) -> Iterator[str]:
    names_a, names_b = list(dict.fromkeys(scores_a["system"])), set(scores_b["system"])
    if len(names_a) == len(names_b) == 1:
        return
    for name in names_a:
        if name not in names_b:
            yield f"{name}: no scores in B (accept this with --allow missing)"


def _parse_condition(condition: str, metrics: list[str]) -> tuple[str, str, float]:
    found = _CONDITION.fullmatch(condition)
    if not found or found[1] not in metrics:
        raise ScoreError(
            f'--fail-if {condition!r}: write a metric, < or >, and a number, for example "si_snri_db < -0.1"; '
            f"the metrics are {', '.join(metrics)}"
        )
    return found[1], found[2], float(found[3])


def _matched(scores_a: pd.DataFrame, scores_b: pd.DataFrame) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """The two tables of every system that is in both, or of the only system of each."""
    check_sources(pd.concat([scores_a.assign(system="A"), scores_b.assign(system="B")]))
    name = next((mixture_id for _, mixture_id, _ in health.mismatched(pd.concat([scores_a, scores_b]))), None)
    if name is not None:
        raise ScoreError(f"mixture {name} is different audio in the two tables (length or input SI-SNR); score the same test set")
    names_a, names_b = list(dict.fromkeys(scores_a["system"])), list(dict.fromkeys(scores_b["system"]))
    if len(names_a) == len(names_b) == 1:
        name = names_a[0] if names_a == names_b else f"{names_b[0]} against {names_a[0]}"
        return [(name, scores_a, scores_b)]
    common = [name for name in names_a if name in names_b]
    if not common:
        raise ScoreError(f"no system is in both tables: A has {', '.join(names_a)}, B has {', '.join(names_b)}")
    return [(name, scores_a[scores_a["system"] == name], scores_b[scores_b["system"] == name]) for name in common]
