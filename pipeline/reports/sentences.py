"""Findings in sentences: the headline, and what each comparison allows to conclude.

Every sentence that compares systems is built from a row of ``statistics.paired_differences``, with failures counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pipeline.reports.failures import IMPROVEMENTS
from pipeline.reports.formatting import LABELS, MARGINS, digits_of, listed, number, plural, signed, tiny, with_unit

RunDifferences = Mapping[tuple[str, str, str], Sequence[float]]
"""Differences run by run, by metric, system and baseline."""


# --------------------------------------------------------------------------------------------------------------- one pair
def verdict(row: Mapping[Any, Any]) -> str:
    """What a paired difference with its interval shows: better, worse, equal (within the metric's margin) or open."""
    margin = MARGINS[row["metric"]]
    low, high = row["floored_low"], row["floored_high"]
    if not np.isfinite([low, high]).all():
        return "open"
    if low >= -margin and high <= margin:
        return "equal"
    if low > 0:
        return "better"
    return "worse" if high < 0 else "open"


def conclusion(row: Mapping[Any, Any]) -> str:
    """A few sentences on a pair, as far as its interval goes."""
    system, baseline, label = row["system"], row["baseline"], LABELS[row["metric"]]
    if not row["floored_n"]:
        return f"No mixture has {label} scores from both {system} and {baseline}, so they cannot be compared in {label}."
    difference = f"{_shown(row, 'floored_difference')} {label}"
    if row["num_failed"] or row["num_failed_baseline"]:
        difference += f" {_counting(row['metric'])}"
    if not np.isfinite(row["floored_low"]):
        return f"{system} differs from {baseline} by {difference}; too few mixtures for an interval.{_failures_of(row)}"
    low, high = (number(row[end], digits_of(row["metric"])) for end in ("floored_low", "floored_high"))
    margin = with_unit(row["metric"], f"{MARGINS[row['metric']]:g}")
    found = f"{difference}, 95% interval {low} to {high}"
    texts = {
        "better": f"{system} is better than {baseline}: {found}, which excludes zero.",
        "worse": f"{system} is worse than {baseline}: {found}, which excludes zero.",
        "equal": f"{system} and {baseline} are practically equal: {found}, all within ±{margin}.",
        "open": f"{system} and {baseline} cannot be told apart: {found}, which includes zero.",
    }
    return texts[verdict(row)] + _failures_of(row) + _reach(row)


def _shown(row: Mapping[Any, Any], name: str) -> str:
    """A difference with its sign and its metric's unit."""
    return with_unit(row["metric"], signed(row[name], digits_of(row["metric"])))


def _counting(metric: str) -> str:
    """How failures are counted, for the middle of a sentence."""
    return "with failures counted as 0 dB" if metric in IMPROVEMENTS else "with failures counted as the unprocessed mixture"


def _failures_of(row: Mapping[Any, Any]) -> str:
    """Who failed how often, and the difference without the failures; empty if nobody failed."""
    if not (row["num_failed"] or row["num_failed_baseline"]):
        return ""
    counts = (
        f" {row['system']} failed on {plural(row['num_failed'], 'mixture')}, {row['baseline']} on {row['num_failed_baseline']:,}"
    )
    if not row["n"]:
        return f"{counts}; no mixture has a score from both."
    return f"{counts}; on the {plural(row['n'], 'mixture')} without failures the difference is {_shown(row, 'difference')}."


def _reach(row: Mapping[Any, Any]) -> str:
    if row["resampled"] == "speakers":
        return ""
    return " Speakers are unknown or too few to resample, so this holds for other mixtures of the same speakers only."


def by_run(values: Sequence[float]) -> str:
    """The difference run by run, and a warning if the runs do not agree on its sign; empty without runs."""
    if not values:
        return ""
    each = ", ".join(map(signed, values))
    if disagree(values):
        return f" But the runs disagree ({each}): another training run may reverse the result."
    return f" Run by run: {each}."


def disagree(values: Sequence[float]) -> bool:
    """Whether some of the differences are above zero and some below."""
    return bool(values) and min(values) < 0 < max(values)


# --------------------------------------------------------------------------------------------------------------- headline
@dataclass(frozen=True)
class Coverage:
    """Which mixtures the systems are compared on.

    Attributes:
        num_given: mixtures in the score tables.
        num_shared: mixtures that every system has scores for, of the same audio.
        missing: by system, mixtures without scores; only of systems that lack any.
        num_mismatched: mixtures left out because their audio differs between systems.
    """

    num_given: int
    num_shared: int
    missing: Mapping[str, int] = field(default_factory=dict)
    num_mismatched: int = 0


def headline(summaries: pd.DataFrame, pairs: pd.DataFrame, metric: str, coverage: Coverage, runs: RunDifferences) -> str:
    """The sentences a reader should take away: missing scores and failures first, then who is better.

    Means and difference are those of ``summaries`` and ``pairs`` with failures counted, all over the same mixtures.
    """
    mine = summaries[summaries["metric"] == metric]
    if not coverage.num_shared:
        return "No mixture has scores from every system, so the systems cannot be ranked."
    caveats = _missing(coverage) + _failed(mine)
    ranked = mine.dropna(subset="floored_mean").sort_values("floored_mean", ascending=False, kind="stable")
    if not mine["n_valid"].any():
        return " ".join([*caveats, "No mixture could be scored."])
    result = _result(ranked, pairs[pairs["metric"] == metric], metric, runs)
    if mine["num_failed"].any():
        counting = _counting(metric)
        result = f"{counting[0].upper()}{counting[1:]}, {result}"
    return " ".join([*caveats, result])


def _missing(coverage: Coverage) -> list[str]:
    found = [
        f"{system} {'none' if k else 'has no scores'} for {count:,}" for k, (system, count) in enumerate(coverage.missing.items())
    ]
    parts = [f"Of {plural(coverage.num_given, 'mixture')}, {listed(found)}; these are left out."] if found else []
    if coverage.num_mismatched:
        left_out = plural(coverage.num_mismatched, "mixture")
        parts.append(f"{left_out} left out: not the same audio for every system.")
    return parts


def _failed(mine: pd.DataFrame) -> list[str]:
    failing = mine[mine["num_failed"] > 0].sort_values("num_failed", ascending=False, kind="stable")
    rows = enumerate(failing.to_dict("records"))
    found = [f"{row['system']} {'on' if k else 'failed on'} {row['num_failed']:,}" for k, row in rows]
    return [f"Of {plural(int(mine['n'].iloc[0]), 'mixture')}, {listed(found)}."] if found else []


def _result(ranked: pd.DataFrame, pairs: pd.DataFrame, metric: str, runs: RunDifferences) -> str:
    best = ranked.iloc[0]
    first = f"{best['system']} {_achieves(metric, best['floored_mean'])}"
    if len(ranked) == 1:
        low, high = best["floored_low"], best["floored_high"]
        return (
            f"{first} on average (95% interval {number(low)} to {number(high)})." if np.isfinite(low) else f"{first} on average."
        )
    second = str(ranked.iloc[1]["system"])
    pair = _pair_of(pairs, best["system"], second)
    difference = number(abs(pair["floored_difference"]))
    if disagree(runs.get((metric, pair["system"], pair["baseline"]), ())):
        return f"{first}; its runs and those of {second} disagree on which is better (difference {difference} dB)."
    if verdict(pair) in ("better", "worse"):
        degraded = metric in IMPROVEMENTS and best["floored_mean"] < 0
        return f"{first}, {difference} dB {'less' if degraded else 'more'} than {second}."
    return f"{first}; {second} cannot be told apart from it (difference {difference} dB)."


def _achieves(metric: str, mean: float) -> str:
    label = LABELS[metric]
    if metric not in IMPROVEMENTS:
        return f"reaches an {label} of {number(mean)} dB"
    return f"{'improves' if mean >= 0 else 'degrades'} {label.removesuffix('i')} by {number(abs(mean))} dB"


def _pair_of(pairs: pd.DataFrame, one: str, other: str) -> Mapping[Any, Any]:
    found = pairs[pairs["system"].isin([one, other]) & pairs["baseline"].isin([one, other])]
    return dict(found.iloc[0])


# --------------------------------------------------------------------------------------------------------------- test set
def same_mixtures(coverage: Coverage) -> str:
    """On which mixtures the systems are compared; empty if on all."""
    if not coverage.num_shared:
        return "No mixture has scores from every system: each mean is over that system's own mixtures."
    if coverage.num_shared == coverage.num_given:
        return ""
    shared = f"{coverage.num_shared:,} of {coverage.num_given:,}"
    return f"Systems are compared on the {shared} mixtures that all of them have scores for."


def excluded(num_excluded: int, num_given: int) -> str:
    """What happens to mixtures without a score."""
    verb = "has" if num_excluded == 1 else "have"
    return (
        f"{plural(num_excluded, 'mixture')} of {num_given:,} {verb} no score from at least one system. The means of all systems "
        "leave them out; if a system failed on them, they count in its mean with failures. Status by system:"
    )


def permutations(criteria: pd.Series, num_disagreements: int) -> str:
    """How estimates were assigned to references, and how often the other criterion would differ."""
    if "" in set(criteria):
        return "The scores do not say how estimates were assigned to references."
    named = " and ".join(sorted(set(criteria))).replace("si_snr", "SI-SNR").replace("sir", "SIR")
    found = f"for {plural(num_disagreements, 'separated mixture')}" if num_disagreements else "nowhere"
    return f"Estimates are assigned to references by {named}; the other criterion would assign them differently {found}."


def verification(found: Mapping[str, Any]) -> str:
    """The result of recomputing rows with mir_eval; empty if that was not done.

    Args:
        found: ``num_rows``, ``largest_difference_db``, ``permutations_equal`` and ``mir_eval`` (its version), or nothing.
    """
    if not found:
        return ""
    rows = "1 random row" if found["num_rows"] == 1 else f"{found['num_rows']:,} random rows"
    largest = found["largest_difference_db"]
    difference = "unknown" if largest is None or not np.isfinite(largest) else f"{tiny(largest)} dB"
    same = "all permutations agree" if found["permutations_equal"] else "some permutations differ"
    return f"{rows} recomputed with mir_eval {found['mir_eval']}: largest difference {difference}; {same}."
