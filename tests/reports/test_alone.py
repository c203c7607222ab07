"""Mixtures of one speaker alone are scored apart: medians of their own, and no part in any other number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import reports
from pipeline.reports.alone import mixtures_of_one, of_one_speaker, set_apart
from pipeline.reports.analysis import analyse
from pipeline.reports.formatting import level
from tests.report_cases import make_scores

pytestmark = pytest.mark.usefixtures("no_pdfs")

NUM_ALONE = 5


def with_one_speaker(scores: pd.DataFrame, num_alone: int = NUM_ALONE) -> pd.DataFrame:
    """The scores with silence for the second source of the first mixtures, at -10, -20, … dB; of the second system 5 dB less."""
    scores = scores.assign(silent_level_db=np.nan)
    for number, name in enumerate(scores["mixture_id"].unique()[:num_alone]):
        here = scores["mixture_id"] == name
        for place, system in enumerate(scores["system"].unique()):
            silent = here & (scores["system"] == system) & (scores["source"] == "s2")
            scores.loc[silent, ["si_snr_db", "si_snri_db", "sdr_db", "sdri_db", "input_si_snr_db", "input_sdr_db"]] = np.nan
            scores.loc[silent, "silent_level_db"] = -10.0 * (number + 1) - 5 * place
            scores.loc[silent, "status"] = "silent_reference"
        heard = here & (scores["source"] == "s1")
        scores.loc[heard, ["input_si_snr_db", "input_sdr_db"]] = np.inf
        scores.loc[heard, ["si_snri_db", "sdri_db"]] = -np.inf
        scores.loc[heard, "si_snr_db"] = 20.0 + number
    return scores


@pytest.fixture(scope="module")
def plain() -> pd.DataFrame:
    return make_scores(num_mixtures=30)


def test_the_medians_of_their_own(plain: pd.DataFrame) -> None:
    scores = with_one_speaker(plain)
    assert mixtures_of_one(scores) == set(plain["mixture_id"].unique()[:NUM_ALONE])
    assert of_one_speaker(scores).to_dict("records") == [
        {"system": system, "n": 5, "num_failed": 0, "si_snr_db": 22.0}
        | {"silent_level_db": pytest.approx(-30.0 - less), "silent_level_p95_db": pytest.approx(-20.0 - less)}
        for system, less in (("noncausal", 0), ("causal", 5))
    ]


def test_what_cannot_be_measured_is_a_failure(plain: pd.DataFrame) -> None:
    scores = with_one_speaker(plain)
    names = plain["mixture_id"].unique()
    mine = scores["system"] == "causal"
    scores.loc[mine & (scores["mixture_id"] == names[0]) & (scores["source"] == "s2"), "silent_level_db"] = np.nan
    scores.loc[mine & (scores["mixture_id"] == names[1]) & (scores["source"] == "s1"), "si_snr_db"] = -np.inf
    assert of_one_speaker(scores)["num_failed"].tolist() == [0, 2]


def test_silent_outputs_count_together(plain: pd.DataFrame) -> None:
    """Two outputs at -20 dB each are at -17 dB; silence adds nothing."""
    scores = with_one_speaker(plain, 1)
    third = scores[scores["source"] == "s2"].assign(source="s3")
    both = pd.concat([scores, third], ignore_index=True)
    silent = both["status"] == "silent_reference"
    both.loc[silent, "silent_level_db"] = -20.0
    assert of_one_speaker(both)["silent_level_db"].tolist() == pytest.approx([-20 + 10 * np.log10(2)] * 2)
    both.loc[silent & (both["source"] == "s3"), "silent_level_db"] = -np.inf
    assert of_one_speaker(both)["silent_level_db"].tolist() == pytest.approx([-20, -20])
    both.loc[silent, "silent_level_db"] = -np.inf
    assert of_one_speaker(both)["silent_level_db"].tolist() == [-np.inf] * 2


def test_they_are_no_part_of_any_other_number(plain: pd.DataFrame) -> None:
    names = plain["mixture_id"].unique()
    others = plain[~plain["mixture_id"].isin(names[:NUM_ALONE])].reset_index(drop=True)
    found, expected = analyse(with_one_speaker(plain)), analyse(others)
    pd.testing.assert_frame_equal(found.summaries, expected.summaries)
    pd.testing.assert_frame_equal(found.pairs, expected.pairs)
    assert (found.headline, found.num_excluded, found.scope) == (expected.headline, 0, expected.scope)
    assert found.excluded.equals(expected.excluded)
    assert len(found.one_speaker) == 2 and expected.one_speaker.empty


def test_without_levels_or_without_others_nothing_is_set_apart(plain: pd.DataFrame) -> None:
    scores = with_one_speaker(plain)
    for given in (scores.drop(columns="silent_level_db"), scores[scores["mixture_id"].isin(mixtures_of_one(scores))], plain):
        kept, apart = set_apart(given)
        assert kept is given and apart.empty


def test_the_report_shows_them(plain: pd.DataFrame, tmp_path: Path) -> None:
    reports.write_report(with_one_speaker(plain), tmp_path, title="alone")
    html, text = ((tmp_path / name).read_text("utf-8") for name in ("report.html", "report.md"))
    assert "One speaker alone" in html
    assert "| causal | 5 | 0 | 22.0 dB | −35.0 dB | −25.0 dB |" in text
    reports.write_report(plain, tmp_path, title="together")
    assert "One speaker alone" not in (tmp_path / "report.html").read_text("utf-8")


def test_levels_may_be_infinite() -> None:
    assert [level(value) for value in (-32.06, -np.inf, np.inf, np.nan, None)] == ["−32.1 dB", "−∞ dB", "∞ dB", "–", "–"]
