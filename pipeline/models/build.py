"""A network from its settings."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from pipeline.errors import ModelError
from pipeline.models.conv_tasnet import ConvTasNet
from pipeline.recipe.schema import Model


def build_model(settings: Model | None = None, *, num_sources: int = 2, sample_rate: int = 8000, **fields: Any) -> ConvTasNet:
    """A network with random weights: ``build_model(causal=True)`` is the paper's causal one.

    Args:
        settings: the architecture, as in a recipe; or
        fields: the settings by name, over the paper's defaults.
        num_sources: sources in every mixture, 1 or more.
        sample_rate: Hz.

    Raises:
        ModelError: when the settings contradict each other or have no such field.
    """
    if settings is not None and fields:
        raise ModelError(f"both settings and single fields ({', '.join(fields)}) are given: give one or the other")
    settings = settings or _settings(fields)
    if settings.causal and settings.norm_kind == "global":
        raise ModelError("causal = true and norm = 'global' contradict each other: a global norm looks at the whole future")
    if num_sources < 1 or sample_rate < 1:
        raise ModelError(f"num_sources (={num_sources}) and sample_rate (={sample_rate}) must be positive")
    return ConvTasNet(settings, num_sources=num_sources, sample_rate=sample_rate)


def _settings(fields: dict[str, Any]) -> Model:
    try:
        return Model(**fields)
    except ValidationError as error:
        findings = (": ".join([*map(str, e["loc"]), e["msg"].removeprefix("Value error, ")]) for e in error.errors())
        raise ModelError("; ".join(findings)) from None
