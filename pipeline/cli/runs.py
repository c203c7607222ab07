"""Commands that run recipes: ``run``, ``check``, ``status``, ``show`` and ``recipes``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.arguments import (
    ClusterName,
    Compile,
    Corpora,
    Device,
    Jobs,
    MicroBatch,
    NamedCorpora,
    NoLock,
    NoResident,
    Overrides,
    RecipeName,
    Work,
    number,
    options,
)
from pipeline.compute.torchrun import rank

if TYPE_CHECKING:
    from pipeline.compute.options import Options
    from pipeline.recipe.schema import Recipe
    from pipeline.stages.run import Run
    from pipeline.stages.runner import Stage

Stages = Annotated[
    list[str] | None,
    typer.Argument(help="Run only these stages and the ones they need: mix, train, train:causal …", metavar="[STAGE]…"),
]
CheckpointMinutes = Annotated[
    float, typer.Option(metavar="NUMBER", parser=number(0, 1e6), help="Minutes between saved training states.")
]
CheckpointSteps = Annotated[
    int | None,
    typer.Option(min=1, max=1_000_000_000, help="Also save the training state after this many steps.", show_default=False),
]
Force = Annotated[
    list[str] | None,
    typer.Option("--force", metavar="STAGE", help="Run this stage again, and all that depend on it. Can be repeated."),
]
Full = Annotated[
    bool,
    typer.Option(
        "--full",
        help="Read every corpus file again, even if its size and time stamps are as before. Takes as long as reading the corpus: "
        "2 s of processor time per GB, so 12 s for train-clean-100 and 35 s for WHAM! noise, or what the disk needs.",
    ),
]
Decode = Annotated[
    bool, typer.Option("--decode", help="Decode every sample of every file that would be used, instead of the beginnings only.")
]
DryRun = Annotated[bool, typer.Option("-n", "--dry-run", help="Only print what would be done.")]


def run(
    recipe: RecipeName,
    stages: Stages = None,
    overrides: Overrides = None,
    work: Work = Path("work"),
    corpora: Corpora = None,
    corpus: NamedCorpora = None,
    jobs: Jobs = None,
    cluster: ClusterName = None,
    device: Device = "auto",
    compile_: Compile = "auto",
    micro_batch: MicroBatch = None,
    no_resident: NoResident = False,
    checkpoint_minutes: CheckpointMinutes = 5.0,
    checkpoint_steps: CheckpointSteps = None,
    force: Force = None,
    no_lock: NoLock = False,
    dry_run: DryRun = False,
) -> None:
    """Run a recipe: make the mixtures, train the systems, score them and write a report.

    Finished stages are skipped. A run that was interrupted continues when the same command is given again.

    On several GPUs: torchrun --nproc-per-node 8 --no-python tasnet run RECIPE
    """
    from pipeline.recipe.reading import load_recipe

    training: dict[str, Any] = {"device": device, "compile": compile_, "micro_batch": micro_batch, "resident": not no_resident}
    saving = {"checkpoint_minutes": checkpoint_minutes, "checkpoint_steps": checkpoint_steps}
    given = options(work, corpora, corpus, num_workers=jobs, cluster=cluster, lock=not no_lock, **training, **saving)
    loaded, names = load_recipe(recipe, overrides or []), stages or []
    if dry_run:
        _print_plan(loaded, names, force or [], given)
    else:
        _run(loaded, names, force or [], given)


def check(
    recipe: RecipeName,
    overrides: Overrides = None,
    work: Work = Path("work"),
    corpora: Corpora = None,
    corpus: NamedCorpora = None,
    jobs: Jobs = None,
    full: Full = False,
    decode: Decode = False,
) -> None:
    """Check a recipe, its corpora and the disk space, and estimate the time it takes; nothing is written."""
    from pipeline.recipe.reading import load_recipe
    from pipeline.stages import preflight

    given = options(work, corpora, corpus, num_workers=jobs)
    for line in preflight.findings(load_recipe(recipe, overrides or []), given, full=full, decode=decode):
        typer.echo(line)


def status(
    recipe: RecipeName,
    overrides: Overrides = None,
    work: Work = Path("work"),
    corpora: Corpora = None,
    corpus: NamedCorpora = None,
) -> None:
    """Show which stages of a recipe are done, and why the others would run."""
    from rich.console import Console
    from rich.table import Table

    from pipeline.recipe.reading import load_recipe
    from pipeline.stages import graph, runner

    stages = graph.build_stages(load_recipe(recipe, overrides or []), options(work, corpora, corpus))
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "state", "why, or where"):
        table.add_column(heading, overflow="fold")
    for found in runner.status(stages, work):
        where = str(found.stage.folder(work)) if found.state == "done" else "; ".join(found.reasons)
        table.add_row(found.stage.id, {"done": "done", "started": "interrupted", "new": "would run"}[found.state], where)
    Console(soft_wrap=True, emoji=False).print(table, highlight=False, markup=False)


def show(recipe: RecipeName, overrides: Overrides = None) -> None:
    """Print a recipe in full, with every default written out."""
    from pipeline.recipe.reading import load_recipe
    from pipeline.recipe.writing import format_recipe

    typer.echo(format_recipe(load_recipe(recipe, overrides or [])).encode(), nl=False)  # TOML is UTF-8 on any terminal


recipes = typer.Typer(help="List the shipped recipes, or copy one to edit it.")


@recipes.callback(invoke_without_command=True)
def list_recipes(context: typer.Context) -> None:
    """List the recipes that come with the package: what they make, need and take."""
    if context.invoked_subcommand is None:
        from pipeline.recipe.shipped import shipped_recipes

        for recipe in shipped_recipes().values():
            lines = (recipe.summary, f"needs: {recipe.needs}", f"time:  {recipe.time}")
            typer.echo(f"{recipe.name:12} " + f"\n{'':12} ".join(lines) + "\n")
        typer.echo("Run one with `tasnet run NAME`, or copy it into this folder to edit it: `tasnet recipes copy NAME`.")


@recipes.command("copy")
def copy_recipe(name: Annotated[str, typer.Argument(help="A shipped recipe, e.g. own-speech.", metavar="NAME")]) -> None:
    """Copy a shipped recipe into the current folder, to edit it there."""
    from pipeline.recipe import shipped

    copied = shipped.copy_recipe(name, Path())
    typer.echo(f"{copied}: edit it, then run it with `tasnet run {copied}`")


def _run(recipe: Recipe, names: Sequence[str], force: Sequence[str], given: Options) -> None:
    """Run the stages, and print the comparison and where the results are."""
    from pipeline.stages.run import run

    if rank() > 0:  # process 0 runs the other stages and prints everything
        run(recipe, names, options=given)
        return
    finished = run(recipe, names, options=given, force=force, announce=partial(_announce, given.work))
    if finished.report.exists() and (not names or "report" in names):
        _print_results(finished)
        return
    for stage_id, folder in finished.folders.items():
        if {stage_id.partition(":")[0], stage_id} & set(names):
            typer.echo(f"{stage_id}: {folder}")


def _print_results(finished: Run) -> None:
    from pipeline import reports

    typer.echo(reports.format_comparison(finished.scores, baseline=finished.recipe.baseline))
    typer.echo(f"\nReport: {finished.report}")


def _announce(work: Path, stage: Stage, done: bool) -> None:
    """Say on stderr which stage comes next."""
    from rich.console import Console
    from rich.text import Text  # not markup: a system may be called [red] or :fire:

    line = Text(f"{stage.id}: done already", "dim") if done else Text.assemble((stage.id, "bold"), f": {stage.folder(work)}")
    Console(stderr=True, soft_wrap=True).print(line)


def _print_plan(recipe: Recipe, names: Sequence[str], force: Sequence[str], given: Options) -> None:
    """Print what a run would do, one line per stage."""
    from pipeline.stages import graph, runner

    if rank() > 0:
        return
    stages = graph.build_stages(recipe, given)
    chosen = runner.ordered(graph.named(stages, names)) if names else stages
    forced = {stage.fingerprint for stage in graph.dependents(stages, graph.named(stages, force))}
    for found in runner.status(chosen, given.work):
        if found.stage.fingerprint in forced:
            typer.echo(f"would run {found.stage.id}: forced")
        elif found.state == "done":
            typer.echo(f"would skip {found.stage.id}: done")
        else:
            typer.echo(f"would run {found.stage.id}: {'; '.join(found.reasons)}")
