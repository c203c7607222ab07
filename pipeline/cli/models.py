"""Commands about models: ``separate``, ``import``, ``bench train``, ``bench infer``, ``bench stream`` and ``bench ageing``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from pipeline.cli import ageing, streaming
from pipeline.cli.arguments import Compile, Device, MicroBatch, Overrides, RecipeName, number
from pipeline.cli.terminal import print_figures
from pipeline.errors import AudioError, RecipeError, UsageError
from pipeline.files import expand_user

if TYPE_CHECKING:
    from pipeline.models import Network
    from pipeline.recipe.schema import Recipe, System
    from pipeline.separation import Separated

SystemName = Annotated[
    str | None, typer.Option("--system", help="A system of the recipe; by default the first.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

bench = typer.Typer(no_args_is_help=True, help="Measure the speed of training and separation on this machine; needs no corpus.")


Model = Annotated[Path, typer.Argument(help="A trained model: best.safetensors.", metavar="MODEL", parser=expand_user)]
Files = Annotated[
    list[Path],
    typer.Argument(help="Audio files, or folders of them; - with --stream.", metavar="FILE|FOLDER…", parser=expand_user),
]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", parser=expand_user, help="Folder for FILE_s1.wav, FILE_s2.wav …")
]
Channel = Annotated[
    str | None,
    typer.Option(
        "--channel", metavar="NUMBER|each", help="Which channel of files with several, from 0; or each.", show_default=False
    ),
]
Resample = Annotated[
    bool, typer.Option("--resample", help="Convert files at other rates to the model's, and their estimates back.")
]
MaxMemory = Annotated[
    float,
    typer.Option(
        "--max-memory",
        metavar="GB",
        parser=number(0, 1e6),
        help="Memory for separating a file at once; longer files go through in pieces.",
    ),
]
MaxDisk = Annotated[
    float,
    typer.Option("--max-disk", metavar="GB", parser=number(0, 1e6), help="Disk for the intermediate results of a long file."),
]
ScratchFolder = Annotated[
    Path | None,
    typer.Option("--scratch", metavar="DIR", parser=expand_user, help="Folder for these; by default --out.", show_default=False),
]
Forget = Annotated[
    float | None,
    typer.Option(
        "--forget-seconds",
        metavar="SECONDS",
        parser=number(0, 1e6),
        help="Let a causal model's cumulative statistics fade, to 1/e after so long; by default they never do, as in training.",
        show_default=False,
    ),
]
Stream = Annotated[bool, typer.Option("--stream", help="Separate live: raw audio from stdin to stdout, with a causal model.")]
ChunkMs = Annotated[
    float,
    typer.Option(
        "--chunk-ms", metavar="NUMBER", parser=number(0.001, 1e6), help="With --stream: audio to wait for before each step."
    ),
]
Rate = Annotated[
    int | None,
    typer.Option(
        "--rate",
        metavar="HZ",
        min=1000,
        max=768_000,
        help="With --stream: of the raw audio in and out; by default the model's.",
        show_default=False,
    ),
]
Source = Annotated[
    int | None,
    typer.Option(
        "--source", min=1, max=1000, help="With --stream: only this source; by default all, as channels.", show_default=False
    ),
]


def separate(
    model: Model,
    files: Files,
    out: Out = Path("separated"),
    channel: Channel = None,
    convert_rate: Resample = False,
    device: Device = "auto",
    max_memory: MaxMemory = 2,
    max_disk: MaxDisk = 50,
    scratch: ScratchFolder = None,
    forget_seconds: Forget = None,
    stream: Stream = False,
    chunk_ms: ChunkMs = 10,
    rate: Rate = None,
    source: Source = None,
) -> None:
    """Separate audio files with a trained model; prints the path of every estimate.

    Estimates are as long as the file and at its rate. A file that cannot be separated does not stop the others: it is named, and
    the exit code is 1 (2 if there was no other). Files that are separated already are not separated again; separated.jsonl beside
    the estimates says how each one was.

    Files of any length need little memory: a causal model streams them, any other is computed layer by layer, with intermediate
    results on disk; both give the same estimates as at once. Without enough disk, overlapping windows are separated one by one,
    which is not exact.

    With --stream, raw audio goes through live: mono, signed 16-bit little-endian, as arecord, sox and ffmpeg read and write it,
    at the model's rate or, some milliseconds later, at --rate. For example:
    arecord -f S16_LE -r 8000 | tasnet separate MODEL - --stream --source 1 | aplay -f S16_LE -r 8000
    """
    from pipeline.separation import Limits, separate_files

    streaming.check_stream(files, stream)
    chosen = _channel(channel)
    network = _loaded(model, device)
    if stream:
        streaming.separate_pipe(network, chunk_ms, source, forget_seconds, rate)
        return
    found = separate_files(
        *(network, files, out),
        channel=chosen, convert_rate=convert_rate, forget_seconds=forget_seconds, scratch=scratch,
        limits=Limits(max_memory_gb=max_memory, max_disk_gb=max_disk),
        description="separate (seconds of audio)",
    )  # fmt: skip
    print_estimates(found)


def _channel(text: str | None) -> int | Literal["each"] | None:
    """The value of ``--channel``."""
    if text is None:
        return None
    if text == "each":
        return "each"
    if not (text.isascii() and text.isdigit() and int(text[:5]) < 1024):
        raise UsageError(f"--channel {text}: give a number from 0 (the first) to 1023, or each")
    return int(text)


def _loaded(model: Path, device: str) -> Network:
    """A trained model on a device."""
    from pipeline.compute import devices
    from pipeline.models import checkpoints

    chosen = devices.choose_device(device)
    devices.prepare(chosen)
    return checkpoints.load_model(model, device=chosen)


def print_estimates(found: Iterable[Separated]) -> None:
    """Print the path of every estimate once it is there, then what could not be separated."""
    problems, num_separated = [], 0
    for done in found:
        for path in done.estimates:
            typer.echo(str(path))
        if done.problem:
            problems.append(done.problem)
        else:
            num_separated += 1
    report_problems(problems, num_separated)


def report_problems(problems: list[str], num_separated: int) -> None:
    """Name on stderr what could not be separated; exit with 1, or with 2 if nothing could."""
    if problems and not num_separated:
        raise AudioError("\n".join(problems))
    if problems:
        lines = [*problems, f"{num_separated} of {num_separated + len(problems)} files separated, {len(problems)} failed (above)"]
        typer.echo("\n".join(f"tasnet: {line}" for line in lines), err=True)
        raise typer.Exit(1)


def import_model(
    origin: Annotated[str, typer.Argument(help="The toolkit that wrote the checkpoint.", metavar="asteroid|torchaudio")],
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A checkpoint of a Conv-TasNet; without one, that of torchaudio's published bundle.",
            metavar="[FILE]",
            parser=expand_user,
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", parser=expand_user, help="The model to write.")] = Path(
        "model.safetensors"
    ),
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="What the checkpoint does not say, e.g. --set mask=sigmoid. Can be repeated."
        ),
    ] = None,
) -> None:
    """Import a Conv-TasNet trained with Asteroid or torchaudio, for use with `tasnet separate`."""
    from pipeline import models
    from pipeline.models import checkpoints, importing
    from pipeline.recipe.reading import parse_settings

    if file is None and origin != "torchaudio":
        raise UsageError(f"tasnet import {origin} FILE: give the checkpoint; only torchaudio's is found without")
    network = importing.import_model(file or importing.published_bundle(), origin, given=parse_settings(settings or []))
    checkpoints.save_model(network, out)
    facts = network.settings.model_dump() | models.describe_model(network) | {"sample_rate": network.sample_rate}
    print_figures({**facts, "num_sources": network.num_sources}, as_json=False)
    typer.echo(f"\nModel: {out}")


@bench.command("train")
def bench_train(
    recipe: RecipeName,
    system: SystemName = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="By default the recipe's.", show_default=False)
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=1_000_000, help="Steps to time after the first.")] = 20,
    overrides: Overrides = None,
    device: Device = "auto",
    compile_: Compile = "auto",
    micro_batch: MicroBatch = None,
    as_json: Json = False,
) -> None:
    """Measure training: seconds per step, segments per second, memory, and the share of peak matrix-product speed."""
    from pipeline.compute.options import Options
    from pipeline.recipe.reading import load_recipe
    from pipeline.training import benchmark

    chosen, signal = _system(load_recipe(recipe, overrides or []), system)
    options = Options(device=device, compile=cast(Literal["auto", "on", "off"], compile_), micro_batch=micro_batch)
    result = benchmark.benchmark_training(chosen, **signal, batch_size=batch_size, num_steps=steps, options=options)
    print_figures(asdict(result), as_json=as_json)


@bench.command("infer")
def bench_infer(
    recipe: RecipeName,
    system: SystemName = None,
    seconds: Annotated[float, typer.Option(metavar="NUMBER", parser=number(0.1, 3600), help="Length of the mixture.")] = 4.0,
    steps: Annotated[int, typer.Option(min=1, max=1_000_000, help="Mixtures to time after the first.")] = 10,
    overrides: Overrides = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure separation: seconds per mixture and real-time factor."""
    from pipeline.recipe.reading import load_recipe
    from pipeline.training import benchmark

    chosen, signal = _system(load_recipe(recipe, overrides or []), system)
    result = benchmark.benchmark_inference(chosen, **signal, mixture_seconds=seconds, num_steps=steps, device=device)
    print_figures(asdict(result), as_json=as_json)


bench.command("stream")(streaming.bench_stream)
bench.command("ageing")(ageing.bench_ageing)


def _system(recipe: Recipe, name: str | None) -> tuple[System, dict[str, int]]:
    """The system to measure, by default the first, and the number of sources and the sample rate of its signals."""
    name = name or next(iter(recipe.systems))
    if name not in recipe.systems:
        raise RecipeError(f"--system {name}: the recipe has no such system; choose from {', '.join(recipe.systems)}")
    return recipe.systems[name], {"num_sources": recipe.num_outputs, "sample_rate": recipe.mix.sample_rate}
