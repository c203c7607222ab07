"""A dataset at a glance: histograms side by side."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.reports.canvas import STYLE, add_legend, colour_of, hatch_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def dataset_png(tables: Mapping[str, pd.DataFrame]) -> bytes:
    """Histograms of a dataset side by side as PNG, splits in colours.

    Args:
        tables: by the label of the horizontal axis; each with the columns ``split``, what is counted, and the count. Numbers are
            lower edges of bins of equal width, texts are categories.
    """
    columns = 2
    rows = -(-len(tables) // columns)
    import matplotlib as mpl  # heavy, and needed by few commands
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "savefig.transparent": False}):  # type: ignore[dict-item]
        figure = Figure(figsize=(4.4 * columns, 2.9 * rows), dpi=130)
        places = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (label, table) in zip(places, tables.items(), strict=False):
            _split_bars(axes, label, table)
        for axes in places[len(tables) :]:
            axes.set_axis_off()
        add_legend(places[0])
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _split_bars(axes: Axes, label: str, table: pd.DataFrame) -> None:
    """The share of each value in every split, bars side by side; numbers are lower edges of bins."""
    _, key, count = table.columns
    numeric = pd.api.types.is_numeric_dtype(table[key])
    values = np.array(sorted(table[key].unique()), dtype=None if numeric else object)
    places = values.astype(np.float64) if numeric else np.arange(len(values), dtype=np.float64)
    step = 1.0 if len(places) < 2 else float(np.min(np.diff(places)))
    middle = step / 2 if numeric and key.startswith("from_") else 0.0
    splits = list(table["split"].unique())
    width = 0.84 * step / len(splits)
    for k, split in enumerate(splits):
        counts = table[table["split"] == split].set_index(key)[count]
        shares = counts.reindex(values, fill_value=0).to_numpy(np.float64) / counts.sum() * 100
        look: dict[str, Any] = {"color": colour_of(k), "hatch": hatch_of(k), "edgecolor": "white", "linewidth": 0}
        axes.bar(places + middle + (k - (len(splits) - 1) / 2) * width, shares, width, label=str(split), **look)
    if not numeric:
        axes.set_xticks(np.arange(len(values)), [str(value) for value in values])
    elif pd.api.types.is_integer_dtype(table[key]):
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=label, ylabel=f"{count.removeprefix('num_')}, %" if count != "count" else "share, %")
