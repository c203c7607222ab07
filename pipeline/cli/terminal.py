"""How commands print: results on stdout, progress and notes on stderr, in whatever characters the terminal has."""

from __future__ import annotations

import codecs
import io
import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

import typer

from pipeline.compute.torchrun import rank

_ASCII = {"…": "...", "–": "-", "−": "-", "→": "->", "×": "x", "≥": ">=", "≤": "<=", "’": "'"}


def set_up() -> None:
    """Let stdout and stderr replace what they cannot encode, and send the pipeline's log to stderr."""
    codecs.register_error("tasnet", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="tasnet")
    handler = logging.StreamHandler()
    handler.setLevel(logging.INFO if rank() == 0 else logging.ERROR)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("pipeline")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def print_figures(figures: Mapping[str, Any], *, as_json: bool) -> None:
    """Print names and values, one pair a line or as JSON."""
    if as_json:
        typer.echo(json.dumps(figures, indent=1))
        return
    for name, value in figures.items():
        typer.echo(f"{name:24} {value:.4g}" if isinstance(value, float) else f"{name:24} {value}")


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """A codec's error handler: characters the terminal does not have become similar ones, or their number."""
    assert isinstance(error, UnicodeEncodeError)
    lost = error.object[error.start : error.end]
    return "".join(_ASCII.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in lost), error.end
