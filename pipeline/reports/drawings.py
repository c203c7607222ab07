"""Which figures a report holds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline import figures, statistics
from pipeline.figures import Drawing
from pipeline.reports.contents import Contents

_MOST_PAIRS = 3


def results_drawings(contents: Contents) -> list[Drawing]:
    """How improvements are spread."""
    label = f"{contents.label}, dB"
    return [figures.histogram(contents.means, label), figures.cumulative(contents.means, label)]


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
    drawn = [figures.input_scatter(ordered, contents.metric, label)]
    if "sexes" in contents.breakdowns:
        pairs = statistics.sex_pairs(ordered)
        groups = {
            str(pair): statistics.mixture_means(ordered[pairs == pair], contents.metric)
            for pair in sorted(pairs.dropna().unique())
        }
        caption = f"{contents.label} by the speakers' sexes: quartiles, median, and 5 to 95 %."
        drawn.append(figures.boxes(groups, label, name="sexes", caption=caption))
    if "length" in contents.breakdowns:
        caption = f"Mean {contents.label} by the mixture's length, with 95 % intervals."
        table = contents.breakdowns["length"]
        drawn.append(figures.grouped_means(table, label, "length of the mixture", name="length", caption=caption))
    return drawn


def onset_drawings(table: pd.DataFrame) -> list[Drawing]:
    """Whether a system needs time to warm up; nothing without enough frames."""
    if table["seconds"].nunique() < 2:
        return []
    caption = "Median SI-SNRi of half-second frames by the time since the mixture began."
    return [figures.over_time(table, "SI-SNRi, dB", name="onset", caption=caption)]


def training_drawings(contents: Contents) -> list[Drawing]:
    """Learning curves, of validation and training."""
    histories = {system: contents.histories.get(system) for system in contents.systems}
    if not any(history is not None and len(history) for history in histories.values()):
        return []
    known = {system: _rising(history) for system, history in histories.items()}
    caption = "Validation SI-SNRi after each epoch; the marker is the best epoch, whose weights were kept."
    drawn = [figures.learning_curves(known, "valid_si_snri_db", "validation SI-SNRi, dB", name="validation", caption=caption)]
    caption = "Mean SI-SNR of the training segments in each epoch."
    drawn.append(
        figures.learning_curves(
            known, "train_si_snr_db", "training SI-SNR, dB", name="training", caption=caption, mark_best=False
        )
    )
    return drawn


def _rising(history: pd.DataFrame | None) -> pd.DataFrame:
    """A history with the losses turned so that up is better; empty where there is none."""
    if history is None:
        return pd.DataFrame({"epoch": [], "valid_si_snri_db": [], "train_si_snr_db": []}, dtype=np.float64)
    return history.assign(train_si_snr_db=-history["train_loss_db"])
