"""Numbers as they are printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.tables import SCORE_METRICS

LABELS = {metric.column: metric.label for metric in SCORE_METRICS}
MARGINS = {metric.column: metric.margin for metric in SCORE_METRICS}
"""Differences below these are ties."""
_UNITS = {metric.column: metric.unit for metric in SCORE_METRICS}
NOTHING = "–"


def number(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign; a dash if there is none."""
    if value is None or not np.isfinite(value):
        return NOTHING
    text = f"{value:.{digits}f}"
    return (text[1:] if text.strip("-0.") == "" and text[0] == "-" else text).replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """A number that always shows its sign."""
    text = number(value, digits)
    return f"+{text}" if text[0].isdigit() and float(text) != 0 else text


def level(value: float | None) -> str:
    """A number of decibels that may be infinite: ``−32.1 dB``, ``−∞ dB``."""
    if value is not None and np.isinf(value):
        return f"{'−' * bool(value < 0)}∞ dB"
    text = number(value, 1)
    return text if text == NOTHING else f"{text} dB"


def is_in_decibels(metric: str) -> bool:
    """Whether a metric's numbers are decibels; STOI, ESTOI and PESQ have no unit."""
    return _UNITS[metric] == "dB"


def digits_of(metric: str) -> int:
    """Decimals that show a metric's smallest difference that matters."""
    return 2 if MARGINS[metric] >= 0.05 else 3


def with_unit(metric: str, text: str) -> str:
    """A metric's number, as it is printed, and its unit if it has one."""
    return f"{text} {_UNITS[metric]}" if _UNITS[metric] else text


def interval(low: float, high: float, digits: int = 2) -> str:
    """``[low, high]``, or a dash if there is no interval."""
    return f"[{number(low, digits)}, {number(high, digits)}]" if np.isfinite([low, high]).all() else NOTHING


def percent(share: float | None) -> str:
    """A share as a whole percentage; one decimal below ten percent."""
    if share is None or not np.isfinite(share):
        return NOTHING
    return f"{100 * share:.0f}%" if share >= 0.0995 or share == 0 else f"{100 * share:.1f}%"


def p_value(p: float | None) -> str:
    """A p-value with three decimals, or that it is smaller."""
    if p is None or not np.isfinite(p):
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def large(value: float) -> str:
    """A count with an SI prefix: 5.05 M."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g}"


def factor(value: float) -> str:
    """A real-time factor: two significant digits."""
    return f"{value:.2g}"


def tiny(value: float) -> str:
    """A number by its order of magnitude: 3.1e−16."""
    return "0" if value == 0 else f"{value:.1e}".replace("-", "−")


def count_of(summary: Mapping[Any, Any]) -> str:
    """How many mixtures count, and out of how many if some do not."""
    valid, every = int(summary["n_valid"]), int(summary["n"])
    return f"{valid:,}" if valid == every else f"{valid:,} of {every:,}"


def duration(seconds: float) -> str:
    """A length of time in the largest unit of which there are at least two."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def plural(count: int, noun: str) -> str:
    """``1 mixture``, ``3,000 mixtures``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(parts: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
