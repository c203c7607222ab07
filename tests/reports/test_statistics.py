"""Statistics against closed forms, scipy, and simulated data whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.reports import statistics
from tests.report_cases import make_scores, spoil


def design(generator: np.random.Generator, num_speakers: int, num_mixtures: int, num_sources: int = 2) -> np.ndarray:
    return np.sort([generator.permutation(num_speakers)[:num_sources] for _ in range(num_mixtures)], axis=1)


# ------------------------------------------------------------------------------------------------------ means per mixture
def test_sources_are_averaged_within_a_mixture_first() -> None:
    scores = make_scores({"a": 8.0}, num_mixtures=3)
    expected = [scores["si_snri_db"][k : k + 2].mean() for k in (0, 2, 4)]
    np.testing.assert_allclose(statistics.mixture_means(scores, "si_snri_db")["a"], expected)


def test_a_mixture_without_all_its_sources_does_not_count() -> None:
    scores = spoil(make_scores({"a": 8.0, "b": 7.0}, num_mixtures=4), {0: "silent_estimate"})
    scores = scores.drop(index=[6])  # the second mixture's second system lacks a row altogether
    means = statistics.mixture_means(scores, "si_snri_db")
    assert means["a"].isna().tolist() == [True, False, False, False]
    assert means["b"].isna().tolist() == [False, True, False, False]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_no_mean_is_ever_infinite_or_nan(value: float) -> None:
    scores = make_scores(num_mixtures=5)
    scores.loc[0, "si_snri_db"] = value
    summary = statistics.summaries(scores, ["si_snri_db"]).set_index("system")
    assert np.isfinite(summary["mean"]).all()
    assert summary.loc["noncausal", ["n", "n_valid"]].tolist() == [5, 4]


def test_the_order_of_rows_does_not_matter() -> None:
    scores = make_scores(num_mixtures=20)
    shuffled = scores.sort_values(["system", "si_snri_db"], ascending=[False, True])
    pd.testing.assert_frame_equal(statistics.summaries(scores), statistics.summaries(shuffled))


# ------------------------------------------------------------------------------------------------------------- summaries
@given(st.lists(st.floats(-30, 40), min_size=2, max_size=50))
def test_describe_matches_pandas(values: list[float]) -> None:
    series = pd.Series([*values, np.nan])
    found = statistics.describe(series)
    assert (found["n"], found["n_valid"]) == (len(values) + 1, len(values))
    assert found["mean"] == pytest.approx(series.mean(), abs=1e-9)
    assert found["std"] == pytest.approx(series.std(), abs=1e-9)
    for name, q in (("p5", 0.05), ("p25", 0.25), ("median", 0.5), ("p75", 0.75), ("p95", 0.95)):
        assert found[name] == pytest.approx(series.quantile(q), abs=1e-9)
    assert found["share_below_0"] == np.mean(np.array(values) < 0)
    assert found["share_below_5"] == np.mean(np.array(values) < 5)


def test_describe_of_nothing_has_no_numbers() -> None:
    found = statistics.describe(pd.Series([np.nan, np.nan]))
    assert found["n_valid"] == 0
    assert np.isnan(found["mean"])


# ------------------------------------------------------------------------------------------------------------- intervals
def test_unclustered_interval_is_the_t_interval() -> None:
    values = np.random.default_rng(3).normal(5, 2, 400)
    low, high = statistics.intervals(values[:, None], np.arange(400)[:, None])
    expected = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    np.testing.assert_allclose([low[0], high[0]], expected, atol=0.02)


def test_resampled_means_follow_the_weights_by_hand() -> None:
    values, clusters = np.array([[1.0, np.nan], [5.0, 2.0]]), np.array([[0, 1], [1, 2]])
    means = statistics.resampled_means(values, clusters, seed=0, num_resamples=50)
    draws = np.random.default_rng(0).multinomial(3, [1 / 3] * 3, size=50)
    first, second = draws[:, 0] * draws[:, 1], draws[:, 1] * draws[:, 2]
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(means[:, 0], (first + 5 * second) / (first + second))
        np.testing.assert_allclose(means[:, 1], 2 * second / second)


NUM_TRIALS = 500


def simulated(num_speakers: int, speaker_sd: float, pair_sd: float, noise_sd: float) -> tuple[np.ndarray, np.ndarray]:
    """Five hundred test sets of 120 mixtures of the same pairs of speakers, whose true mean is zero: values, clusters."""
    generator = np.random.default_rng(11)
    clusters = design(generator, num_speakers, 120)
    speakers = generator.normal(0, speaker_sd, (num_speakers, NUM_TRIALS))
    pairs = generator.normal(0, pair_sd, (num_speakers, num_speakers, NUM_TRIALS))
    noise = generator.normal(0, noise_sd, (120, NUM_TRIALS))
    return speakers[clusters].mean(axis=1) + pairs[clusters[:, 0], clusters[:, 1]] + noise, clusters


@pytest.mark.parametrize(
    ("num_speakers", "speaker_sd", "pair_sd", "noise_sd"),
    [(10, 0.0, 0.0, 1.0), (10, 1.0, 0.0, 0.5), (10, 0.5, 1.0, 0.5), (30, 0.5, 0.0, 1.0)],
)
def test_the_interval_covers_the_truth_as_it_says(num_speakers: int, speaker_sd: float, pair_sd: float, noise_sd: float) -> None:
    """As often as 95 % allows for (one in a thousand falls below), and not by being wide: the means' true spread bounds it."""
    values, clusters = simulated(num_speakers, speaker_sd, pair_sd, noise_sd)
    low, high = statistics.intervals(values, clusters, num_resamples=1000)
    assert ((low <= 0) & (high >= 0)).sum() >= stats.binom.ppf(0.001, NUM_TRIALS, 0.95)
    needed = 2 * stats.t.ppf(0.975, num_speakers - 1) * values.mean(axis=0).std()
    assert 0.8 * needed < (high - low).mean() < 1.35 * needed


def test_negative_control_mixtures_as_the_unit_do_not_cover() -> None:
    values, _ = simulated(10, 1.0, 0.0, 0.5)
    low, high = statistics.intervals(values, np.arange(120)[:, None], num_resamples=1000)
    assert ((low <= 0) & (high >= 0)).sum() < stats.binom.ppf(1e-9, NUM_TRIALS, 0.95)


def test_the_clustered_interval_agrees_with_the_dyadic_robust_variance() -> None:
    """Another way to it: residuals' products summed over all pairs of mixtures that share a speaker (Aronow et al. 2015)."""
    generator = np.random.default_rng(8)
    clusters = design(generator, 40, 800)
    values = generator.normal(0, 0.8, 40)[clusters].mean(axis=1) + generator.normal(0, 1, 800)
    rest = values - values.mean()
    shares = (clusters[:, :, None, None] == clusters.T[None, None]).any(axis=(1, 2))
    expected = 2 * stats.t.ppf(0.975, 39) * np.sqrt(rest @ shares @ rest) / 800
    assert np.ptp(statistics.intervals(values[:, None], clusters), axis=0)[0] == pytest.approx(expected, rel=0.15)


def test_the_clustered_interval_is_wider_where_speakers_matter() -> None:
    generator = np.random.default_rng(5)
    clusters = design(generator, 18, 1000)
    values = generator.normal(0, 0.8, 18)[clusters].sum(axis=1) + generator.normal(0, 1, 1000)
    by_speaker = np.ptp(statistics.intervals(values[:, None], clusters), axis=0)[0]
    by_mixture = np.ptp(statistics.intervals(values[:, None], np.arange(1000)[:, None]), axis=0)[0]
    assert by_speaker > 4 * by_mixture


def test_the_clustered_interval_is_hardly_wider_where_they_do_not() -> None:
    generator = np.random.default_rng(6)
    clusters, values = design(generator, 40, 1000), generator.normal(0, 1, (1000, 1))
    by_speaker = np.ptp(statistics.intervals(values, clusters), axis=0)[0]
    by_mixture = np.ptp(statistics.intervals(values, np.arange(1000)[:, None]), axis=0)[0]
    assert by_mixture * 0.9 < by_speaker < by_mixture * 1.35


def test_too_few_mixtures_or_speakers_have_no_interval() -> None:
    assert np.isnan(statistics.intervals(np.array([[1.0], [2.0]]), np.array([[0], [1]]))).all()
    assert np.isnan(statistics.intervals(np.full((9, 1), np.nan), np.arange(9)[:, None])).all()


def test_equal_values_have_an_interval_of_no_width() -> None:
    low, high = statistics.intervals(np.full((30, 1), 4.0), design(np.random.default_rng(0), 6, 30))
    assert (low[0], high[0]) == pytest.approx((4.0, 4.0))


def test_clusters_are_speakers_or_else_mixtures() -> None:
    scores = make_scores(num_mixtures=30)
    ids = statistics.mixture_means(scores, "si_snri_db").index
    clusters = statistics.clusters_of(scores, ids)
    assert clusters.shape == (30, 2)
    assert statistics.resampled_unit(clusters) == "speakers"
    unknown = statistics.clusters_of(scores.assign(speaker_id=""), ids)
    assert unknown.tolist() == [[k] for k in range(30)]
    assert statistics.clusters_of(scores.drop(columns="speaker_id"), ids).tolist() == unknown.tolist()


def test_one_table_that_names_the_speakers_is_enough() -> None:
    scores = make_scores(num_mixtures=12)
    scores.loc[scores["system"] == "noncausal", ["speaker_id", "sex"]] = ""
    known = scores[scores["system"] == "causal"]
    pd.testing.assert_frame_equal(statistics.mixture_speakers(scores), statistics.mixture_speakers(known))
    assert statistics.sex_pairs(scores).notna().all()


def test_a_speaker_mixed_with_himself_counts_once() -> None:
    scores = make_scores({"a": 1.0}, num_mixtures=10)
    scores.loc[scores["mixture_id"] == scores["mixture_id"][0], "speaker_id"] = "spk00"
    clusters = statistics.clusters_of(scores, statistics.mixture_means(scores, "si_snri_db").index)
    assert -1 in clusters[0]


# ----------------------------------------------------------------------------------------------------- paired comparison
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
    means = statistics.mixture_means(scores, "si_snri_db").dropna()
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


# ------------------------------------------------------------------------------------------------------------ breakdowns
def test_breakdown_by_sexes_is_the_mean_of_each_kind() -> None:
    scores = make_scores(num_mixtures=60)
    table = statistics.breakdown(scores, "si_snri_db", statistics.sex_pairs(scores)).set_index(["group", "system"])
    means = statistics.mixture_means(scores, "si_snri_db")
    sexes = scores.groupby("mixture_id")["sex"].agg(lambda values: "+".join(sorted(values[:2])))
    for group in ("F+F", "F+M", "M+M"):
        chosen = means["causal"][sexes.reindex(means.index) == group]
        assert table.loc[(group, "causal"), ["n", "mean"]].tolist() == pytest.approx([len(chosen), chosen.mean()])


def test_breakdown_averages_the_sources_of_a_group_first() -> None:
    scores = make_scores({"a": 3.0}, num_mixtures=2)
    table = statistics.breakdown(scores, "si_snri_db", pd.Series(["x", "x", "x", "y"]))
    assert table["mean"].tolist() == pytest.approx(
        [(scores["si_snri_db"][:2].mean() + scores["si_snri_db"][2]) / 2, scores["si_snri_db"][3]]
    )


def test_a_group_of_few_speakers_has_no_interval() -> None:
    scores = make_scores(num_mixtures=60, num_speakers=8)  # four of each sex
    table = statistics.breakdown(scores, "si_snri_db", statistics.sex_pairs(scores)).set_index("group")
    assert table.loc[["F+F", "M+M"], ["low", "high"]].isna().all(axis=None)
    assert table.loc["F+M", ["low", "high"]].notna().all(axis=None)


def test_bins_hold_every_value_and_stay_in_order() -> None:
    scores = make_scores(num_mixtures=80)
    for bins in (statistics.input_bins(scores), statistics.length_bins(scores)):
        assert bins.notna().all()
        assert 3 <= bins.nunique() <= 5
        assert bins.value_counts().min() > len(scores) / 20


def test_overlaps_are_planned_ratios_or_fifths() -> None:
    scores = make_scores({"a": 1.0}, num_mixtures=40)
    assert statistics.overlap_bins(scores).isna().all()
    planned = statistics.overlap_bins(scores.assign(overlap=np.resize([0.0, 0.2, 1.0], len(scores))))
    assert planned.cat.categories.tolist() == ["0 %", "20 %", "100 %"]
    assert planned[:4].tolist() == ["0 %", "20 %", "100 %", "0 %"]
    overlaps = np.linspace(0, 1, len(scores))
    many = statistics.overlap_bins(scores.assign(overlap=overlaps))
    assert many.cat.categories.tolist() == ["0 to 20 %", "20 to 40 %", "40 to 60 %", "60 to 80 %", "80 to 100 %"]
    assert many.iloc[-1] == "80 to 100 %"
    unknown = statistics.overlap_bins(scores.assign(overlap=np.where(overlaps < 0.5, np.nan, 1.0)))
    assert unknown.isna().sum() == (overlaps < 0.5).sum()


def test_unknown_sexes_make_no_group() -> None:
    scores = make_scores(num_mixtures=5)
    assert statistics.sex_pairs(scores.assign(sex="")).isna().all()
    assert statistics.sex_pairs(scores.drop(columns="sex")).isna().all()


# ------------------------------------------------------------------------------------------------------- test-set health
def test_excluded_rows_are_counted_by_status() -> None:
    scores = spoil(make_scores(num_mixtures=10), {0: "silent_estimate", 4: "silent_estimate"})
    scores.loc[7, "status"] = "clipped"
    table = statistics.excluded(scores, "si_snri_db").set_index("status")
    assert table.loc["silent_estimate", ["rows", "mixtures", "counted"]].tolist() == [2, 2, False]
    assert table.loc["clipped", ["rows", "counted"]].tolist() == [1, True]


def test_a_healthy_test_set_has_no_findings() -> None:
    assert statistics.health(make_scores(num_mixtures=60)).empty


def test_health_finds_what_was_planted() -> None:
    scores = make_scores(num_mixtures=80, num_speakers=12)
    ids = scores["mixture_id"].unique()
    twin = scores["mixture_id"] == ids[7]
    for column in ("num_samples", "input_si_snr_db"):
        scores.loc[twin, column] = scores.loc[scores["mixture_id"] == ids[3], column].to_numpy()
    scores.loc[scores["mixture_id"] == ids[11], "input_si_snr_db"] -= 9.0
    scores.loc[scores["speaker_id"] == "spk05", "si_snri_db"] -= 25.0
    scores = scores[~((scores["mixture_id"] == ids[20]) & (scores["system"] == "causal"))]
    scores.loc[(scores["mixture_id"] == ids[30]) & (scores["system"] == "causal"), "num_samples"] += 8
    found = statistics.health(scores).set_index("finding")
    assert found.loc["other audio", "mixture_id"] == ids[30]
    assert found.loc["duplicate", "mixture_id"] == ids[7]
    assert found.loc["not a sum", "mixture_id"] == ids[11]
    assert found.loc["missing", "mixture_id"] == ids[20]
    assert found.loc["outlying speaker", "detail"].startswith("spk05")
