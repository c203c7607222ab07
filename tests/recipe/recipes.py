"""Recipes in tests: a small one to change, the shipped ones, and every recipe that the schema allows."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.recipe.presets import PRESETS
from pipeline.recipe.schema import Model, Recipe, Train

SHIPPED = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))

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

LARGEST = 2**63 - 1
"""The largest integer that every TOML reader takes."""


def small(**tables: Any) -> dict[str, Any]:
    """The small recipe as dictionaries, with some top-level keys replaced."""
    return tomllib.loads(SMALL) | tables


def recipes(*, complete: bool) -> st.SearchStrategy[dict[str, Any]]:
    """Raw recipes that the schema accepts; ``complete`` ones set every optional key, others any of them."""
    systems = st.dictionaries(SYSTEM_NAMES, _tables(Model, complete, train=_tables(Train, complete)), min_size=1, max_size=3)
    shared = {"preset": st.sampled_from(sorted(PRESETS)), "model": _tables(Model, complete), "train": _tables(Train, complete)}
    return _tables(Recipe, complete, systems=systems, **shared).map(_made_compatible)


SYSTEM_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,5}", fullmatch=True)

# Where one setting limits another: values that fit whatever the others are.
COMPATIBLE: dict[str, st.SearchStrategy[Any]] = {
    "norm": st.sampled_from(["cumulative", "frame"]),
    "kernel_size": st.integers(0, 20).map(lambda half: 2 * half + 1),
    "num_filters": st.integers(64, 1000).map(lambda quarter: 4 * quarter),
    "filter_length": st.integers(1, 64).map(lambda half: 2 * half),
}


def _tables(kind: type[BaseModel], complete: bool, /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Raw tables of one kind."""
    declared = {
        name: COMPATIBLE[name] if name in COMPATIBLE else _values(field.annotation, field.metadata, complete)
        for name, field in kind.model_fields.items()
        if name not in fields
    }
    values = declared | fields
    required = {name for name, field in kind.model_fields.items() if field.is_required()}
    needed = {name: strategy for name, strategy in values.items() if complete or name in required}
    return st.fixed_dictionaries(needed, optional={name: values[name] for name in values if name not in needed})


def _values(kind: Any, limits: list[Any], complete: bool) -> st.SearchStrategy[Any]:
    """Values of one annotation, within its limits."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        more = [limit for extra in inner[1:] for limit in (extra.metadata if isinstance(extra, FieldInfo) else [extra])]
        return _values(inner[0], limits + more, complete)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, UnionType):
        return st.one_of([_values(each, limits, complete) for each in inner if each is not type(None)])
    if origin is list:
        return st.lists(_values(inner[0], [], complete), min_size=1, max_size=3, unique_by=repr)
    if origin is dict:
        return st.dictionaries(_values(inner[0], [], complete), _values(inner[1], [], complete), min_size=1, max_size=3)
    if issubclass(kind, BaseModel):
        return _tables(kind, complete)
    return _numbers_or_text(kind, {name: value for limit in limits for name, value in _limit(limit).items()})


def _limit(limit: Any) -> dict[str, Any]:
    names = ("gt", "ge", "lt", "le", "pattern")
    return {name: getattr(limit, name) for name in names if getattr(limit, name, None) is not None}


def _numbers_or_text(kind: type, limits: dict[str, Any]) -> st.SearchStrategy[Any]:
    low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(low + ("gt" in limits), LARGEST if high is None else high - ("lt" in limits))
    if kind is float:
        exclusive = {"exclude_min": "gt" in limits, "exclude_max": "lt" in limits}
        return st.floats(low, high, allow_nan=False, allow_infinity=False, **exclusive)
    assert kind is str, f"no strategy for {kind}"
    return st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", fullmatch=True) if "pattern" in limits else st.text()


def _made_compatible(raw: dict[str, Any]) -> dict[str, Any]:
    """The recipe with those tables changed that contradict each other."""
    plan, mix = raw["plan"], raw.get("mix", {})
    if "mixtures" in (raw["corpus"]["kind"], plan["kind"].replace("finished", "mixtures")):
        raw["corpus"].pop("channel", None)
        return _of_finished_mixtures(raw)
    if plan["kind"] in ("wsj0mix", "librimix"):
        plan["lists"] = "drawn"
    if plan["kind"] not in ("librimix", "wham"):
        mix.pop("types", None)
    also = {(variant["sample_rate"], "max"): variant | {"mode": "max"} for variant in mix.get("also", [])}
    also.pop((mix.get("sample_rate", 8000), "max"), None)
    raw["mix"] = mix | {"mode": "max", "also": list(also.values())}
    if "baseline" in raw.get("report", {}):
        raw["report"]["baseline"] = list(raw["systems"])[-1]
    return raw


def _of_finished_mixtures(raw: dict[str, Any]) -> dict[str, Any]:
    """The recipe with finished mixtures, and without what these do not allow."""
    if raw["corpus"]["kind"] != "mixtures":
        raw["corpus"] = {"kind": "mixtures"}
    if raw["plan"]["kind"] != "finished":
        del raw["plan"]
    for name in ("mode", "types", "splits", "also"):
        raw.get("mix", {}).pop(name, None)
    for table in (raw, *raw["systems"].values()):
        if "preset" in table:
            table["preset"] = "paper"
        table.get("train", {}).pop("mixing", None)
    if "baseline" in raw.get("report", {}):
        raw["report"]["baseline"] = list(raw["systems"])[-1]
    return raw
