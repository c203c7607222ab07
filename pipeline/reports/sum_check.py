"""Is every mixture the sum of its sources? Measured on the audio, since what a test set is made of decides every score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.reports import formatting, health
from pipeline.reports.analysis import Analysis
from pipeline.reports.clips import Clips, Loader, evenly_picked

_ROUNDING_DB = -40.0
_OUTLYING_DB = 20.0


@dataclass(frozen=True)
class SumCheck:
    """The result of the check.

    Attributes:
        sentence: for the reader; empty without audio.
        findings: mixtures far from the sum of their sources, in the columns of ``health.findings``.
    """

    sentence: str
    findings: pd.DataFrame

    def with_findings(self, others: pd.DataFrame) -> pd.DataFrame:
        """Other findings followed by these."""
        return pd.concat([others, self.findings], ignore_index=True) if len(self.findings) else others


def check_sums(analysis: Analysis, load: Loader | None) -> SumCheck:
    """Compare mixtures with the sum of their references; at most 60, evenly picked.

    Noise leaves a residual in every mixture, and the sentence says so. A finding is a mixture whose residual is above rounding
    (-40 dB of the mixture) and 20 dB above that of the median mixture.
    """
    picked = evenly_picked(analysis.means, load)
    if load is None or not picked:
        return SumCheck("", pd.DataFrame(columns=health.COLUMNS))
    residuals = pd.Series({mixture_id: residual_db(load(mixture_id)) for mixture_id in picked}, dtype=np.float64)
    usual = float(residuals.median())
    odd = residuals[(residuals > _ROUNDING_DB) & (residuals > usual + _OUTLYING_DB)]
    rows = [("not a sum", name, f"residual of {value:.0f} dB after its sources are subtracted") for name, value in odd.items()]
    return SumCheck(_sentence(residuals, len(analysis.means)), pd.DataFrame(rows, columns=health.COLUMNS))


def residual_db(clips: Clips) -> float:
    """Power of a mixture minus its references, in dB relative to the mixture; -inf if nothing is left."""
    residual = np.square(clips.mixture - clips.references.sum(axis=0)).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(10 * np.log10(residual / np.square(clips.mixture).sum()))


def _sentence(residuals: pd.Series, num_mixtures: int) -> str:
    compared = f"{len(residuals):,} of {formatting.plural(num_mixtures, 'mixture')} compared with the sum of their sources"
    usual, largest = residuals.median(), residuals.max()
    if usual > _ROUNDING_DB:
        return f"{compared}: the median residual is {formatting.number(usual, 0)} dB of the mixture, for example noise."
    if not np.isfinite(largest):
        return f"{compared}: they are identical."
    return f"{compared}: the largest residual is {formatting.number(largest, 0)} dB of the mixture."
