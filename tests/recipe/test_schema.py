"""What the schema accepts and refuses, and what it takes as default."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from pipeline.errors import RecipeError
from pipeline.recipe import schema
from pipeline.recipe.reading import parse_recipe
from pipeline.recipe.schema import Model
from tests.recipe.recipes import small


def test_the_defaults_are_the_papers() -> None:
    system = parse_recipe(small()).systems["noncausal"]
    model, train = system.model, system.train
    assert (model.num_filters, model.filter_length, model.bottleneck_channels, model.skip_channels) == (512, 16, 128, 128)
    assert (model.hidden_channels, model.kernel_size, model.blocks_per_repeat, model.num_repeats) == (512, 3, 8, 3)
    assert (model.norm_kind, model.mask, model.encoder) == ("global", "sigmoid", "linear")
    assert (train.segment_seconds, train.epochs, train.learning_rate, train.clip_norm, train.plateau_epochs) == (
        4.0,
        100,
        1e-3,
        5.0,
        3,
    )


def test_causal_implies_cumulative_norm() -> None:
    assert parse_recipe(small()).systems["causal"].model.norm_kind == "cumulative"
    with pytest.raises(RecipeError, match=r"systems\.causal: causal = true and norm = 'global' contradict"):
        parse_recipe(small(systems={"causal": {"causal": True, "norm": "global"}}))


@given(st.booleans(), st.sampled_from([None, "global", "cumulative", "frame"]))
def test_no_causal_model_ever_has_a_global_norm(causal: bool, norm: Any) -> None:
    try:
        model = Model(causal=causal, norm=norm)
    except ValueError:
        assert causal
        assert norm == "global"
    else:
        assert not (model.causal and model.norm_kind == "global")


def test_published_lists_need_the_corpus_they_name() -> None:
    with pytest.raises(RecipeError, match=r"plan\.lists: the published lists of 'librimix' need .*'librispeech'.*'drawn'"):
        parse_recipe(small(plan={"kind": "librimix"}))
    with pytest.raises(RecipeError, match=r"plan\.lists: .*'wsj0mix' need corpus\.kind = 'wsj0', not 'folder'"):
        parse_recipe(small(plan={"kind": "wsj0mix"}))
    assert parse_recipe(small(plan={"kind": "librimix", "lists": "drawn"})).plan.kind == "librimix"


def test_noisy_mixtures_need_a_plan_with_noise() -> None:
    with pytest.raises(RecipeError, match=r"mix\.types: plan\.kind = 'random' makes no noisy mixtures"):
        parse_recipe(small(mix={"types": ["mix_both"]}))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"mix": {"types": []}}, "mix.types: must list at least one value"),
        ({"mix": {"splits": ["test", "test"]}}, "mix.splits: must not repeat a value"),
        ({"mix": {"also": [{"sample_rate": 8000, "mode": "min"}]}}, "mix: also repeats a combination of sample rate and mode"),
        ({"plan": {"kind": "wsj0mix", "lists": "drawn", "splits": []}}, "plan.splits: must list at least one value"),
        ({"report": {"baseline": "none"}}, "report.baseline: no system is called 'none'; choose from noncausal, causal"),
        ({"systems": {}}, "systems: a recipe needs at least one [systems.NAME] table"),
        (
            {"model": {"kernel_size": 4, "causal": True}, "systems": {"a": {"causal": False}}},
            "systems.a: kernel_size = 4 must be odd",
        ),
    ],
)
def test_contradictions_are_refused(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"^recipe: {re.escape(message)}"):
        parse_recipe(small(**tables))


@pytest.mark.parametrize(
    ("tables", "missing"),
    [
        ({}, []),
        ({"mix": {"splits": ["test"]}}, ["static mixing needs rendered training mixtures; add 'train' to mix.splits"] * 2),
        ({"mix": {"splits": ["test"]}, "train": {"mixing": "dynamic"}}, []),
        (
            {"plan": {"kind": "random", "num_mixtures": {"valid": 1}}, "train": {"mixing": "dynamic"}},
            ["set train.segments_per_"] * 2,
        ),
        ({"plan": {"kind": "random", "num_mixtures": {"train": 1}}}, ["plan: training needs validation mixtures"]),
    ],
)
def test_what_training_needs_is_named(tables: dict[str, Any], missing: list[str]) -> None:
    lines = parse_recipe(small(**tables)).missing_for_training
    assert len(lines) == len(missing)
    assert all(start in line for start, line in zip(missing, lines, strict=True))


def test_a_plan_by_published_rules_is_drawn_by_the_same_rules_on_the_fly() -> None:
    plan = {"kind": "librimix", "lists": "drawn", "num_sources": 3, "splits": ["train"], "num_mixtures": {"train": 5, "test": 2}}
    drawing = parse_recipe(small(plan=plan)).plan.drawing
    assert (drawing.level, drawing.num_sources, drawing.num_mixtures) == ("loudness", 3, {"train": 5})


NOT_BOUNDED = {"si_snri_db", "sdri_db"}
"""Published results: printed, and used for nothing."""


def number_fields() -> list[tuple[type[BaseModel], str]]:
    """Every setting that is a number, or a collection of numbers."""
    found = []
    for table in vars(schema).values():
        if isinstance(table, type) and issubclass(table, BaseModel) and not table.__name__.startswith("_"):
            for name, field in table.model_fields.items():
                text = re.sub(r"Literal\[[^]]*\]", "", str(field.annotation))
                if re.search(r"\b(int|float)\b", text) and name not in NOT_BOUNDED:
                    found.append((table, name))
    return found


@pytest.mark.parametrize(("table", "name"), number_fields(), ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("number", [99999999999999999999, 1e300])
def test_no_setting_takes_a_number_beyond_all_use(table: type[BaseModel], name: str, number: float) -> None:
    for value in (number, [number], {"train": number}):
        with pytest.raises(ValidationError) as caught:
            table.model_validate({name: value})
        assert any(error["loc"][0] == name for error in caught.value.errors())


def test_the_fields_that_are_numbers_are_found() -> None:
    assert {(schema.Train, "epochs"), (schema.RandomPlan, "num_mixtures"), (schema.Recipe, "seed")} < set(number_fields())
