"""Means over the sources of each mixture, which everything else starts from."""

from __future__ import annotations

import numpy as np
import pandas as pd

METRICS = ("si_snri_db", "sdri_db", "si_snr_db", "sdr_db")
EXTRA_METRICS = ("sir_db", "sar_db", "sa_sdr_db", "stoi", "estoi", "pesq")

WHOLE_MIXTURE = "all"
"""The source of a row that already is a mean over the sources, as some toolkits write them."""


def mixture_means(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean over the sources of every mixture: rows by mixture_id, a column per system in the order of the scores.

    NaN where a source of the mixture has no row or no finite value for that system.
    """
    values = scores[metric].where(np.isfinite(scores[metric]))
    whole = scores["source"] == WHOLE_MIXTURE
    num_sources = scores["source"].mask(whole).groupby(scores["mixture_id"]).transform("nunique").mask(whole, 1)
    keys = [scores["mixture_id"], scores["system"]]
    groups = values.groupby(keys, sort=True)
    complete = groups.count().eq(num_sources.groupby(keys, sort=True).max()).unstack("system", fill_value=False)
    means = groups.mean().unstack("system").where(complete)
    return means[list(dict.fromkeys(scores["system"]))]


def metrics_in(scores: pd.DataFrame) -> list[str]:
    """The metrics for which a table has values; if it has none at all, the four that every table should have."""
    known = [metric for metric in (*METRICS, *EXTRA_METRICS) if metric in scores.columns]
    return [metric for metric in known if np.isfinite(scores[metric]).any()] or list(METRICS)


def headline_metrics(scores: pd.DataFrame) -> tuple[str, ...]:
    """SI-SNRi and SDRi; without mixtures to improve on, SI-SNR and SDR. One of the two if the other has no values."""
    known = metrics_in(scores)
    pairs = (("si_snri_db", "sdri_db"), ("si_snr_db", "sdr_db"))
    return next(found for pair in pairs if (found := tuple(metric for metric in pair if metric in known)))


def seconds_of(scores: pd.DataFrame) -> pd.Series:
    """Length of every row's mixture; NaN if unknown."""
    return scores["num_samples"] / scores["sample_rate"]
