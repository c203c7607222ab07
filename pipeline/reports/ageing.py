"""How causal models age: what ``tasnet bench ageing`` has measured, as means, a table and a figure."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.errors import TableError
from pipeline.reports.canvas import Drawing
from pipeline.reports.figures import grouped_means
from pipeline.reports.formatting import NOTHING, interval, number, signed
from pipeline.reports.grids import Grid
from pipeline.tables import Column, Schema, read_table

AGEING = Schema(
    "scores after histories",
    (
        Column("system", "text", "a causal model, and what it forgets if anything"),
        Column("history", "text", "what its stream had taken before; the first one is what the others are compared with"),
        Column("mixture", "integer", "number of the mixture, the same for every system and history"),
        Column("si_snri_db", "number", "SI-SNR improvement, dB"),
    ),
)
NORMAL_95 = 1.96


def read_ageing(path: Path) -> pd.DataFrame:
    """The rows that ``tasnet bench ageing --out`` has written.

    Raises:
        TableError: it is no such table, a score is missing or twice there, or is not a number.
    """
    scores = read_table(path, AGEING)
    if not len(scores) or not np.isfinite(scores["si_snri_db"]).all():
        raise TableError(f"{path}: holds no scores, or some that are not finite; measure again with tasnet bench ageing")
    cells = scores.groupby(["system", "history", "mixture"]).size().unstack(["system", "history"])
    if cells.isna().any(axis=None) or (cells != 1).any(axis=None):
        raise TableError(f"{path}: not every system has one score of every mixture after every history; measure them together")
    return scores


def ageing_means(scores: pd.DataFrame) -> pd.DataFrame:
    """The mean of each system and history, and its change against the first history, in pairs of the same mixture.

    Args:
        scores: rows of AGEING.

    Returns:
        Columns system, group (the history), mean, low, high, change, change_interval (half of a 95% interval) and n.
    """
    found = []
    for system, rows in scores.groupby("system", sort=False):
        table = rows.pivot_table(index="mixture", columns="history", values="si_snri_db", sort=False)
        for history in table.columns:
            values, changes = table[history], table[history] - table[table.columns[0]]
            half = NORMAL_95 * values.std() / math.sqrt(len(values))
            found.append(
                {
                    "system": system, "group": history, "mean": values.mean(), "low": values.mean() - half,
                    "high": values.mean() + half, "change": changes.mean(),
                    "change_interval": NORMAL_95 * changes.std() / math.sqrt(len(changes)), "n": len(values),
                }
            )  # fmt: skip
    return pd.DataFrame(found)


def ageing_grid(scores: pd.DataFrame | None) -> Grid:
    """A row per system and history; no rows without scores."""
    headings = ("system", "after", "mixtures", "SI-SNRi, dB", "change, dB", "95% interval")
    means = pd.DataFrame() if scores is None else ageing_means(scores)
    first = None if means.empty else means["group"].iloc[0]
    rows = [
        (
            row["system"], row["group"], f"{row['n']:,}", number(row["mean"]),
            *((NOTHING, NOTHING) if row["group"] == first else _change(row["change"], row["change_interval"])),
        )
        for row in means.to_dict("records")
    ]  # fmt: skip
    systems = list(dict.fromkeys(row[0] for row in rows))
    return Grid(headings, tuple(rows), tuple(systems.index(row[0]) + 1 for row in rows))


def _change(change: float, half: float) -> tuple[str, str]:
    return signed(change), interval(change - half, change + half)


def ageing_figure(scores: pd.DataFrame, *, name: str = "ageing") -> Drawing:
    """Means by history, a line per system."""
    caption = "SI-SNRi of the same mixtures, separated by streams that had taken something else before."
    return grouped_means(ageing_means(scores), "SI-SNRi, dB", "what the stream has taken before", name=name, caption=caption)


def ageing_figures(scores: pd.DataFrame | None) -> list[Drawing]:
    """What a report shows; nothing without scores."""
    return [] if scores is None else [ageing_figure(scores)]
