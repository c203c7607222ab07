"""Recipes: every setting that affects a result. ``schema`` is the page with all of them, ``presets`` the sets of values to start
from, ``reading`` turns a TOML file and its overrides into a checked :class:`Recipe` and reports every mistake at once,
``writing`` prints a recipe in full, and ``shipped`` finds the recipes that come with the package. Nothing here knows of audio,
tables or torch."""

from pipeline.recipe.presets import PRESETS as PRESETS
from pipeline.recipe.reading import load_recipe as load_recipe
from pipeline.recipe.reading import parse_recipe as parse_recipe
from pipeline.recipe.reading import parse_settings as parse_settings
from pipeline.recipe.schema import Recipe as Recipe
from pipeline.recipe.writing import format_recipe as format_recipe
