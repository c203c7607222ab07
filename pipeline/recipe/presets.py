"""Presets: sets of ``[model]`` and ``[train]`` values that a recipe, or one of its systems, starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "paper": {"model": {}, "train": {}},
    "strong": {
        "model": {"mask": "relu", "encoder": "relu", "filterbank": "sinusoids"},
        "train": {
            "mixing": "dynamic",
            "speed_percent": 10,
            "optimiser": "muon",
            "learning_rate": 2e-3,
            "schedule": "cosine",
            "warmup_steps": 100,
        },
    },
}
"""``paper`` keeps the schema's defaults; ``strong`` holds the settings that learned most in the same time. Neither sets sizes,
lengths or epochs, which depend on the data and on the time available."""
DEFAULT_PRESET = "paper"
