"""Which figures a report holds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.reports import figures, statistics
from pipeline.reports.contents import Contents, of_system
from pipeline.reports.figures import Drawing, Estimate

_MOST_PAIRS = 3


def results_drawings(contents: Contents) -> list[Drawing]:
    """What every system reaches, and how improvements are spread."""
    label = f"{contents.label}, dB"
    context = None if contents.oracles.empty else statistics.mixture_means(contents.oracles, contents.metric)
    spread = [figures.histogram(contents.means, label), figures.cumulative(contents.means, label, context)]
    return [figures.overview(_estimates(contents), label), *spread]


def _estimates(contents: Contents) -> list[Estimate]:
    """Systems, oracles and published figures in the order of the table of results."""
    found = []
    for table, names in ((contents.summaries, contents.systems), (contents.oracle_summaries, contents.oracle_names)):
        for place, name in enumerate(names):
            row = of_system(table, name)[contents.metric]
            found.append(Estimate(name, row["mean"], row["low"], row["high"], place if table is contents.summaries else None))
    for name, figures_of in contents.published.items():
        value = figures_of.get(contents.metric)
        found.append(Estimate(f"{name}, published", np.nan if value is None else value, np.nan, np.nan))
    return [estimate for estimate in found if np.isfinite(estimate.mean)]


def pair_drawings(contents: Contents) -> list[Drawing]:
    """Mixture by mixture: each system against the baseline."""
    drawn: list[Drawing] = []
    rows = contents.pairs[(contents.pairs["metric"] == contents.metric) & (contents.pairs["baseline"] == contents.baseline)]
    for row in rows.head(_MOST_PAIRS).to_dict("records"):
        if not row["n"]:
            continue
        place = contents.systems.index(row["system"])
        values = contents.means[row["system"]] - contents.means[contents.baseline]
        label = f"{contents.label}, dB"
        drawn.append(figures.paired_scatter(contents.means, row["system"], contents.baseline, label, name=f"paired-{place}"))
        ends = (row["difference"], row["low"], row["high"])
        label = f"{row['system']} − {contents.baseline}: {label}"
        drawn.append(figures.differences(values, *ends, label, name=f"difference-{place}", index=place))
    return drawn


def breakdown_drawings(contents: Contents) -> list[Drawing]:
    """Where the systems do well and badly."""
    ordered = contents.scores.set_index("system").loc[contents.systems].reset_index()
    label = f"{contents.label}, dB"
    known = np.isfinite(ordered["input_si_snr_db"]).any()
    drawn = [figures.input_scatter(ordered, contents.metric, label)] if known else []
    if "sexes" in contents.breakdowns:
        pairs = statistics.sex_pairs(ordered)
        groups = {
            str(pair): statistics.mixture_means(ordered[pairs == pair], contents.metric)
            for pair in sorted(pairs.dropna().unique())
        }
        caption = f"{contents.label} by the speakers' sexes: quartiles, median, and 5 to 95 %."
        drawn.append(figures.boxes(groups, label, name="sexes", caption=caption))
    for name, axis in (("length", "length of the mixture"), ("overlap", "overlap of the speakers")):
        if name in contents.breakdowns:
            caption = f"Mean {contents.label} by the {axis}, with 95 % intervals."
            drawn.append(figures.grouped_means(contents.breakdowns[name], label, axis, name=name, caption=caption))
    return drawn


def onset_drawings(table: pd.DataFrame) -> list[Drawing]:
    """Whether a system needs time to warm up; nothing without enough frames."""
    if table["seconds"].nunique() < 2:
        return []
    caption = "Median SI-SNRi of half-second frames by the time since the mixture began."
    return [figures.over_time(table, "SI-SNRi, dB", name="onset", caption=caption)]


def training_drawings(contents: Contents) -> list[Drawing]:
    """Learning curves, of validation and training; of every run where a system has several."""
    runs = {system: contents.runs.get(system, [system]) for system in contents.systems}
    known = {
        system: [_rising(contents.histories[run]) for run in names if run in contents.histories] for system, names in runs.items()
    }
    if not any(len(history) for histories in known.values() for history in histories):
        return []
    caption = "Validation SI-SNRi after each epoch; the marker is the best epoch, whose weights were kept."
    drawn = [figures.learning_curves(known, "valid_si_snri_db", "validation SI-SNRi, dB", name="validation", caption=caption)]
    caption = "Mean SI-SNR of the training segments in each epoch."
    drawn.append(
        figures.learning_curves(
            known, "train_si_snr_db", "training SI-SNR, dB", name="training", caption=caption, mark_best=False
        )
    )
    return drawn


def _rising(history: pd.DataFrame) -> pd.DataFrame:
    """A history with the losses turned so that up is better."""
    return history.assign(train_si_snr_db=-history["train_loss_db"])
