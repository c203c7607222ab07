"""The figures of a report. Captions say what is drawn, and over which mixtures if not over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.reports.canvas import (
    HEIGHT,
    INK,
    SOFT,
    Drawing,
    add_legend,
    area_style,
    canvas,
    colour_of,
    line_of,
    line_style,
    marker_of,
    quantity,
    short_labels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MANY_POINTS = 4000
_MOST_ON_TOP = 3
_PALE = 0.35
_OF_PAIRS = (4.8, 4.0)  # inches


# --------------------------------------------------------------------------------------------------------------- overview
@dataclass(frozen=True)
class Estimate:
    """A mean to show.

    Attributes:
        name: on the axis.
        mean: dB.
        low: lower end of the interval; NaN without one.
        high: upper end of the interval; NaN without one.
        place: number of the system from 0; None for context, which no system is compared with.
        floored_mean: the mean with failures counted; NaN if nothing failed.
    """

    name: str
    mean: float
    low: float
    high: float
    place: int | None = None
    floored_mean: float = np.nan


def overview(estimates: Sequence[Estimate], label: str) -> Drawing:
    """Means with their intervals, one per row: systems in their colours, context in grey and hollow."""
    with canvas("overview", height=_height_for(len(estimates))) as (axes, finished):
        for row, estimate in enumerate(estimates):
            _draw_estimate(axes, row, estimate)
        axes.set_yticks(range(len(estimates)), short_labels([estimate.name for estimate in estimates]))
        axes.set(xlabel=label, ylim=(len(estimates) - 0.5, -0.5))
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        caption = f"Mean {quantity(label)} with its 95% interval."
        if any(estimate.place is None for estimate in estimates):
            caption += " Hollow grey markers are context that no system is compared with."
        if np.isfinite([estimate.floored_mean for estimate in estimates]).any():
            caption += " A cross is the mean with failures counted."
        return finished(caption)


def _height_for(num_rows: int) -> float:
    """Inches for a figure with a row per system, never lower than the figures beside it."""
    return max(HEIGHT, 0.9 + 0.34 * num_rows)


def _draw_estimate(axes: Axes, row: int, estimate: Estimate) -> None:
    colour, k = (SOFT, 0) if estimate.place is None else (colour_of(estimate.place), estimate.place)
    if np.isfinite([estimate.low, estimate.high]).all():
        axes.plot([estimate.low, estimate.high], [row, row], color=colour, solid_capstyle="butt", linewidth=2.4)
    face = "none" if estimate.place is None else colour
    axes.plot([estimate.mean], [row], marker_of(k), color=colour, markerfacecolor=face, markersize=6.5)
    if np.isfinite(estimate.floored_mean):
        axes.plot([estimate.floored_mean], [row], "x", color=colour, markersize=7)


# --------------------------------------------------------------------------------------------------------- distributions
def histogram(means: pd.DataFrame, label: str, note: str = "") -> Drawing:
    """Distribution of the systems' improvements; ``means`` has a row per mixture and a column per system.

    Up to three are drawn on top of each other; more are drawn one below the other, at one scale.
    """
    edges = _bin_edges(means.to_numpy(np.float64))
    shares = {system: np.histogram(means[system].dropna(), edges)[0] / max(means[system].count(), 1) * 100 for system in means}
    stacked = len(shares) > _MOST_ON_TOP
    step = 0.8 * max(float(share.max()) for share in shares.values()) if stacked else 0.0
    with canvas("histogram", height=_height_for(len(shares))) as (axes, finished):
        for k, (system, share) in enumerate(shares.items()):
            floor = -k * step
            place: dict[str, Any] = {"baseline": floor, "zorder": 2 + k}
            axes.stairs(share + floor, edges, fill=True, alpha=0.3 if stacked else 0.16, linewidth=0, **area_style(k), **place)
            look: dict[str, Any] = {"color": colour_of(k), "linestyle": "-" if stacked else line_of(k)}
            axes.stairs(share + floor, edges, label=str(system), **look, **place)
        axes.set(xlabel=label, ylabel="" if stacked else "mixtures, %")
        axes.axvline(0, color=SOFT, linewidth=0.8)
        if stacked:
            axes.set_yticks([-k * step for k in range(len(shares))], short_labels(list(shares)))
        else:
            add_legend(axes)
        return finished(f"Histogram of {quantity(label)} over the test mixtures.{note}")


def _bin_edges(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Edges on round numbers, 10 to 40 bins."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.array([0.0, 1.0])
    width = next((w for w in (0.25, 0.5, 1.0, 2.0, 5.0, 10.0) if np.ptp(finite) / w <= 40), 20.0)
    first, last = np.floor(finite.min() / width), np.floor(finite.max() / width) + 1
    return np.arange(first, last + 1) * width


def cumulative(means: pd.DataFrame, label: str, context: pd.DataFrame | None = None) -> Drawing:
    """Share of mixtures below every improvement (ECDF).

    Args:
        means: a row per mixture and a column per system; -inf for a failure.
        label: of the axis.
        context: the same of what no system is compared with, drawn in grey.
    """
    beside = pd.DataFrame() if context is None else context
    with canvas("ecdf") as (axes, finished):
        for k, system in enumerate(means.columns):
            axes.step(*_shares_below(means[system]), where="post", **line_style(k, system))
        for k, name in enumerate(beside.columns):
            look = {**line_style(k, name), "color": SOFT, "linewidth": 1.0}
            axes.step(*_shares_below(beside[name]), where="post", **look)
        axes.axvline(0, color=SOFT, linewidth=0.8)
        axes.set(xlabel=label, ylabel="mixtures below, %", ylim=(0, 100))
        add_legend(axes)
        failed = " A failure is below every value." if np.isneginf(means.to_numpy(np.float64)).any() else ""
        return finished(f"Share of the test mixtures below each {quantity(label)}.{failed}")


def _shares_below(values: pd.Series) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The sorted finite values, and the percentage up to each; the first comes twice, so that the line rises at it."""
    found = np.sort(values.dropna().to_numpy(np.float64))
    shares = np.asarray(np.arange(1, len(found) + 1) / max(len(found), 1) * 100)
    below, finite = float(np.isneginf(found).mean() * 100) if len(found) else 0.0, np.isfinite(found)
    if not finite.any():
        return found[finite], shares[finite]
    return np.concatenate([found[finite][:1], found[finite]]), np.concatenate([[below], shares[finite]])


def boxes(groups: Mapping[str, pd.DataFrame], label: str, *, name: str, caption: str) -> Drawing:
    """Boxes of every system side by side in each group: quartiles, median, whiskers at the 5th and 95th percentile."""
    systems = list(dict.fromkeys(system for means in groups.values() for system in means.columns))
    width = 0.8 / max(len(systems), 1)
    with canvas(name) as (axes, finished):
        for k, system in enumerate(systems):
            places = [place - 0.4 + (k + 0.5) * width for place in range(len(groups))]
            values = [means[system].dropna().to_numpy() if system in means else np.empty(0) for means in groups.values()]
            _draw_boxes(axes, values, places, width * 0.82, k)
            axes.fill_between([], [], **area_style(k), alpha=_PALE, label=str(system))
        ticks = [f"{group}\n{len(means)} mixtures" for group, means in groups.items()]
        axes.set_xticks(range(len(groups)), ticks)
        axes.set(ylabel=label, xlim=(-0.6, len(groups) - 0.4))
        axes.grid(axis="x", visible=False)
        add_legend(axes)
        return finished(caption)


def _draw_boxes(axes: Axes, values: Sequence[npt.NDArray[np.float64]], places: Sequence[float], width: float, k: int) -> None:
    kept = [(v, place) for v, place in zip(values, places, strict=True) if len(v)]
    if not kept:
        return
    colour = colour_of(k)
    look: dict[str, Any] = {
        "boxprops": {**area_style(k), "alpha": _PALE},
        "whiskerprops": {"color": colour},
    }
    look |= {"medianprops": {"color": INK, "linewidth": 1.6}, "capprops": {"color": colour}}
    behaviour: dict[str, Any] = {"whis": (5, 95), "showfliers": False, "patch_artist": True, "manage_ticks": False}
    positions = [place for _, place in kept]
    drawn = axes.boxplot([v for v, _ in kept], positions=positions, widths=width, **behaviour, **look)
    for median in drawn["medians"]:
        median.set_solid_capstyle("butt")


# -------------------------------------------------------------------------------------------------------- relationships
def input_scatter(scores: pd.DataFrame, metric: str, label: str, note: str = "") -> Drawing:
    """Improvement of every source against its level in the mixture, with each system's running mean."""
    with canvas("input") as (axes, finished):
        for k, (system, rows) in enumerate(scores.groupby("system", sort=False)):
            rows = rows[np.isfinite(rows[metric]) & np.isfinite(rows["input_si_snr_db"])]
            x, y = rows["input_si_snr_db"].to_numpy(), rows[metric].to_numpy()
            look: dict[str, Any] = {"color": colour_of(k), "markersize": 2.6, "alpha": 0.3, "markeredgewidth": 0}
            axes.plot(x, y, marker_of(k), rasterized=len(rows) > _MANY_POINTS, **look)
            axes.plot(*_running_mean(x, y), **line_style(k, system))
        axes.axhline(0, color=SOFT, linewidth=0.8)
        axes.set(xlabel="input SI-SNR of the source, dB", ylabel=label)
        add_legend(axes)
        caption = f"{quantity(label)} of every source against its input SI-SNR; lines are means over equal numbers of sources."
        return finished(caption + note)


def _running_mean(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Means over up to ten groups of neighbours of equal size."""
    order = np.argsort(x, kind="stable")
    groups = [group for group in np.array_split(order, min(10, max(len(x) // 5, 1))) if len(group)]
    return np.array([x[group].mean() for group in groups]), np.array([y[group].mean() for group in groups])


def paired_scatter(means: pd.DataFrame, system: str, baseline: str, label: str, *, name: str, num_marked: int = 3) -> Drawing:
    """Every mixture under two systems, the diagonal of equality, and the mixtures on which they differ most by number."""
    both = means[[baseline, system]].dropna()
    with canvas(name, *_OF_PAIRS) as (axes, finished):
        x, y = both[baseline].to_numpy(), both[system].to_numpy()
        low, high = (min(x.min(), y.min()) - 1, max(x.max(), y.max()) + 1) if len(both) else (0.0, 1.0)
        axes.plot([low, high], [low, high], color=SOFT, linewidth=1)
        k = list(means.columns).index(system)
        one, other = short_labels([baseline, system])
        look: dict[str, Any] = {"color": colour_of(k), "markersize": 3.4, "alpha": 0.45, "markeredgewidth": 0}
        axes.plot(x, y, marker_of(k), rasterized=len(x) > _MANY_POINTS, **look)
        furthest = np.argsort(-np.abs(y - x), kind="stable")[:num_marked]
        for number, point in enumerate(furthest, 1):
            _mark_point(axes, x[point], y[point], str(number))
        axes.set(xlim=(low, high), ylim=(low, high), xlabel=f"{one}: {label}", ylabel=f"{other}: {label}")
        axes.set_aspect("equal")
        marked = [(f"({number}) {both.index[point]}", str(both.index[point])) for number, point in enumerate(furthest, 1)]
        caption = f"{len(both):,} test mixtures under both systems; below the diagonal {baseline} is better."
        return finished(f"{caption} Largest differences: {', '.join(words for words, _ in marked)}.", *marked)


def _mark_point(axes: Axes, x: float, y: float, text: str) -> None:
    axes.plot([x], [y], "o", markersize=7, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1)
    offset = (6, -6) if y < x else (-6, 6)
    axes.annotate(text, (x, y), offset, textcoords="offset points", fontweight="bold", ha="center", va="center")


def differences(
    values: pd.Series, mean: tuple[float, float, float], label: str, *, name: str, index: int, note: str = "", axis: str = ""
) -> Drawing:
    """Histogram of a paired difference with its mean: ``(mean, low, high)``, the ends NaN without an interval.

    ``axis`` is a shorter label for the axis.
    """
    edges = _bin_edges(values.to_numpy(np.float64))
    with canvas(name, *_OF_PAIRS) as (axes, finished):
        shares = np.histogram(values.dropna(), edges)[0] / max(values.count(), 1) * 100
        axes.stairs(shares, edges, fill=True, alpha=0.35, **area_style(index))
        axes.stairs(shares, edges, color=colour_of(index), linewidth=1.2)
        axes.axvline(0, color=SOFT, linewidth=1)
        top = shares.max() * 1.1 if len(shares) and shares.max() > 0 else 1.0
        if np.isfinite(mean).all():
            centre, low, high = mean
            error = [[centre - low], [high - centre]]
            axes.errorbar([centre], [top], xerr=error, fmt="D", color=INK, markersize=5, capsize=4, linewidth=1.4)
        axes.set(xlabel=axis or label, ylabel="mixtures, %", ylim=(0, top * 1.1))
        return finished(f"Histogram of {quantity(label)}; the diamond is the mean with its 95% interval.{note}")


_LETTERS_ACROSS = 70
"""What the names of groups may have together to stand beside each other."""


def grouped_means(table: pd.DataFrame, label: str, axis_label: str, *, name: str, caption: str) -> Drawing:
    """Means with intervals by group, a line per system; ``table`` as ``breakdowns.breakdown`` returns it."""
    groups = list(dict.fromkeys(table["group"]))
    with canvas(name) as (axes, finished):
        num_systems = table["system"].nunique()
        step = min(0.12, 0.8 / max(num_systems, 1))
        for k, (system, rows) in enumerate(table.groupby("system", sort=False)):
            places = np.array([groups.index(group) for group in rows["group"]]) + (k - (num_systems - 1) / 2) * step
            mean = rows["mean"].to_numpy()
            ends = np.nan_to_num(np.stack([mean - rows["low"], rows["high"] - mean]))
            axes.errorbar(places, mean, np.maximum(ends, 0), capsize=3, marker=marker_of(k), **line_style(k, system))
        axes.set_xticks(range(len(groups)), [group.replace(" to ", " to\n") for group in groups], fontsize=8)
        if sum(map(len, groups)) > _LETTERS_ACROSS:
            for name_of_group in axes.get_xticklabels():
                name_of_group.set(rotation=30, rotation_mode="anchor", ha="right")
        axes.set(xlabel=axis_label, ylabel=label)
        add_legend(axes)
        return finished(caption)


# -------------------------------------------------------------------------------------------------------------- training
def learning_curves(
    histories: Mapping[str, Sequence[pd.DataFrame]], column: str, label: str, *, name: str, caption: str, mark_best: bool = True
) -> Drawing:
    """A column of the histories over the epochs: a line per run, a colour per system, optionally with the maxima marked."""
    with canvas(name) as (axes, finished):
        for k, (system, runs) in enumerate(histories.items()):
            for number, history in enumerate(runs):
                known = history[np.isfinite(history[column])]
                dot = marker_of(k) if len(known) == 1 else ""
                axes.plot(known["epoch"], known[column], marker=dot, **line_style(k, system if number == 0 else "_"))
                if mark_best and len(known):
                    best = known.iloc[int(np.argmax(known[column]))]
                    axes.plot([best["epoch"]], [best[column]], marker_of(k), color=colour_of(k), markersize=6)
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(xlabel="epoch", ylabel=label)
        add_legend(axes)
        return finished(caption)


def over_time(table: pd.DataFrame, label: str, *, name: str, caption: str) -> Drawing:
    """A quantity by time from the start of the mixture: columns system, seconds, value."""
    with canvas(name) as (axes, finished):
        for k, (system, rows) in enumerate(table.groupby("system", sort=False)):
            axes.plot(rows["seconds"], rows["value"], marker=marker_of(k), markersize=4, **line_style(k, system))
        axes.set(xlabel="time from the start of the mixture, s", ylabel=label)
        axes.set_xlim(left=0)
        add_legend(axes)
        return finished(caption)
