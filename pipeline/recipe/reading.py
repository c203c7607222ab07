"""Reading a recipe: TOML, overrides, presets and shared tables become one checked :class:`~pipeline.recipe.schema.Recipe`.

    recipe = load_recipe("demo", overrides=["train.epochs=2"])

Every mistake is reported at once, under the name of the table that the user wrote.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import RecipeError
from pipeline.recipe.presets import DEFAULT_PRESET, PRESETS
from pipeline.recipe.schema import Recipe
from pipeline.recipe.shipped import find_recipe

_Place = tuple[str, ...]
"""Where a setting stands in the merged recipe: ``("systems", "causal", "train", "epochs")``."""


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: a TOML file, or the name of a shipped recipe.
        overrides: settings such as ``"train.epochs=2"``; the value is TOML, or else taken as text.

    Raises:
        RecipeError: with every mistake found, one per line.
    """
    raw = _read(find_recipe(path))
    for override in overrides:
        _apply(raw, override)
    return parse_recipe(raw, origin=str(path))


def parse_recipe(raw: Mapping[str, Any], *, origin: str = "recipe") -> Recipe:
    """Check a recipe given as nested dictionaries, as ``tomllib`` returns them.

    Args:
        raw: the tables.
        origin: what error messages begin with.

    Raises:
        RecipeError: with every mistake found, one per line.
    """
    try:
        merged, inherited = _with_merged_systems(raw)
        return Recipe.model_validate(merged)
    except RecipeError as error:
        raise RecipeError(f"{origin}: {error}") from None
    except ValidationError as error:
        findings = dict.fromkeys(_message(found["loc"], found["msg"], inherited) for found in error.errors())
        raise RecipeError("\n".join(f"{origin}: {finding}" for finding in findings)) from None


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Settings such as ``["mask=relu", "sample_rate=16000"]`` as a dictionary; the value is TOML, or else taken as text.

    Raises:
        RecipeError: for a setting that is not of the form KEY=VALUE.
    """
    raw: dict[str, Any] = {}
    for setting in settings:
        _apply(raw, setting)
    return raw


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors write a byte-order mark
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise RecipeError(f"{path}: not valid TOML: {error}") from error
    except RecursionError:
        raise RecipeError(f"{path}: not valid TOML: nested too deeply") from None


def _apply(raw: dict[str, Any], override: str) -> None:
    """Set one dotted key of a raw recipe."""
    key, separator, text = override.partition("=")
    words = key.strip().split(".")
    if not separator or not all(words):
        raise RecipeError(f"--set {override}: write it as table.key=value")
    table = raw
    for word in words[:-1]:
        table = table.setdefault(word, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {override}: {word} is a value, not a table")
    table[words[-1]] = _value(text)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text.strip()


# --------------------------------------------------------------------------------------------------------------- systems
def _with_merged_systems(raw: Mapping[str, Any]) -> tuple[dict[str, Any], set[_Place]]:
    """Lay every system's own settings over ``[model]`` and ``[train]``, and those over its preset.

    Returns the merged recipe, and the places whose values come from a shared table, so that errors name the line people wrote.
    """
    merged = {key: value for key, value in raw.items() if key not in ("preset", "model", "train")}
    common = {"preset": DEFAULT_PRESET, "model": {}, "train": {}, **raw}
    _preset(common["preset"], "preset")
    tables = raw.get("systems", {})
    inherited: set[_Place] = set()
    if isinstance(tables, Mapping):
        merged["systems"] = {}
        for name, own in tables.items():
            for run, system in _runs(name, own, common, inherited):
                if run in merged["systems"]:
                    raise RecipeError(f"systems.{run}: two systems have this name; rename one, or change train.seeds")
                merged["systems"][run] = system
    return merged, inherited


def _runs(name: str, own: Any, common: Mapping[str, Any], inherited: set[_Place]) -> Iterator[tuple[str, Any]]:
    """A system under its name, or its runs where it is trained with several seeds."""
    if not isinstance(own, Mapping):
        yield name, own
        return
    preset = _preset(own.get("preset", common["preset"]), f"systems.{name}.preset")
    own_model = {key: value for key, value in own.items() if key not in ("preset", "train")}
    model, model_places = _merged("model", preset, common, own_model)
    train, train_places = _merged("train", preset, common, own.get("train", {}))
    seeds = _seeds(train)
    trainings = {f"{name}@{seed}": {**train, "seed": seed, "seeds": []} for seed in seeds} if seeds else {name: train}
    for run, its_train in trainings.items():
        inherited.update(("systems", run, *place) for place in (*model_places, *train_places))
        yield run, {"model": model, "train": its_train}


def _merged(part: str, preset: Mapping[str, Any], common: Mapping[str, Any], own: Any) -> tuple[Any, list[_Place]]:
    """One part of a system, and the places in it (or the whole of it) that come from the shared table of that name."""
    shared = common[part]
    if not isinstance(shared, Mapping):
        return shared, [(part,)]
    if not isinstance(own, Mapping):
        return own, []
    return {**preset[part], **shared, **own}, [(part, key) for key in shared if key not in own]


def _seeds(train: Any) -> list[int]:
    """The seeds of a system's runs; none where it is trained once, or where the schema is going to refuse them."""
    seeds = train.get("seeds") if isinstance(train, Mapping) else None
    valid = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    return seeds if seeds and valid and len(set(seeds)) == len(seeds) else []


def _preset(name: object, key: str) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(name, str) or name not in PRESETS:
        raise RecipeError(f"{key}: there is no preset {name!r}; choose from {', '.join(PRESETS)}")
    return PRESETS[name]


# -------------------------------------------------------------------------------------------------------------- mistakes
def _message(location: tuple[int | str, ...], text: str, inherited: set[_Place]) -> str:
    """One validation error, at the place where the user wrote the setting."""
    words = [str(part) for part in location]
    if tuple(words[:3]) in inherited or tuple(words[:4]) in inherited:
        words = words[2:]
    elif words[:1] == ["systems"] and words[2:3] == ["model"]:
        words = words[:2] + words[3:]
    # pydantic puts a union's tag ("folder") behind the table's name; it is not in the file.
    if words[:1] in (["corpus"], ["plan"]) and len(words) > 2:
        words.pop(1)
    text = text.removeprefix("Value error, ").replace("Extra inputs are not permitted", "no such setting")
    return f"{'.'.join(words)}: {text}" if words else text
