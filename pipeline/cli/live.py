"""``tasnet live``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.arguments import number
from pipeline.errors import UsageError
from pipeline.files import expand_user


def live(
    model: Annotated[Path, typer.Argument(help="A trained causal model: best.safetensors.", metavar="MODEL", parser=expand_user)],
    host: Annotated[str, typer.Option("--host", help="Address to listen on; the default is reached from this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8765,
    forget_seconds: Annotated[
        float | None,
        typer.Option(
            "--forget-seconds",
            metavar="SECONDS",
            parser=number(0, 1e6),
            help="Let cumulative statistics fade, to 1/e after so long; by default they never do, as in training.",
            show_default=False,
        ),
    ] = None,
    max_connections: Annotated[
        int, typer.Option("--max-connections", min=1, max=1000, help="Recordings to separate at a time.")
    ] = 4,
    max_minutes: Annotated[
        float, typer.Option("--max-minutes", metavar="NUMBER", parser=number(0.01, 10_000), help="Length of a recording.")
    ] = 60,
) -> None:
    """Separate a microphone or a file live, on a page in the browser.

    Prints the page's address; Ctrl-C ends it. The page shows mixture and voices as they come, plays, mutes and saves them, and
    shows the latency, the real-time factor and whether the sound ever stopped for want of samples (underruns).

    The model runs here, on the CPU; audio goes to it by WebSocket and is not kept. Browsers open a microphone only on localhost
    or over https. For a model on another machine, forward the port: ssh -L 8765:localhost:8765 MACHINE, with tasnet live running
    there, and open http://localhost:8765/ here.
    """
    if importlib.util.find_spec("websockets") is None:
        raise UsageError("the live page needs the package websockets: pip install 'tasnet-pipeline[live]'")
    from pipeline.models import load_model
    from pipeline.separation.live.server import Limits, LiveServer, is_loopback, run

    limits = Limits(max_connections=max_connections, max_minutes=max_minutes)
    server = LiveServer(load_model(model), model, limits=limits, forget_seconds=forget_seconds)
    if not is_loopback(host):
        typer.echo(f"tasnet: --host {host}: whoever reaches this machine can use the page", err=True)
    run(server, host, port, announce=lambda address: typer.echo(address))
