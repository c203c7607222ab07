"""Failures are results: counted everywhere, below 0 dB, and as the unprocessed mixture in whatever compares systems."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import reports
from pipeline.errors import ScoreError
from pipeline.reports import breakdowns, repeats, statistics
from pipeline.reports.analysis import analyse
from pipeline.reports.failures import on_same_mixtures, outcomes
from tests.report_cases import give_up, make_scores
from tests.reports.pages import number, read_page

pytestmark = pytest.mark.usefixtures("no_pdfs")

LEVELS = {"steady": 9.0, "quitter": 10.5}
NUM_MIXTURES = 40


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    """The quitter is 1.5 dB better wherever it answers, and silent on half of the mixtures."""
    return give_up(make_scores(LEVELS, num_mixtures=NUM_MIXTURES), "quitter", NUM_MIXTURES // 2)


# --------------------------------------------------------------------------------------------------- what is a failure
@pytest.mark.parametrize("status", ["silent_estimate", "missing_estimate", "unreadable_estimate", "nan_in_estimate", "no_value"])
def test_an_estimate_without_a_score_is_a_failure(status: str) -> None:
    found = outcomes(give_up(make_scores(LEVELS, num_mixtures=6), "quitter", 2, status), "si_snri_db")
    assert found.failed.sum().to_dict() == {"steady": 0, "quitter": 2}
    assert found.floored["quitter"].iloc[:2].tolist() == [0, 0]


def test_minus_infinity_and_a_source_without_a_row_are_failures() -> None:
    scores = make_scores(LEVELS, num_mixtures=6)
    scores.loc[(scores["system"] == "quitter") & (scores.index < 4), "si_snri_db"] = -np.inf
    scores = scores.drop(index=scores.index[(scores["system"] == "quitter")][-1])
    found = outcomes(scores, "si_snri_db").failed["quitter"]
    assert found.tolist() == [True, False, False, False, False, True]


@pytest.mark.parametrize("status", ["silent_reference", "missing_mixture", "silent_reference;silent_estimate"])
def test_an_unusable_reference_or_mixture_is_nobodys_failure(status: str) -> None:
    scores = give_up(give_up(make_scores(LEVELS, num_mixtures=6), "quitter", 2, status), "steady", 2, status)
    found = outcomes(scores, "si_snri_db")
    assert not found.failed.any(axis=None)
    assert found.floored.isna().sum().tolist() == [2, 2]


def test_a_perfect_score_is_not_a_failure() -> None:
    scores = make_scores(LEVELS, num_mixtures=6)
    scores.loc[0, ["si_snri_db", "status"]] = [np.inf, "perfect"]
    assert not outcomes(scores, "si_snri_db").failed.any(axis=None)


def test_a_metric_that_was_never_computed_is_not_a_failure() -> None:
    scores = make_scores(LEVELS, num_mixtures=6)
    scores.loc[scores["system"] == "quitter", ["sdr_db", "sdri_db"]] = np.nan
    assert not outcomes(scores, "sdri_db").failed.any(axis=None)
    assert statistics.summaries(scores, ["sdri_db"])["n_valid"].tolist() == [6, 0]


def test_a_failure_counts_as_the_input_in_plain_metrics() -> None:
    scores = give_up(make_scores(LEVELS, num_mixtures=6), "quitter", 1)
    inputs = scores.groupby("mixture_id")["input_sdr_db"].mean()
    assert outcomes(scores, "sdr_db").floored["quitter"].iloc[0] == pytest.approx(inputs.iloc[0])
    unknown = outcomes(scores.assign(input_sdr_db=np.nan), "sdr_db")
    assert unknown.floored["quitter"].iloc[0] == 0


def test_means_are_taken_on_the_same_mixtures() -> None:
    means = pd.DataFrame({"a": [1.0, 2.0, np.nan], "b": [np.nan, 4.0, 5.0], "never": [np.nan] * 3})
    assert on_same_mixtures(means)[["a", "b"]].mean().tolist() == [2.0, 4.0]
    apart = pd.DataFrame({"a": [1.0, np.nan], "b": [np.nan, 4.0]})
    assert on_same_mixtures(apart).equals(apart)


# ------------------------------------------------------------------------------------------------------ silence must cost
def test_a_system_that_gives_up_is_not_praised(scores: pd.DataFrame) -> None:
    """It is ahead on what it separated and behind on the test set: headline, conclusion and table agree on the test set."""
    found = analyse(scores, baseline="steady")
    row = found.pairs[found.pairs["metric"] == "si_snri_db"].iloc[0]
    assert row["difference"] > 0.5
    assert row["floored_high"] < 0
    caveat, result = "Of 40 mixtures, quitter failed on 20. ", "With failures counted as 0 dB, steady improves SI-SNR by "
    assert found.headline.startswith(caveat + result)
    assert found.headline.endswith(f" dB, {-row['floored_difference']:.2f} dB more than quitter.")
    assert found.conclusions[0].startswith("quitter is worse than steady: −")
    assert (
        "quitter failed on 20 mixtures, steady on 0; on the 20 mixtures without failures the difference is +"
        in found.conclusions[0]
    )


def test_equal_numbers_of_failures_are_still_said(scores: pd.DataFrame) -> None:
    both = give_up(scores, "steady", NUM_MIXTURES // 2)
    assert analyse(both).headline.startswith(
        "Of 40 mixtures, steady failed on 20 and quitter on 20. With failures counted as 0 dB, "
    )


def test_one_system_is_told_its_failures(scores: pd.DataFrame) -> None:
    alone = scores[scores["system"] == "quitter"]
    assert analyse(alone).headline.startswith(
        "Of 40 mixtures, quitter failed on 20. With failures counted as 0 dB, quitter improves"
    )


def test_a_system_that_never_answers_is_last_and_hides_nobody(scores: pd.DataFrame) -> None:
    silent = give_up(scores, "quitter", NUM_MIXTURES)
    found = analyse(silent, baseline="steady")
    steady = found.summaries.iloc[0]
    assert (steady["n_valid"], steady["num_failed"]) == (NUM_MIXTURES, 0)
    assert found.headline.startswith("Of 40 mixtures, quitter failed on 40. With failures counted as 0 dB, steady improves")


def test_a_failure_is_below_0_db(scores: pd.DataFrame) -> None:
    table = statistics.summaries(scores, ["si_snri_db"]).set_index("system")
    assert table.loc["quitter", "share_below_0"] >= 0.5
    assert table.loc["quitter", "share_below_5"] >= 0.5
    assert table.loc["quitter", "floored_mean"] == pytest.approx(outcomes(scores, "si_snri_db").floored["quitter"].mean())


def test_breakdowns_count_failures_on_the_same_mixtures(scores: pd.DataFrame) -> None:
    table = breakdowns.breakdown(scores, "si_snri_db", breakdowns.sex_pairs(scores))
    assert table.groupby("system")["num_failed"].sum().to_dict() == {"steady": 0, "quitter": 20}
    assert (table.groupby("group")["n"].min() == table.groupby("group")["n"].max()).all()
    assert table.groupby("system")["n"].sum().to_dict() == {"steady": 20, "quitter": 20}


def test_every_table_of_the_report_counts_failures(scores: pd.DataFrame, tmp_path: Path) -> None:
    reports.write_report(scores, tmp_path, title="x", baseline="steady")
    page = read_page(tmp_path)
    for label in ("Results of every system", "Distribution over the mixtures", "Paired differences", "SI-SNRi by sexes"):
        assert any("failed" in heading for heading in page.tables[label][0]), label
    results = {row[0]: row for row in page.tables["Results of every system"]}
    assert [results[name][2] for name in LEVELS] == ["0", "20"]
    assert number(results["quitter"][7]) < number(results["steady"][7])
    assert "A failure is below every value." in page.text
    assert "20 mixtures without a score from every system are left out." in page.text
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["summaries"][0]["num_failed"] == 0


def test_the_terminal_counts_failures(scores: pd.DataFrame) -> None:
    text = reports.format_comparison(scores, baseline="steady")
    assert re.search(r"^system +mixtures +failed ", text)
    assert re.search(r"^quitter +20 of 40 +20 ", text, re.MULTILINE)


def test_a_failure_of_one_run_is_a_failure_of_the_system() -> None:
    scores = make_scores({"a@0": 6.0, "a@1": 6.0, "b": 5.0}, num_mixtures=NUM_MIXTURES)
    found = analyse(give_up(scores, "a@1", 10))
    assert found.headline.startswith("Of 40 mixtures, a failed on 10.")
    spread = found.run_spread["si_snri_db"].iloc[0]
    assert spread["num_failed"] == [0, 10]
    assert spread["values"][1] < spread["values"][0] - 1
    assert repeats.spread(scores, {"a": ["a@0", "a@1"]}, "si_snri_db")["num_failed"].iloc[0] == [0, 0]


# -------------------------------------------------------------------------------------------------- different mixtures
def test_systems_are_ranked_on_the_mixtures_they_share() -> None:
    """One system skipped the hard mixtures: its mean over the others is higher, and it is worse on each of them."""
    a = pd.Series([10.0, 10.1, 10.2, 10.0, 2.0, 2.1, 2.2, 2.0])
    b = a.iloc[:4] - [1.0, 1.05, 1.0, 1.05]
    table = pd.concat([frame("a", a), frame("b", b)], ignore_index=True)
    found = analyse(table)
    assert found.headline == (
        "Of 8 mixtures, b has no scores for 4; these are left out. a improves SI-SNR by 10.07 dB, 1.03 dB more than b."
    )
    assert found.summaries.query("metric == 'si_snri_db'")["mean"].tolist() == pytest.approx([10.075, 9.05])
    assert found.scope.endswith("Systems are compared on the 4 of 8 mixtures that all of them have scores for.")


def frame(system: str, values: pd.Series) -> pd.DataFrame:
    """The smallest score table."""
    scores = make_scores({system: 1.0}, num_mixtures=len(values))
    scores = scores[scores["source"] == "s1"].reset_index(drop=True)
    return scores.assign(si_snri_db=list(values), sdri_db=np.nan, speaker_id="", mixture_id=[f"m{k}" for k in range(len(values))])


def test_without_a_common_mixture_nothing_is_ranked() -> None:
    one = frame("a", pd.Series([5.0, 6.0, 7.0]))
    other = frame("b", pd.Series([1.0, 2.0, 3.0])).assign(mixture_id=["x", "y", "z"])
    found = analyse(pd.concat([one, other], ignore_index=True))
    assert found.headline == "No mixture has scores from every system, so the systems cannot be ranked."
    assert found.scope.endswith("each mean is over that system's own mixtures.")


def test_other_audio_under_the_same_name_is_left_out() -> None:
    scores = make_scores(LEVELS, num_mixtures=12)
    odd = scores["mixture_id"].unique()[3]
    scores.loc[(scores["mixture_id"] == odd) & (scores["system"] == "quitter"), "input_si_snr_db"] += 5
    found = analyse(scores)
    assert found.coverage.num_shared == 11
    assert "1 mixture left out: not the same audio for every system." in found.headline


def test_sources_with_different_names_are_refused() -> None:
    scores = make_scores(LEVELS, num_mixtures=4)
    renamed = scores["source"].where(scores["system"] == "steady", "speaker" + scores["source"])
    with pytest.raises(ScoreError, match=r"have different names: s1, s2 \(steady\); speakers1, speakers2 \(quitter\)"):
        analyse(scores.assign(source=renamed))


# ------------------------------------------------------------------------------------------------------------------- gate
CONDITION = "si_snri_db < -0.1"


@pytest.mark.parametrize("status", ["silent_estimate", "missing_estimate", "nan_in_estimate"])
def test_the_gate_trips_on_failures(status: str) -> None:
    """Even if what is left is better, and counted as the unprocessed mixture the mean is still better."""
    before = make_scores({"a": 6.0}, num_mixtures=NUM_MIXTURES)
    after = give_up(before.assign(si_snri_db=before["si_snri_db"] + 5), "a", 4, status)
    verdict = reports.gate(before, after, CONDITION)
    assert verdict.tripped
    assert "is not shown" in verdict.text
    assert "a: B failed on 4 of 40 mixtures, A on 0 (accept this with --allow failures)" in verdict.text
    assert not reports.gate(before, after, CONDITION, allow=["failures"]).tripped
    assert not reports.gate(after, before.assign(si_snri_db=after["si_snri_db"]), CONDITION, allow=["failures"]).tripped


def test_allowed_failures_leave_the_condition_to_the_rest() -> None:
    before = make_scores({"a": 6.0}, num_mixtures=NUM_MIXTURES)
    after = give_up(before.assign(si_snri_db=before["si_snri_db"] - 1), "a", 4)
    assert reports.gate(before, after, CONDITION, allow=["failures"]).tripped


def test_a_system_that_fails_everywhere_trips_the_gate() -> None:
    before = make_scores({"a": 6.0}, num_mixtures=NUM_MIXTURES)
    assert reports.gate(before, give_up(before, "a", NUM_MIXTURES), CONDITION).tripped


def test_fewer_failures_are_no_reason_to_trip() -> None:
    after = make_scores({"a": 6.0}, num_mixtures=NUM_MIXTURES)
    before = give_up(after, "a", 10)
    assert not reports.gate(before, after, CONDITION).tripped
    assert not reports.gate(before, before, CONDITION).tripped


def test_the_gate_trips_on_mixtures_and_systems_without_scores() -> None:
    before = make_scores({"a": 6.0, "b": 5.0}, num_mixtures=NUM_MIXTURES)
    fewer = before[before["mixture_id"].isin(before["mixture_id"].unique()[5:])]
    verdict = reports.gate(before, fewer, CONDITION)
    assert verdict.tripped
    assert "a: 5 of 40 mixtures of A have no scores in B (accept this with --allow missing)" in verdict.text
    assert not reports.gate(before, fewer, CONDITION, allow=["missing"]).tripped
    assert not reports.gate(fewer, before, CONDITION).tripped
    lost = reports.gate(before, before[before["system"] == "a"], CONDITION)
    assert lost.tripped
    assert "b: no scores in B" in lost.text
    with pytest.raises(ScoreError, match="--allow everything: choose failures or missing"):
        reports.gate(before, before, CONDITION, allow=["everything"])
