"""What looks wrong with a test set, from the scores alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from pipeline.reports.means import WHOLE_MIXTURE

COLUMNS = ["finding", "mixture_id", "detail"]

_SAME_INPUT_DB = 0.1
_TWIN_OF = "same length and input SI-SNR as "


def excluded(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rows whose status is not ``ok`` or that have no finite value: columns system, status, rows, mixtures, counted.

    ``counted`` says whether those rows have values.
    """
    finite = np.isfinite(scores[metric])
    odd = scores.assign(counted=finite)[(scores["status"] != "ok") | ~finite]
    groups = odd.groupby(["system", "status", "counted"], sort=True)
    table = groups.agg(rows=("source", "size"), mixtures=("mixture_id", "nunique")).reset_index()
    return pd.DataFrame(table, columns=["system", "status", "rows", "mixtures", "counted"])


def findings(scores: pd.DataFrame, metric: str = "si_snri_db") -> pd.DataFrame:
    """Everything that looks wrong: columns finding, mixture_id, detail.

    Mixtures without scores from some system, references with a constant offset, different audio under one name, mixtures that
    appear to be in the set twice, mixtures whose input levels fit no sum of their sources, and speakers far from all others.
    """
    found = [
        *_missing(scores),
        *_offsets(scores),
        *mismatched(scores),
        *_duplicates(scores),
        *_no_sums(scores),
        *_outlying_speakers(scores, metric),
    ]
    return pd.DataFrame(found, columns=COLUMNS)


def _missing(scores: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    present = pd.crosstab(scores["mixture_id"], scores["system"]) > 0
    for mixture_id, row in present[~present.all(axis=1)].iterrows():
        yield "missing", str(mixture_id), f"no scores for {', '.join(str(name) for name in present.columns[~row])}"


def _offsets(scores: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """References with a constant offset (DC), which counts in levels and SDRs."""
    odd = scores[scores["status"].str.contains("reference_offset", regex=False)]
    for mixture_id, rows in odd.groupby("mixture_id", sort=True):
        yield "offset", str(mixture_id), f"constant offset (DC) in the reference of {', '.join(sorted(set(rows['source'])))}"


def mismatched(scores: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Mixtures that are not the same audio for every system: their length or their input SI-SNR differs.

    An estimate that is too short changes the length that is scored; its status says so, and it does not count here.
    """
    cut = scores["status"].str.contains("length_mismatch|shortened")
    groups = scores.assign(num_samples=scores["num_samples"].where(~cut)).groupby(["mixture_id", "source"])
    lengths = groups["num_samples"].nunique()
    levels = groups["input_si_snr_db"].max() - groups["input_si_snr_db"].min()
    odd = (lengths > 1) | (levels > _SAME_INPUT_DB)
    for mixture_id in dict.fromkeys(mixture_id for mixture_id, _ in odd.index[odd]):
        yield "different audio", str(mixture_id), "length or input SI-SNR differs between systems"


def _duplicates(scores: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Two mixtures of one length whose input SI-SNRs agree to the last bit are the same audio under two names."""
    first = scores[scores["system"] == scores["system"].iloc[0]] if len(scores) else scores
    prints = first.sort_values("source").groupby("mixture_id")[["num_samples", "input_si_snr_db"]].agg(tuple)
    seen: dict[Any, str] = {}
    for mixture_id, row in prints.iterrows():
        if not np.isfinite(row["input_si_snr_db"]).all():
            continue
        twin = seen.setdefault(tuple(row), str(mixture_id))
        if twin != mixture_id:
            yield "duplicate", str(mixture_id), f"{_TWIN_OF}{twin}"


def mentioned(detail: str) -> list[tuple[str, str]]:
    """The mixture that a detail names: the words with it, and its name; nothing if it names none."""
    return [(detail, detail.removeprefix(_TWIN_OF))] if detail.startswith(_TWIN_OF) else []


def _no_sums(scores: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """In a sum of two unrelated sources the input SI-SNRs are opposite numbers; an outlier from that is no such sum."""
    sources = scores[scores["source"] != WHOLE_MIXTURE]
    inputs = sources.groupby(["mixture_id", "source"])["input_si_snr_db"].first().unstack("source")
    if inputs.shape[1] != 2:
        return
    total = inputs.sum(axis=1, skipna=False)
    for mixture_id, value in total[(total - total.median()).abs() > 3.0].items():
        yield "not a sum", str(mixture_id), f"input SI-SNRs add up to {value:.1f} dB, {total.median():.1f} dB in most mixtures"


def _outlying_speakers(scores: pd.DataFrame, metric: str) -> Iterator[tuple[str, str, str]]:
    """Speakers whose mean lies more than 4 robust standard deviations from the median of all speakers."""
    if "speaker_id" not in scores.columns:
        return
    finite = scores[np.isfinite(scores[metric]) & (scores["speaker_id"] != "")]
    means = finite.groupby("speaker_id")[metric].mean()
    deviation = (means - means.median()).abs()
    limit = 4 * 1.4826 * deviation.median()
    for speaker_id, mean in means[(deviation > limit) & (len(means) >= 8)].items():
        yield "outlying speaker", "", f"{speaker_id}: {mean:.1f} dB on average, {means.median():.1f} dB for the median speaker"
