"""Means over the sources of each mixture."""

from __future__ import annotations

import numpy as np

from pipeline.reports.means import mixture_means
from tests.report_cases import make_scores, spoil


def test_sources_are_averaged_within_a_mixture_first() -> None:
    scores = make_scores({"a": 8.0}, num_mixtures=3)
    expected = [scores["si_snri_db"][k : k + 2].mean() for k in (0, 2, 4)]
    np.testing.assert_allclose(mixture_means(scores, "si_snri_db")["a"], expected)


def test_a_mixture_without_all_its_sources_does_not_count() -> None:
    scores = spoil(make_scores({"a": 8.0, "b": 7.0}, num_mixtures=4), {0: "silent_estimate"})
    scores = scores.drop(index=[6])  # the second mixture's second system lacks a row altogether
    means = mixture_means(scores, "si_snri_db")
    assert means["a"].isna().tolist() == [True, False, False, False]
    assert means["b"].isna().tolist() == [False, True, False, False]
