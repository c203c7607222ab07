"""Mixtures in which one speaker is alone: what the other outputs make of the silence that they should be.

Nothing can be improved there, so these mixtures count in no mean and no comparison. What is said of them is the SI-SNR of the
speaker, and how loud the outputs are whose references are silent, all together, relative to the mixture. Medians, because either
may be infinite: a system that hands the mixture through is perfect, and so is a silent output.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

COLUMNS = ["system", "n", "num_failed", "si_snr_db", "silent_level_db", "silent_level_p95_db"]


def mixtures_of_one(scores: pd.DataFrame) -> set[str]:
    """The ids of mixtures in which all references but one are silent."""
    silent = _is_silent(scores).groupby([scores["mixture_id"], scores["source"]]).any()
    counts = silent.groupby("mixture_id").agg(["sum", "size"])
    return set(counts.index[(counts["size"] > 1) & (counts["sum"] == counts["size"] - 1)])


def set_apart(scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores of all other mixtures, and what is said of those of one speaker; all scores where there are no others."""
    one_speaker = of_one_speaker(scores)
    others = scores[~scores["mixture_id"].isin(mixtures_of_one(scores))]
    return (scores, one_speaker.iloc[:0]) if one_speaker.empty or others.empty else (others, one_speaker)


def of_one_speaker(scores: pd.DataFrame) -> pd.DataFrame:
    """A row for each system: mixtures of one speaker, failures among them, and the medians of the others; empty without any.

    A failure is a mixture for which the speaker has no SI-SNR, or a silent output no level.
    """
    here = scores[scores["mixture_id"].isin(mixtures_of_one(scores))]
    if here.empty or "silent_level_db" not in here.columns:
        return pd.DataFrame(columns=COLUMNS)
    silent = _is_silent(here)
    powers = 10 ** (here["silent_level_db"].where(silent) / 10)
    outcomes = pd.DataFrame(
        {
            "si_snr_db": here["si_snr_db"].where(~silent & (here["si_snr_db"] > -np.inf)),
            "power": powers,
            "has_none": silent & powers.isna(),
            "system": here["system"],
            "mixture_id": here["mixture_id"],
        }
    )
    by_mixture = outcomes.groupby(["system", "mixture_id"], sort=False).agg(
        si_snr_db=("si_snr_db", "first"), power=("power", "sum"), has_none=("has_none", "any")
    )
    return pd.DataFrame([_row(str(system), rows) for system, rows in by_mixture.groupby("system", sort=False)], columns=COLUMNS)


def _row(system: str, mixtures: pd.DataFrame) -> tuple[str, int, int, float, float, float]:
    failed = mixtures["has_none"] | mixtures["si_snr_db"].isna()
    left = mixtures[~failed]
    with np.errstate(divide="ignore"):
        levels_db = 10 * np.log10(left["power"].quantile([0.5, 0.95], interpolation="lower").to_numpy(np.float64))
    speaker = float(left["si_snr_db"].quantile(0.5, interpolation="lower"))
    return system, len(mixtures), int(failed.sum()), speaker, float(levels_db[0]), float(levels_db[1])


def _is_silent(scores: pd.DataFrame) -> pd.Series[bool]:
    return scores["status"].str.contains("silent_reference", regex=False)
