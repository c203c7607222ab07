"""The comparison on the terminal, and the gate."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from pipeline import reports
from pipeline.errors import ScoreError
from pipeline.reports import statistics
from tests.report_cases import make_scores


def test_the_comparison_fits_a_terminal() -> None:
    scores = make_scores(num_mixtures=40)
    text = reports.format_comparison(scores, published={"noncausal": {"si_snri_db": 15.3, "sdri_db": 15.6, "source": "x"}})
    assert max(map(len, text.splitlines())) <= 100
    assert re.search(r"^noncausal +40 +\d\.\d\d +\[", text, re.MULTILINE)
    assert "causal is worse than noncausal: −1." in text
    assert "not rerun" in text


def shifted(scores: pd.DataFrame, shift_db: float, noise_db: float = 0.3) -> pd.DataFrame:
    noise = np.random.default_rng(9).normal(0, noise_db, len(scores))
    return scores.assign(si_snri_db=scores["si_snri_db"] + shift_db + noise)


def test_the_gate_trips_only_beyond_chance() -> None:
    scores = make_scores({"causal": 6.0}, num_mixtures=60)
    assert reports.gate(scores, shifted(scores, -0.5), "si_snri_db < -0.1").tripped
    assert not reports.gate(scores, shifted(scores, -0.12), "si_snri_db < -0.1").tripped
    assert not reports.gate(scores, shifted(scores, -0.5, noise_db=6.0), "si_snri_db < -0.1").tripped
    assert not reports.gate(scores, shifted(scores, 2.0), "si_snri_db < -0.1").tripped
    assert reports.gate(scores, shifted(scores, 2.0), "si_snri_db > 1").tripped


def test_the_gate_prints_b_minus_a() -> None:
    scores = make_scores({"causal": 6.0}, num_mixtures=60)
    verdict = reports.gate(scores, shifted(scores, -0.5, noise_db=0.0), "si_snri_db < -0.1 dB")
    assert verdict.text.startswith("causal: si_snri_db B − A −0.50 dB, 95% interval [−0.50, −0.50], 60 mixtures")
    assert verdict.text.endswith("holds")


def test_the_gate_compares_systems_by_name_or_the_only_ones() -> None:
    two = make_scores(num_mixtures=30)
    worse = shifted(two, 0.0).assign(si_snri_db=lambda t: t["si_snri_db"] - (t["system"] == "causal"))
    verdict = reports.gate(two, worse, "si_snri_db < -0.1")
    assert verdict.differences["system"].tolist() == ["noncausal", "causal"]
    assert verdict.tripped
    renamed = two[two["system"] == "causal"].assign(system="new")
    assert reports.gate(two[two["system"] == "causal"], renamed, "si_snri_db < 0").differences["n"].tolist() == [30]


@pytest.mark.parametrize("condition", ["", "si_snri < -0.1", "si_snri_db <= 0", "si_snri_db < low", "__import__('os') < 1"])
def test_malformed_conditions_are_refused(condition: str) -> None:
    scores = make_scores(num_mixtures=4)
    with pytest.raises(ScoreError, match="write a metric"):
        reports.gate(scores, scores, condition)


def test_tables_without_a_common_system_or_mixture_are_refused() -> None:
    two = make_scores(num_mixtures=4)
    with pytest.raises(ScoreError, match="no system is in both"):
        reports.gate(two, two.assign(system=two["system"] + "2"), "si_snri_db < 0")
    one = two[two["system"] == "causal"]
    with pytest.raises(ScoreError, match="no scored mixture in common"):
        reports.gate(one, one.assign(mixture_id=one["mixture_id"] + "x"), "si_snri_db < 0")


def test_a_table_without_the_metric_is_refused_by_what_it_has() -> None:
    one = make_scores({"causal": 6.0}, num_mixtures=4)
    with pytest.raises(ScoreError, match=r"causal: B has no si_snri_db, only .*si_snr_db.*; name one of these in --fail-if"):
        reports.gate(one, one.assign(si_snri_db=np.nan), "si_snri_db < 0")


def test_compare_shows_both_and_the_gate() -> None:
    scores = make_scores({"causal": 6.0}, num_mixtures=30)
    text, tripped = reports.compare(scores, shifted(scores, -1.0), fail_if="si_snri_db < -0.1")
    assert tripped
    assert "causal (A)" in text
    assert "causal (B) is worse than causal (A)" in text
    assert not reports.compare(scores, scores)[1]


def test_metrics_without_a_unit_have_their_own_margins_and_no_decibels() -> None:
    scores = make_scores(num_mixtures=30).assign(stoi=0.8)
    better = scores.assign(stoi=scores["stoi"] + 0.01)
    verdict = reports.gate(scores, better, "stoi > 0.005")
    assert verdict.tripped
    assert "stoi B − A +0.010, 95% interval [0.010, 0.010]" in verdict.text
    assert " dB" not in verdict.text
    assert verdict.differences[["win", "tie"]].to_numpy().tolist() == [[1.0, 0.0]] * len(verdict.differences)
    assert np.isnan(statistics.summaries(scores, ["stoi"])["share_below_0"]).all()


def test_metrics_on_request_are_printed_in_a_table_of_their_own() -> None:
    text = reports.format_comparison(make_scores(num_mixtures=8).assign(stoi=0.8, pesq=2.5))
    assert ["system", "STOI", "PESQ"] in [line.split() for line in text.splitlines()]
    assert ["noncausal", "0.800", "2.50"] in [line.split() for line in text.splitlines()]
