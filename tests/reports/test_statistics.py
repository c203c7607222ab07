"""Summaries and paired differences against pandas, scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.reports import formatting, statistics
from pipeline.reports.means import mixture_means
from tests.report_cases import make_scores, spoil


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_no_mean_is_ever_infinite_or_nan(value: float) -> None:
    scores = make_scores(num_mixtures=5)
    scores.loc[0, "si_snri_db"] = value
    summary = statistics.summaries(scores, ["si_snri_db"]).set_index("system")
    assert np.isfinite(summary["mean"]).all()
    assert summary.loc["noncausal", ["n", "n_valid"]].tolist() == [5, 4]


def test_shares_of_wins_ties_and_losses_are_never_negative() -> None:
    scores = make_scores({"a": 8.0, "b": 5.0}, num_mixtures=5)
    values = np.array([1.0, 1.0, 1.0, -1.0, 1.0])
    for system, gain in (("a", values), ("b", 0 * values)):
        scores.loc[scores["system"] == system, "si_snri_db"] = np.repeat(gain, 2)
    row = statistics.paired_differences(scores, "si_snri_db", baseline="b").iloc[0]
    assert row[["win", "tie", "loss"]].tolist() == [0.8, 0.0, 0.2]
    assert formatting.percent(row["tie"]) == "0%"


def test_the_order_of_rows_does_not_matter() -> None:
    scores = make_scores(num_mixtures=20)
    shuffled = scores.sort_values(["system", "si_snri_db"], ascending=[False, True])
    pd.testing.assert_frame_equal(statistics.summaries(scores), statistics.summaries(shuffled))


@given(st.lists(st.floats(-30, 40), min_size=2, max_size=50))
def test_describe_matches_pandas(values: list[float]) -> None:
    series = pd.Series([*values, np.nan])
    found = statistics.describe(series)
    assert (found["n"], found["n_valid"]) == (len(values) + 1, len(values))
    assert found["mean"] == pytest.approx(series.mean(), abs=1e-9)
    assert found["std"] == pytest.approx(series.std(), abs=1e-9)
    for name, q in (("p5", 0.05), ("p25", 0.25), ("median", 0.5), ("p75", 0.75), ("p95", 0.95)):
        assert found[name] == pytest.approx(series.quantile(q), abs=1e-9)


def test_describe_of_nothing_has_no_numbers() -> None:
    found = statistics.describe(pd.Series([np.nan, np.nan]))
    assert found["n_valid"] == 0
    assert np.isnan(found["mean"])


def test_a_constant_difference_is_found_exactly() -> None:
    scores = make_scores({"a": 8.0}, num_mixtures=40)
    other = scores.assign(system="b", si_snri_db=scores["si_snri_db"] - 1.25)
    row = statistics.paired_differences(pd.concat([scores, other]), "si_snri_db", baseline="a").iloc[0]
    assert (row["system"], row["baseline"], row["n"]) == ("b", "a", 40)
    assert row[["difference", "low", "high"]].astype(float).tolist() == pytest.approx([-1.25] * 3)
    assert (row["win"], row["tie"], row["loss"]) == (0, 0, 1)
    assert row["p"] < 1e-6


def test_equal_systems_tie() -> None:
    scores = make_scores({"a": 8.0}, num_mixtures=12)
    row = statistics.paired_differences(pd.concat([scores, scores.assign(system="b")]), "si_snri_db").iloc[0]
    assert (row["difference"], row["tie"], row["p"]) == (0, 1, 1)


def test_pairs_use_common_valid_mixtures_only() -> None:
    scores = spoil(make_scores(num_mixtures=20), {0: "nan_in_estimate", 6: "silent_estimate"})
    means = mixture_means(scores, "si_snri_db").dropna()
    row = statistics.paired_differences(scores, "si_snri_db", baseline="noncausal").iloc[0]
    assert row["n"] == len(means) == 18
    assert row["difference"] == pytest.approx((means["causal"] - means["noncausal"]).mean())
    assert row["p"] == pytest.approx(stats.wilcoxon(means["causal"], means["noncausal"]).pvalue)


def test_a_paired_interval_is_narrower_than_those_of_the_means() -> None:
    scores = make_scores(num_mixtures=100)
    pair = statistics.paired_differences(scores, "si_snri_db").iloc[0]
    summary = statistics.summaries(scores, ["si_snri_db"]).iloc[0]
    assert pair["high"] - pair["low"] < summary["high"] - summary["low"]


def test_three_systems_make_three_pairs_the_baseline_subtracted() -> None:
    scores = make_scores({"a": 8.0, "b": 7.0, "c": 7.0}, num_mixtures=30)
    pairs = statistics.paired_differences(scores, "sdri_db", baseline="b")
    assert list(zip(pairs["system"], pairs["baseline"], strict=True)) == [("a", "b"), ("c", "b"), ("c", "a")]
    np.testing.assert_allclose(pairs["p_holm"], statistics.holm(pairs["p"].to_numpy()))


def test_one_system_makes_no_pair() -> None:
    assert statistics.paired_differences(make_scores({"a": 1.0}), "si_snri_db").empty


def test_holm_by_hand() -> None:
    adjusted = statistics.holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    np.testing.assert_allclose(adjusted, [0.03, 0.06, np.nan, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_and_keeps_the_order(p_values: list[float]) -> None:
    p = np.array(p_values)
    adjusted = statistics.holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
