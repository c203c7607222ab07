"""Several runs of one system: averaged where systems are compared, spread shown, and each change of one setting by itself."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import reports
from pipeline.errors import ScoreError
from pipeline.reports import formatting, repeats
from pipeline.reports.analysis import analyse
from tests.report_cases import make_history, make_scores
from tests.reports.pages import Page, number

pytestmark = pytest.mark.usefixtures("no_pdfs")

LEVELS = {"global": 8.0, "cumulative": 7.5, "causal": 6.4}
MODELS = {
    "global@3": {"causal": False, "norm": "global", "num_parameters": 9},
    "cumulative@3": {"causal": False, "norm": "cumulative", "num_parameters": 9},
    "causal@3": {"causal": True, "norm": "cumulative", "num_parameters": 9},
}


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    return make_scores({f"{name}@{seed}": level + seed / 10 for seed in (3, 4) for name, level in LEVELS.items()})


@pytest.fixture(scope="module")
def page(scores: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Page:
    histories = {name: make_history(5.0) for name in scores["system"].unique()}
    folder = tmp_path_factory.mktemp("repeats")
    path = reports.write_report(
        scores, folder, title="x", baseline="global", models=MODELS, histories=histories, examples=load_clips, num_examples=1
    )
    return Page(path.read_text(encoding="utf-8"))


def load_clips(mixture_id: str) -> reports.Clips:
    references = np.random.default_rng(int(mixture_id[:4])).normal(0, 0.05, (2, 4000))
    return reports.Clips(
        8000, references.sum(axis=0), references, {f"{name}@{seed}": references for name in LEVELS for seed in (3, 4)}
    )


def run_means(scores: pd.DataFrame) -> pd.Series:
    """Every run's mean SI-SNRi, with plain pandas."""
    return scores.groupby(["system", "mixture_id"])["si_snri_db"].mean().groupby("system").mean()


def test_runs_are_recognised_by_their_names() -> None:
    names = ["a@1", "b", "a@2", "c@1", "a@b@1", "a@b@2", "@1"]
    assert repeats.runs_in(names) == {"a": ["a@1", "a@2"], "a@b": ["a@b@1", "a@b@2"]}
    assert repeats.runs_in(["a", "a@1", "a@2"]) == {}  # then a would be two things


def test_systems_are_compared_by_the_mean_over_their_runs(scores: pd.DataFrame, page: Page) -> None:
    means = run_means(scores)
    rows = {row[0]: row for row in page.tables["Results of every system"][1:]}
    assert list(rows) == list(LEVELS)
    for name in LEVELS:
        assert number(rows[name][2]) == pytest.approx(means[[f"{name}@3", f"{name}@4"]].mean(), abs=0.0051)
    pairs = {(row[0], row[1]): row for row in page.tables["Paired differences"][1:]}
    expected = means[["causal@3", "causal@4"]].mean() - means[["global@3", "global@4"]].mean()
    assert number(pairs["causal", "SI-SNRi"][3]) == pytest.approx(expected, abs=0.0051)
    by_run = [means[f"causal@{seed}"] - means[f"global@{seed}"] for seed in (3, 4)]
    assert [number(text) for text in pairs["causal", "SI-SNRi"][-1].split(", ")] == pytest.approx(by_run, abs=0.0051)


def test_the_spread_over_runs_is_shown(scores: pd.DataFrame, page: Page) -> None:
    means = run_means(scores)
    row = next(row for row in page.tables["Training runs of each system"][1:] if row[:2] == ["causal", "SI-SNRi"])
    values = means[["causal@3", "causal@4"]]
    assert row[2] == "2"
    assert number(row[3]) == pytest.approx(values.mean(), abs=0.0051)
    assert number(row[4]) == pytest.approx(values.std(), abs=0.0051)
    assert row[5] == f"3: {formatting.number(values.iloc[0])}, 4: {formatting.number(values.iloc[1])}"


def test_each_change_of_one_setting_stands_by_itself(scores: pd.DataFrame, page: Page) -> None:
    """The norm where causality is kept, causality where the norm is; never both at once."""
    rows = page.tables["One change at a time"][1:]
    assert [(row[0], row[-1]) for row in rows] == [
        ("global → cumulative norm, non-causal", "cumulative − global"),
        ("non-causal → causal, cumulative norm", "causal − cumulative"),
    ]
    means = run_means(scores)
    expected = means[["causal@3", "causal@4"]].mean() - means[["cumulative@3", "cumulative@4"]].mean()
    assert number(rows[1][1]) == pytest.approx(expected, abs=0.0051)


def test_sounds_and_their_scores_are_of_the_first_run(page: Page) -> None:
    assert "causal@3" in page.text
    assert "causal@4" not in page.text


def test_a_value_that_one_run_lacks_is_missing_and_counted(scores: pd.DataFrame) -> None:
    spoiled = scores.copy()
    spoiled.loc[0, ["si_snri_db", "status"]] = [np.nan, "silent_estimate"]
    spoiled = spoiled.drop(index=spoiled.index[spoiled["system"] == "causal@4"][5])
    mean = repeats.over_runs(spoiled, repeats.runs_in(spoiled["system"].unique()))
    assert mean["si_snri_db"].isna().sum() == 2
    assert sorted(mean.loc[mean["si_snri_db"].isna(), "status"]) == ["missing", "silent_estimate"]
    assert len(mean) == len(scores) / 2


def test_runs_on_different_test_sets_are_refused(scores: pd.DataFrame) -> None:
    moved = scores.assign(mixture_id=scores["mixture_id"] + scores["system"].str[-1])
    with pytest.raises(ScoreError, match="global: its runs have no mixture in common"):
        repeats.over_runs(moved, repeats.runs_in(moved["system"].unique()))


def test_a_run_may_be_named_as_the_baseline(scores: pd.DataFrame, tmp_path: Path) -> None:
    text = reports.format_comparison(scores, baseline="cumulative@4")
    assert "causal is worse than cumulative" in text
    with pytest.raises(ScoreError, match="choose one of global, cumulative, causal"):
        reports.format_comparison(scores, baseline="other")


def test_runs_that_disagree_are_never_a_finding() -> None:
    """Each run's difference is beyond chance for its speakers, and another training turns it round."""
    levels = {"a@0": 8.0, "a@1": 5.0, "b@0": 6.5, "b@1": 6.0}
    text = reports.format_comparison(make_scores(levels, num_mixtures=60))
    assert "But the runs disagree (" in " ".join(text.split())
    found = analyse(make_scores(levels, num_mixtures=60), baseline="a").headline
    assert re.fullmatch(r"[ab] improves SI-SNR by .* dB; its runs and those of [ab] disagree on which is better .*", found)
    agreeing = reports.format_comparison(make_scores({**levels, "a@1": 8.0}, num_mixtures=60))
    assert "Run by run: −" in " ".join(agreeing.split())
