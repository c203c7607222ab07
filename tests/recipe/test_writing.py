"""What ``tasnet show`` prints reads back to the same recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from pydantic import BaseModel

from pipeline.recipe.reading import load_recipe, parse_recipe
from pipeline.recipe.schema import Recipe
from pipeline.recipe.writing import format_recipe
from tests.recipe.recipes import SHIPPED, recipes, small


def read_back(recipe: Recipe, folder: Path) -> Recipe:
    path = folder / "shown.toml"
    path.write_text(format_recipe(recipe), encoding="utf-8")
    return load_recipe(path)


def in_order(tables: Any) -> Iterator[Any]:
    """All keys and values, in the order in which they stand."""
    if isinstance(tables, dict):
        for key, value in tables.items():
            yield key
            yield from in_order(value)
    else:
        yield tables


def assert_same(again: Recipe, recipe: Recipe) -> None:
    assert again == recipe
    assert list(in_order(again.model_dump())) == list(in_order(recipe.model_dump()))
    assert again.baseline == recipe.baseline


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shown_recipe_reads_back_the_same(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path, ["seed=7", "train.ema_decay=0.999", "train.learning_rate=1e-5"])
    assert_same(read_back(recipe, tmp_path), recipe)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shown")


@settings(max_examples=20)
@given(raw=recipes(complete=True))
def test_a_recipe_with_every_optional_key_reads_back_the_same(folder: Path, raw: dict[str, Any]) -> None:
    recipe = parse_recipe(raw)
    assert_same(read_back(recipe, folder), recipe)


@settings(max_examples=60)
@given(raw=recipes(complete=False))
def test_a_recipe_with_any_optional_keys_reads_back_the_same(folder: Path, raw: dict[str, Any]) -> None:
    recipe = parse_recipe(raw)
    assert_same(read_back(recipe, folder), recipe)


def test_further_variants_read_back_the_same(tmp_path: Path) -> None:
    also = [{"sample_rate": 16000, "mode": "min"}, {"sample_rate": 8000, "mode": "max"}]
    recipe = parse_recipe(small(mix={"also": also}))
    assert [variant.model_dump() for variant in read_back(recipe, tmp_path).mix.also] == also


def test_gradient_clipping_that_is_off_stays_off(tmp_path: Path) -> None:
    recipe = parse_recipe(small(train={"clip_norm": 0}))
    assert read_back(recipe, tmp_path).systems["causal"].train.clip_norm == 0


def test_the_runs_of_a_system_read_back_the_same(tmp_path: Path) -> None:
    recipe = parse_recipe(small(report={"baseline": "causal"}, train={"seeds": [3, 1], "epochs": 2}))
    assert_same(read_back(recipe, tmp_path), recipe)


def tables_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The kinds of tables that an annotation holds, and those in them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from tables_in(field.annotation)
    for inner in get_args(annotation):
        yield from tables_in(inner)


def test_no_setting_whose_default_is_a_value_can_be_none() -> None:
    """TOML has no null, so a recipe that set it to None could not be written."""
    tables = set(tables_in(Recipe))
    assert {"Recipe", "Mix", "Variant", "Train", "Model", "WhamPlan", "Subsets"} <= {each.__name__ for each in tables}
    for table in tables:
        for name, field in table.model_fields.items():
            assert field.default is None or type(None) not in get_args(field.annotation), f"{table.__name__}.{name}"
