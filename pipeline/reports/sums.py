"""Is a mixture the sum of its sources? Measured on the audio, for what a test set is made of decides every score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.reports import words
from pipeline.reports.contents import Contents
from pipeline.reports.listening import Clips, Loader, evenly_picked

_ROUNDING_DB = -40.0
_OUTLYING_DB = 20.0


@dataclass(frozen=True)
class SumCheck:
    """What was found.

    Attributes:
        sentence: for the reader; empty where there was no audio.
        findings: mixtures far from the sum of their sources, as ``statistics.health`` has them.
    """

    sentence: str
    findings: pd.DataFrame


def check_sums(contents: Contents, load: Loader | None) -> SumCheck:
    """Compare mixtures with the sum of their references; of many, as many as for quality over time, evenly picked.

    Noise leaves a residual in every mixture, which the sentence says; a finding is a mixture whose residual is above rounding
    (-40 dB of the mixture) and 20 dB above that of the median mixture.
    """
    picked = evenly_picked(contents.means) if load is not None else []
    if load is None or not picked:
        return SumCheck("", contents.health.iloc[:0])
    residuals = pd.Series({mixture_id: residual_db(load(mixture_id)) for mixture_id in picked}, dtype=np.float64)
    usual = float(residuals.median())
    odd = residuals[(residuals > _ROUNDING_DB) & (residuals > usual + _OUTLYING_DB)]
    rows = [("not a sum", name, f"{value:.0f} dB of it is none of its sources") for name, value in odd.items()]
    return SumCheck(_sentence(residuals, len(contents.means)), pd.DataFrame(rows, columns=contents.health.columns))


def residual_db(clips: Clips) -> float:
    """Power of what is left of a mixture without its references, in dB of the mixture's; -inf where nothing is."""
    rest = np.square(clips.mixture - clips.references.sum(axis=0)).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(10 * np.log10(rest / np.square(clips.mixture).sum()))


def _sentence(residuals: pd.Series, num_mixtures: int) -> str:
    compared = f"{len(residuals):,} of {words.plural(num_mixtures, 'mixture')} compared with the sum of their sources"
    usual, largest = residuals.median(), residuals.max()
    if usual > _ROUNDING_DB:
        return f"{compared}: {words.number(usual, 0)} dB of the median mixture is something else, such as noise."
    if not np.isfinite(largest):
        return f"{compared}: equal to the last bit."
    return f"{compared}: the rest is at most {words.number(largest, 0)} dB of the mixture."
