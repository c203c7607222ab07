"""Arguments and options that several commands take, and how their text is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.errors import UsageError
from pipeline.files import expand_user

if TYPE_CHECKING:
    from pipeline.compute.options import Options

RecipeName = Annotated[
    str,
    typer.Argument(
        help="A recipe: a TOML file, or the name of a shipped recipe (`tasnet recipes`).", metavar="RECIPE", show_default=False
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a setting, e.g. --set systems.causal.train.epochs=20. Can be repeated."
    ),
]
Work = Annotated[
    Path, typer.Option("--work", metavar="DIR", parser=expand_user, envvar="TASNET_WORK", help="Folder for all results.")
]
Corpora = Annotated[
    Path | None,
    typer.Option(
        "--corpora", metavar="DIR", parser=expand_user, envvar="TASNET_CORPORA", help="Folder of the corpora.", show_default=False
    ),
]
NamedCorpora = Annotated[
    list[str] | None,
    typer.Option("--corpus", metavar="KIND=DIR", help="Folder of one corpus, e.g. --corpus folder=~/speech. Can be repeated."),
]
Jobs = Annotated[
    int | None,
    typer.Option("-j", "--jobs", min=1, max=4096, help="Worker processes; by default one per core.", show_default=False),
]
ClusterName = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="WHERE",
        help="Work on a dask cluster: tcp://HOST:PORT of a scheduler, local[:WORKERS], or slurm[:JOBS]; see docs/cluster.md.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Compile = Annotated[str, typer.Option("--compile", help="Compile the network for training: auto, on or off.")]
MicroBatch = Annotated[
    int | None,
    typer.Option(
        "--micro-batch",
        min=1,
        max=1_000_000,
        help="Segments to process at once, if a whole batch does not fit into memory. The result stays the same.",
        show_default=False,
    ),
]
NoLock = Annotated[
    bool,
    typer.Option(
        "--no-lock", help="Do not lock folders, on file systems that cannot; no other run may use them at the same time."
    ),
]
NoResident = Annotated[
    bool,
    typer.Option(
        "--no-resident",
        help="Keep neither training mixtures nor what is mixed on the fly in the GPU's memory.",
    ),
]
Dataset = Annotated[
    Path,
    typer.Argument(
        help="A folder with a mixtures.csv, as printed by `tasnet run RECIPE mix`.", metavar="DATASET", parser=expand_user
    ),
]


def number(lowest: float, highest: float) -> Callable[[str], float]:
    """Reads an option's number, which must be in a range: unlike typer's own ranges, this one does not hold ``nan``."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not lowest <= value <= highest:
            raise typer.BadParameter(f"{text} is no number from {lowest:g} to {highest:g}")
        return value

    return read


def options(work: Path, corpora: Path | None, corpus: Sequence[str] | None, **runtime: Any) -> Options:
    """The runtime options as the stages take them; ``corpus`` holds ``KIND=DIR`` texts."""
    from pipeline.compute.options import Options

    if (choice := runtime.get("compile", "auto")) not in ("auto", "on", "off"):
        raise UsageError(f"--compile {choice}: choose auto, on or off")
    _check_cluster(runtime.get("cluster"), runtime.get("num_workers"))
    return Options(work=work, corpora_dir=corpora, named_corpora=named_folders("--corpus", corpus, "KIND=DIR"), **runtime)


@contextmanager
def working_on(cluster: str | None, jobs: int | None) -> Iterator[None]:
    """Let a command work on the cluster that ``--cluster`` names, if any."""
    _check_cluster(cluster, jobs)
    if cluster is None:
        yield
        return
    from pipeline.compute.cluster import on_cluster

    with on_cluster(cluster):
        yield


def _check_cluster(cluster: str | None, jobs: int | None) -> None:
    if cluster is not None and jobs is not None:
        raise UsageError("-j is for this machine's processes, and --cluster works on others'; leave out one of them")


def named_folders(option: str, texts: Sequence[str] | None, form: str) -> dict[str, Path]:
    """Paths by the name before the equals sign, where a leading ``~`` is the home folder.

    Raises:
        UsageError: for a text without a name, an equals sign or a path.
    """
    folders: dict[str, Path] = {}
    for text in texts or []:
        name, _, path = text.partition("=")
        if not name or not path:
            raise UsageError(f"{option} {text}: write it as {form}")
        folders[name] = expand_user(path)
    return folders
