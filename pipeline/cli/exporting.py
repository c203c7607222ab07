"""``tasnet export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.files import expand_user

Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="onnx|torch|web",
        help="onnx, for onnxruntime and others; torch, for torch.export; web, a page that runs the model in the browser.",
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", parser=expand_user, help="Folder for the files.")]
Hops = Annotated[
    int | None,
    typer.Option(
        "--hops",
        min=1,
        max=1_000_000,
        help="Fix the chunk of a streaming step, in hops; by default any number of them.",
        show_default=False,
    ),
]
Runtime = Annotated[
    Path | None,
    typer.Option(
        "--runtime",
        metavar="FILE|DIR",
        parser=expand_user,
        help="With --format web: onnxruntime-web-VERSION.tgz, as `npm pack onnxruntime-web` gets it, or its folder.",
        show_default=False,
    ),
]


def export(
    model: Annotated[Path, typer.Argument(help="A trained model: best.safetensors.", metavar="MODEL", parser=expand_user)],
    to: Format = "onnx",
    output: Output = Path("exported"),
    hops: Hops = None,
    int8: Annotated[bool, typer.Option("--int8", help="Write a second copy of each ONNX file, with 8-bit matrices.")] = False,
    runtime: Runtime = None,
) -> None:
    """Export a model for use without this package; prints the path of every file.

    offline.onnx takes whole mixtures of any length. step.onnx, of causal models, takes the next chunk of a live signal and the
    state that the chunk before has left. The files' metadata say how to run them.

    With --format web, the folder is the page of `tasnet live` for any web server: the model runs in the visitor's browser, by
    onnxruntime-web, and no audio leaves it. For example:
    npm pack onnxruntime-web && tasnet export MODEL --format web --runtime onnxruntime-web-*.tgz
    """
    from pipeline.separation.export import export_model

    for path in export_model(model, output, to=to, num_hops=hops, int8=int8, runtime=runtime):
        typer.echo(str(path))
    if to == "web" and runtime is None:
        advice = "npm pack onnxruntime-web, then the same command with --runtime onnxruntime-web-VERSION.tgz"
        typer.echo(f"tasnet: the page still needs onnxruntime-web: {advice}", err=True)
