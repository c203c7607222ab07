"""The ``tasnet`` command: all its subcommands in the order of the help, and how it ends.

Every command imports what it needs when it runs: ``tasnet --help`` waits neither for pandas nor for torch.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Annotated

import typer
from typer.core import TyperGroup

import pipeline
from pipeline.cli import datasets, exporting, latency, live, models, publishing, results, runs, terminal
from pipeline.compute.torchrun import rank, world_size
from pipeline.errors import TasnetError


class _InOrder(TyperGroup):
    """Lists commands and groups in the order below, which is the one in which a user meets them."""

    def list_commands(self, ctx: object) -> list[str]:
        """The names, in order."""
        return [name for panel in _PANELS.values() for name in panel]


_INTERRUPTED = 130
"""The exit code after Ctrl-C."""

app = typer.Typer(
    name="tasnet",
    cls=_InOrder,
    epilog="Start with: tasnet run demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_PANELS: dict[str, dict[str, typer.Typer | Callable[..., None]]] = {
    "Run a recipe": {"run": runs.run, "check": runs.check, "status": runs.status, "show": runs.show, "recipes": runs.recipes},
    "Models": {
        "separate": models.separate,
        "import": models.import_model,
        "export": exporting.export,
        "latency": latency.latency,
        "live": live.live,
        "publish": publishing.publish,
        "bench": models.bench,
    },
    "Scores and reports": {"score": results.score, "compare": results.compare, "report": results.report},
    "Corpora and datasets": {
        "fetch": datasets.fetch,
        "lint": datasets.lint,
        "verify": datasets.verify,
        "stats": datasets.stats,
        "lists": datasets.lists,
    },
}
for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, rich_help_panel=_panel)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tasnet-pipeline {pipeline.__version__}")
        raise typer.Exit


@app.callback()
def tasnet(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Speech-separation mixtures, Conv-TasNet training and comparison reports from one recipe."""


def main() -> None:
    """Run the command line; a user's mistake ends in one line per mistake and exit code 2."""
    terminal.set_up()
    try:
        app()
    except TasnetError as error:
        if rank() > 0:
            time.sleep(10)  # most mistakes hit every process that torchrun started; if process 0 reports one, it ends them all
        for line in str(error).splitlines():
            sys.stderr.write(f"tasnet: {line}\n")
        _exit_at_once(2)
    except (KeyboardInterrupt, SystemExit) as end:  # typer turns an interrupt into an exit
        if isinstance(end, SystemExit) and end.code != _INTERRUPTED:
            raise
        sys.stderr.write("tasnet: stopped; the same command continues\n")
        sys.exit(_INTERRUPTED)


def _exit_at_once(code: int) -> None:
    """Leave; under torchrun without waiting for torch's threads, as it ends the other processes once this one is gone."""
    if world_size() > 1:
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
