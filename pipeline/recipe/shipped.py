"""The recipes that come with the package, found by name: ``demo``, ``own-speech``, ``wsj0-2mix`` …

They are written in ``recipes/`` at the top of the repository. An installed package carries copies of them beside this module (see
``setup.py``); a checkout and an editable install read the folder itself.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pipeline.errors import RecipeError
from pipeline.files import expand_user, written_whole

logger = logging.getLogger("pipeline")


@dataclass(frozen=True)
class ShippedRecipe:
    """A recipe that comes with the package, as the comment at its top describes it.

    Attributes:
        name: what ``tasnet run`` takes.
        path: the file.
        summary: what it makes.
        needs: the corpora it reads.
        time: about how long it takes, and on what.
    """

    name: str
    path: Path
    summary: str
    needs: str
    time: str


def shipped_recipes() -> dict[str, ShippedRecipe]:
    """All recipes that come with the package, by name."""
    return {path.stem: _described(path) for path in _shipped_files().values()}


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe given by path or by the name of a shipped recipe; a file of that name comes first.

    Raises:
        RecipeError: if there is neither; it suggests similar names.
    """
    path = expand_user(name)
    shipped = _shipped_files().get(str(name))
    if path.exists() and not (shipped and path.is_dir()):
        return path
    if shipped is None:
        raise RecipeError(f"{name}: no such file, and no shipped recipe has this name{_suggestions(path)}")
    beside = Path(f"{name}.toml")
    if beside.is_file() and not beside.samefile(shipped):
        logger.warning("%s: using the recipe shipped under this name; to use the file in this folder, give %s.toml", name, name)
    return shipped


def copy_recipe(name: str, folder: Path) -> Path:
    """Copy a shipped recipe into a folder, to be edited there; returns the new file.

    Raises:
        RecipeError: if no shipped recipe has this name, or the file exists already.
    """
    recipes = _shipped_files()
    if name not in recipes:
        raise RecipeError(f"{name}: no shipped recipe has this name; choose from {', '.join(recipes)}")
    target = folder / recipes[name].name
    if target.exists():
        raise RecipeError(f"{target}: exists already; rename or remove it first")
    with written_whole(target) as temporary:
        temporary.write_bytes(recipes[name].read_bytes())
    return target


def _shipped_files() -> dict[str, Path]:
    installed, checkout = Path(__file__).parent / "shipped", Path(__file__).parents[2] / "recipes"
    folder = installed if installed.is_dir() else checkout
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _suggestions(path: Path) -> str:
    candidates = {near.stem: str(near) for near in sorted(path.parent.glob("*.toml"))} | {name: name for name in _shipped_files()}
    similar = [candidates[stem] for stem in get_close_matches(path.stem, candidates)]
    return f"; did you mean {' or '.join(similar)}?" if similar else "; `tasnet recipes` lists those that have"


def _described(path: Path) -> ShippedRecipe:
    """Read the comment at the top of a recipe: what it makes, then ``# Needs:`` and ``# Time:``."""
    text = path.read_text(encoding="utf-8")
    summary, needs, time = (re.search(pattern, text, re.M) for pattern in (r"\A# (.*)$", r"^# Needs: (.*)$", r"^# Time: (.*)$"))
    assert summary and needs and time, f"{path}: the comment at the top lacks a line"
    return ShippedRecipe(path.stem, path, summary[1], needs[1], time[1])
