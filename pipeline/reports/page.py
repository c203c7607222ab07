"""The page: what the templates show, and how they are rendered."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.reports import (
    ageing,
    bootstrap,
    canvas,
    formatting,
    health,
    listening,
    mixture_table,
    report_figures,
    report_tables,
    sentences,
    spectrograms,
)
from pipeline.reports.analysis import Analysis
from pipeline.reports.clips import Loader
from pipeline.reports.grids import as_markdown, markdown_escape
from pipeline.reports.sum_check import SumCheck

MAX_PAGE_BYTES = 9_900_000
"""How large sounds and pictures may make the page, so that it stays below 10 MB."""


def render_html(analysis: Analysis, parts: Mapping[str, Any], examples: Loader | None, num_examples: int) -> str:
    """The page with as many examples to listen to as its size allows."""
    template = _environment(autoescape=True).get_template("report.html.jinja")
    rows = mixture_table.row_numbers(analysis)
    html = template.render({**parts, **_listening_parts(listening.Examples(()), rows)})
    if examples is None:
        return html
    room = MAX_PAGE_BYTES - len(html.encode())
    chosen = listening.make_examples(analysis, examples, num_examples, max_bytes=room)
    return template.render({**parts, **_listening_parts(chosen, rows)})


def render_markdown(parts: Mapping[str, Any]) -> str:
    """The same report as Markdown, without players."""
    return _environment(autoescape=False).get_template("report.md.jinja").render(parts)


def _listening_parts(examples: listening.Examples, rows: Mapping[str, int]) -> dict[str, Any]:
    """The players, where each mixture is found, how many players there are, and what was dropped to keep the page small."""
    notes = []
    if examples.shown:
        playable = formatting.plural(examples.num_playable, "mixture")
        notes.append(f"Players for {len(examples.shown):,} of the {playable} with audio and a score from every system.")
    if examples.cut_to_seconds is not None:
        notes.append(f"Longer clips are cut to {examples.cut_to_seconds:g} s.")
    if examples.num_left_out:
        notes.append(f"{formatting.plural(examples.num_left_out, 'example')} left out to keep this page small.")
    players = {example.mixture_id: example.number for example in examples.shown}
    return {
        "examples": examples.shown,
        "players_sentence": " ".join(notes),
        "places": mixture_table.Places(rows, players),
        "row_players": {rows[name]: number for name, number in players.items()},
        "colour_scale": spectrograms.colour_scale() if examples.shown else "",
        "depth_db": spectrograms.DEPTH_DB,
    }


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
        "one_speaker": report_tables.one_speaker_grid(analysis),
        "effects": report_tables.effects_grid(analysis),
        "pairs": report_tables.pairs_grid(analysis, of_baseline=True),
        "other_pairs": report_tables.pairs_grid(analysis, of_baseline=False),
        "breakdowns": grids,
        "costs": report_tables.costs_grid(analysis),
        "ageing": ageing.ageing_grid(analysis.context.ageing),
        "excluded": report_tables.excluded_grid(analysis),
        "health": report_tables.health_grid(sums.with_findings(analysis.health)),
        "mixture_rows": mixture_table.mixture_rows(analysis),
    }


def _figures(analysis: Analysis, frames: pd.DataFrame) -> dict[str, Any]:
    return {
        "map_figures": report_figures.map_figures(analysis),
        "result_figures": report_figures.results_figures(analysis),
        "pair_figures": report_figures.pair_figures(analysis),
        "breakdown_figures": report_figures.breakdown_figures(analysis),
        "over_time_figures": report_figures.over_time_figures(frames),
        "training_figures": report_figures.training_figures(analysis),
        "ageing_figures": ageing.ageing_figures(analysis.context.ageing),
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


# -------------------------------------------------------------------------------------------------------------- rendering
def _environment(*, autoescape: bool) -> Environment:
    loader = PackageLoader("pipeline.reports", "templates")
    environment = Environment(loader=loader, autoescape=autoescape, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters |= {"inline_svg": _inline_svg, "unbroken": _unbroken, "whole": _whole, "tojson": _script_json}
    environment.filters |= {"md": markdown_escape, "markdown": as_markdown, "linked": mixture_table.linked}
    environment.filters |= {"mentioned": health.mentioned}
    return environment


def _inline_svg(drawing: canvas.Drawing) -> Markup:
    """A figure with a description for screen readers, in the page's colours; matplotlib has escaped its text."""
    described = f'<svg role="img" aria-label="{escape(drawing.caption)}"'
    return Markup(canvas.themed(drawing.svg).replace("<svg", described, 1))


def _unbroken(text: str) -> Markup:
    """Escaped text in which no line break separates a metric's name or a number from its unit."""
    return _whole(text).replace(" dB", "\u00a0dB")


def _whole(text: str) -> Markup:
    """Escaped text in which no line break separates a metric's name."""
    return Markup(re.sub(r"SI-S[ND]Ri?", r'<span class="whole">\g<0></span>', str(escape(text))))


def _script_json(value: Any) -> Markup:
    """Compact JSON that cannot end the script element it is in."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
