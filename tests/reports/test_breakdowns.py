"""Groups and their means."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.reports import (
    breakdowns,
)
from pipeline.reports.means import mixture_means
from tests.report_cases import make_scores


def test_breakdown_by_sexes_is_the_mean_of_each_kind() -> None:
    scores = make_scores(num_mixtures=60)
    table = breakdowns.breakdown(scores, "si_snri_db", breakdowns.sex_pairs(scores)).set_index(["group", "system"])
    means = mixture_means(scores, "si_snri_db")
    sexes = scores.groupby("mixture_id")["sex"].agg(lambda values: "+".join(sorted(values[:2])))
    for group in ("F+F", "F+M", "M+M"):
        chosen = means["causal"][sexes.reindex(means.index) == group]
        assert table.loc[(group, "causal"), ["n", "mean"]].tolist() == pytest.approx([len(chosen), chosen.mean()])


def test_breakdown_averages_the_sources_of_a_group_first() -> None:
    scores = make_scores({"a": 3.0}, num_mixtures=2)
    table = breakdowns.breakdown(scores, "si_snri_db", pd.Series(["x", "x", "x", "y"]))
    assert table["mean"].tolist() == pytest.approx(
        [(scores["si_snri_db"][:2].mean() + scores["si_snri_db"][2]) / 2, scores["si_snri_db"][3]]
    )


def test_a_group_of_few_speakers_has_no_interval() -> None:
    scores = make_scores(num_mixtures=60, num_speakers=8)  # four of each sex
    table = breakdowns.breakdown(scores, "si_snri_db", breakdowns.sex_pairs(scores)).set_index("group")
    assert table.loc[["F+F", "M+M"], ["low", "high"]].isna().all(axis=None)
    assert table.loc["F+M", ["low", "high"]].notna().all(axis=None)


def test_bins_hold_every_value_and_stay_in_order() -> None:
    scores = make_scores(num_mixtures=80)
    for bins in (breakdowns.input_bins(scores), breakdowns.length_bins(scores)):
        assert bins.notna().all()
        assert 3 <= bins.nunique() <= 5
        assert bins.value_counts().min() > len(scores) / 20


def test_a_table_without_lengths_takes_those_of_the_same_mixtures() -> None:
    """Another tool's table next to ours: its system has a mean for every length and overlap, like ours."""
    scores = make_scores({"ours": 8.0, "theirs": 7.0}, num_mixtures=40).assign(overlap=1.0)
    scores.loc[scores["mixture_id"] < "0020", "overlap"] = 0.5
    bare = scores.copy()
    bare.loc[bare["system"] == "theirs", ["num_samples", "sample_rate", "overlap"]] = np.nan
    for bins in (breakdowns.length_bins, breakdowns.overlap_bins):
        expected, found = (breakdowns.breakdown(table, "si_snri_db", bins(table)) for table in (scores, bare))
        pd.testing.assert_frame_equal(found.drop(columns="group"), expected.drop(columns="group"))


def test_overlaps_are_planned_ratios_or_fifths() -> None:
    scores = make_scores({"a": 1.0}, num_mixtures=40)
    assert breakdowns.overlap_bins(scores).isna().all()
    planned = breakdowns.overlap_bins(scores.assign(overlap=np.resize([0.0, 0.2, 1.0], len(scores))))
    assert planned.cat.categories.tolist() == ["0%", "20%", "100%"]
    assert planned[:4].tolist() == ["0%", "20%", "100%", "0%"]
    overlaps = np.linspace(0, 1, len(scores))
    many = breakdowns.overlap_bins(scores.assign(overlap=overlaps))
    assert many.cat.categories.tolist() == ["0 to 20%", "20 to 40%", "40 to 60%", "60 to 80%", "80 to 100%"]
    assert many.iloc[-1] == "80 to 100%"
    unknown = breakdowns.overlap_bins(scores.assign(overlap=np.where(overlaps < 0.5, np.nan, 1.0)))
    assert unknown.isna().sum() == (overlaps < 0.5).sum()


def test_unknown_sexes_make_no_group() -> None:
    scores = make_scores(num_mixtures=5)
    assert breakdowns.sex_pairs(scores.assign(sex="")).isna().all()
    assert breakdowns.sex_pairs(scores.drop(columns="sex")).isna().all()


def test_no_bin_ends_at_minus_zero() -> None:
    values = pd.Series([-3.0, -1.0, -0.1, -0.1, 0.1, 2.0, 4.0])
    labels = breakdowns._binned(values, "dB").cat.categories
    assert not any("\N{MINUS SIGN}0 " in label for label in labels)
