"""Streaming from the command line: ``separate - --stream`` and ``bench stream``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.arguments import Overrides, number
from pipeline.errors import RecipeError, UsageError
from pipeline.files import expand_user

if TYPE_CHECKING:
    from pipeline.models import Network
    from pipeline.separation.stream_benchmark import StreamBenchmark

_HEADINGS = ("chunk ms", "engine     ", "threads", "RTF", "median ms", "p99 ms", "worst ms", "jitter ms", "late", "chunks")


def separate_pipe(
    network: Network, chunk_ms: float, source: int | None, forget_seconds: float | None = None, rate: int | None = None
) -> None:
    """Separate raw audio from stdin to stdout; see :func:`pipeline.separation.streaming.stream` for forgetting."""
    from pipeline.separation.live import pipes

    if sys.stdout.isatty():
        raise UsageError("--stream writes raw audio: send it to a file or another program, as in … | aplay -f S16_LE -r 8000")
    chunk_samples = max(1, round(chunk_ms / 1000 * (rate or network.sample_rate)))
    if forget_seconds is not None:
        typer.echo(f"tasnet: cumulative statistics fall to 1/e after {forget_seconds:g} s", err=True)
    pieces = pipes.separate_pcm(
        *(network, sys.stdin.buffer),
        chunk_samples=chunk_samples,
        sample_rate=rate,
        source=source,
        forget_seconds=forget_seconds,
    )
    try:
        for samples in pieces:
            sys.stdout.buffer.write(samples)
            sys.stdout.buffer.flush()
    except BrokenPipeError:  # the program behind has ended; there is nobody to write to, also not when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def bench_stream(
    model: Annotated[
        str,
        typer.Argument(help="A trained model (best.safetensors), or a recipe for a network of its size.", metavar="MODEL|RECIPE"),
    ],
    system: Annotated[
        str | None, typer.Option("--system", help="A system of the recipe; by default its first causal one.", show_default=False)
    ] = None,
    chunk_ms: Annotated[str, typer.Option("--chunk-ms", metavar="MS,…", help="Lengths of the chunks.")] = "1,2,5,10,20,100",
    threads: Annotated[str, typer.Option("--threads", metavar="N,…", help="Numbers of threads.")] = "1,2",
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="NUMBER", parser=number(0, 86400), help="Time to measure each row.")
    ] = 2.0,
    streams: Annotated[
        int | None, typer.Option("--streams", min=1, max=10_000, help="So many signals at once, in step.", show_default=False)
    ] = None,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure streaming, chunk by chunk: does it keep up, and how late is the latest chunk?

    RTF, the real-time factor, is the time of computing over the time of audio: below 1 it keeps up, and what is missing to 1 is
    room for everything else on that core. A live system also has to wait for the slowest chunk: look at p99 and worst, and at
    late, the share of chunks that took longer than they last. Short chunks cost more, since all weights are read for each. The
    estimates are the same for all lengths; the latency is the network's (one encoder window) plus one chunk and its computing.

    The engine "torch" is the readable definition, "kernels" the same in compiled code, which gives each signal to one thread, and
    "onnxruntime", if it is installed, the step that `tasnet export` writes.
    """
    from pipeline.separation.stream_benchmark import benchmark_stream

    lengths = parse_numbers("--chunk-ms", chunk_ms)
    numbers = [round(number) for number in parse_numbers("--threads", threads)]
    rows = benchmark_stream(_network(model, system, overrides), chunk_ms=lengths, threads=numbers, seconds=seconds, batch=streams)
    if as_json:
        import json

        typer.echo(json.dumps([asdict(row) for row in rows], indent=1))
        return
    typer.echo("  ".join(f"{heading:>9}" for heading in _HEADINGS))
    for row in rows:
        typer.echo(_line(row))


def _line(row: StreamBenchmark) -> str:
    times = [f"{value:.2f}" for value in (row.median_ms, row.p99_ms, row.worst_ms, row.jitter_ms)]
    cells = [f"{row.chunk_ms:g}", f"{row.engine:11}", str(row.threads), f"{row.real_time_factor:.3f}", *times]
    return "  ".join(f"{cell:>9}" for cell in [*cells, f"{row.late:.1%}", str(row.num_chunks)])


def _network(name: str, system: str | None, overrides: Sequence[str] | None) -> Network:
    """A trained model, or the untrained network of a recipe's causal system."""
    from pipeline.models import build_model, load_model
    from pipeline.recipe.reading import load_recipe

    if name.endswith(".safetensors"):
        return load_model(expand_user(name))
    recipe = load_recipe(name, list(overrides or []))
    causal = [each for each, one in recipe.systems.items() if one.model.causal]
    if system is None and not causal:
        raise RecipeError(f"{name}: no system of it is causal, and only those stream; try --set systems.NAME.causal=true")
    chosen = system or causal[0]
    if chosen not in recipe.systems:
        raise RecipeError(f"--system {chosen}: the recipe has no such system; choose from {', '.join(recipe.systems)}")
    settings = recipe.systems[chosen].model
    return build_model(settings, num_sources=recipe.num_outputs, sample_rate=recipe.mix.sample_rate).eval()


def parse_numbers(option: str, text: str) -> list[float]:
    """An option's positive numbers, which have commas between them."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < 1e6 for number in numbers):
        raise UsageError(f"{option} {text}: write positive numbers with commas between them, as in 1,2,5")
    return numbers


def check_stream(files: Sequence[Path], stream: bool) -> None:
    """Raise a UsageError unless ``-`` and ``--stream`` come together, and alone."""
    if (Path("-") in files) != stream or (stream and len(files) > 1):
        raise UsageError(
            "to separate raw audio from stdin, give both - and --stream and no other file: separate MODEL - --stream"
        )
