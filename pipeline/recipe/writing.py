"""Writing a recipe out in full, as TOML that reads back to the same recipe."""

from __future__ import annotations

import tomli_w

from pipeline.recipe.schema import Recipe


def format_recipe(recipe: Recipe) -> str:
    """The whole recipe as TOML, with every default written out; ``load_recipe`` reads it back to an equal recipe."""
    # TOML has no null; a setting that is None is left out, and None is what its default gives back.
    tables = recipe.model_dump(mode="json", exclude_none=True)
    tables["systems"] = {name: system["model"] | {"train": system["train"]} for name, system in tables["systems"].items()}
    return tomli_w.dumps(tables)
