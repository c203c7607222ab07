"""Recipes: every shipped one loads; mistakes are all found at once and named as the user wrote them."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RecipeError
from pipeline.recipe.presets import PRESETS
from pipeline.recipe.reading import load_recipe, parse_recipe
from pipeline.recipe.schema import Model
from pipeline.recipe.writing import format_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))

SMALL = """
name = "small"
[corpus]
kind = "folder"
[plan]
kind = "random"
[systems.noncausal]
[systems.causal]
causal = true
"""


def small(**tables: Any) -> dict[str, Any]:
    return tomllib.loads(SMALL) | tables


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    recipe = load_recipe(path)
    causal = [system.model for system in recipe.systems.values() if system.model.causal]
    assert causal
    assert all(model.norm_kind != "global" for model in causal)
    assert not recipe.systems[recipe.baseline].model.causal


def test_defaults_are_the_papers() -> None:
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


def test_causal_implies_cumulative_norm() -> None:
    assert parse_recipe(small()).systems["causal"].model.norm_kind == "cumulative"
    with pytest.raises(RecipeError, match=r"systems\.causal: causal = true and norm = 'global' contradict"):
        parse_recipe(small(systems={"causal": {"causal": True, "norm": "global"}}))


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
    with pytest.raises(RecipeError, match=r"none\.toml: cannot be read"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"name = \xff")
    with pytest.raises(RecipeError, match=r"bad\.toml: not valid TOML"):
        load_recipe(tmp_path / "bad.toml")


@given(st.booleans(), st.sampled_from([None, "global", "cumulative", "frame"]))
def test_no_causal_model_ever_has_a_global_norm(causal: bool, norm: Any) -> None:
    try:
        model = Model(causal=causal, norm=norm)
    except ValueError:
        assert causal
        assert norm == "global"
    else:
        assert not (model.causal and model.norm_kind == "global")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shown_recipe_reads_back_the_same(path: Path) -> None:
    recipe = load_recipe(path, ["seed=7", "train.ema_decay=0.999", "train.learning_rate=1e-5"])
    assert parse_recipe(tomllib.loads(format_recipe(recipe))) == recipe


def test_published_lists_need_the_corpus_they_name() -> None:
    with pytest.raises(RecipeError, match=r"plan\.lists: the published lists of 'librimix' name files of 'librispeech'.*'drawn'"):
        parse_recipe(small(plan={"kind": "librimix"}))
    with pytest.raises(RecipeError, match=r"plan\.lists: .*'wsj0mix'.*corpus\.kind is 'folder'"):
        parse_recipe(small(plan={"kind": "wsj0mix"}))
    assert parse_recipe(small(plan={"kind": "librimix", "lists": "drawn"})).plan.kind == "librimix"


def test_noisy_mixtures_need_a_plan_with_noise() -> None:
    with pytest.raises(RecipeError, match=r"mix\.types: plan\.kind = 'random' has no noise"):
        parse_recipe(small(mix={"types": ["mix_both"]}))


def test_seeds_make_runs_of_a_system() -> None:
    recipe = parse_recipe(small(report={"baseline": "causal"}, train={"seeds": [3, 1], "epochs": 2}))
    assert list(recipe.systems) == ["noncausal@3", "noncausal@1", "causal@3", "causal@1"]
    assert [recipe.training_seed(name) for name in recipe.systems] == [3, 1, 3, 1]
    assert recipe.systems["causal@3"].model == recipe.systems["causal@1"].model
    assert recipe.baseline == "causal@3"
    assert parse_recipe(tomllib.loads(format_recipe(recipe))) == recipe


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"seeds": [1, 1]}, "seeds repeats a seed"),
        ({"seeds": "two"}, "train.seeds"),
        ({"seeds": [1, -1]}, r"train\.seeds\.1: Input should be greater"),
        ({"seeds": [1, 2], "epochs": 0}, "recipe: train.epochs"),
    ],
)
def test_impossible_seeds_are_refused(train: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(small(train=train))
