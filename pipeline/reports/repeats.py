"""Several training runs of one system: runs called NAME@SEED are averaged, and how far they lie apart is reported.

Another random start of the training changes results by as much as many published gains, and no interval over speakers shows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from pipeline.errors import ScoreError
from pipeline.reports.failures import outcomes
from pipeline.reports.means import EXTRA_METRICS, METRICS

Runs = Mapping[str, Sequence[str]]
"""By system, the names of its runs; only of systems with two or more."""

_RUN = re.compile(r"(.+)@([^@]+)")


def runs_in(names: Iterable[str]) -> dict[str, list[str]]:
    """The runs among these names by system: ``causal@0`` and ``causal@1`` of ``causal``; a single run is a system of its own."""
    found: dict[str, list[str]] = {}
    for name in names:
        if parts := _RUN.fullmatch(name):
            found.setdefault(parts[1], []).append(name)
    return {system: runs for system, runs in found.items() if len(runs) > 1 and system not in set(names)}


def over_runs(scores: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    """The scores with the mean over its runs for every such system; without a value from one run, there is no mean.

    So a system fails on every mixture on which one of its runs fails.

    Raises:
        ScoreError: the runs of a system have no mixture in common.
    """
    if not runs:
        return scores
    system_of = {run: system for system, names in runs.items() for run in names}
    named = scores.assign(system=scores["system"].map(lambda name: system_of.get(name, name)))
    order = list(dict.fromkeys(named["system"]))
    tables: list[pd.DataFrame] = [
        _mean(named[named["system"] == system], len(runs[system])) if system in runs else named[named["system"] == system]
        for system in order
    ]
    return pd.concat(tables, ignore_index=True)


def _mean(rows: pd.DataFrame, num_runs: int) -> pd.DataFrame:
    groups = rows.groupby(["mixture_id", "source"], sort=False)
    means = groups.first()
    whole = groups.size() == num_runs
    if not whole.any():
        raise ScoreError(f"{rows['system'].iloc[0]}: its runs have no mixture in common; separate the same test set with each")
    for metric in [*METRICS, *EXTRA_METRICS, "seconds"]:
        if metric in rows:
            finite = rows[metric].where(np.isfinite(rows[metric]))
            complete = finite.groupby([rows["mixture_id"], rows["source"]], sort=False).count() == num_runs
            means[metric] = groups[metric].mean().where(complete)
    means["status"] = groups["status"].agg(lambda values: ", ".join(sorted(set(values) - {"ok"})) or "ok").where(whole, "missing")
    means["permutations_agree"] = groups["permutations_agree"].all()
    return pd.DataFrame(means.reset_index(), columns=list(rows.columns))


def spread(scores: pd.DataFrame, runs: Runs, metric: str) -> pd.DataFrame:
    """What the runs of every repeated system reached, failures counted.

    Columns: system, n (runs), mean, std over runs (n - 1), values (each run's mean), num_failed (each run's failed mixtures).
    """
    rows = []
    for system, names in runs.items():
        found = outcomes(scores[scores["system"].isin(names)], metric)
        means = found.counted[list(names)].mean()
        failed = [int(count) for count in found.failed[list(names)].sum()]
        each = {"values": list(means), "num_failed": failed}
        rows.append({"system": system, "n": len(names), "mean": means.mean(), "std": means.std(ddof=1), **each})
    return pd.DataFrame(rows, columns=["system", "n", "mean", "std", "values", "num_failed"])


def spread_of_differences(scores: pd.DataFrame, runs: Runs, metric: str, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Differences of every pair of repeated systems run by run, the k-th against the k-th, failures counted.

    Columns system, baseline, n, std, values; pairs in which one system is not repeated are left out.
    """
    rows = []
    for system, baseline in pairs:
        count = min(len(runs.get(name, ())) for name in (system, baseline))
        if count < 2:
            continue
        ours, theirs = list(runs[system])[:count], list(runs[baseline])[:count]
        means = outcomes(scores[scores["system"].isin([*ours, *theirs])], metric).counted.mean()
        values = means[ours].to_numpy() - means[theirs].to_numpy()
        rows.append({"system": system, "baseline": baseline, "n": count, "std": values.std(ddof=1), "values": list(values)})
    return pd.DataFrame(rows, columns=["system", "baseline", "n", "std", "values"])
