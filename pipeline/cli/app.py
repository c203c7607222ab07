"""The ``tasnet`` command: what people type, handed to the functions that do it.

What a command needs is imported when it runs: ``tasnet --help`` waits neither for pandas nor for torch.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from pipeline.compute.torchrun import rank, world_size
from pipeline.errors import TasnetError

app = typer.Typer(
    name="tasnet",
    epilog="Start with: tasnet run recipes/demo.toml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RecipeFile = Annotated[
    Path, typer.Argument(help="The recipe, a TOML file such as recipes/demo.toml.", metavar="RECIPE", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override one setting, e.g. --set systems.causal.train.epochs=20; repeatable."
    ),
]
Work = Annotated[Path, typer.Option("--work", envvar="TASNET_WORK", help="Folder for everything the stages write.")]
Corpora = Annotated[
    Path | None, typer.Option("--corpora", envvar="TASNET_CORPORA", help="Folder that holds the corpora.", show_default=False)
]
NamedCorpora = Annotated[
    list[str] | None,
    typer.Option("--corpus", metavar="KIND=DIR", help="Where one corpus lies, e.g. --corpus folder=/my/speech; repeatable."),
]
Jobs = Annotated[
    int | None, typer.Option("-j", "--jobs", min=1, help="Worker processes; one per core by default.", show_default=False)
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]


Compile = Annotated[str, typer.Option("--compile", help="auto, on or off: compile the network for training.")]
MicroBatch = Annotated[
    int | None,
    typer.Option(
        "--micro-batch",
        min=1,
        help="Segments that go through the network at once, for a batch that exceeds the memory; the result stays the same.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("-n", "--dry-run", help="Only say what would be done.")]


def main() -> None:
    """Run the command line; a user's mistake ends with its one-line message and exit code 2."""
    logger = logging.getLogger("pipeline")
    logger.addHandler(_stderr_handler())
    logger.setLevel(logging.DEBUG)
    try:
        app()
    except TasnetError as error:
        _leave_the_word_to_the_first()
        for line in str(error).splitlines():
            sys.stderr.write(f"tasnet: {line}\n")
        _end_at_once(2)
    except KeyboardInterrupt:
        sys.stderr.write("tasnet: stopped; the same command continues\n")
        sys.exit(130)


def _leave_the_word_to_the_first() -> None:
    """Most mistakes meet all processes that torchrun has started: the others speak only if the first goes on."""
    if rank() > 0:
        time.sleep(10)


def _end_at_once(code: int) -> None:
    """Beside other processes without waiting for torch's threads: torchrun ends the others as soon as this one is gone."""
    if world_size() > 1:
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tasnet-pipeline {metadata.version('tasnet-pipeline')}")
        raise typer.Exit


@app.callback()
def tasnet(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Speech-separation mixtures, Conv-TasNet training and comparison reports from one recipe."""


@app.command()
def run(
    recipe: RecipeFile,
    stages: Annotated[
        list[str] | None,
        typer.Argument(help="Only these stages and what they need: mix, train, train:causal …", metavar="[STAGE]…"),
    ] = None,
    overrides: Set = None,
    work: Work = Path("work"),
    corpora: Corpora = None,
    corpus: NamedCorpora = None,
    jobs: Jobs = None,
    device: Device = "auto",
    compile_: Compile = "auto",
    micro_batch: MicroBatch = None,
    checkpoint_minutes: Annotated[float, typer.Option(min=0, help="Time between the states that a training keeps.")] = 5.0,
    checkpoint_steps: Annotated[
        int | None, typer.Option(min=1, help="Keep a state after so many steps as well.", show_default=False)
    ] = None,
    force: Annotated[
        list[str] | None, typer.Option("--force", metavar="STAGE", help="Run this stage again, with all that depends on it.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Run a recipe: mixtures, trained systems, scores and a report; what is done already is skipped."""
    from pipeline.cli import terminal

    training = {"micro_batch": micro_batch, "checkpoint_minutes": checkpoint_minutes, "checkpoint_steps": checkpoint_steps}
    options = terminal.options(work, corpora, corpus, jobs=jobs, device=device, compile=compile_, **training)
    terminal.run(recipe, overrides or [], stages or [], options, force=force or [], dry_run=dry_run)


@app.command()
def status(
    recipe: RecipeFile, overrides: Set = None, work: Work = Path("work"), corpora: Corpora = None, corpus: NamedCorpora = None
) -> None:
    """Say which stages are done, and why the others would run."""
    from pipeline.cli import terminal

    terminal.status(recipe, overrides or [], terminal.options(work, corpora, corpus))


@app.command()
def check(
    recipe: RecipeFile,
    overrides: Set = None,
    work: Work = Path("work"),
    corpora: Corpora = None,
    corpus: NamedCorpora = None,
    jobs: Jobs = None,
) -> None:
    """Check recipe, corpus, disk and about how long it takes; nothing is run or written."""
    from pipeline.cli import terminal

    terminal.check(recipe, overrides or [], terminal.options(work, corpora, corpus, jobs=jobs))


@app.command()
def lint(
    target: Annotated[
        Path,
        typer.Argument(help="A recipe, or lists of mixtures: MERL's or LibriMix's, a file or a folder.", metavar="RECIPE|LISTS"),
    ],
    overrides: Set = None,
    work: Work = Path("work"),
    corpora: Corpora = None,
    corpus: NamedCorpora = None,
    jobs: Jobs = None,
) -> None:
    """Look for one speaker twice in a mixture, repeated mixtures, and splits that share speakers; exit code 1 where there are."""
    from pipeline.cli import terminal

    raise typer.Exit(terminal.lint(target, overrides or [], terminal.options(work, corpora, corpus, jobs=jobs)))


@app.command()
def show(recipe: RecipeFile, overrides: Set = None) -> None:
    """Print the whole recipe, every default written out."""
    from pipeline.recipe.reading import load_recipe
    from pipeline.recipe.writing import format_recipe

    typer.echo(format_recipe(load_recipe(recipe, overrides or [])), nl=False)


@app.command()
def separate(
    model: Annotated[Path, typer.Argument(help="A trained model, best.safetensors.", metavar="MODEL")],
    files: Annotated[list[Path], typer.Argument(help="Mixtures to separate.", metavar="FILE…")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the estimates: FILE_s1.wav, FILE_s2.wav …")] = Path(
        "separated"
    ),
    device: Device = "auto",
) -> None:
    """Separate audio files with a trained model."""
    from pipeline.cli import terminal

    terminal.separate(model, files, out, device=device)


@app.command("import")
def import_(
    origin: Annotated[str, typer.Argument(help="Whose checkpoint it is: asteroid or torchaudio.", metavar="asteroid|torchaudio")],
    file: Annotated[Path, typer.Argument(help="The checkpoint of a Conv-TasNet.", metavar="FILE")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model to write.")] = Path("model.safetensors"),
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="What the file does not say, e.g. --set mask=sigmoid; repeatable."),
    ] = None,
) -> None:
    """Make a model of weights that Asteroid or torchaudio has trained; `tasnet separate` then serves it."""
    from pipeline.cli import terminal

    terminal.import_model(origin, file, out, settings or [])


@app.command()
def score(
    estimates: Annotated[
        list[str],
        typer.Option("--estimates", metavar="[SYSTEM=]DIR", help="Folder of estimates: s1/, s2/ …, or x_s1.wav …; repeatable."),
    ],
    references: Annotated[Path, typer.Option("--references", metavar="DIR", help="Folder of references, likewise.")],
    mixtures: Annotated[
        Path | None,
        typer.Option("--mixtures", metavar="DIR", help="Folder of mixtures, for the improvements; by default REFERENCES/mix."),
    ] = None,
    patterns: Annotated[
        list[str] | None,
        typer.Option(
            "--pattern", metavar="KIND=PATTERN", help="How files are named: estimates={mixture_id}_est{source}; repeatable."
        ),
    ] = None,
    permutation: Annotated[
        str, typer.Option("--permutation", help="What assigns estimates to references: si_snr, or sir as mir_eval does.")
    ] = "si_snr",
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also", metavar="METRIC,…", help="Further metrics: sir, sar, sa_sdr, stoi, estoi, pesq.", show_default=False
        ),
    ] = None,
    verify: Annotated[
        int, typer.Option("--verify", metavar="N", min=0, help="Let mir_eval compute N random rows anew; print the difference.")
    ] = 0,
    oracles: Annotated[
        Path | None, typer.Option("--oracles", metavar="FILE", help="Write a table of what ideal masks would score, too.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The table to write.")] = Path("scores.csv"),
    jobs: Jobs = None,
) -> None:
    """Score anybody's estimates: SI-SNR, SI-SNRi, SDR and SDRi per source; continues where it was stopped."""
    from pipeline.cli import terminal

    tasks = terminal.scoring_tasks(estimates, references, mixtures, patterns or [])
    terminal.score(tasks, out, oracles, verify=verify, also=also or [], permutation=permutation, num_workers=jobs)


@app.command()
def report(
    scores: Annotated[list[Path], typer.Argument(help="One or more scores.csv, ours or another tool's.", metavar="SCORES…")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the report.")] = Path("report"),
    baseline: Annotated[str | None, typer.Option("--baseline", help="The system the others are compared with.")] = None,
    repeats: Annotated[
        bool,
        typer.Option("--repeats", help="The tables are other trainings of the same systems: average over them, show the spread."),
    ] = False,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", metavar="RECIPE", help="Its title, baseline and published figures, marked as not rerun."),
    ] = None,
    oracles: Annotated[
        Path | None, typer.Option("--oracles", metavar="SCORES", help="Scores of ideal masks or the like, shown for context.")
    ] = None,
    history: Annotated[
        list[str] | None, typer.Option("--history", metavar="SYSTEM=FILE", help="A system's history.csv; repeatable.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option("--dataset", metavar="DIR", help="The folder with mixtures.csv, to listen and look over time.")
    ] = None,
    estimates: Annotated[
        list[str] | None, typer.Option("--estimates", metavar="SYSTEM=DIR", help="A system's folder with s1/, s2/ …; repeatable.")
    ] = None,
) -> None:
    """Write a comparison report of score tables, ours or other tools'."""
    from pipeline.cli import terminal

    beside = terminal.Beside(recipe, oracles, history or [], dataset, estimates or [])
    terminal.report(scores, out, baseline=baseline, repeats=repeats, beside=beside)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="scores.csv of the first system.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="scores.csv of the second.", metavar="B")],
    fail_if: Annotated[
        str | None,
        typer.Option("--fail-if", metavar="CONDITION", help='Exit with 1 when the interval shows it, e.g. "si_snri_db < -0.1".'),
    ] = None,
) -> None:
    """Compare two score tables pairwise: mean difference B − A with its interval."""
    from pipeline.cli import terminal

    raise typer.Exit(terminal.compare(a, b, fail_if=fail_if))


@app.command()
def fetch(
    name: Annotated[
        str | None, typer.Argument(help="What to download; without a name the sources are listed.", metavar="[NAME]")
    ] = None,
    corpora: Corpora = None,
    mirror: Annotated[
        str | None, typer.Option("--from", metavar="URL|DIR", help="A mirror, or a folder that holds the archives.")
    ] = None,
) -> None:
    """Download a public corpus or list: resumed, checksummed, safely unpacked."""
    from pipeline.cli import terminal

    terminal.fetch(name, corpora, mirror=mirror)


@app.command()
def verify(
    dataset: Annotated[
        Path, typer.Argument(help="A folder with mixtures.csv, as `tasnet run RECIPE mix` prints it.", metavar="DATASET")
    ],
    repair: Annotated[
        Path | None,
        typer.Option("--repair", metavar="RECIPE", help="Regenerate what is missing or wrong, by the recipe that made it."),
    ] = None,
    overrides: Set = None,
    work: Work = Path("work"),
    corpora: Corpora = None,
    corpus: NamedCorpora = None,
    jobs: Jobs = None,
) -> None:
    """Compare every file of a dataset with its journal; exit code 1 where something is wrong or foreign."""
    from pipeline.cli import terminal

    given = terminal.options(work, corpora, corpus, jobs=jobs)
    raise typer.Exit(terminal.verify(dataset, repair, overrides or [], given))


@app.command()
def stats(
    dataset: Annotated[Path, typer.Argument(help="A folder with mixtures.csv.", metavar="DATASET")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the tables as CSV and the picture.")] = Path("statistics"),
    jobs: Jobs = None,
) -> None:
    """Say what a dataset is made of: hours, speakers, sex pairs, lengths, levels, reuse."""
    from pipeline.cli import terminal

    terminal.stats(dataset, out, num_workers=jobs)


@app.command()
def lists(
    dataset: Annotated[Path, typer.Argument(help="A folder with mixtures.csv.", metavar="DATASET")],
    to: Annotated[str, typer.Option("--to", help="asteroid-json, asteroid-csv, speechbrain, kaldi, lhotse or librimix.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the lists.")] = Path("lists"),
) -> None:
    """Write a dataset's file lists the way other toolkits read them."""
    from pipeline.cli import terminal

    terminal.lists(dataset, out, to=to)


bench = typer.Typer(no_args_is_help=True, help="Measure training and separation on this machine, on noise: no corpus is needed.")
app.add_typer(bench, name="bench")
SystemName = Annotated[
    str | None, typer.Option("--system", help="Which of the recipe's systems; the first by default.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@bench.command("train")
def bench_train(
    recipe: RecipeFile,
    system: SystemName = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.", show_default=False)] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps to time after the first.")] = 20,
    overrides: Set = None,
    device: Device = "auto",
    compile_: Compile = "auto",
    micro_batch: MicroBatch = None,
    as_json: Json = False,
) -> None:
    """Seconds per training step, segments per second, memory, and the share of the measured matrix-product peak."""
    from pipeline.cli import terminal

    runtime = {"device": device, "compile": compile_, "micro_batch": micro_batch}
    terminal.bench_train(recipe, overrides or [], system, batch_size, steps, as_json=as_json, **runtime)


@bench.command("infer")
def bench_infer(
    recipe: RecipeFile,
    system: SystemName = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of the mixture.")] = 4.0,
    steps: Annotated[int, typer.Option(min=1, help="Mixtures to time after the first.")] = 10,
    overrides: Set = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Seconds per mixture and real-time factor."""
    from pipeline.cli import terminal

    terminal.bench_infer(recipe, overrides or [], system, seconds, steps, as_json=as_json, device=device)


def _stderr_handler() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setLevel(logging.INFO if rank() == 0 else logging.ERROR)
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler
