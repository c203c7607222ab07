"""The files of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.files import name_fault, written_whole
from pipeline.reports import over_time, page, strict_json
from pipeline.reports.analysis import Analysis, Context, Facts, analyse
from pipeline.reports.clips import Loader
from pipeline.reports.grids import as_latex
from pipeline.reports.report_tables import results_grid
from pipeline.reports.sum_check import SumCheck, check_sums

VERSION = 6
"""Raise it when the same scores would give another report."""

_LIST = "written.txt"
"""Names the figures of a report, so that the next one in the same folder removes no others."""
_FIGURES = (
    "result_figures",
    "pair_figures",
    "breakdown_figures",
    "over_time_figures",
    "training_figures",
    "ageing_figures",
    "map_figures",
)


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
    examples: Loader | None = None,
    num_examples: int = 5,
    oracles: pd.DataFrame | None = None,
    verification: Mapping[str, Any] | None = None,
    dataset_findings: Sequence[tuple[str, str, str]] = (),
    ageing: pd.DataFrame | None = None,
) -> Path:
    """Write a report and return the path of its report.html; the same arguments give the same bytes.

    Args:
        scores: rows of ``tables.SCORES``, all systems in one table.
        out: folder for report.html, report.md, summary.csv, pairs.csv, summary.json, summary.tex and figures/.
        title, baseline: usually the recipe's name; the system that the others are compared with, by default the first.
        histories, models: by system, rows of ``tables.HISTORY``, and facts such as ``num_parameters`` and ``causal``.
        published: by system, ``si_snri_db``, ``sdri_db`` and ``source``; shown as not rerun.
        provenance: names and values for the last section; a value of several lines is folded.
        examples, num_examples: loads a mixture's audio by its id (``FileLoader``), for at most so many players; or no players.
        oracles: rows of ``tables.SCORES`` for estimates that used the references: shown for context, never compared.
        verification: result of recomputing rows with mir_eval, see ``sentences.verification``.
        dataset_findings: what looks wrong with the test set beside the scores: finding, mixture (or nothing) and detail.
        ageing: what ``tasnet bench ageing`` has measured, rows of ``ageing.AGEING``.

    Raises:
        ScoreError: there are no scores, a row appears twice, or the baseline has no scores.
        WorkError: the folder cannot be written.
    """
    beside = (histories or {}, models or {}, published or {}, provenance or {}, verification or {}, dataset_findings, ageing)
    analysis = analyse(scores, Context(title, *beside), baseline=baseline, oracles=oracles)
    sums, frames = check_sums(analysis, examples), over_time.improvement_over_time(analysis, examples)
    parts = page.parts_of(analysis, sums, frames)
    html = page.render_html(analysis, parts, examples, num_examples)
    _write_tables(analysis, sums, frames, out)
    _write_figures(parts, out)
    _write(out / "report.md", page.render_markdown(parts))
    return _write(out / "report.html", html)


def _write_tables(analysis: Analysis, sums: SumCheck, frames: pd.DataFrame, out: Path) -> None:
    """The numbers as CSV, LaTeX and JSON; oracles follow the systems, told apart by the column ``kind``."""
    systems, oracles = analysis.summaries.assign(kind="system"), analysis.oracle_summaries.assign(kind="oracle")
    summaries = systems if oracles.empty else pd.concat([systems, oracles], ignore_index=True)
    for name, table in (("summary.csv", summaries), ("pairs.csv", analysis.pairs)):
        _write(out / name, table.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    _write(out / "summary.tex", as_latex(results_grid(analysis)))
    _write(out / "summary.json", strict_json.dumps(strict_json.numbers(analysis, sums, frames)))


def _write_figures(parts: Mapping[str, Any], out: Path) -> None:
    """Write the figures, and remove those that an earlier report wrote here and this one does not have."""
    drawings = [drawing for name in _FIGURES for drawing in parts[name]]
    for drawing in drawings:
        _write(out / "figures" / f"{drawing.name}.svg", drawing.svg)
        _write(out / "figures" / f"{drawing.name}.pdf", drawing.pdf)
    written = [f"{drawing.name}.{ending}" for drawing in drawings for ending in ("svg", "pdf")]
    listed = out / "figures" / _LIST
    for name in set(listed.read_text("utf-8").splitlines() if listed.is_file() else []) - set(written):
        if name_fault(name) is None:
            (out / "figures" / name).unlink(missing_ok=True)
    _write(listed, "".join(f"{name}\n" for name in written))


def _write(path: Path, content: str | bytes) -> Path:
    with written_whole(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
