"""The page: what the templates show, and how they are rendered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.reports import (
    bootstrap,
    breakdowns,
    canvas,
    formatting,
    listening,
    means,
    report_figures,
    report_tables,
    sentences,
)
from pipeline.reports.analysis import Analysis
from pipeline.reports.failures import outcomes
from pipeline.reports.grids import as_markdown, markdown_escape
from pipeline.reports.strict_json import finite
from pipeline.reports.sum_check import SumCheck

MAX_PAGE_BYTES = 9_900_000
"""How large sounds and pictures may make the page, so that it stays below 10 MB."""


def render_html(analysis: Analysis, parts: Mapping[str, Any], examples: listening.Loader | None, num_examples: int) -> str:
    """The page with as many examples to listen to as its size allows."""
    template = _environment(autoescape=True).get_template("report.html.jinja")
    html = template.render({**parts, **_listening_parts(listening.Examples(()))})
    if examples is None:
        return html
    room = MAX_PAGE_BYTES - len(html.encode())
    chosen = listening.make_examples(analysis, examples, num_examples, max_bytes=room)
    return template.render({**parts, **_listening_parts(chosen)})


def render_markdown(parts: Mapping[str, Any]) -> str:
    """The same report as Markdown, without players."""
    return _environment(autoescape=False).get_template("report.md.jinja").render(parts)


def _listening_parts(examples: listening.Examples) -> dict[str, Any]:
    """The players, and what was dropped to keep the page small."""
    notes = []
    if examples.cut_to_seconds is not None:
        notes.append(f"Longer clips are cut to {examples.cut_to_seconds:g} s.")
    if examples.num_left_out:
        notes.append(f"{formatting.plural(examples.num_left_out, 'example')} left out to keep this page small.")
    return {"examples": examples.shown, "left_out": " ".join(notes)}


# ------------------------------------------------------------------------------------------------ what the templates show
def parts_of(analysis: Analysis, sums: SumCheck, frames: pd.DataFrame) -> dict[str, Any]:
    """Everything that the templates show, by the names they use."""
    return {"analysis": analysis, **_tables(analysis, sums), **_figures(analysis, frames), **_sentences(analysis, sums)}


def _tables(analysis: Analysis, sums: SumCheck) -> dict[str, Any]:
    grids = {name: report_tables.breakdown_grid(table, name, analysis.systems) for name, table in analysis.breakdowns.items()}
    return {
        "results": report_tables.results_grid(analysis),
        "spread": report_tables.spread_grid(analysis),
        "runs": report_tables.runs_grid(analysis),
        "effects": report_tables.effects_grid(analysis),
        "pairs": report_tables.pairs_grid(analysis, of_baseline=True),
        "other_pairs": report_tables.pairs_grid(analysis, of_baseline=False),
        "breakdowns": grids,
        "costs": report_tables.costs_grid(analysis),
        "excluded": report_tables.excluded_grid(analysis),
        "health": report_tables.health_grid(sums.with_findings(analysis.health)),
        "mixture_rows": mixture_rows(analysis),
    }


def _figures(analysis: Analysis, frames: pd.DataFrame) -> dict[str, Any]:
    return {
        "result_figures": report_figures.results_figures(analysis),
        "pair_figures": report_figures.pair_figures(analysis),
        "breakdown_figures": report_figures.breakdown_figures(analysis),
        "over_time_figures": report_figures.over_time_figures(frames),
        "training_figures": report_figures.training_figures(analysis),
    }


def _sentences(analysis: Analysis, sums: SumCheck) -> dict[str, Any]:
    return {
        "published_sources": report_tables.sources_of_published(analysis),
        "machine_sentence": report_tables.machine_sentence(analysis),
        "coverage_sentence": analysis.coverage,
        "excluded_sentence": sentences.excluded(analysis.num_excluded, analysis.coverage.num_given),
        "permutation_sentence": sentences.permutations(analysis.scores["permutation"], analysis.disagreements),
        "verification_sentence": sentences.verification(analysis.context.verification),
        "sum_sentence": sums.sentence,
        "unit": analysis.summaries["resampled"].iloc[0],
        "margin": formatting.MARGINS[analysis.metric],
        "num_resamples": f"{bootstrap.NUM_RESAMPLES:,}",
    }


def mixture_rows(analysis: Analysis) -> dict[str, Any]:
    """The table of mixtures: columns, and rows of text, numbers and nulls; of many systems only the first metric."""
    scores = analysis.given_scores
    firsts = scores.groupby("mixture_id").first()
    sexes = breakdowns.sex_pairs(scores).groupby(scores["mixture_id"]).first()
    columns: list[tuple[str, int | None, Any]] = [("mixture", None, firsts.index)]
    columns += [("seconds", 1, means.seconds_of(firsts))] if firsts["sample_rate"].notna().any() else []
    columns += [("sexes", None, sexes)] if sexes.notna().any() else []
    columns += _score_columns(analysis, scores)
    columns.append(("status", None, scores.groupby("mixture_id")["status"].agg(_statuses)))
    rows = zip(*(np.asarray(values, dtype=object) for _, _, values in columns), strict=True)
    described = [{"name": name, "digits": digits} for name, digits, _ in columns]
    return {"columns": described, "rows": [[finite(cell) for cell in row] for row in rows]}


def _score_columns(analysis: Analysis, scores: pd.DataFrame) -> list[tuple[str, int | None, Any]]:
    """Every system's own values, and of two systems their difference."""
    shown = analysis.metrics if len(analysis.systems) <= report_tables.MOST_SYSTEMS_IN_FULL else analysis.metrics[:1]
    values = {metric: outcomes(scores, metric).means for metric in shown}
    columns: list[tuple[str, int | None, Any]] = [
        (f"{system} {formatting.LABELS[metric]}", 2, table[system])
        for system in analysis.systems
        for metric, table in values.items()
    ]
    if len(analysis.systems) == 2:
        first, second = analysis.systems
        own = values[analysis.metric]
        columns.append((f"{second} − {first}", 2, own[second] - own[first]))
    return columns


def _statuses(values: pd.Series) -> str:
    return ", ".join(sorted(set(values) - {"ok"})) or "ok"


# -------------------------------------------------------------------------------------------------------------- rendering
def _environment(*, autoescape: bool) -> Environment:
    loader = PackageLoader("pipeline.reports", "templates")
    environment = Environment(loader=loader, autoescape=autoescape, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters |= {"inline_svg": _inline_svg, "unbroken": _unbroken, "tojson": _script_json}
    environment.filters |= {"md": markdown_escape, "markdown": as_markdown}
    return environment


def _inline_svg(drawing: canvas.Drawing) -> Markup:
    """A figure with a description for screen readers, in the page's colours; matplotlib has escaped its text."""
    described = f'<svg role="img" aria-label="{escape(drawing.caption)}"'
    return Markup(canvas.themed(drawing.svg).replace("<svg", described, 1))


def _unbroken(text: str) -> Markup:
    """Escaped text in which no line break separates a metric's name or a number from its unit."""
    return Markup(str(escape(text)).replace(" dB", "\u00a0dB").replace("SI-SNR", '<span class="whole">SI-SNR</span>'))


def _script_json(value: Any) -> Markup:
    """Compact JSON that cannot end the script element it is in."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
