"""A run's trained models as folders for a model hub: weights, settings and card. Nothing is sent anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline import training
from pipeline.compute.options import Options
from pipeline.errors import RecipeError, WorkError
from pipeline.files import written_whole
from pipeline.models.checkpoints import copy_with_card
from pipeline.recipe.schema import Recipe
from pipeline.reports import model_cards
from pipeline.stages import runner
from pipeline.stages.evaluation import card_path
from pipeline.stages.graph import build_stages

MODEL, CARD, CONFIG = "model.safetensors", "README.md", "config.json"
"""As the Hugging Face hub calls them."""


def publish(
    recipe: Recipe,
    out: Path,
    systems: Sequence[str] = (),
    *,
    options: Options = Options(),
    licence: str | None = None,
    onnx: bool = False,
) -> Iterator[Path]:
    """Lay out ``out/SYSTEM/{README.md, model.safetensors, config.json}`` for every system of a finished run.

    Args:
        recipe: of the run.
        out: the folder.
        systems: only these.
        options: of the run.
        licence: of the models, as the hub names licences (``cc-by-4.0``), for the cards.
        onnx: also export the models there.

    Yields:
        Every file, once it is whole.

    Raises:
        RecipeError: there is no such system.
        WorkError: the run is not finished, or the folder cannot be written.
    """
    unknown = [name for name in systems if name not in recipe.systems]
    if unknown:
        raise RecipeError(f"--system {unknown[0]}: the recipe has no such system; choose from {', '.join(recipe.systems)}")
    stages = {stage.id: stage for stage in build_stages(recipe, options)}
    if not runner.is_done(stages["report"], options.work):
        raise WorkError("this run is not finished, and a card needs its scores: tasnet run it first, with the same options")
    report = stages["report"].folder(options.work)
    for name in systems or recipe.systems:
        model = stages[f"train:{name}"].folder(options.work) / training.BEST
        yield from _published(recipe, name, model, card_path(report, name).read_text("utf-8"), out / name, licence)
        if onnx:
            from pipeline.separation.export import export_model

            yield from export_model(out / name / MODEL, out / name)


def _published(recipe: Recipe, name: str, model: Path, card: str, out: Path, licence: str | None) -> Iterator[Path]:
    card = model_cards.with_licence(card, licence) if licence else card
    copy_with_card(model, out / MODEL, card)
    yield out / MODEL
    facts = {
        "library": "tasnet-pipeline",
        "system": name,
        "num_sources": recipe.num_outputs,
        "sample_rate": recipe.mix.sample_rate,
        "recipe": recipe.model_dump(mode="json", exclude={"corpus"}),
    }
    for path, text in ((out / CONFIG, json.dumps(facts, indent=1) + "\n"), (out / CARD, card)):
        with written_whole(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        yield path
