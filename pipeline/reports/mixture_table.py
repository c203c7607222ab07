"""The table of every mixture, and where else on the page a mixture is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from pipeline.reports import breakdowns, formatting, means
from pipeline.reports.analysis import Analysis
from pipeline.reports.failures import outcomes
from pipeline.reports.report_tables import MOST_SYSTEMS_IN_FULL
from pipeline.reports.strict_json import finite


@dataclass(frozen=True)
class Places:
    """Where a page shows a mixture: its row in the table of mixtures, and its player if it has one."""

    rows: Mapping[str, int]
    players: Mapping[str, int] = field(default_factory=dict)

    def link(self, mixture_id: str, text: str | None = None) -> Markup:
        """A link to the mixture's player, or else to its row; of a name that is no mixture only the text."""
        shown = mixture_id if text is None else text
        if mixture_id in self.players:
            return Markup('<a href="#example-{}">{}</a>').format(self.players[mixture_id], shown)
        return self.row_link(mixture_id, shown)

    def row_link(self, mixture_id: str, text: str) -> Markup:
        """A link to the mixture's row. Rows exist only once they are shown, so the link names the table and the row's number."""
        if mixture_id not in self.rows:
            return escape(text)
        return Markup('<a href="#mixtures" data-row="{}">{}</a>').format(self.rows[mixture_id], text)


def linked(text: str, mentions: Sequence[tuple[str, str]], places: Places) -> Markup:
    """A text in which each mention, given as the words around a mixture's name and that name, is a link."""
    done, rest = Markup(), text
    for words, mixture_id in mentions:
        before, found, after = rest.partition(words)
        if found:
            lead, _, trail = words.rpartition(mixture_id)
            done, rest = done + before + lead + places.link(mixture_id) + trail, after
    return done + rest


def row_numbers(analysis: Analysis) -> dict[str, int]:
    """The number of every mixture's row, as ``mixture_rows`` has them."""
    return {str(name): number for number, name in enumerate(sorted(analysis.given_scores["mixture_id"].unique()))}


# ------------------------------------------------------------------------------------------------------------- the table
def mixture_rows(analysis: Analysis) -> dict[str, Any]:
    """The table of mixtures, in the order of their ids; of many systems only the first metric.

    Returns:
        columns: a name, the digits of a number, and for scores the system's place from 1 (0 for others).
        rows: text, numbers and nulls.
        sources: for every row a list with the source, its speaker, and a value for every column of scores.
    """
    scores = analysis.given_scores
    firsts = scores.groupby("mixture_id").first()
    sexes = breakdowns.sex_pairs(scores).groupby(scores["mixture_id"]).first()
    columns: list[_Column] = [_Column("mixture", firsts.index)]
    columns += [_Column("seconds", means.seconds_of(firsts), 1)] if firsts["sample_rate"].notna().any() else []
    columns += [_Column("sexes", sexes)] if sexes.notna().any() else []
    shown = _score_columns(analysis, scores)
    columns += shown
    columns.append(_Column("status", scores.groupby("mixture_id")["status"].agg(_statuses)))
    rows = zip(*(np.asarray(column.values, dtype=object) for column in columns), strict=True)
    described = [{"name": column.name, "digits": column.digits, "system": column.place} for column in columns]
    cells = [[finite(cell) for cell in row] for row in rows]
    return {"columns": described, "rows": cells, "sources": _source_values(scores, firsts.index, shown)}


@dataclass(frozen=True)
class _Column:
    """A column of the table: numbers with these digits or, without, text; scores name system and metric."""

    name: str
    values: Any
    digits: int | None = None
    place: int = 0
    system: str = ""
    metric: str = ""


def _score_columns(analysis: Analysis, scores: pd.DataFrame) -> list[_Column]:
    """Every system's own values, and of two systems their difference."""
    shown = analysis.metrics if len(analysis.systems) <= MOST_SYSTEMS_IN_FULL else analysis.metrics[:1]
    values = {metric: outcomes(scores, metric).means for metric in shown}
    columns = [
        _Column(f"{system} {formatting.LABELS[metric]}", table[system], 2, place, system, metric)
        for place, system in enumerate(analysis.systems, 1)
        for metric, table in values.items()
    ]
    if len(analysis.systems) == 2:
        first, second = analysis.systems
        own = values[analysis.metric]
        columns.append(_Column(f"{second} − {first}", own[second] - own[first], 2))
    return columns


def _source_values(scores: pd.DataFrame, mixture_ids: pd.Index, shown: Sequence[_Column]) -> list[list[list[Any]]]:
    """For every mixture its sources: name, speaker, and the values of the score columns; nothing for means over a mixture."""
    rows = scores[scores["source"] != means.WHOLE_MIXTURE]
    keys = ["mixture_id", "source"]
    firsts = rows.groupby(keys).first()
    named = [firsts[name].fillna("").astype(str) for name in ("speaker_id", "sex") if name in firsts]
    speakers = [", ".join(filter(None, parts)) for parts in zip(*named, strict=True)] if named else [""] * len(firsts)
    found = rows.set_index([*keys, "system"])
    tables = {
        metric: found[metric].unstack("system") for metric in dict.fromkeys(column.metric for column in shown if column.place)
    }
    values = [
        tables[column.metric].get(column.system, pd.Series(dtype=np.float64)).reindex(firsts.index).round(2)
        for column in shown
        if column.place
    ]
    sources: dict[Any, list[list[Any]]] = {name: [] for name in mixture_ids}
    for (mixture_id, source), speaker, *numbers in zip(firsts.index, speakers, *values, strict=True):
        sources[mixture_id].append([source, speaker, [number if np.isfinite(number) else None for number in numbers]])
    return list(sources.values())


def _statuses(values: pd.Series) -> str:
    return ", ".join(sorted(set(values) - {"ok"})) or "ok"
