"""The map of systems and mixtures: which mixtures are hard, for whom, and where a system failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.reports.canvas import GROUND, INK, SOFT, Drawing, canvas, quantity, short_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS = 250
"""With more mixtures than this, neighbours share a column."""

_LEAST_HEIGHT = 0.25
"""Of the mark for failures, in rows: a single one among many mixtures can still be seen."""
_NUM_NAMED = 3
_MANY_CELLS = 100

Floats = npt.NDArray[np.float64]


def by_difficulty(means: pd.DataFrame, failed: pd.DataFrame) -> pd.DataFrame:
    """The mixtures from the hardest to the easiest: by the mean over the systems, a failure below every score.

    Mixtures on which nobody has a score and nobody failed are left out.
    """
    values = means.to_numpy(np.float64)
    floor = float(np.nanmin(values)) - 1 if np.isfinite(values).any() else 0.0
    ranking = means.where(~failed, floor).mean(axis=1).dropna().sort_values(kind="stable")
    return means.loc[ranking.index]


def mixture_map(means: pd.DataFrame, failed: pd.DataFrame, label: str) -> Drawing:
    """Every system's mean on every mixture as a colour; ``means`` and ``failed`` have a row per mixture, a column per system."""
    ordered = by_difficulty(means, failed)
    per_column = max(1, -(-len(ordered) // MOST_COLUMNS))
    groups = np.array_split(np.arange(len(ordered)), -(-len(ordered) // per_column))
    values = _group_means(ordered.mask(failed).to_numpy(np.float64), groups)
    shares = _group_means(failed.reindex(ordered.index).to_numpy(np.float64), groups)
    height = 1.05 + 0.27 * means.shape[1]
    with canvas("mixture-map", 10.0, height) as (axes, finished):
        _draw_values(axes, values, label)
        _draw_failures(axes, shares)
        axes.set_yticks(range(means.shape[1]), short_labels(list(means.columns)))
        axes.set_xticks([0, len(groups) - 1] if len(groups) > 1 else [0], ["hardest", "easiest"][: len(groups)])
        axes.set(xlabel=f"{len(ordered):,} mixtures, sorted by the mean over the systems")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        return finished(_caption(ordered, failed, label, len(groups)), *_mentions(ordered))


def _group_means(values: Floats, groups: list[npt.NDArray[np.intp]]) -> Floats:
    """Means over each group of rows ``[column, group]``; NaN where a group has no value."""
    counts = np.stack([np.isfinite(values[group]).sum(axis=0) for group in groups], axis=1)
    sums = np.stack([np.nansum(values[group], axis=0) for group in groups], axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _draw_values(axes: Axes, values: Floats, label: str) -> None:
    """Colours, and their scale; among many mixtures, a few extreme ones do not stretch it."""
    finite = values[np.isfinite(values)]
    ends = [2, 98] if len(finite) >= _MANY_CELLS else [0, 100]
    low, high = np.percentile(finite, ends) if len(finite) else (0.0, 1.0)
    high = max(high, low + 1e-3)
    look: dict[str, Any] = {"cmap": "cividis", "vmin": low, "vmax": high, "aspect": "auto", "interpolation": "none"}
    image = axes.imshow(values, **look)
    beyond = (bool((finite < low).any()), bool((finite > high).any()))
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
    bar = axes.figure.colorbar(image, ax=axes, label=label, pad=0.012, fraction=0.03, aspect=12, extend=extend)
    bar.outline.set_visible(False)


def _draw_failures(axes: Axes, shares: Floats) -> None:
    """Hatched bars as high as the share of the column's mixtures on which the system failed."""
    for row, column in zip(*np.nonzero(shares > 0), strict=True):
        height = max(float(shares[row, column]), _LEAST_HEIGHT)
        place = (column - 0.5, row + 0.5 - height)
        look: dict[str, Any] = {"facecolor": GROUND, "edgecolor": INK, "linewidth": 0.0, "hatch": "//////"}
        axes.add_patch(_rectangle(place, height, look))
    for row in range(1, len(shares)):
        axes.axhline(row - 0.5, color=SOFT, linewidth=0.6)


def _rectangle(place: tuple[float, float], height: float, look: dict[str, Any]) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(place, 1.0, height, **look)


def _caption(ordered: pd.DataFrame, failed: pd.DataFrame, label: str, num_columns: int) -> str:
    """What is drawn, what each system failed on, and the names of the hardest mixtures."""
    parts = [f"{quantity(label)} of every system (rows) on every mixture (columns), the hardest on the left."]
    if num_columns < len(ordered):
        parts.append(f"A column is the mean of about {len(ordered) / num_columns:.0f} neighbouring mixtures.")
    counts = failed.sum()
    if counts.any():
        named = ", ".join(f"{system} on {count:,}" for system, count in counts[counts > 0].items())
        parts.append(f"Hatched: the system failed ({named}).")
    if len(ordered):
        parts.append(f"Hardest: {', '.join(map(str, ordered.index[:_NUM_NAMED]))}.")
    return " ".join(parts)


def _mentions(ordered: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """The names in the caption, with the words that tell where each stands."""
    names = [str(name) for name in ordered.index[:_NUM_NAMED]]
    leads = ["Hardest: ", *[", "] * _NUM_NAMED]
    return tuple((lead + name, name) for lead, name in zip(leads, names, strict=False))
