"""``tasnet latency``."""

from __future__ import annotations

import math
import operator
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.arguments import number
from pipeline.cli.terminal import print_figures
from pipeline.errors import UsageError
from pipeline.files import expand_user

if TYPE_CHECKING:
    from pipeline.separation.latency import Latency, System

_SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*(-?\d+(?:\.\d*)?(?:e-?\d+)?)\s*")
_IN_DOUBLE = 1e-10
"""Deviations that count where everything is computed in float64."""


Target = Annotated[
    list[str],
    typer.Argument(
        help="A model (.safetensors, .onnx), or after -- a command with {input} and {output}.",
        metavar="MODEL|MODEL.onnx|-- COMMAND…",
    ),
]
SampleRate = Annotated[
    int | None,
    typer.Option(
        "--sample-rate",
        min=1,
        max=10_000_000,
        help="Hz, of commands (by default 8000) and ONNX files that do not say.",
        show_default=False,
    ),
]
Seconds = Annotated[
    float,
    typer.Option(
        "--seconds",
        metavar="NUMBER",
        parser=number(0.1, 3600),
        help="Length of the test signals: more than twice the look-ahead.",
    ),
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="NUMBER", parser=number(0.1, 1e6), help="Seconds for one run of a command.")
]
FailIf = Annotated[
    list[str] | None,
    typer.Option("--fail-if", metavar="CONDITION", help='Exit with 1 if so, e.g. "look_ahead_ms > 20". Can be repeated.'),
]


def latency(
    target: Target,
    sample_rate: SampleRate = None,
    seconds: Seconds = 3.0,
    timeout: Timeout = 600,
    fail_if: FailIf = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how far ahead a separator looks, by changing the future of noise and of speech-like sound.

    A command reads a wav file and writes its estimates: tasnet latency -- python separate.py {input} {output}.wav

    {output} may also become a folder, or the start of several names; every channel of every file is a source. A command is run
    about fifty times. What it makes of the future through the level of the whole file alone is told apart from a look-ahead.
    """
    conditions = [_condition(text) for text in fail_if or []]
    found = _measured(target, sample_rate, seconds, timeout)
    print_figures(asdict(found), as_json=as_json)
    if not as_json:
        typer.echo(f"\n{conclusion(found, seconds)}")
    holding = [
        text for text, (name, sign, limit) in zip(fail_if or [], conditions, strict=True) if sign(_value(found, name), limit)
    ]
    for text in holding:
        typer.echo(f"tasnet: {text}: holds", err=True)
    raise typer.Exit(int(bool(holding)))


def _measured(target: list[str], sample_rate: int | None, seconds: float, timeout: float) -> Latency:
    from pipeline.compute.progress import progress_bar
    from pipeline.separation.latency import measure_latency

    system, rate, num_samples, threshold = _system(target, sample_rate, timeout)
    with progress_bar("latency", 0) as advance:
        return measure_latency(
            system, rate, num_samples=num_samples or round(seconds * rate), threshold=threshold, advance=advance
        )


def _system(target: list[str], sample_rate: int | None, timeout: float) -> tuple[System, int, int | None, float]:
    """The system, its rate in Hz, the only length it takes or None, and the deviation from which a change counts."""
    from pipeline.models import load_model
    from pipeline.separation.black_boxes import INPUT, CommandSystem, OnnxSystem

    if any(INPUT in part for part in target):
        rate = sample_rate or 8000
        return CommandSystem(target, rate, timeout=timeout), rate, None, 1e-6
    if len(target) > 1:
        raise UsageError(f"give one model, or a command with {INPUT} in it: tasnet latency -- COMMAND {INPUT} {{output}}")
    path = expand_user(target[0])
    if path.suffix == ".onnx":
        return _onnx_system(OnnxSystem(path), path, sample_rate)
    model: Any = load_model(path).double().requires_grad_(False)
    if sample_rate not in (None, model.sample_rate):
        raise UsageError(f"--sample-rate {sample_rate}: {path} is a model for {model.sample_rate} Hz; leave it out")
    return lambda mixture: model(mixture[None])[0], model.sample_rate, None, _IN_DOUBLE


def _onnx_system(system: Any, path: Path, sample_rate: int | None) -> tuple[System, int, int | None, float]:
    rate = sample_rate or system.sample_rate
    if rate is None:
        raise UsageError(f"{path}: does not say its sample rate; give it with --sample-rate")
    return system, rate, system.num_samples, 1e-6


def conclusion(found: Latency, seconds: float) -> str:
    """The result in words."""
    if found.look_ahead_samples is None:
        return f"The outputs need the whole signal, or more than can be seen in {seconds:g} s (--seconds): this cannot run live."
    if found.look_ahead_samples < 0:
        text = f"No output depends on the future; all are at least {-found.look_ahead_samples:,} samples late."
    else:
        text = (
            f"Outputs depend on the next {found.look_ahead_samples:,} samples ({found.look_ahead_ms:.4g} ms), and on none later."
        )
    text += f" Changes below {20 * math.log10(found.threshold):.0f} dB of the peak were not looked at."
    if found.whole_file_gain_db is not None:
        text += (
            f"\nBut the whole file decides on the level: the future changed all of the past by one factor, up to "
            f"{found.whole_file_gain_db:.2g} dB. Scores without scale are the same live; the output is not."
        )
    return text


# -------------------------------------------------------------------------------------------------------------- conditions
def _condition(text: str) -> tuple[str, Any, float]:
    from pipeline.separation.latency import Latency

    found = _CONDITION.fullmatch(text)
    if not found or found[1] not in Latency.__dataclass_fields__:
        names = ", ".join(Latency.__dataclass_fields__)
        raise UsageError(
            f'--fail-if "{text}": write a name, <, <=, > or >=, and a number, as in "look_ahead_ms > 20"; the names are {names}'
        )
    return found[1], _SIGNS[found[2]], float(found[3])


def _value(found: Latency, name: str) -> float:
    """For a condition: no end of the look-ahead is more than any number, and no gain is 0 dB."""
    value = getattr(found, name)
    if value is None:
        return 0.0 if name == "whole_file_gain_db" else math.inf
    return float(value)
