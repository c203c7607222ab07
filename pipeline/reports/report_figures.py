"""Which figures a report has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.reports import breakdowns, figures, formatting
from pipeline.reports.analysis import Analysis, of_system
from pipeline.reports.canvas import Drawing, short_labels
from pipeline.reports.failures import on_same_mixtures, outcomes
from pipeline.reports.figures import Estimate
from pipeline.reports.means import mixture_means
from pipeline.reports.mixture_map import mixture_map

_MOST_PAIRS = 3


def results_figures(analysis: Analysis) -> list[Drawing]:
    """What every system reaches, and the distribution of improvements."""
    label = f"{analysis.label}, dB"
    context = None if analysis.oracles.empty else outcomes(analysis.oracles, analysis.metric).common
    found = analysis.outcomes
    counted = found.counted.dropna(how="all").index
    failed = found.failed[analysis.systems].reindex(counted)
    values = on_same_mixtures(found.floored)[analysis.systems].reindex(counted).mask(failed, -np.inf)
    return [
        figures.overview(_estimates(analysis), label),
        figures.histogram(analysis.means, label, _left_out(analysis)),
        figures.cumulative(values, label, context),
    ]


def _left_out(analysis: Analysis) -> str:
    """A sentence for captions of figures that show scores only."""
    count = int(analysis.means.isna().all(axis=1).sum())
    verb = "is" if count == 1 else "are"
    return f" {formatting.plural(count, 'mixture')} without a score from every system {verb} left out." if count else ""


def _estimates(analysis: Analysis) -> list[Estimate]:
    """Systems, oracles and published figures in the order of the table of results."""
    found = []
    for place, name in enumerate(analysis.systems):
        row = of_system(analysis.summaries, name)[analysis.metric]
        floored = row["floored_mean"] if analysis.any_failed else np.nan
        found.append(Estimate(name, row["mean"], row["low"], row["high"], place, floored))
    for name in analysis.oracle_names:
        row = of_system(analysis.oracle_summaries, name)[analysis.metric]
        found.append(Estimate(name, row["mean"], row["low"], row["high"]))
    for name, published in analysis.context.published.items():
        value = published.get(analysis.metric)
        found.append(Estimate(f"{name}, published", np.nan if value is None else value, np.nan, np.nan))
    return [estimate for estimate in found if np.isfinite([estimate.mean, estimate.floored_mean]).any()]


def pair_figures(analysis: Analysis) -> list[Drawing]:
    """Mixture by mixture: each system against the baseline."""
    drawn: list[Drawing] = []
    rows = analysis.pairs[(analysis.pairs["metric"] == analysis.metric) & (analysis.pairs["baseline"] == analysis.baseline)]
    for row in rows.head(_MOST_PAIRS).to_dict("records"):
        if not row["n"]:
            continue
        place, pair = analysis.systems.index(row["system"]), (row["system"], analysis.baseline)
        values = analysis.means[row["system"]] - analysis.means[analysis.baseline]
        label = f"{analysis.label}, dB"
        note = _left_out(analysis)
        drawn.append(figures.paired_scatter(analysis.means, row["system"], analysis.baseline, label, name=f"paired-{place}"))
        ends = (row["difference"], row["low"], row["high"])
        whole, short = (" − ".join(names) for names in (pair, short_labels(pair, 20)))
        look: dict[str, Any] = {"name": f"difference-{place}", "index": place, "axis": f"{short}: {label}"}
        drawn.append(figures.differences(values, ends, f"{whole}: {label}", note=note, **look))
    return drawn


def map_figures(analysis: Analysis) -> list[Drawing]:
    """Every system on every mixture that all of them have rows for; nothing if nothing was scored."""
    found = analysis.outcomes
    if not found.means.notna().any(axis=None):
        return []
    return [mixture_map(found.means[analysis.systems], found.failed[analysis.systems], f"{analysis.label}, dB")]


def breakdown_figures(analysis: Analysis) -> list[Drawing]:
    """Where the systems do well and badly."""
    scores, label, note = analysis.common_scores, f"{analysis.label}, dB", _left_out(analysis)
    known = np.isfinite(scores["input_si_snr_db"]).any()
    drawn = [figures.input_scatter(scores, analysis.metric, label, note)] if known else []
    if "sexes" in analysis.breakdowns:
        drawn.append(_by_sexes(analysis, scores, label))
    for name, axis in (("length", "length of the mixture"), ("overlap", "overlap of the speakers")):
        if name in analysis.breakdowns:
            caption = f"Mean {analysis.label} by {axis}, with 95% intervals.{note}"
            drawn.append(figures.grouped_means(analysis.breakdowns[name], label, axis, name=name, caption=caption))
    return drawn


def _by_sexes(analysis: Analysis, scores: pd.DataFrame, label: str) -> Drawing:
    pairs = breakdowns.sex_pairs(scores)
    groups = {str(pair): mixture_means(scores[pairs == pair], analysis.metric) for pair in sorted(pairs.dropna().unique())}
    caption = f"{analysis.label} by the speakers' sexes: quartiles, median, and 5th to 95th percentile.{_left_out(analysis)}"
    return figures.boxes(groups, label, name="sexes", caption=caption)


def over_time_figures(frames: pd.DataFrame) -> list[Drawing]:
    """Whether a system needs time to warm up; nothing without enough frames."""
    if frames["seconds"].nunique() < 2:
        return []
    caption = "Median SI-SNRi of half-second frames by time from the start of the mixture."
    return [figures.over_time(frames, "SI-SNRi, dB", name="over-time", caption=caption)]


def training_figures(analysis: Analysis) -> list[Drawing]:
    """Learning curves, of validation and training; of every run if a system has several."""
    histories = analysis.context.histories
    runs = {system: analysis.runs.get(system, [system]) for system in analysis.systems}
    known = {system: [_rising(histories[run]) for run in names if run in histories] for system, names in runs.items()}
    if not any(len(history) for found in known.values() for history in found):
        return []
    caption = "Validation SI-SNRi after each epoch; the marker is the best epoch, whose weights were kept."
    drawn = [figures.learning_curves(known, "valid_si_snri_db", "validation SI-SNRi, dB", name="validation", caption=caption)]
    caption = "Mean loss of the training segments in each epoch with its sign turned: SI-SNR, or what train.loss says."
    label = "training, −loss, dB"
    drawn.append(figures.learning_curves(known, "train_si_snr_db", label, name="training", caption=caption, mark_best=False))
    return drawn


def _rising(history: pd.DataFrame) -> pd.DataFrame:
    """A history with the losses turned so that up is better."""
    return history.assign(train_si_snr_db=-history["train_loss_db"])
