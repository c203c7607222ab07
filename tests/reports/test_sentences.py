"""Headlines and conclusions."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pipeline.reports import (
    sentences,
)
from pipeline.reports.analysis import analyse
from tests.report_cases import make_scores


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.2, 0.5, "better"),
        (-0.5, -0.2, "worse"),
        (-0.5, 0.2, "open"),
        (-0.05, 0.08, "equal"),
        (0.02, 0.09, "equal"),
        (np.nan, np.nan, "open"),
    ],
)
def test_verdicts(low: float, high: float, expected: str) -> None:
    assert sentences.verdict({"metric": "si_snri_db", "floored_low": low, "floored_high": high}) == expected


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ({"a": 8.0}, r"a improves SI-SNR by \d\.\d\d dB on average \(95% interval .*\)\."),
        ({"a": 8.0, "b": 5.0}, r"a improves SI-SNR by \d\.\d\d dB, \d\.\d\d dB more than b\."),
        ({"a": 8.0, "b": 8.0}, r"[ab] improves SI-SNR by .* dB; [ab] cannot be told apart from it \(difference 0\.\d\d dB\)\."),
        ({"a": -8.0}, r"a degrades SI-SNR by \d\.\d\d dB on average .*"),
    ],
)
def test_headlines(levels: dict[str, float], expected: str) -> None:
    assert re.fullmatch(expected, analyse(make_scores(levels, num_mixtures=40), baseline="a").headline)
