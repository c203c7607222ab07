"""The numbers of a report as JSON that any parser reads: null stands for what is not finite."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.reports.analysis import Analysis
from pipeline.reports.sum_check import SumCheck


def numbers(analysis: Analysis, sums: SumCheck, frames: pd.DataFrame) -> dict[str, Any]:
    """Everything that summary.json holds."""
    return {
        "title": analysis.context.title,
        "headline": analysis.headline,
        "conclusions": analysis.conclusions,
        "baseline": analysis.baseline,
        "systems": analysis.systems,
        "mixtures_without_scores": dict(analysis.coverage.missing),
        "summaries": _records(analysis.summaries),
        "oracles": _records(analysis.oracle_summaries),
        "one_speaker": _records(analysis.one_speaker),
        "runs": {metric: _records(table) for metric, table in analysis.run_spread.items()},
        "pairs": _records(analysis.pairs),
        "breakdowns": {name: _records(table) for name, table in analysis.breakdowns.items()},
        "excluded": _records(analysis.excluded),
        "permutation_disagreements": analysis.disagreements,
        "verification": dict(analysis.context.verification),
        "models": {name: dict(facts) for name, facts in analysis.context.models.items()},
        "published": {name: dict(figures) for name, figures in analysis.context.published.items()},
        "provenance": dict(analysis.context.provenance),
        "health": _records(sums.with_findings(analysis.health)),
        "over_time": _records(frames),
    }


def _records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")


def dumps(value: Any) -> str:
    """JSON according to its standard: null where a number is not finite."""
    return json.dumps(finite(value), ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def finite(value: Any) -> Any:
    """The value with plain Python numbers, rounded to nine digits, and None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, str) else str(value)
