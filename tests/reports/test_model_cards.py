"""Model cards: every figure is the run's, the front matter is YAML, and what is not known is not claimed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.recipe.reading import parse_recipe
from pipeline.reports.model_cards import NO_LICENCE, Trained, model_card, with_licence

FACTS: dict[str, Any] = {
    "causal": True, "norm": "cumulative", "num_parameters": 4_984_881, "macs_per_second": 4_900_000_000,
    "receptive_field_seconds": 1.5, "latency_seconds": 0.002, "look_ahead_samples": 15, "causality_deviation": 0.0,
    "cpu_real_time_factor": 0.16, "cpu": "AMD EPYC, 1 thread",
}  # fmt: skip
ROW = {"metric": "si_snri_db", "n": 200, "num_failed": 3, "mean": 7.204, "low": 5.61, "high": 8.52, "share_below_0": 0.055}


def trained(causal: bool = True, **changes: Any) -> Trained:
    recipe = parse_recipe(
        {"name": "talks", "corpus": {"kind": "folder"}, "plan": {"kind": "random"}, "systems": {"first": {"causal": causal}}}
    )
    history = pd.DataFrame({"epoch": [1, 2, 3], "valid_loss_db": [-3.0, -6.5, -6.1]})
    rows = [ROW | {"resampled": "speakers"}, ROW | {"metric": "stoi", "resampled": "speakers"}]
    return Trained(**{"name": "first", "recipe": recipe, "facts": FACTS, "scores": rows, "history": history,
                      "num_mixtures": {"train": 2000, "test": 200}, **changes})  # fmt: skip


def front_matter(card: str) -> dict[str, Any]:
    """Every entry is a line, its value JSON."""
    opening, lines, _ = card.split("---\n", 2)
    assert opening == ""
    return {name: json.loads(value) for name, value in (line.split(": ", 1) for line in lines.splitlines())}


def test_the_figures_are_those_of_the_run() -> None:
    card = model_card(trained())
    for text in (
        "A causal Conv-TasNet with cumulative layer norm and 4.98 M parameters",
        "at 8,000 Hz into 2 sources",
        "2,000 for train, 200 for test",
        "epoch 2, which had the best validation loss, −6.50 dB",
        "| SI-SNRi, dB | 7.20 | [5.61, 8.52] | 3 |",
        "look-ahead: 15 samples, 1.88 ms",
        "latency when streamed: 2.00 ms",
        "factor of whole files: 0.160 on AMD EPYC",
        "* 5.5% of the test mixtures came out worse than they went in.",
        NO_LICENCE,
    ):
        assert text in card
    assert "stoi" not in card


def test_the_front_matter_is_the_hubs() -> None:
    found = front_matter(model_card(trained()))
    assert list(found) == ["library_name", "pipeline_tag", "tags", "model-index"]
    assert "causal" in found["tags"]
    result = found["model-index"][0]["results"][0]
    assert result["metrics"] == [{"type": "si_snri_db", "name": "SI-SNRi, dB", "value": 7.2}]


def test_a_licence_is_in_both_places_once_it_is_given() -> None:
    card = with_licence(model_card(trained()), "cc-by-4.0")
    assert front_matter(card)["license"] == "cc-by-4.0"
    assert card.endswith("## Licence\n\ncc-by-4.0\n")


def test_a_noncausal_model_claims_no_latency() -> None:
    facts = FACTS | {"causal": False, "norm": "global", "look_ahead_samples": None, "latency_seconds": None}
    card = model_card(trained(causal=False, facts=facts))
    assert "needs the whole signal" in card
    assert "latency when streamed" not in card
    assert "non-causal" in front_matter(card)["tags"]


@pytest.mark.parametrize("rows", [[], [ROW | {"resampled": "mixtures", "mean": np.nan, "low": np.nan, "high": np.nan}]])
def test_without_scores_there_are_none(rows: list[dict[str, Any]]) -> None:
    card = model_card(trained(scores=rows))
    assert "model-index" not in front_matter(card)
    assert "nan" not in card
    assert ("None." in card) == (not rows)
