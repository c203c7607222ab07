"""Numbers and findings in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.reports.statistics import MARGIN_DB

LABELS = {"si_snri_db": "SI-SNRi", "sdri_db": "SDRi", "si_snr_db": "SI-SNR", "sdr_db": "SDR", "sir_db": "SIR", "sar_db": "SAR"}
LABELS |= {"sa_sdr_db": "SA-SDR", "stoi": "STOI", "estoi": "ESTOI", "pesq": "PESQ"}
NOTHING = "–"


def number(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign; a dash where there is none."""
    if value is None or not np.isfinite(value):
        return NOTHING
    text = f"{value:.{digits}f}"
    return (text[1:] if text.strip("-0.") == "" and text[0] == "-" else text).replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """A number that always shows its sign."""
    text = number(value, digits)
    return f"+{text}" if text[0].isdigit() and float(text) != 0 else text


def interval(low: float, high: float, digits: int = 2) -> str:
    """``[low, high]``, or nothing where an interval could not be had."""
    return f"[{number(low, digits)}, {number(high, digits)}]" if np.isfinite([low, high]).all() else ""


def percent(share: float | None) -> str:
    """A share as a whole percentage; one decimal below ten per cent."""
    if share is None or not np.isfinite(share):
        return NOTHING
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def p_value(p: float | None) -> str:
    """A p-value as it is printed."""
    if p is None or not np.isfinite(p):
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def large(value: float) -> str:
    """A count with its prefix: 5.05 M."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g}"


def factor(value: float) -> str:
    """A real-time factor: two significant digits."""
    return f"{value:.2g}"


def tiny(value: float) -> str:
    """A relative deviation by its order of magnitude: 3.1e−16."""
    return "0" if value == 0 else f"{value:.1e}".replace("-", "−")


def count_of(summary: Mapping[Any, Any]) -> str:
    """How many mixtures count, and of how many where some do not."""
    valid, every = int(summary["n_valid"]), int(summary["n"])
    return f"{valid:,}" if valid == every else f"{valid:,} of {every:,}"


def duration(seconds: float) -> str:
    """A length of time in the largest unit that gives at least two."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def plural(count: int, noun: str) -> str:
    """``1 mixture``, ``3,000 mixtures``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def verdict(row: Mapping[Any, Any], margin_db: float = MARGIN_DB) -> str:
    """What a paired difference with its interval allows to be said: better, worse, equal or open."""
    if not np.isfinite([row["low"], row["high"]]).all():
        return "open"
    if row["low"] >= -margin_db and row["high"] <= margin_db:
        return "equal"
    if row["low"] > 0:
        return "better"
    return "worse" if row["high"] < 0 else "open"


def conclusion(row: Mapping[Any, Any]) -> str:
    """One or two sentences on a pair, as far as its interval carries."""
    system, baseline, label = row["system"], row["baseline"], LABELS[row["metric"]]
    if not row["n"]:
        return f"{system} and {baseline} have no valid mixture in common, so nothing can be said about their {label}."
    found = f"{signed(row['difference'])} dB {label}, 95 % interval {number(row['low'])} to {number(row['high'])}"
    sentences = {
        "better": f"{system} is better than {baseline}: {found}, which excludes zero.",
        "worse": f"{system} is worse than {baseline}: {found}, which excludes zero.",
        "equal": f"{system} and {baseline} are practically equal: {found}, all within ±{MARGIN_DB} dB.",
        "open": f"{system} and {baseline} cannot be told apart: {found}, which includes zero.",
    }
    if not np.isfinite(row["low"]):
        return f"{system} differs from {baseline} by {signed(row['difference'])} dB {label}; too few mixtures for an interval."
    return sentences[verdict(row)] + _reach(row)


def _reach(row: Mapping[Any, Any]) -> str:
    if row["resampled"] == "speakers":
        return ""
    return " Speakers are unknown or too few to resample, so this speaks of other mixtures of the same speakers only."


def by_run(values: Sequence[float]) -> str:
    """What a difference is run by run, and a warning where the runs do not agree on its sign; empty without runs."""
    if not values:
        return ""
    each = ", ".join(map(signed, values))
    if disagree(values):
        return f" But the runs disagree ({each}): another training may turn it round."
    return f" Run by run: {each}."


def disagree(values: Sequence[float]) -> bool:
    """Whether some of the differences are above zero and some below."""
    return bool(values) and min(values) < 0 < max(values)


Runs = Mapping[tuple[str, str, str], Sequence[float]]


def headline(summaries: pd.DataFrame, pairs: pd.DataFrame, metric: str, runs: Runs | None = None) -> str:
    """The one sentence a reader should take away; ``runs`` holds differences run by run, by metric, system and baseline."""
    ranked = summaries[summaries["metric"] == metric].dropna(subset="mean").sort_values("mean", ascending=False, kind="stable")
    if ranked.empty:
        return "No mixture could be scored."
    best = ranked.iloc[0]
    worse = LABELS[metric].endswith("i") and best["mean"] < 0
    first = f"{best['system']} {_achieves(metric, best['mean'])}"
    if len(ranked) == 1:
        ends = f" (95 % interval {number(best['low'])} to {number(best['high'])})" if np.isfinite(best["low"]) else ""
        return f"{first} on average{ends}."
    second = ranked.iloc[1]
    pair = _pair_of(pairs[pairs["metric"] == metric], best["system"], second["system"])
    difference = number(abs(pair["difference"]))
    if disagree((runs or {}).get((metric, pair["system"], pair["baseline"]), ())):
        return f"{first}; its runs and those of {second['system']} disagree on which is better (difference {difference} dB)."
    if verdict(pair) in ("better", "worse"):
        return f"{first}, {difference} dB {'less' if worse else 'more'} than {second['system']}."
    return f"{first}; {second['system']} cannot be told apart from it (difference {difference} dB)."


def _achieves(metric: str, mean: float) -> str:
    label = LABELS[metric]
    if not label.endswith("i"):
        return f"reaches an {label} of {number(mean)} dB"
    return f"{'improves' if mean >= 0 else 'worsens'} {label.removesuffix('i')} by {number(abs(mean))} dB"


def _pair_of(pairs: pd.DataFrame, one: str, other: str) -> Mapping[Any, Any]:
    found = pairs[pairs["system"].isin([one, other]) & pairs["baseline"].isin([one, other])]
    return dict(found.iloc[0])


def verification(found: Mapping[str, Any]) -> str:
    """What recomputing rows with mir_eval found, in one sentence; empty where it was not done."""
    if not found:
        return ""
    rows = "1 random row" if found["num_rows"] == 1 else f"{found['num_rows']:,} random rows"
    largest = found["largest_difference_db"]
    difference = "unknown" if largest is None or not np.isfinite(largest) else f"{tiny(largest)} dB"
    same = "every permutation is the same" if found["permutations_equal"] else "not every permutation is the same"
    return f"{rows} recomputed with mir_eval {found['mir_eval']}: largest difference {difference}, {same}."
