"""``tasnet publish``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.arguments import Corpora, NamedCorpora, Overrides, RecipeName, Work, options
from pipeline.files import expand_user


def publish(
    recipe: RecipeName,
    directory: Annotated[Path, typer.Argument(help="The folder to write.", metavar="DIR", parser=expand_user)],
    systems: Annotated[
        list[str] | None, typer.Option("--system", help="Only this system. Can be repeated.", show_default=False)
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="For the cards, as hubs write it: cc-by-4.0.", show_default=False)
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Also export the models as ONNX.")] = False,
    overrides: Overrides = None,
    work: Work = Path("work"),
    corpora: Corpora = None,
    corpus: NamedCorpora = None,
) -> None:
    """Lay out a finished run's models for a model hub: weights, settings and model card; nothing is sent anywhere.

    DIR/SYSTEM gets README.md (the card, with Hugging Face's front matter), model.safetensors and config.json. Read the card
    before you upload it: it says what the run knows, and no more.
    """
    from pipeline.recipe.reading import load_recipe
    from pipeline.stages.publishing import publish as publish_run

    chosen = options(work, corpora, corpus)
    loaded = load_recipe(recipe, overrides or [])
    for path in publish_run(loaded, directory, systems or (), options=chosen, licence=licence, onnx=onnx):
        typer.echo(str(path))
