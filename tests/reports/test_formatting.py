"""Numbers as they are printed."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.reports import (
    formatting,
)


@pytest.mark.parametrize(
    ("value", "expected"), [(1.234, "1.23"), (-0.5, "−0.50"), (-0.001, "0.00"), (np.nan, "–"), (None, "–"), (np.inf, "–")]
)
def test_numbers(value: float | None, expected: str) -> None:
    assert formatting.number(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(1.0, "+1.00"), (-1.0, "−1.00"), (0.0, "0.00"), (-0.001, "0.00")])
def test_signed_numbers(value: float, expected: str) -> None:
    assert formatting.signed(value) == expected


@pytest.mark.parametrize(("share", "expected"), [(0, "0%"), (0.004, "0.4%"), (0.5, "50%"), (1, "100%"), (np.nan, "–")])
def test_percentages(share: float, expected: str) -> None:
    assert formatting.percent(share) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0 seconds"), (119, "119 seconds"), (600, "10 minutes"), (36000, "10 hours")]
)
def test_durations(seconds: float, expected: str) -> None:
    assert formatting.duration(seconds) == expected


@pytest.mark.parametrize(("value", "expected"), [(4984881, "4.98 M"), (3.1e9, "3.1 G"), (65664, "65.7 k"), (12, "12")])
def test_large_numbers(value: float, expected: str) -> None:
    assert formatting.large(value) == expected
