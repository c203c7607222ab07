"""The files of a report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.files import written_whole
from pipeline.reports import contents as made
from pipeline.reports import drawings, figures, listening, onsets, statistics, tabulating, words
from pipeline.reports.contents import Contents, Facts
from pipeline.reports.grids import as_latex, as_markdown, markdown_escape
from pipeline.reports.sums import check_sums

VERSION = 1
"""Raise it when the same scores would give another report."""

MAX_PAGE_BYTES = 9_900_000
"""What sounds and pictures may fill the page to, so that it stays below 10 MB."""


def write_report(
    scores: pd.DataFrame,
    out: Path,
    *,
    title: str,
    histories: Mapping[str, pd.DataFrame] | None = None,
    models: Facts | None = None,
    published: Facts | None = None,
    baseline: str | None = None,
    provenance: Mapping[str, str] | None = None,
    examples: listening.Loader | None = None,
    num_examples: int = 5,
    oracles: pd.DataFrame | None = None,
    verification: Mapping[str, Any] | None = None,
) -> Path:
    """Write a report: the same arguments give the same bytes.

    Args:
        scores: rows of ``tables.SCORES``, all systems below each other.
        out: folder for report.html, report.md, summary.csv, pairs.csv, summary.json, summary.tex and figures/.
        title: usually the recipe's name.
        histories: by system, its training history as ``tables.HISTORY``.
        models: by system, facts such as ``num_parameters``, ``receptive_field_seconds``, ``look_ahead_samples``,
            ``macs_per_second``, ``real_time_factor``, ``causal``, ``norm``.
        published: by system, ``si_snri_db``, ``sdri_db`` and ``source``; shown as not rerun.
        baseline: the system others are compared with; by default the first.
        provenance: names and values for the last section; a value of several lines is folded.
        examples: gives a mixture's audio by its id, see ``clip_loader``; without it there are no players.
        num_examples: how many mixtures to listen to.
        oracles: rows of ``tables.SCORES`` of estimates made with the references' help, such as ideal masks: shown beside the
            systems for context, and never compared with them.
        verification: what recomputing some rows with mir_eval found: ``num_rows``, ``largest_difference_db``,
            ``permutations_equal`` and ``mir_eval``, its version.

    Returns:
        The path of report.html.

    Raises:
        ScoreError: there are no scores, a row is there twice, or the baseline has none.
        WorkError: the folder cannot be written.
    """
    contents = made.gather(
        scores,
        title=title,
        histories=histories or {},
        models=models or {},
        published=published or {},
        baseline=baseline,
        provenance=provenance or {},
        oracles=oracles,
        verification=verification,
    )
    checked = check_sums(contents, examples)
    health = pd.concat([contents.health, checked.findings], ignore_index=True) if len(checked.findings) else contents.health
    over_time = onsets.improvement_over_time(contents, examples)
    parts = _parts(contents, health) | {"sum_sentence": checked.sentence, "onset_drawings": drawings.onset_drawings(over_time)}
    page = _environment(autoescape=True).get_template("report.html.jinja")
    html = page.render(parts | _listening_parts(listening.Examples(())))
    if examples is not None:
        room = MAX_PAGE_BYTES - len(html.encode())
        heard = listening.make_examples(contents, examples, num_examples, max_bytes=room)
        html = page.render(parts | _listening_parts(heard))
    _write_tables(contents, parts, out)
    _write(out / "summary.json", strict_json(_numbers(contents) | {"health": _records(health), "over_time": _records(over_time)}))
    _write_figures(parts, out)
    _write(out / "report.md", _environment(autoescape=False).get_template("report.md.jinja").render(parts))
    _write(out / "report.html", html)
    return out / "report.html"


def _write_tables(contents: Contents, parts: Mapping[str, Any], out: Path) -> None:
    _write(out / "summary.csv", _summaries(contents).to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    _write(out / "pairs.csv", contents.pairs.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    _write(out / "summary.tex", as_latex(parts["results"]))


def _summaries(contents: Contents) -> pd.DataFrame:
    """The systems' summaries, then the oracles', told apart by the last column."""
    systems, oracles = contents.summaries.assign(kind="system"), contents.oracle_summaries.assign(kind="oracle")
    return systems if oracles.empty else pd.concat([systems, oracles], ignore_index=True)


def _write_figures(parts: Mapping[str, Any], out: Path) -> None:
    for drawing in (d for name in _DRAWINGS for d in parts[name]):
        _write(out / "figures" / f"{drawing.name}.svg", drawing.svg)
        _write(out / "figures" / f"{drawing.name}.pdf", drawing.pdf)


_DRAWINGS = ("result_drawings", "pair_drawings", "breakdown_drawings", "onset_drawings", "training")


def _parts(contents: Contents, health: pd.DataFrame) -> dict[str, Any]:
    """What the templates lay out, by the names they use."""
    return {
        "contents": contents,
        "results": tabulating.results_grid(contents),
        "published_sources": tabulating.sources_of_published(contents),
        "spread": tabulating.spread_grid(contents),
        "runs": tabulating.runs_grid(contents),
        "effects": tabulating.effects_grid(contents),
        "pairs": tabulating.pairs_grid(contents, of_baseline=True),
        "other_pairs": tabulating.pairs_grid(contents, of_baseline=False),
        "breakdowns": {
            name: tabulating.breakdown_grid(table, name, contents.systems) for name, table in contents.breakdowns.items()
        },
        "costs": tabulating.costs_grid(contents),
        "machine_sentence": tabulating.machine_sentence(contents),
        "excluded": tabulating.excluded_grid(contents),
        "excluded_sentence": _excluded_sentence(contents),
        "permutation_sentence": _permutation_sentence(contents),
        "verification_sentence": words.verification(contents.verification),
        "health": tabulating.health_grid(health),
        "result_drawings": drawings.results_drawings(contents),
        "pair_drawings": drawings.pair_drawings(contents),
        "breakdown_drawings": drawings.breakdown_drawings(contents),
        "training": drawings.training_drawings(contents),
        "unit": contents.summaries["resampled"].iloc[0],
        "margin": statistics.MARGIN_DB,
        "num_resamples": f"{statistics.NUM_RESAMPLES:,}",
        "mixture_rows": mixture_rows(contents),
    }


def _listening_parts(examples: listening.Examples) -> dict[str, Any]:
    """The players, and what had to give way to the page's size."""
    sentences = []
    if examples.cut_to_seconds is not None:
        sentences.append(f"Longer clips are cut to {examples.cut_to_seconds:g} s.")
    if examples.num_left_out:
        sentences.append(f"{words.plural(examples.num_left_out, 'example')} left out to keep this page small.")
    return {"examples": examples.shown, "left_out": " ".join(sentences)}


def _excluded_sentence(contents: Contents) -> str:
    num_mixtures = int(contents.means.isna().any(axis=1).sum())
    return (
        f"{words.plural(num_mixtures, 'mixture')} of {len(contents.means):,} lack a value for at least one system and are "
        "left out of that system's means and of its differences. Their statuses:"
    )


def _permutation_sentence(contents: Contents) -> str:
    criterion = " and ".join(sorted(set(contents.scores["permutation"]))).replace("si_snr", "SI-SNR").replace("sir", "SIR")
    if "" in set(contents.scores["permutation"]):
        return "The scores do not say how estimates were assigned to references."
    count = contents.disagreements
    found = "nowhere" if count == 0 else f"for {words.plural(count, 'separated mixture')}"
    return f"Estimates are assigned to references by {criterion}; the other criterion would assign them differently {found}."


def mixture_rows(contents: Contents) -> dict[str, Any]:
    """The page's table of mixtures: its columns, and rows of text, numbers and nulls; of many systems the first metric only."""
    firsts = contents.scores.groupby("mixture_id").first()
    sexes = statistics.sex_pairs(contents.scores).groupby(contents.scores["mixture_id"]).first()
    columns: list[tuple[str, int | None, Any]] = [("mixture", None, contents.means.index)]
    columns += [("seconds", 1, statistics.seconds_of(firsts))] if firsts["sample_rate"].notna().any() else []
    columns += [("sexes", None, sexes)] if sexes.notna().any() else []
    shown = contents.metrics if len(contents.systems) <= tabulating.MOST_SYSTEMS_IN_FULL else contents.metrics[:1]
    means = {metric: statistics.mixture_means(contents.scores, metric) for metric in shown}
    for system in contents.systems:
        columns += [(f"{system} {words.LABELS[metric]}", 2, values[system]) for metric, values in means.items()]
    if len(contents.systems) == 2:
        first, second = contents.systems
        columns.append((f"{second} − {first}", 2, contents.means[second] - contents.means[first]))
    columns.append(("status", None, contents.scores.groupby("mixture_id")["status"].agg(_statuses)))
    rows = zip(*(np.asarray(values, dtype=object) for _, _, values in columns), strict=True)
    described = [{"name": name, "digits": digits} for name, digits, _ in columns]
    return {"columns": described, "rows": [[_finite(cell) for cell in row] for row in rows]}


def _statuses(values: pd.Series) -> str:
    return ", ".join(sorted(set(values) - {"ok"})) or "ok"


# ------------------------------------------------------------------------------------------------------------------ JSON
def _numbers(contents: Contents) -> dict[str, Any]:
    return {
        "title": contents.title,
        "headline": contents.headline,
        "conclusions": contents.conclusions,
        "baseline": contents.baseline,
        "systems": contents.systems,
        "summaries": _records(contents.summaries),
        "oracles": _records(contents.oracle_summaries),
        "runs": {metric: _records(table) for metric, table in contents.run_spread.items()},
        "pairs": _records(contents.pairs),
        "breakdowns": {name: _records(table) for name, table in contents.breakdowns.items()},
        "excluded": _records(contents.excluded),
        "permutation_disagreements": contents.disagreements,
        "verification": dict(contents.verification),
        "models": {name: dict(facts) for name, facts in contents.models.items()},
        "published": {name: dict(figures) for name, figures in contents.published.items()},
        "provenance": dict(contents.provenance),
    }


def _records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")


def strict_json(value: Any) -> str:
    """JSON as its standard has it: null where a number is not finite."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def _finite(value: Any) -> Any:
    """The value with plain Python numbers, rounded to nine digits, and None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, str) else str(value)


# ----------------------------------------------------------------------------------------------------------------- files
def _environment(*, autoescape: bool) -> Environment:
    loader = PackageLoader("pipeline.reports", "templates")
    environment = Environment(loader=loader, autoescape=autoescape, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["pictured"] = _pictured
    environment.filters["unbroken"] = _unbroken
    environment.filters |= {"md": markdown_escape, "markdown": as_markdown}
    environment.filters["tojson"] = _script_json
    return environment


def _pictured(drawing: figures.Drawing) -> Markup:
    """A figure as an image with a description, in the page's colours; matplotlib has escaped its texts."""
    described = f'<svg role="img" aria-label="{escape(drawing.caption)}"'
    return Markup(figures.themed(drawing.svg).replace("<svg", described, 1))


def _unbroken(text: str) -> Markup:
    """Escaped text whose metrics and quantities are not torn apart at the end of a line."""
    whole = str(escape(text)).replace(" dB", "\u00a0dB").replace("SI-SNR", '<span class="whole">SI-SNR</span>')
    return Markup(whole)


def _script_json(value: Any) -> Markup:
    """Compact JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _write(path: Path, text: str | bytes) -> None:
    with written_whole(path) as temporary:
        temporary.write_bytes(text.encode() if isinstance(text, str) else text)
