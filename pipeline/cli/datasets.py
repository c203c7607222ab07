"""Commands about corpora and datasets: ``fetch``, ``lint``, ``verify``, ``stats`` and ``lists``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.arguments import ClusterName, Corpora, Dataset, Jobs, NamedCorpora, Overrides, Work, options, working_on
from pipeline.errors import CorpusError, DatasetError
from pipeline.files import expand_user, written_whole

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.compute.options import Options
    from pipeline.stages.runner import Stage


def fetch(
    name: Annotated[str | None, typer.Argument(help="What to download; omit it to list the sources.", metavar="[NAME]")] = None,
    corpora: Corpora = None,
    mirror: Annotated[
        str | None, typer.Option("--from", metavar="URL|DIR", help="A mirror, or a folder with the archives.", show_default=False)
    ] = None,
) -> None:
    """Download a public corpus or mixture list; downloads are resumed and their checksums verified."""
    from pipeline.corpora import fetching

    if name is None:
        for source in fetching.load_sources().values():
            typer.echo(f"{source.name:28} {source.title}")
        return
    if corpora is None:
        raise CorpusError(f"fetch {name}: give the folder for it with --corpora DIR or TASNET_CORPORA")
    typer.echo(str(fetching.fetch(name, corpora, mirror=mirror)))


def lint(
    target: Annotated[
        str, typer.Argument(help="A recipe, or mixture lists of MERL or LibriMix: a file or a folder.", metavar="RECIPE|LISTS")
    ],
    overrides: Overrides = None,
    work: Work = Path("work"),
    corpora: Corpora = None,
    corpus: NamedCorpora = None,
    jobs: Jobs = None,
) -> None:
    """Look for mixtures of one speaker with themselves, repeated mixtures, and speakers shared between splits.

    Exits with 1 if there are any.
    """
    from pipeline.mixtures.plans import lint as linting

    found = False
    for name, plan, speakers in _plans(target, overrides or [], options(work, corpora, corpus, num_workers=jobs)):
        for finding in linting.lint(plan, speakers):
            found = True
            typer.echo(f"{name}: {finding}")
    if found:
        raise typer.Exit(1)
    typer.echo("no problems found")


def verify(
    dataset: Dataset,
    repair: Annotated[
        str | None,
        typer.Option(
            "--repair",
            metavar="RECIPE",
            help="Regenerate missing and damaged files, by the recipe that made them.",
            show_default=False,
        ),
    ] = None,
    overrides: Overrides = None,
    work: Work = Path("work"),
    corpora: Corpora = None,
    corpus: NamedCorpora = None,
    jobs: Jobs = None,
    cluster: ClusterName = None,
) -> None:
    """Compare every file of a dataset with its journal; exits with 1 if any is missing, damaged or foreign."""
    with working_on(cluster, jobs):
        _verify(dataset, repair, overrides or [], options(work, corpora, corpus, num_workers=jobs))


def _verify(dataset: Path, recipe: str | None, overrides: Sequence[str], given: Options) -> None:
    from pipeline.mixtures import verification

    findings = verification.verify(dataset, num_workers=given.num_workers)
    for finding in findings:
        typer.echo(str(finding))
    if not findings:
        typer.echo("all files are intact")
    elif recipe is None:
        raise typer.Exit(1)
    else:
        make = _stage_that_made(dataset, recipe, overrides, given)
        foreign = verification.repair(dataset, findings, lambda: make.run(dataset))
        typer.echo(f"repaired {sum(not finding.is_foreign for finding in findings)} findings")
        if foreign:
            typer.echo(f"left alone {len(foreign)} files that do not belong to the dataset (named above)")
            raise typer.Exit(1)


def stats(
    dataset: Dataset,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", parser=expand_user, help="Folder for the tables (CSV) and the figure.")
    ] = Path("statistics"),
    jobs: Jobs = None,
    cluster: ClusterName = None,
) -> None:
    """Summarise a dataset: hours, speakers, sexes, lengths, levels, and how often utterances are reused."""
    from dataclasses import fields

    from pipeline.mixtures import statistics
    from pipeline.reports import dataset_figure

    with working_on(cluster, jobs):
        found = statistics.dataset_statistics(_mixtures(dataset), dataset, num_workers=jobs)
    for field in fields(found):
        table = getattr(found, field.name)
        with written_whole(out / f"{field.name}.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
        if field.name in ("overview", "sex_pairs"):
            typer.echo(table.to_string(index=False) + "\n")
    with written_whole(out / "dataset.png") as temporary:
        temporary.write_bytes(dataset_figure.dataset_png(found.charts))
    typer.echo(f"Tables and figure: {out}")


def lists(
    dataset: Dataset,
    to: Annotated[
        str, typer.Option("--to", help="asteroid-json, asteroid-csv, speechbrain, kaldi, lhotse, librimix or webdataset.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", parser=expand_user, help="Folder for the lists.")] = Path(
        "lists"
    ),
) -> None:
    """Write a dataset's file lists in the format of another toolkit; webdataset's are tar shards with the audio itself."""
    from pipeline.mixtures import interchange

    for path in interchange.export_dataset(_mixtures(dataset), dataset, out, to=to):
        typer.echo(str(path))


def _plans(target: str, overrides: Sequence[str], given: Options) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """What to look at: names, plans, and the speaker of every utterance."""
    from pipeline.mixtures.plans import foreign
    from pipeline.recipe.reading import load_recipe
    from pipeline.stages import data

    path = expand_user(target)
    if path.suffix == ".toml" or not path.exists():
        yield target, *data.plan_in_memory(load_recipe(target, overrides), given)
    else:
        yield from foreign.read_families(path)


def _stage_that_made(dataset: Path, recipe: str, overrides: Sequence[str], given: Options) -> Stage:
    """The stage of a recipe that made a dataset, wherever that has been moved to; what the stage reads is made if it is missing.

    Raises:
        DatasetError: no stage of the recipe did.
    """
    from pipeline.recipe.reading import load_recipe
    from pipeline.stages import graph, runner

    fingerprint = runner.recorded_fingerprint(dataset)
    for stage in graph.build_stages(load_recipe(recipe, overrides), given):
        is_here = stage.folder(given.work).resolve() == dataset.resolve()
        if stage.name == "mix" and (is_here or stage.fingerprint == fingerprint):
            for need in runner.ordered(stage.needs):
                runner.run_stage(need, given.work)
            return stage
    raise DatasetError(
        f"{dataset}: {recipe} does not make this dataset; give the recipe and the --set options that do "
        f"(`tasnet status {recipe}` prints where a recipe's results are)"
    )


def _mixtures(dataset: Path) -> pd.DataFrame:
    from pipeline.tables import MIXTURES, read_table

    return read_table(dataset / "mixtures.csv", MIXTURES)
