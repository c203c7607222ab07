"""What the commands print: results on stdout, progress and notes on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline.compute.options import Options
from pipeline.compute.torchrun import rank
from pipeline.errors import CorpusError, DatasetError, RecipeError, ScoreError, TableError
from pipeline.files import written_whole
from pipeline.mixtures.plans import foreign
from pipeline.mixtures.plans import lint as linting
from pipeline.recipe.reading import load_recipe, parse_settings
from pipeline.recipe.schema import Recipe, System
from pipeline.stages import data, graph, preflight, runner
from pipeline.stages.run import run as run_recipe
from pipeline.stages.runner import Stage
from pipeline.tables import HISTORY, MIXTURES, read_table

if TYPE_CHECKING:
    from pipeline.scoring.tasks import Task

# Without emoji: `train:fire: done already` is about a system called fire.
stderr = Console(stderr=True, emoji=False)
stdout = Console(soft_wrap=True, emoji=False)


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
    if rank() > 0:  # only there for the trainings; the first process says everything
        if not dry_run:
            run_recipe(recipe, names, options=options)
        return
    if dry_run:
        everything = graph.build_stages(recipe, options)
        chosen = runner.ordered(graph.named(everything, names)) if names else everything
        redone = graph.dependents(everything, graph.named(everything, force))
        _print_plan(chosen, redone, options.work)
        return
    finished = run_recipe(recipe, names, options=options, force=force, announce=partial(_announce, options.work))
    if finished.report.exists() and (not names or "report" in names):
        from pipeline import reports

        stdout.out(reports.format_comparison(finished.scores, baseline=recipe.baseline), highlight=False)
        stdout.out(f"\nReport: {finished.report}", highlight=False)
    else:
        for stage_id, folder in finished.folders.items():
            if {stage_id.partition(":")[0], stage_id} & set(names):
                stdout.out(f"{stage_id}: {folder}", highlight=False)


def _announce(work: Path, stage: Stage, done: bool) -> None:
    if done:
        stderr.print(f"[dim]{stage.id}: done already[/dim]", highlight=False)
    else:
        stderr.print(f"[bold]{stage.id}[/bold]: {stage.folder(work)}", highlight=False)


def _print_plan(chosen: Sequence[Stage], redone: Sequence[Stage], work: Path) -> None:
    """What a run would do, one line per stage."""
    again = {stage.fingerprint for stage in redone}
    for found in runner.status(chosen, work):
        if found.stage.fingerprint in again:
            stdout.out(f"would run {found.stage.id}: forced", highlight=False)
        elif found.state == "done":
            stdout.out(f"would skip {found.stage.id}: done", highlight=False)
        else:
            stdout.out(f"would run {found.stage.id}: {'; '.join(found.reasons)}", highlight=False)


def status(path: Path, overrides: Sequence[str], options: Options) -> None:
    """A table of the stages: what is done, and why the others would run."""
    found = runner.status(graph.build_stages(load_recipe(path, overrides), options), options.work)
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "state", "why, or where"):
        table.add_column(heading, overflow="fold")
    for each in found:
        where = str(each.stage.folder(options.work)) if each.state == "done" else "; ".join(each.reasons)
        table.add_row(each.stage.id, {"done": "done", "started": "interrupted", "new": "would run"}[each.state], where)
    stdout.print(table, highlight=False, markup=False)


def check(path: Path, overrides: Sequence[str], options: Options) -> None:
    """Say what a run needs and what it costs."""
    for line in preflight.findings(load_recipe(path, overrides), options):
        stdout.out(line, highlight=False)


def import_model(origin: str, file: Path, out: Path, settings: Sequence[str]) -> None:
    """Write another toolkit's network as one of ours; says what it is."""
    from pipeline import models
    from pipeline.models import checkpoints, importing

    network = importing.import_model(file, origin, given=parse_settings(settings))
    checkpoints.save_model(network, out)
    facts = network.settings.model_dump() | models.describe_model(network) | {"sample_rate": network.sample_rate}
    _print_figures({**facts, "num_sources": network.num_sources}, as_json=False)
    stdout.out(f"\nModel: {out}", highlight=False)


def lint(target: Path, overrides: Sequence[str], options: Options) -> int:
    """Name what is doubtful about a recipe's plan or about lists; 1 where there is anything."""
    found = 0
    for name, plan, speakers in _plans_of(target, overrides, options):
        findings = linting.lint(plan, speakers)
        found += len(findings)
        for finding in findings:
            stdout.out(f"{name}: {finding}", highlight=False)
    if not found:
        stdout.out("nothing is doubtful", highlight=False)
    return int(found > 0)


def _plans_of(target: Path, overrides: Sequence[str], options: Options) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """What to look at: names, plans, and who speaks."""
    if target.suffix == ".toml":
        yield str(target), *data.plan_in_memory(load_recipe(target, overrides), options)
    else:
        yield from foreign.read_families(target)


def separate(model: Path, files: Sequence[Path], out: Path, *, device: str) -> None:
    """Separate files; prints the path of every estimate."""
    from pipeline.compute import devices
    from pipeline.models import checkpoints
    from pipeline.separation import offline

    chosen = devices.choose_device(device)
    devices.prepare(chosen)
    network = checkpoints.load_model(model, device=chosen)
    for path in offline.separate_files(network, files, out):
        stdout.out(str(path), highlight=False)


def scoring_tasks(estimates: Sequence[str], references: Path, mixtures: Path | None, patterns: Sequence[str]) -> list[Task]:
    """What is to be scored; ``estimates`` holds ``[SYSTEM=]DIR`` texts and ``patterns`` ``KIND=PATTERN`` texts."""
    from pipeline.scoring import folder_tasks

    kinds = ("estimates", "references", "mixtures")
    named = [text.partition("=") for text in patterns]
    for kind, _, pattern in named:
        if kind not in kinds or not pattern:
            raise ScoreError(f"--pattern {kind}: write it as KIND=PATTERN, where KIND is {', '.join(kinds[:2])} or {kinds[2]}")
    if mixtures is None and (references / "mix").is_dir():
        mixtures = references / "mix"
    layout = {kind: pattern for kind, _, pattern in named}
    return folder_tasks(_system_folders(estimates), references, mixtures, patterns=layout)


def _system_folders(texts: Sequence[str]) -> dict[str, Path]:
    """Folders by system; one without a name is called like its folder."""
    folders: dict[str, Path] = {}
    for text in texts:
        name, separator, folder = text.partition("=")
        path = Path(text if not separator or Path(text).is_dir() else folder).expanduser()
        name = path.resolve().name if not separator or Path(text).is_dir() else name
        if not name or name in folders:
            raise ScoreError(f"--estimates {text}: give every system a name of its own: --estimates NAME={path}")
        folders[name] = path
    return folders


def score(tasks: Sequence[Task], out: Path, oracles: Path | None, *, verify: int, also: Sequence[str], **how: Any) -> None:
    """Score recordings; the table goes to a file, its means to stdout."""
    from pipeline import reports, scoring

    how |= {"also": [metric for text in also for metric in text.replace(",", " ").split()]}
    scores = scoring.score_tasks(tasks, out=out, **how)
    if oracles is not None:
        scoring.score_tasks(scoring.with_oracles(tasks), out=oracles, **how)
    stdout.out(reports.format_comparison(scores), highlight=False)
    stdout.out("\n".join(["", *scoring.score_warnings(scores), f"Scores: {out}"]), highlight=False)
    scoring.check_path(out).unlink(missing_ok=True)
    if verify:
        check = scoring.cross_check(scores, tasks, verify, num_workers=how["num_workers"])
        scoring.write_check(check, out)
        stdout.out(scoring.format_check(check), highlight=False)


def report(tables: Sequence[Path], out: Path, *, baseline: str | None, repeats: bool, beside: Beside) -> None:
    """A report of score tables that lie anywhere."""
    from pipeline import reports
    from pipeline.scoring import cross_checks

    scores = reports.read_scores(tables, repeats=repeats)
    recipe = load_recipe(beside.recipe) if beside.recipe else None
    if baseline is None and recipe is not None and recipe.baseline in set(scores["system"]):
        baseline = recipe.baseline
    check = cross_checks.read_checks(tables)
    page = reports.write_report(scores, out, baseline=baseline, verification=check, **_beside(beside, recipe))
    stdout.out(f"Report: {page}", highlight=False)


@dataclass(frozen=True)
class Beside:
    """What a report may show beside the scores; texts are ``NAME=PATH``, one per system."""

    recipe: Path | None = None
    oracles: Path | None = None
    histories: Sequence[str] = ()
    dataset: Path | None = None
    estimates: Sequence[str] = ()


def _beside(given: Beside, recipe: Recipe | None) -> dict[str, Any]:
    """The same as ``reports.write_report`` takes it."""
    from pipeline import reports

    found: dict[str, Any] = {"title": recipe.name if recipe else "Speech separation"}
    found["published"] = {name: f.model_dump() for name, f in recipe.report.published.items()} if recipe else {}
    found["oracles"] = reports.read_scores([given.oracles]) if given.oracles else None
    found["histories"] = {name: read_table(path, HISTORY) for name, path in _named("--history", given.histories).items()}
    if given.dataset is not None:
        mixtures = _read_mixtures(given.dataset)
        folders = _named("--estimates", given.estimates)
        found["examples"] = reports.clip_loader(given.dataset, mixtures[mixtures["split"] == "test"], folders)
    elif given.estimates:
        raise DatasetError("--estimates needs --dataset DIR, the mixtures and references they belong to")
    return found


def _named(option: str, texts: Sequence[str]) -> dict[str, Path]:
    """Paths by the name before the equals sign."""
    parts = [text.partition("=") for text in texts]
    for name, _, path in parts:
        if not name or not path:
            raise TableError(f"{option} {name}: write it as SYSTEM=PATH")
    return {name: Path(path).expanduser() for name, _, path in parts}


def compare(a: Path, b: Path, *, fail_if: str | None) -> int:
    """The paired difference of two tables; 1 when the gate trips."""
    from pipeline import reports

    text, tripped = reports.compare(reports.read_scores([a]), reports.read_scores([b]), fail_if=fail_if)
    stdout.out(text, highlight=False)
    return int(tripped)


def fetch(name: str | None, target: Path | None, *, mirror: str | None) -> None:
    """Download a source into the corpora folder, or list what there is."""
    from pipeline.corpora import fetching

    if name is None:
        for source in fetching.load_sources().values():
            stdout.out(f"{source.name:28} {source.title}", highlight=False)
        return
    if target is None:
        raise CorpusError(f"fetch {name}: say where to with --corpora DIR or TASNET_CORPORA")
    stdout.out(str(fetching.fetch(name, target, mirror=mirror)), highlight=False)


def verify(dataset: Path, repair: Path | None, overrides: Sequence[str], options: Options) -> int:
    """Name every file of a dataset that is missing, changed or foreign; with ``repair``, regenerate the first two."""
    from pipeline.mixtures import verification

    findings = verification.verify(dataset, num_workers=options.num_workers)
    for finding in findings:
        stdout.out(str(finding), highlight=False)
    if not findings:
        stdout.out("every file is as it was made", highlight=False)
        return 0
    if repair is None:
        return 1
    every = graph.build_stages(load_recipe(repair, overrides), options)
    made = [stage for stage in every if stage.name == "mix" and stage.folder(options.work).resolve() == dataset.resolve()]
    if not made:
        raise DatasetError(
            f"{dataset}: {repair} does not make this dataset (see `tasnet status {repair}`); give the one that does"
        )
    foreign = verification.repair(dataset, findings, lambda: made[0].run(dataset))
    stdout.out(f"{sum(not finding.is_foreign for finding in findings)} findings repaired", highlight=False)
    if foreign:
        stdout.out(f"{len(foreign)} files that the dataset did not make were left alone (named above)", highlight=False)
    return 1 if foreign else 0


def stats(dataset: Path, out: Path, *, num_workers: int | None) -> None:
    """Tables and a picture of a dataset."""
    from pipeline.mixtures import statistics
    from pipeline.reports import figures

    found = statistics.dataset_statistics(_read_mixtures(dataset), dataset, num_workers=num_workers)
    for field in fields(found):
        table = getattr(found, field.name)
        with written_whole(out / f"{field.name}.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
        if field.name in ("overview", "sex_pairs"):
            stdout.out(table.to_string(index=False) + "\n", highlight=False)
    with written_whole(out / "dataset.png") as temporary:
        temporary.write_bytes(figures.dataset_png(found.charts))
    stdout.out(f"Tables and picture: {out}", highlight=False)


def lists(dataset: Path, out: Path, *, to: str) -> None:
    """File lists for another toolkit."""
    from pipeline.mixtures import interchange

    for path in interchange.export_dataset(_read_mixtures(dataset), dataset, out, to=to):
        stdout.out(str(path), highlight=False)


def bench_train(
    path: Path, overrides: Sequence[str], name: str | None, batch_size: int | None, steps: int, *, as_json: bool, **runtime: Any
) -> None:
    """What a training step costs here."""
    from pipeline.training import benchmark

    system, signal = _benchmarked(load_recipe(path, overrides), name)
    options = Options(**runtime)
    result = benchmark.benchmark_training(system, **signal, batch_size=batch_size, num_steps=steps, options=options)
    _print_figures(asdict(result), as_json=as_json)


def bench_infer(
    path: Path, overrides: Sequence[str], name: str | None, seconds: float, steps: int, *, as_json: bool, device: str
) -> None:
    """What separating a mixture costs here."""
    from pipeline.training import benchmark

    system, signal = _benchmarked(load_recipe(path, overrides), name)
    result = benchmark.benchmark_inference(system, **signal, mixture_seconds=seconds, num_steps=steps, device=device)
    _print_figures(asdict(result), as_json=as_json)


def _benchmarked(recipe: Recipe, name: str | None) -> tuple[System, dict[str, int]]:
    """The system to measure, the first by default, and what its signals are like."""
    name = name or next(iter(recipe.systems))
    if name not in recipe.systems:
        raise RecipeError(f"--system {name}: the recipe has {', '.join(recipe.systems)}")
    return recipe.systems[name], {"num_sources": recipe.num_outputs, "sample_rate": recipe.mix.sample_rate}


def _print_figures(figures: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        stdout.out(json.dumps(figures, indent=1), highlight=False)
        return
    for name, value in figures.items():
        stdout.out(f"{name:24} {value:.4g}" if isinstance(value, float) else f"{name:24} {value}", highlight=False)


def _read_mixtures(dataset: Path) -> pd.DataFrame:
    return read_table(dataset / "mixtures.csv", MIXTURES)
