"""Scores by group: input level, length, overlap, sexes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from pipeline.reports.bootstrap import clusters_of, intervals, resampled_unit
from pipeline.reports.failures import outcomes
from pipeline.reports.means import WHOLE_MIXTURE, mixture_means, seconds_of

_FEWEST_SPEAKERS = 6
_MOST_OVERLAPS = 6
_COLUMNS = ["group", "system", "n", "mean", "low", "high", "num_failed"]


def breakdown(scores: pd.DataFrame, metric: str, groups: pd.Series, *, seed: int = 0) -> pd.DataFrame:
    """Means by group, for example by sex pair, over the mixtures that every system has a score for.

    Args:
        scores: one row per system, mixture and source.
        metric: column to average; the sources of a mixture that fall into the same group are averaged first.
        groups: the group of every row of ``scores``; rows without one are left out.
        seed: of the bootstrap.

    Returns:
        One row per group and system, in the order of the groups' categories: group, system, n (mixtures), mean, low, high,
        num_failed (mixtures of the group on which the system failed). A group of fewer than six speakers has no interval, as it
        would mean nothing.
    """
    found = outcomes(scores, metric)
    common = found.common.dropna(how="all").index
    rows: list[dict[str, Any]] = []
    for group in _in_order(groups[groups.notna()]):
        mine = scores[groups == group]
        means = mixture_means(mine[mine["mixture_id"].isin(common)], metric).reindex(columns=found.means.columns)
        failed = found.failed.reindex(mine["mixture_id"].unique()).sum()
        clusters = clusters_of(scores, means.index)
        low, high = _group_intervals(means, clusters, seed)
        rows += [
            {"group": str(group), "system": system, "n": int(means[system].count()), "mean": means[system].mean()}
            | {"low": low[k], "high": high[k], "num_failed": int(failed[system])}
            for k, system in enumerate(means.columns)
        ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _group_intervals(means: pd.DataFrame, clusters: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    too_few = resampled_unit(clusters) == "speakers" and clusters.max(initial=-1) + 1 < _FEWEST_SPEAKERS
    if too_few or means.empty:
        return np.full(means.shape[1], np.nan), np.full(means.shape[1], np.nan)
    return intervals(means.to_numpy(np.float64), clusters, seed=seed, num_resamples=2000)


def _in_order(groups: pd.Series) -> list[Any]:
    if isinstance(groups.dtype, pd.CategoricalDtype):
        return [category for category in groups.cat.categories if (groups == category).any()]
    return sorted(groups.unique())


def input_bins(scores: pd.DataFrame) -> pd.Series:
    """Input SI-SNR of every row in bins of about equal size."""
    return _binned(scores["input_si_snr_db"].where(scores["source"] != WHOLE_MIXTURE), "dB")


def length_bins(scores: pd.DataFrame) -> pd.Series:
    """Length of every row's mixture in bins of about equal size."""
    return _binned(_known_of_mixtures(seconds_of(scores), scores), "s")


def _known_of_mixtures(values: pd.Series, scores: pd.DataFrame) -> pd.Series:
    """Facts about mixtures, also in the rows of systems whose own table does not have them."""
    return values.fillna(scores["mixture_id"].map(values.groupby(scores["mixture_id"]).first()))


def overlap_bins(scores: pd.DataFrame) -> pd.Series:
    """How much the speakers of every row's mixture overlap, in percent: the planned ratios, or fifths if there are many."""
    if "overlap" not in scores.columns:
        return pd.Series(np.nan, index=scores.index, dtype=object)
    percent = (100 * _known_of_mixtures(scores["overlap"], scores)).round()
    if percent.nunique() > _MOST_OVERLAPS:
        percent = 20 * (percent // 20).clip(upper=4)
        labels = {value: f"{value:.0f} to {value + 20:.0f}%" for value in sorted(percent.dropna().unique())}
    else:
        labels = {value: f"{value:.0f}%" for value in sorted(percent.dropna().unique())}
    return percent.map(labels).astype(pd.CategoricalDtype(list(labels.values()), ordered=True))


def _binned(values: pd.Series, unit: str, num_bins: int = 5) -> pd.Series:
    """Values in about equally filled half-open bins [low, high) with edges on halves, labelled for the reader."""
    finite = values[np.isfinite(values)]
    if finite.empty:
        return pd.Series(np.nan, index=values.index, dtype=object)
    inner = np.unique(np.round(2 * np.quantile(finite, np.arange(1, num_bins) / num_bins)) / 2 + 0.0)  # no negative zero
    edges = [-np.inf, *inner[(inner > finite.min()) & (inner <= finite.max())], np.inf]
    labels = [_bin_label(low, high, unit) for low, high in pairwise(edges)]
    return pd.cut(values.where(np.isfinite(values)), edges, right=False, labels=labels)


def _bin_label(low: float, high: float, unit: str) -> str:
    if not np.isfinite(low):
        label = f"below {high:g} {unit}" if np.isfinite(high) else "all"
    else:
        label = f"{low:g} to {high:g} {unit}" if np.isfinite(high) else f"{low:g} {unit} or more"
    return label.replace("-", "\N{MINUS SIGN}")


def sex_pairs(scores: pd.DataFrame) -> pd.Series:
    """Sexes of every row's mixture, as ``F+M``; missing where any is unknown."""
    if "sex" not in scores.columns:
        return pd.Series(np.nan, index=scores.index, dtype=object)
    sources = scores.assign(sex=scores["sex"].where(scores["sex"] != ""))[scores["source"] != WHOLE_MIXTURE]
    sexes = sources.groupby(["mixture_id", "source"])["sex"].first()
    complete = sexes.notna().groupby("mixture_id").all()
    pairs = sexes.dropna().sort_values(kind="stable").groupby("mixture_id").agg("+".join).reindex(complete.index).where(complete)
    return scores["mixture_id"].map(pairs)
