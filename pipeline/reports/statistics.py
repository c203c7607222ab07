"""What the scores say: summaries per system and paired differences, with intervals that respect the speakers.

Systems are only ever compared on the same mixtures. Means and differences exist twice: over the mixtures that every system has a
score for, and with failures counted (see ``failures``; names that begin with ``floored``). Without failures both are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.reports.bootstrap import Codes, Floats, clusters_of, intervals, resampled_unit
from pipeline.reports.failures import Outcomes, outcomes
from pipeline.reports.formatting import MARGINS, is_in_decibels
from pipeline.reports.means import metrics_in

_SUMMARY = ["system", "metric", "n", "n_valid", "num_failed", "mean", "low", "high"]
_SUMMARY += ["floored_mean", "floored_low", "floored_high", "median", "std", "p5", "p25", "p75", "p95"]
_SUMMARY += ["share_below_0", "share_below_5", "resampled"]

_PAIR = ["system", "baseline", "metric", "n", "difference", "low", "high", "std", "p", "p_holm", "win", "tie", "loss"]
_PAIR += ["num_failed", "num_failed_baseline", "floored_n", "floored_difference", "floored_low", "floored_high", "resampled"]


def summaries(scores: pd.DataFrame, metrics: Sequence[str] | None = None, *, seed: int = 0) -> pd.DataFrame:
    """One row per system and metric (by default all).

    Columns: system, metric, n (mixtures), n_valid (of these, with a score from every system), num_failed (on which this system
    failed), mean with its 95% interval (low, high) and spread (median, std, p5, …) over the n_valid; floored_mean, floored_low,
    floored_high: the mean with failures counted; share_below_0 and share_below_5 (dB, failures included; NaN for metrics in other
    units), resampled (speakers or mixtures).
    """
    chosen = metrics_in(scores) if metrics is None else metrics
    rows = [row for metric in chosen for row in _summary_rows(scores, metric, seed)]
    return pd.DataFrame(rows, columns=_SUMMARY)


def _summary_rows(scores: pd.DataFrame, metric: str, seed: int) -> list[dict[str, Any]]:
    found = outcomes(scores, metric)
    clusters = clusters_of(scores, found.means.index)
    plain, floored = _intervals_of(found.common, found.counted, clusters, seed)
    unit = resampled_unit(clusters)
    return [
        {"system": system, "metric": metric, **describe(found.common[system]), "resampled": unit}
        | {"low": plain[0][k], "high": plain[1][k], "num_failed": int(found.failed[system].sum())}
        | {"floored_mean": found.counted[system].mean(), "floored_low": floored[0][k], "floored_high": floored[1][k]}
        | _shares_below(found, str(system), metric)
        for k, system in enumerate(found.common.columns)
    ]


def _intervals_of(plain: pd.DataFrame, floored: pd.DataFrame, clusters: Codes, seed: int) -> list[tuple[Floats, Floats]]:
    """Intervals of both tables' columns; drawn once if the tables are the same."""
    found = intervals(plain.to_numpy(np.float64), clusters, seed=seed)
    return [found, found if plain.equals(floored) else intervals(floored.to_numpy(np.float64), clusters, seed=seed)]


def _shares_below(found: Outcomes, system: str, metric: str) -> dict[str, float]:
    """Shares of the mixtures below 0 and 5 dB, of those with a result from every system; a failure is below both."""
    if not is_in_decibels(metric):
        return dict.fromkeys(("share_below_0", "share_below_5"), np.nan)
    values = found.counted[system].dropna()
    failed = found.failed[system].reindex(values.index)
    limits = {"share_below_0": 0, "share_below_5": 5}
    return {name: float(((values < limit) | failed).mean()) if len(values) else np.nan for name, limit in limits.items()}


def describe(values: pd.Series) -> dict[str, float]:
    """Count, mean, median, standard deviation (n - 1) and percentiles of one system's mixtures, NaN left out."""
    valid = values.dropna().to_numpy(np.float64)
    found: dict[str, float] = {"n": len(values), "n_valid": len(valid)}
    if not len(valid):
        return found | dict.fromkeys(("mean", "median", "std", "p5", "p25", "p75", "p95"), np.nan)
    p5, p25, median, p75, p95 = np.percentile(valid, [5, 25, 50, 75, 95])
    found |= {"mean": valid.mean(), "median": median, "std": valid.std(ddof=1) if len(valid) > 1 else np.nan}
    return found | {"p5": p5, "p25": p25, "p75": p75, "p95": p95}


def paired_differences(
    scores: pd.DataFrame, metric: str, *, baseline: str | None = None, margin: float | None = None, seed: int = 0
) -> pd.DataFrame:
    """Every two systems compared, the baseline's pairs first, on mixtures that every system has a score for.

    Columns: system, baseline (what is subtracted), metric, n, difference (mean), low, high (95% interval), std, p (Wilcoxon
    signed-rank over mixtures, two-sided), p_holm (Holm over all pairs of this table), win, tie, loss (shares of mixtures above,
    within and below ``margin``, by default the metric's in ``tables.SCORE_METRICS``), num_failed, num_failed_baseline, floored_n,
    floored_difference, floored_low, floored_high (failures counted), resampled.
    """
    found = outcomes(scores, metric)
    pairs = _ordered_pairs([str(name) for name in found.means.columns], baseline)
    if not pairs:
        return pd.DataFrame(columns=_PAIR)
    clusters = clusters_of(scores, found.means.index)
    plain, floored = (
        pd.DataFrame({pair: means[pair[0]] - means[pair[1]] for pair in pairs}) for means in (found.common, found.counted)
    )
    ends = np.stack([end for both in _intervals_of(plain, floored, clusters, seed) for end in both], axis=1)
    rows = [
        {"system": pair[0], "baseline": pair[1], "metric": metric}
        | _compared(plain[pair].to_numpy(), MARGINS[metric] if margin is None else margin)
        | {"num_failed": int(found.failed[pair[0]].sum()), "num_failed_baseline": int(found.failed[pair[1]].sum())}
        | {"floored_n": int(floored[pair].count()), "floored_difference": floored[pair].mean()}
        | dict(zip(("low", "high", "floored_low", "floored_high"), ends[k], strict=True))
        for k, pair in enumerate(pairs)
    ]
    table = pd.DataFrame(rows).assign(resampled=resampled_unit(clusters))
    return table.assign(p_holm=holm(table["p"].to_numpy()))[_PAIR]


def _ordered_pairs(systems: list[str], baseline: str | None) -> list[tuple[str, str]]:
    """(system, what it is compared with) for every two systems; the baseline is always the second."""
    if baseline in systems:
        systems = [str(baseline), *(name for name in systems if name != baseline)]
    return [(second, first) for first, second in combinations(systems, 2)]


def _compared(differences: Floats, margin: float) -> dict[str, float]:
    """Mean, spread, test and win rate of one pair's differences, NaN left out."""
    valid = differences[np.isfinite(differences)]
    if not len(valid):
        return {"n": 0} | dict.fromkeys(("difference", "std", "p", "win", "tie", "loss"), np.nan)
    win, loss = float((valid > margin).mean()), float((valid < -margin).mean())
    spread = valid.std(ddof=1) if len(valid) > 1 else np.nan
    found = {"n": len(valid), "difference": valid.mean(), "std": spread, "p": wilcoxon(valid)}
    return found | {"win": win, "tie": float((np.abs(valid) <= margin).mean()), "loss": loss}


def wilcoxon(differences: Floats) -> float:
    """Two-sided p of the Wilcoxon signed-rank test, zeros dropped; 1 if nothing differs."""
    changed = differences[differences != 0]
    return float(stats.wilcoxon(changed).pvalue) if len(changed) else 1.0


def holm(p_values: Floats) -> Floats:
    """Holm's step-down adjustment (Scandinavian Journal of Statistics 6(2), 1979); NaN stays NaN and does not count."""
    adjusted = np.full(len(p_values), np.nan)
    order = [k for k in np.argsort(p_values) if np.isfinite(p_values[k])]
    largest = 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * float(p_values[k])))
        adjusted[k] = largest
    return adjusted
