"""Which systems have the best value of a column, and which cannot be told apart from the best.

Marks follow the ranking of the headline: only systems are marked, never context; where a system failed, the means that count
failures are marked and not those that leave the failures out; and nothing is marked where systems were scored on different
mixtures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.reports import sentences
from pipeline.reports.analysis import Analysis


def best_places(values: Sequence[float], texts: Sequence[str], *, lower_is_better: bool = False) -> frozenset[int]:
    """Places of the best value and of all that are printed alike; none of fewer than two values."""
    numbers = np.asarray(values, dtype=np.float64)
    if np.isfinite(numbers).sum() < 2:
        return frozenset()
    first = int(np.nanargmin(numbers) if lower_is_better else np.nanargmax(numbers))
    return frozenset(k for k, text in enumerate(texts) if text == texts[first] and np.isfinite(numbers[k]))


def not_told_apart(analysis: Analysis, metric: str, best: str) -> frozenset[str]:
    """Systems of which the paired differences do not show that they are worse than the best."""
    pairs = analysis.pairs[analysis.pairs["metric"] == metric].to_dict("records")
    others = {_other(row, best): row for row in pairs if best in (row["system"], row["baseline"])}
    return frozenset(name for name, row in others.items() if not _is_decided(analysis, row))


def _other(row: Mapping[Any, Any], best: str) -> str:
    return str(row["baseline"] if row["system"] == best else row["system"])


def _is_decided(analysis: Analysis, row: Mapping[Any, Any]) -> bool:
    values = analysis.run_differences.get((row["metric"], row["system"], row["baseline"]), ())
    return sentences.verdict(row) in ("better", "worse") and not sentences.disagree(values)
