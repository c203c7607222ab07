"""What the commands print: results on stdout, progress and notes on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline import preflight, runner, stages
from pipeline.errors import RecipeError, TableError
from pipeline.recipe import load_recipe
from pipeline.runner import Stage
from pipeline.stages import Options
from pipeline.tables import SCORES, read_table, write_table

stderr = Console(stderr=True)
stdout = Console(soft_wrap=True)


def options(work: Path, corpora: Path | None, named: Sequence[str] | None, **runtime: Any) -> Options:
    """The runtime options as the stages take them; ``named`` holds ``KIND=DIR`` texts."""
    folders: dict[str, Path] = {}
    for text in named or []:
        kind, separator, folder = text.partition("=")
        if not separator or not folder:
            raise RecipeError(f"--corpus {text}: write it as KIND=DIR, e.g. folder=/my/speech")
        folders[kind] = Path(folder).expanduser()
    given = {"num_workers" if key == "jobs" else key: value for key, value in runtime.items()}
    return Options(work=work, corpora_dir=corpora, named_corpora=folders, **given)


def run(
    path: Path, overrides: Sequence[str], names: Sequence[str], options: Options, *, force: Sequence[str], dry_run: bool
) -> None:
    """Run a recipe's stages; the comparison and the report's place go to stdout."""
    recipe = load_recipe(path, overrides)
    if dry_run:
        everything = stages.build_stages(recipe, options)
        chosen = runner.ordered(stages.named(everything, names)) if names else everything
        redone = stages.dependents(everything, stages.named(everything, force))
        _print_plan(chosen, redone, options.work)
        return
    finished = stages.run(recipe, names, options=options, force=force, announce=partial(_announce, options.work))
    if finished.report.exists() and (not names or "report" in names):
        from pipeline import reports

        stdout.out(reports.format_comparison(finished.scores, baseline=recipe.baseline), highlight=False)
        stdout.out(f"\nReport: {finished.report}", highlight=False)
    else:
        for stage in stages.named(stages.build_stages(recipe, options), names):
            stdout.out(f"{stage.title}: {stage.folder(options.work)}", highlight=False)


def _announce(work: Path, stage: Stage, done: bool) -> None:
    if done:
        stderr.print(f"[dim]{stage.title}: done already[/dim]", highlight=False)
    else:
        stderr.print(f"[bold]{stage.title}[/bold]: {stage.folder(work)}", highlight=False)


def _print_plan(chosen: Sequence[Stage], redone: Sequence[Stage], work: Path) -> None:
    """What a run would do, one line per stage."""
    again = {stage.fingerprint for stage in redone}
    for found in runner.status(chosen, work):
        if found.stage.fingerprint in again:
            stdout.out(f"would run {found.stage.title}: forced", highlight=False)
        elif found.state == "done":
            stdout.out(f"would skip {found.stage.title}: done", highlight=False)
        else:
            stdout.out(f"would run {found.stage.title}: {'; '.join(found.reasons)}", highlight=False)


def status(path: Path, overrides: Sequence[str], options: Options) -> None:
    """A table of the stages: what is done, and why the others would run."""
    found = runner.status(stages.build_stages(load_recipe(path, overrides), options), options.work)
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "state", "why, or where"):
        table.add_column(heading, overflow="fold")
    for each in found:
        where = str(each.stage.folder(options.work)) if each.state == "done" else "; ".join(each.reasons)
        table.add_row(each.stage.title, {"done": "done", "started": "interrupted", "new": "would run"}[each.state], where)
    stdout.print(table, highlight=False, markup=False)


def check(path: Path, overrides: Sequence[str], options: Options) -> None:
    """Say what a run needs and what it costs."""
    for line in preflight.findings(load_recipe(path, overrides), options):
        stdout.out(line, highlight=False)


def separate(model: Path, files: Sequence[Path], out: Path, *, device: str) -> None:
    """Separate files; prints the path of every estimate."""
    from pipeline import checkpoints, separation

    network = checkpoints.load_model(model, device=device)
    for path in separation.separate_files(network, files, out):
        stdout.out(str(path), highlight=False)


def score(estimates: Path, references: Path, mixtures: Path | None, out: Path, *, system: str, num_workers: int | None) -> None:
    """Score two folders; the table goes to a file, its means to stdout."""
    from pipeline import reports, scoring

    scores = scoring.score_folders(estimates, references, mixtures, system=system, num_workers=num_workers)
    write_table(scores, out, SCORES)
    stdout.out(reports.format_comparison(scores), highlight=False)
    stdout.out(f"\nScores: {out}", highlight=False)


def report(tables: Sequence[Path], out: Path, *, baseline: str | None) -> None:
    """A report of score tables that lie anywhere."""
    from pipeline import reports

    scores = _read_scores(tables)
    if baseline is not None and baseline not in set(scores["system"]):
        raise TableError(f"--baseline {baseline}: the tables hold the systems {', '.join(scores['system'].unique())}")
    page = reports.write_report(scores, out, title="Speech separation", baseline=baseline)
    stdout.out(f"Report: {page}", highlight=False)


def compare(a: Path, b: Path, *, fail_if: str | None) -> int:
    """The paired difference of two tables; 1 when the gate trips."""
    from pipeline import reports

    text, tripped = reports.compare(read_table(a, SCORES), read_table(b, SCORES), fail_if=fail_if)
    stdout.out(text, highlight=False)
    return int(tripped)


def _read_scores(tables: Sequence[Path]) -> pd.DataFrame:
    scores = pd.concat([read_table(path, SCORES) for path in tables], ignore_index=True)
    repeated = scores.duplicated(["system", "mixture_id", "source"])
    if repeated.any():
        row = scores[repeated].iloc[0]
        files = ", ".join(map(str, tables))
        raise TableError(f"{files}: system {row['system']!r} scores {row['mixture_id']} {row['source']} twice")
    return scores
