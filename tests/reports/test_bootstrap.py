"""Intervals against closed forms, and simulated data whose truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.reports import (
    bootstrap,
    breakdowns,
)
from pipeline.reports.means import mixture_means
from tests.report_cases import make_scores


def design(generator: np.random.Generator, num_speakers: int, num_mixtures: int, num_sources: int = 2) -> np.ndarray:
    return np.sort([generator.permutation(num_speakers)[:num_sources] for _ in range(num_mixtures)], axis=1)


def test_unclustered_interval_is_the_t_interval() -> None:
    values = np.random.default_rng(3).normal(5, 2, 400)
    low, high = bootstrap.intervals(values[:, None], np.arange(400)[:, None])
    expected = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    np.testing.assert_allclose([low[0], high[0]], expected, atol=0.02)


def test_resampled_means_follow_the_weights_by_hand() -> None:
    values, clusters = np.array([[1.0, np.nan], [5.0, 2.0]]), np.array([[0, 1], [1, 2]])
    means = bootstrap.resampled_means(values, clusters, seed=0, num_resamples=50)
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
def test_the_interval_has_its_nominal_coverage(num_speakers: int, speaker_sd: float, pair_sd: float, noise_sd: float) -> None:
    """As often as 95% demands (one test in a thousand may fall below), without being wider than the true spread needs."""
    values, clusters = simulated(num_speakers, speaker_sd, pair_sd, noise_sd)
    low, high = bootstrap.intervals(values, clusters, num_resamples=1000)
    assert ((low <= 0) & (high >= 0)).sum() >= stats.binom.ppf(0.001, NUM_TRIALS, 0.95)
    needed = 2 * stats.t.ppf(0.975, num_speakers - 1) * values.mean(axis=0).std()
    assert 0.8 * needed < (high - low).mean() < 1.35 * needed


def test_negative_control_resampling_mixtures_does_not_cover() -> None:
    values, _ = simulated(10, 1.0, 0.0, 0.5)
    low, high = bootstrap.intervals(values, np.arange(120)[:, None], num_resamples=1000)
    assert ((low <= 0) & (high >= 0)).sum() < stats.binom.ppf(1e-9, NUM_TRIALS, 0.95)


def test_the_clustered_interval_agrees_with_the_dyadic_robust_variance() -> None:
    """Another way to it: residuals' products summed over all pairs of mixtures that share a speaker (Aronow et al. 2015)."""
    generator = np.random.default_rng(8)
    clusters = design(generator, 40, 800)
    values = generator.normal(0, 0.8, 40)[clusters].mean(axis=1) + generator.normal(0, 1, 800)
    rest = values - values.mean()
    shares = (clusters[:, :, None, None] == clusters.T[None, None]).any(axis=(1, 2))
    expected = 2 * stats.t.ppf(0.975, 39) * np.sqrt(rest @ shares @ rest) / 800
    assert np.ptp(bootstrap.intervals(values[:, None], clusters), axis=0)[0] == pytest.approx(expected, rel=0.15)


def test_the_clustered_interval_is_wider_where_speakers_matter() -> None:
    generator = np.random.default_rng(5)
    clusters = design(generator, 18, 1000)
    values = generator.normal(0, 0.8, 18)[clusters].sum(axis=1) + generator.normal(0, 1, 1000)
    by_speaker = np.ptp(bootstrap.intervals(values[:, None], clusters), axis=0)[0]
    by_mixture = np.ptp(bootstrap.intervals(values[:, None], np.arange(1000)[:, None]), axis=0)[0]
    assert by_speaker > 4 * by_mixture


def test_the_clustered_interval_is_hardly_wider_where_they_do_not() -> None:
    generator = np.random.default_rng(6)
    clusters, values = design(generator, 40, 1000), generator.normal(0, 1, (1000, 1))
    by_speaker = np.ptp(bootstrap.intervals(values, clusters), axis=0)[0]
    by_mixture = np.ptp(bootstrap.intervals(values, np.arange(1000)[:, None]), axis=0)[0]
    assert by_mixture * 0.9 < by_speaker < by_mixture * 1.35


def test_too_few_mixtures_or_speakers_have_no_interval() -> None:
    assert np.isnan(bootstrap.intervals(np.array([[1.0], [2.0]]), np.array([[0], [1]]))).all()
    assert np.isnan(bootstrap.intervals(np.full((9, 1), np.nan), np.arange(9)[:, None])).all()


def test_equal_values_have_an_interval_of_no_width() -> None:
    low, high = bootstrap.intervals(np.full((30, 1), 4.0), design(np.random.default_rng(0), 6, 30))
    assert (low[0], high[0]) == pytest.approx((4.0, 4.0))


def test_clusters_are_speakers_or_else_mixtures() -> None:
    scores = make_scores(num_mixtures=30)
    ids = mixture_means(scores, "si_snri_db").index
    clusters = bootstrap.clusters_of(scores, ids)
    assert clusters.shape == (30, 2)
    assert bootstrap.resampled_unit(clusters) == "speakers"
    unknown = bootstrap.clusters_of(scores.assign(speaker_id=""), ids)
    assert unknown.tolist() == [[k] for k in range(30)]
    assert bootstrap.clusters_of(scores.drop(columns="speaker_id"), ids).tolist() == unknown.tolist()


def test_one_table_that_names_the_speakers_is_enough() -> None:
    scores = make_scores(num_mixtures=12)
    scores.loc[scores["system"] == "noncausal", ["speaker_id", "sex"]] = ""
    known = scores[scores["system"] == "causal"]
    pd.testing.assert_frame_equal(bootstrap.mixture_speakers(scores), bootstrap.mixture_speakers(known))
    assert breakdowns.sex_pairs(scores).notna().all()


def test_a_speaker_mixed_with_themselves_counts_once() -> None:
    scores = make_scores({"a": 1.0}, num_mixtures=10)
    scores.loc[scores["mixture_id"] == scores["mixture_id"][0], "speaker_id"] = "spk00"
    clusters = bootstrap.clusters_of(scores, mixture_means(scores, "si_snri_db").index)
    assert -1 in clusters[0]
