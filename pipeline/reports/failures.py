"""Failed mixtures: which they are, and what they count.

A system fails on a mixture if any of its estimates is missing, unreadable, silent or not finite, so that there is no score. If
the reference or the mixture itself is unusable, no system can be scored and nobody has failed.

A failure is a result. Means over scores alone would reward a system for giving up on hard mixtures, so every mean has a second
one beside it in which a failed mixture counts as the unprocessed mixture: 0 dB improvement, or the input's own SI-SNR or SDR
(0 dB where that is unknown). A failure also counts as a mixture below 0 dB. Whatever compares systems uses this second mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from pipeline.reports.means import METRICS, mixture_means

IMPROVEMENTS = ("si_snri_db", "sdri_db")
_INPUTS = {"si_snr_db": "input_si_snr_db", "sdr_db": "input_sdr_db"}
_INPUT_OF = {"si_snri_db": "input_si_snr_db", "sdri_db": "input_sdr_db"}


@dataclass(frozen=True)
class Outcomes:
    """What came of every mixture and system; each table has a row per mixture and a column per system.

    Attributes:
        means: over the sources of the mixture, NaN without a score.
        failed: whether the system failed on the mixture.
        floored: ``means``, and what a failure counts; as ``means`` for metrics that have no floor (STOI, PESQ, SIR, …).
    """

    means: pd.DataFrame
    failed: pd.DataFrame
    floored: pd.DataFrame

    @cached_property
    def common(self) -> pd.DataFrame:
        """The means of mixtures for which every system has one; see ``on_same_mixtures``."""
        return on_same_mixtures(self.means)

    @cached_property
    def counted(self) -> pd.DataFrame:
        """The same with failures counted: no mixture is left out because a system failed on it."""
        return on_same_mixtures(self.floored)

    @property
    def are_on_same_mixtures(self) -> bool:
        """Whether the systems that have any value have it on the same mixtures, with and without failures counted."""
        return all(_is_complete(table) for table in (self.common, self.counted))


def _is_complete(means: pd.DataFrame) -> bool:
    known = means[means.columns[means.notna().any()]].notna()
    return bool((known.all(axis=1) == known.any(axis=1)).all())


def on_same_mixtures(means: pd.DataFrame) -> pd.DataFrame:
    """The table with NaN in every row in which any system has no value; unchanged if no row would be left.

    Systems without any value are not waited for.
    """
    measured = means.columns[means.notna().any()]
    complete = means[measured].notna().all(axis=1)
    return means.where(complete, axis="index") if complete.any() else means


def outcomes(scores: pd.DataFrame, metric: str) -> Outcomes:
    """What came of every mixture, for every system that has rows for it."""
    means = mixture_means(scores, metric)
    keys = [scores["mixture_id"], scores["system"]]
    excused = _is_nobodys_fault(scores, metric).groupby(keys).any()
    accountable = (~excused).unstack("system", fill_value=False)[means.columns]
    failed = accountable & means.isna()
    floors = pd.DataFrame({system: _floor(scores, metric) for system in means})
    return Outcomes(means, failed, means.where(~failed, floors))


def _is_nobodys_fault(scores: pd.DataFrame, metric: str) -> pd.Series:
    """Rows that can have no value: unusable reference or mixture, perfect score, or a metric not computed for the system."""
    blamed = scores["status"].str.contains(r"_(?:reference|mixture)\b", regex=True)
    infinite = scores[metric] == np.inf
    if metric in _INPUT_OF:
        infinite |= scores[_INPUT_OF[metric]] == np.inf
    measured = scores[metric].abs().lt(np.inf).groupby(scores["system"]).transform("any")
    others = scores[list(METRICS)].abs().lt(np.inf).any(axis=1) & ~scores["status"].str.contains("_estimate")
    nobodys: pd.Series = blamed | infinite | (others & ~measured)
    return nobodys


def _floor(scores: pd.DataFrame, metric: str) -> pd.Series:
    """What a failure counts, by mixture; NaN for metrics without a floor."""
    ids = scores.groupby("mixture_id").size().index
    if metric not in METRICS:
        return pd.Series(np.nan, index=ids)
    if metric in IMPROVEMENTS:
        return pd.Series(0.0, index=ids)
    inputs = scores[_INPUTS[metric]]
    return inputs.where(np.isfinite(inputs)).groupby(scores["mixture_id"]).mean().reindex(ids).fillna(0.0)


def shared_mixtures(scores: pd.DataFrame, mismatched: set[str]) -> pd.DataFrame:
    """The rows of mixtures for which every system has rows, of the same audio; empty if there is none."""
    num_systems = scores.groupby("mixture_id")["system"].transform("nunique")
    return scores[(num_systems == scores["system"].nunique()) & ~scores["mixture_id"].isin(mismatched)]
