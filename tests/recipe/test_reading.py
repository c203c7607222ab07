"""Every shipped recipe loads; all mistakes are reported at once, in the words of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.reading import load_recipe, parse_recipe, parse_settings
from tests.recipe.recipes import SHIPPED, SMALL, small


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    recipe = load_recipe(path)
    causal = [system.model for system in recipe.systems.values() if system.model.causal]
    assert causal
    assert all(model.norm_kind != "global" for model in causal)
    assert not recipe.systems[recipe.baseline].model.causal


def test_systems_inherit_and_override() -> None:
    tables = small(model={"mask": "relu"}, train={"epochs": 7, "batch_size": 3})
    tables["systems"] = {"a": {}, "b": {"mask": "sigmoid", "train": {"epochs": 2}}}
    systems = parse_recipe(tables).systems
    assert (systems["a"].model.mask, systems["a"].train.epochs, systems["a"].train.batch_size) == ("relu", 7, 3)
    assert (systems["b"].model.mask, systems["b"].train.epochs, systems["b"].train.batch_size) == ("sigmoid", 2, 3)


def test_all_mistakes_at_once_where_the_user_made_them() -> None:
    tables = small(model={"num_filters": "many"}, train={"epochs": -1}, mix={"sample_rat": 8000})
    tables["corpus"] = {"kind": "folder", "depth": 1}
    tables["systems"] = {"a": {"causal": 1}, "b": {"train": {"epochz": 2}}}
    with pytest.raises(RecipeError) as raised:
        parse_recipe(tables, origin="my.toml")
    lines = str(raised.value).splitlines()
    assert all(line.startswith("my.toml: ") for line in lines)
    places = {line.split(": ")[1] for line in lines}
    assert places == {
        "model.num_filters",
        "train.epochs",
        "mix.sample_rat",
        "corpus.depth",
        "systems.a.causal",
        "systems.b.train.epochz",
    }


@pytest.mark.parametrize("key", ["corpus", "plan", "systems"])
@pytest.mark.parametrize("value", [3, "text", [], None, {}])
def test_wrong_tables_are_recipe_errors(key: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=key):
        parse_recipe(small(**{key: value}))


@pytest.mark.parametrize("value", [3, "text", [1]])
@pytest.mark.parametrize("key", ["model", "train"])
def test_wrong_shared_tables_are_recipe_errors(key: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=key):
        parse_recipe(small(**{key: value}))


def test_overrides(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(SMALL)
    overrides = ["systems.causal.train.epochs=5", "mix.mode=max", "model.mask = 'relu'", "train.learning_rate=1e-4", "seed=3"]
    recipe = load_recipe(path, overrides)
    assert recipe.systems["causal"].train.epochs == 5
    assert recipe.systems["noncausal"].train.epochs == 100
    assert (recipe.mix.mode, recipe.systems["causal"].model.mask, recipe.seed) == ("max", "relu", 3)
    for wrong in ("nonsense", "=3", "a..b=1", "name.x=1"):
        with pytest.raises(RecipeError, match="--set"):
            load_recipe(path, [wrong])
    with pytest.raises(RecipeError, match=r"systems\.causal\.train\.epochs"):
        load_recipe(path, ["systems.causal.train.epochs=soon"])


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.toml: no such file, and no shipped recipe has this name"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)
    (tmp_path / "bad.toml").write_bytes(b"name = \xff")
    with pytest.raises(RecipeError, match=r"bad\.toml: not valid TOML"):
        load_recipe(tmp_path / "bad.toml")


def test_seeds_make_runs_of_a_system() -> None:
    recipe = parse_recipe(small(report={"baseline": "causal"}, train={"seeds": [3, 1], "epochs": 2}))
    assert list(recipe.systems) == ["noncausal@3", "noncausal@1", "causal@3", "causal@1"]
    assert [recipe.training_seed(name) for name in recipe.systems] == [3, 1, 3, 1]
    assert recipe.systems["causal@3"].model == recipe.systems["causal@1"].model
    assert recipe.baseline == "causal@3"


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"seeds": [1, 1]}, "must not repeat a value"),
        ({"seeds": "two"}, "train.seeds"),
        ({"seeds": [1, -1]}, r"train\.seeds\.1: Input should be greater"),
        ({"seeds": [1, 2], "epochs": 0}, "recipe: train.epochs"),
    ],
)
def test_impossible_seeds_are_refused(train: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(small(train=train))


def test_two_systems_of_one_name_are_refused() -> None:
    systems = {"a@3": {}, "a": {"train": {"seeds": [1, 3]}}}
    with pytest.raises(RecipeError, match=r"systems\.a@3: two systems have this name"):
        parse_recipe(small(systems=systems))


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(SMALL, encoding="utf-8-sig")
    assert load_recipe(path) == parse_recipe(small())


def test_settings_are_toml_or_text() -> None:
    settings = parse_settings(["mask=relu", "sample_rate = 16000", 'a.b=["x", "y"]', "a.c=x = y"])
    assert settings == {"mask": "relu", "sample_rate": 16000, "a": {"b": ["x", "y"], "c": "x = y"}}


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 5000], ids=["digits", "brackets"])
def test_numbers_of_thousands_of_digits_and_deep_nesting_are_mistakes_like_others(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(f"seed = {text}\n")
    with pytest.raises(RecipeError, match=r"r\.toml: not valid TOML"):
        load_recipe(path)
    with pytest.raises(RecipeError, match="seed: Input should be a valid integer"):
        parse_recipe(small(**parse_settings([f"seed={text}"])))
