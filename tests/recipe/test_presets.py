"""What a recipe inherits from its preset."""

from __future__ import annotations

import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.presets import PRESETS
from pipeline.recipe.reading import parse_recipe
from tests.recipe.recipes import small


def test_presets_lie_under_everything_else() -> None:
    raw = small(preset="strong", model={"encoder": "linear"})
    raw["systems"]["causal"] |= {"preset": "paper", "train": {"batch_size": 3}}
    raw["systems"]["noncausal"] = {"mask": "softmax", "train": {"speed_percent": 0}}
    strong, paper = (parse_recipe(raw).systems[name] for name in ("noncausal", "causal"))
    assert (strong.model.mask, strong.model.encoder, strong.model.filterbank) == ("softmax", "linear", "sinusoids")
    assert (strong.train.mixing, strong.train.optimiser, strong.train.speed_percent) == ("dynamic", "muon", 0)
    defaults = parse_recipe(small()).systems["causal"]
    assert paper.model == defaults.model
    assert paper.train == defaults.train.model_copy(update={"batch_size": 3})


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_the_papers_sizes(name: str) -> None:
    parse_recipe(small(preset=name))


@pytest.mark.parametrize("preset", ["fast", 1])
def test_unknown_presets_are_named(preset: object) -> None:
    with pytest.raises(RecipeError, match=r"^recipe: preset: there is no .*; choose from paper, strong$"):
        parse_recipe(small(preset=preset))
    raw = small()
    raw["systems"]["causal"]["preset"] = preset
    with pytest.raises(RecipeError, match=r"^recipe: systems\.causal\.preset: "):
        parse_recipe(raw)
