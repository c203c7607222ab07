"""Figures of the report: the only door to matplotlib.

Every figure is drawn once and kept as SVG and PDF. The same input gives the same bytes: no dates, no random ids. In the SVG
texts stay texts, and ``themed`` replaces the colours with CSS variables, so that a page shows it well on light and dark ground.
Colours are Okabe and Ito's, which colour-blind readers tell apart, and two more; line styles and markers differ as well.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#8c6d31")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
_INK, _SOFT = "#22252a", "#8b9099"
_MANY_POINTS = 4000

_STYLE = {
    "axes.edgecolor": _SOFT,
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100.0,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "grid.alpha": 0.25,
    "grid.color": _SOFT,
    "grid.linewidth": 0.8,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "pdf.fonttype": 42,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "text.color": _INK,
    "text.parse_math": False,  # a system's name may hold a dollar sign
    "xtick.color": _SOFT,
    "xtick.labelcolor": _INK,
    "ytick.color": _SOFT,
    "ytick.labelcolor": _INK,
}


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Attributes:
        name: file name without its ending.
        caption: one sentence that says what is drawn.
        svg: an ``<svg>`` element.
        pdf: the same as a PDF file.
    """

    name: str
    caption: str
    svg: str
    pdf: bytes


def _colour(k: int) -> str:
    """Of the k-th system, everywhere."""
    return COLOURS[k % len(COLOURS)]


def _marker(k: int) -> str:
    return MARKERS[k % len(MARKERS)]


@contextmanager
def _canvas(name: str, width: float = 4.8, height: float = 3.4) -> Iterator[tuple[Axes, Callable[[str], Drawing]]]:
    """Axes in the house style, and the function that turns them into a Drawing."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():  # type: ignore[dict-item]
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # in the PDF's font; browsers have their own
        figure = Figure(figsize=(width, height))
        yield figure.add_subplot(), lambda caption: Drawing(name, caption, _svg(figure, name), _pdf(figure))


def _svg(figure: Figure, name: str) -> str:
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    # Several figures share one page: their ids must differ.
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg).strip() + "\n"


def _pdf(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="pdf", metadata=dict.fromkeys(("CreationDate", "Creator", "Producer")))
    return file.getvalue()


def themed(svg: str) -> str:
    """The SVG with CSS variables for its colours: ``--ink``, ``--soft`` and ``--series-1`` to ``--series-8``."""
    names = {_INK: "--ink", _SOFT: "--soft"} | {colour: f"--series-{k}" for k, colour in enumerate(COLOURS, 1)}
    return re.sub("|".join(names), lambda found: f"var({names[found[0]]})", svg)


# --------------------------------------------------------------------------------------------------------------- overview
@dataclass(frozen=True)
class Estimate:
    """A mean to show, ends NaN without an interval: of the ``place``-th system (from 0), or for context where that is None."""

    name: str
    mean: float
    low: float
    high: float
    place: int | None = None


def overview(estimates: Sequence[Estimate], label: str) -> Drawing:
    """Means with their intervals below each other: systems in their colours, and what stands beside them in grey and hollow."""
    with _canvas("overview", 4.8, 0.9 + 0.34 * len(estimates)) as (axes, finished):
        for row, estimate in enumerate(estimates):
            if not np.isfinite(estimate.mean):
                continue
            colour, k = (_SOFT, 0) if estimate.place is None else (_colour(estimate.place), estimate.place)
            if np.isfinite([estimate.low, estimate.high]).all():
                axes.plot([estimate.low, estimate.high], [row, row], color=colour, solid_capstyle="butt", linewidth=2.4)
            face = "none" if estimate.place is None else colour
            axes.plot([estimate.mean], [row], _marker(k), color=colour, markerfacecolor=face, markersize=6.5)
        axes.set_yticks(range(len(estimates)), [_shortened(estimate.name) for estimate in estimates])
        axes.set(xlabel=label, ylim=(len(estimates) - 0.5, -0.5))
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        context = any(estimate.place is None for estimate in estimates)
        beside = "; grey and hollow is context that no system is compared with" if context else ""
        return finished(f"Mean {_quantity(label)} with its 95 % interval{beside}.")


def _shortened(name: str, length: int = 28) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


# --------------------------------------------------------------------------------------------------------- distributions
def histogram(means: pd.DataFrame, label: str) -> Drawing:
    """How the systems' improvements are spread; ``means`` has a row per mixture and a column per system.

    Up to three lie on top of each other; more stand below each other, at one scale.
    """
    edges = _bin_edges(means.to_numpy(np.float64))
    shares = {system: np.histogram(means[system].dropna(), edges)[0] / max(means[system].count(), 1) * 100 for system in means}
    stacked = len(shares) > 3
    step = 0.8 * max(float(share.max()) for share in shares.values()) if stacked else 0.0
    with _canvas("histogram", height=1.2 + 0.42 * len(shares) if stacked else 3.4) as (axes, finished):
        for k, (system, share) in enumerate(shares.items()):
            floor = -k * step
            look: dict[str, Any] = {"color": _colour(k), "baseline": floor, "zorder": 2 + k}
            axes.stairs(share + floor, edges, fill=True, alpha=0.3 if stacked else 0.16, **look)
            axes.stairs(share + floor, edges, linestyle="-" if stacked else LINES[k % len(LINES)], label=str(system), **look)
        axes.set(xlabel=label, ylabel="mixtures, %")
        axes.axvline(0, color=_SOFT, linewidth=0.8)
        if stacked:
            axes.set_yticks([-k * step for k in range(len(shares))], [_shortened(str(system)) for system in shares])
            axes.set_ylabel("")
        else:
            _legend(axes)
        return finished(f"Histogram of {_quantity(label)} over the test mixtures.")


def _bin_edges(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Edges on round numbers, 10 to 40 bins."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.array([0.0, 1.0])
    width = next((w for w in (0.25, 0.5, 1.0, 2.0, 5.0, 10.0) if np.ptp(finite) / w <= 40), 20.0)
    first, last = np.floor(finite.min() / width), np.floor(finite.max() / width) + 1
    return np.arange(first, last + 1) * width


def cumulative(means: pd.DataFrame, label: str, context: pd.DataFrame | None = None) -> Drawing:
    """Share of mixtures below every improvement (ECDF); ``context`` holds what no system is compared with, drawn in grey."""
    beside = pd.DataFrame() if context is None else context
    with _canvas("ecdf") as (axes, finished):
        for k, system in enumerate(means.columns):
            axes.step(*_shares_below(means[system]), where="post", **_line(k, system))
        for k, name in enumerate(beside.columns):
            look = {**_line(k, name), "color": _SOFT, "linewidth": 1.0}
            axes.step(*_shares_below(beside[name]), where="post", **look)
        axes.axvline(0, color=_SOFT, linewidth=0.8)
        axes.set(xlabel=label, ylabel="mixtures below, %", ylim=(0, 100))
        _legend(axes)
        return finished(f"Share of the test mixtures below each {_quantity(label)}.")


def _shares_below(values: pd.Series) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The sorted values, and the percentage up to each."""
    found = np.sort(values.dropna().to_numpy(np.float64))
    return found, np.asarray(np.arange(1, len(found) + 1) / max(len(found), 1) * 100)


def boxes(groups: Mapping[str, pd.DataFrame], label: str, *, name: str, caption: str) -> Drawing:
    """Boxes of every system side by side in each group: quartiles, median, whiskers at 5 and 95 %."""
    systems = list(dict.fromkeys(system for means in groups.values() for system in means.columns))
    width = 0.8 / max(len(systems), 1)
    with _canvas(name) as (axes, finished):
        for k, system in enumerate(systems):
            places = [place - 0.4 + (k + 0.5) * width for place in range(len(groups))]
            values = [means[system].dropna().to_numpy() if system in means else np.empty(0) for means in groups.values()]
            _box(axes, values, places, width * 0.82, k)
            axes.plot([], [], color=_colour(k), linewidth=6, alpha=0.6, label=str(system))
        ticks = [f"{group}\n{len(means)} mixtures" for group, means in groups.items()]
        axes.set_xticks(range(len(groups)), ticks)
        axes.set(ylabel=label, xlim=(-0.6, len(groups) - 0.4))
        axes.grid(axis="x", visible=False)
        _legend(axes)
        return finished(caption)


def _box(axes: Axes, values: Sequence[npt.NDArray[np.float64]], places: Sequence[float], width: float, k: int) -> None:
    kept = [(v, place) for v, place in zip(values, places, strict=True) if len(v)]
    if not kept:
        return
    colour = _colour(k)
    drawn = axes.boxplot(
        [v for v, _ in kept],
        positions=[place for _, place in kept],
        widths=width,
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": colour, "edgecolor": colour, "alpha": 0.35},
        medianprops={"color": _INK, "linewidth": 1.6},
        whiskerprops={"color": colour},
        capprops={"color": colour},
    )
    for median in drawn["medians"]:
        median.set_solid_capstyle("butt")


# -------------------------------------------------------------------------------------------------------- relationships
def input_scatter(scores: pd.DataFrame, metric: str, label: str) -> Drawing:
    """Improvement of every source against its level in the mixture, with each system's running mean."""
    with _canvas("input") as (axes, finished):
        for k, (system, rows) in enumerate(scores.groupby("system", sort=False)):
            rows = rows[np.isfinite(rows[metric]) & np.isfinite(rows["input_si_snr_db"])]
            x, y = rows["input_si_snr_db"].to_numpy(), rows[metric].to_numpy()
            rasterised = len(rows) > _MANY_POINTS
            axes.plot(x, y, _marker(k), color=_colour(k), markersize=2.6, alpha=0.3, markeredgewidth=0, rasterized=rasterised)
            axes.plot(*_running_mean(x, y), **_line(k, system))
        axes.axhline(0, color=_SOFT, linewidth=0.8)
        axes.set(xlabel="input SI-SNR of the source, dB", ylabel=label)
        _legend(axes)
        return finished(f"{_quantity(label)} of every source against its input SI-SNR; lines are means of equally many sources.")


def _running_mean(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Means over up to ten groups of equally many neighbours."""
    order = np.argsort(x, kind="stable")
    groups = [group for group in np.array_split(order, min(10, max(len(x) // 5, 1))) if len(group)]
    return np.array([x[group].mean() for group in groups]), np.array([y[group].mean() for group in groups])


def paired_scatter(means: pd.DataFrame, system: str, baseline: str, label: str, *, name: str, num_marked: int = 3) -> Drawing:
    """Every mixture under two systems, the diagonal of equality, and the mixtures on which they differ most by number."""
    both = means[[baseline, system]].dropna()
    with _canvas(name, 4.8, 4.4) as (axes, finished):
        x, y = both[baseline].to_numpy(), both[system].to_numpy()
        low, high = (min(x.min(), y.min()) - 1, max(x.max(), y.max()) + 1) if len(both) else (0.0, 1.0)
        axes.plot([low, high], [low, high], color=_SOFT, linewidth=1)
        k = list(means.columns).index(system)
        axes.plot(x, y, "o", color=_colour(k), markersize=3.4, alpha=0.45, markeredgewidth=0, rasterized=len(x) > _MANY_POINTS)
        furthest = np.argsort(-np.abs(y - x), kind="stable")[:num_marked]
        for number, point in enumerate(furthest, 1):
            _mark_point(axes, x[point], y[point], str(number))
        axes.set(xlim=(low, high), ylim=(low, high), xlabel=f"{baseline}: {label}", ylabel=f"{system}: {label}")
        axes.set_aspect("equal")
        marked = ", ".join(f"({number}) {both.index[point]}" for number, point in enumerate(furthest, 1))
        return finished(f"Every test mixture under both; below the diagonal {baseline} is better. They differ most on {marked}.")


def _mark_point(axes: Axes, x: float, y: float, text: str) -> None:
    axes.plot([x], [y], "o", markersize=7, markerfacecolor="none", markeredgecolor=_INK, markeredgewidth=1)
    offset = (6, -6) if y < x else (-6, 6)
    axes.annotate(text, (x, y), offset, textcoords="offset points", fontweight="bold", ha="center", va="center")


def differences(values: pd.Series, mean: float, low: float, high: float, label: str, *, name: str, index: int) -> Drawing:
    """Histogram of a paired difference with its mean and the mean's interval."""
    edges = _bin_edges(values.to_numpy(np.float64))
    with _canvas(name, 4.8, 4.4) as (axes, finished):
        shares = np.histogram(values.dropna(), edges)[0] / max(values.count(), 1) * 100
        axes.stairs(shares, edges, color=_colour(index), fill=True, alpha=0.35)
        axes.stairs(shares, edges, color=_colour(index), linewidth=1.2)
        axes.axvline(0, color=_SOFT, linewidth=1)
        top = shares.max() * 1.1 if len(shares) and shares.max() > 0 else 1.0
        if np.isfinite([mean, low, high]).all():
            error = [[mean - low], [high - mean]]
            axes.errorbar([mean], [top], xerr=error, fmt="D", color=_INK, markersize=5, capsize=4, linewidth=1.4)
        axes.set(xlabel=label, ylabel="mixtures, %", ylim=(0, top * 1.1))
        return finished(f"Histogram of {_quantity(label)}; the diamond is the mean with its 95 % interval.")


def grouped_means(table: pd.DataFrame, label: str, axis_label: str, *, name: str, caption: str) -> Drawing:
    """Means with intervals by group, a line per system; ``table`` as ``statistics.breakdown`` gives it."""
    groups = list(dict.fromkeys(table["group"]))
    with _canvas(name) as (axes, finished):
        num_systems = table["system"].nunique()
        for k, (system, rows) in enumerate(table.groupby("system", sort=False)):
            places = np.array([groups.index(group) for group in rows["group"]]) + (k - (num_systems - 1) / 2) * 0.12
            mean = rows["mean"].to_numpy()
            ends = np.nan_to_num(np.stack([mean - rows["low"], rows["high"] - mean]))
            axes.errorbar(places, mean, np.maximum(ends, 0), capsize=3, marker=_marker(k), **_line(k, system))
        axes.set_xticks(range(len(groups)), [group.replace(" to ", " to\n") for group in groups], fontsize=8)
        axes.set(xlabel=axis_label, ylabel=label)
        _legend(axes)
        return finished(caption)


# -------------------------------------------------------------------------------------------------------------- training
def learning_curves(
    histories: Mapping[str, Sequence[pd.DataFrame]], column: str, label: str, *, name: str, caption: str, mark_best: bool = True
) -> Drawing:
    """A column of the histories over the epochs: a line per training, a colour per system, perhaps the highest points marked."""
    with _canvas(name) as (axes, finished):
        for k, (system, trainings) in enumerate(histories.items()):
            for number, history in enumerate(trainings):
                known = history[np.isfinite(history[column])]
                dot = _marker(k) if len(known) == 1 else ""
                axes.plot(known["epoch"], known[column], marker=dot, **_line(k, system if number == 0 else "_"))
                if mark_best and len(known):
                    best = known.iloc[int(np.argmax(known[column]))]
                    axes.plot([best["epoch"]], [best[column]], _marker(k), color=_colour(k), markersize=6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(xlabel="epoch", ylabel=label)
        _legend(axes)
        return finished(caption)


def over_time(table: pd.DataFrame, label: str, *, name: str, caption: str) -> Drawing:
    """A quantity over the time since the mixture began: columns system, seconds, value."""
    with _canvas(name) as (axes, finished):
        for k, (system, rows) in enumerate(table.groupby("system", sort=False)):
            axes.plot(rows["seconds"], rows["value"], marker=_marker(k), markersize=4, **_line(k, system))
        axes.set(xlabel="time since the mixture began, s", ylabel=label)
        axes.set_xlim(left=0)
        _legend(axes)
        return finished(caption)


def _line(k: int, system: object) -> dict[str, Any]:
    """How the k-th system's lines look everywhere."""
    return {"color": _colour(k), "linestyle": LINES[k % len(LINES)], "label": str(system)}


def _quantity(label: str) -> str:
    return label.removesuffix(", dB")


def _legend(axes: Axes) -> None:
    """Names above the axes, where nothing is drawn."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        columns = next((columns for columns in (3, 2) if columns * (max(map(len, labels)) + 6) <= 62), 1)
        axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=columns, borderaxespad=0.2)


# ---------------------------------------------------------------------------------------------------------- spectrograms
def spectrogram_webp(samples: npt.NDArray[np.float64], sample_rate: int, *, full_scale_db: float | None = None) -> bytes:
    """A small spectrogram as WebP: 32-ms windows, 65 dB deep.

    Args:
        samples: ``[time]``.
        sample_rate: Hz.
        full_scale_db: power that is drawn brightest; give the same to pictures that are to be compared.
    """
    power = power_spectrogram_db(samples, sample_rate)
    top = power.max() if full_scale_db is None else full_scale_db
    shade = np.clip((power - top + 65.0) / 65.0, 0, 1)
    colours = np.round(mpl.colormaps["magma"](shade[::-1])[..., :3] * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, format="WEBP", quality=45, method=6)
    return file.getvalue()


def power_spectrogram_db(samples: npt.NDArray[np.float64], sample_rate: int, *, num_frames: int = 200) -> npt.NDArray[np.float64]:
    """Power in dB ``[frequency, frame]`` of Hann windows of 32 ms, at most ``num_frames`` of them."""
    length = max(16, round(0.032 * sample_rate))
    hop = max(length // 4, -(-max(len(samples) - length, 1) // num_frames))
    padded = np.pad(samples, (0, max(0, length - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop]
    spectrum = np.fft.rfft(frames * np.hanning(length), axis=-1)
    return 10 * np.log10(np.square(np.abs(spectrum)).T + 1e-12)


def dataset_png(tables: Mapping[str, pd.DataFrame]) -> bytes:
    """Histograms of a dataset side by side as PNG, splits in colours.

    Args:
        tables: by the label of the horizontal axis; each with the columns ``split``, what is counted, and the count. Numbers are
            lower edges of bins of equal width, texts are categories.
    """
    columns = 2
    rows = -(-len(tables) // columns)
    with mpl.rc_context({**_STYLE, "savefig.transparent": False}):  # type: ignore[dict-item]
        figure = Figure(figsize=(4.4 * columns, 2.9 * rows), dpi=130)
        places = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (label, table) in zip(places, tables.items(), strict=False):
            _split_bars(axes, label, table)
        for axes in places[len(tables) :]:
            axes.set_axis_off()
        _legend(places[0])
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _split_bars(axes: Axes, label: str, table: pd.DataFrame) -> None:
    """The share of each value in every split: bars side by side for categories, steps for bins."""
    _, key, count = table.columns
    numeric = pd.api.types.is_numeric_dtype(table[key])
    values = np.sort(table[key].unique()) if numeric else np.array(sorted(table[key].unique()), dtype=object)
    splits = list(table["split"].unique())
    for k, split in enumerate(splits):
        counts = table[table["split"] == split].set_index(key)[count]
        shares = counts.reindex(values, fill_value=0).to_numpy(np.float64) / counts.sum() * 100
        places = np.arange(len(values)) if not numeric else values.astype(np.float64)
        step = 1.0 if len(places) < 2 else float(np.min(np.diff(places)))
        width = 0.84 * step / len(splits)
        centres = places + (k - (len(splits) - 1) / 2) * width + (step / 2 if numeric and key.startswith("from_") else 0)
        axes.bar(centres, shares, width, color=_colour(k), label=str(split))
    if not numeric:
        axes.set_xticks(np.arange(len(values)), [str(value) for value in values])
    elif pd.api.types.is_integer_dtype(table[key]):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=label, ylabel=f"{count.removeprefix('num_')}, %" if count != "count" else "share, %")
