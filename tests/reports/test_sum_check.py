"""Mixtures compared with the sum of their sources."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from pipeline.reports import sum_check
from pipeline.reports.analysis import analyse
from pipeline.reports.clips import Clips
from tests.report_cases import make_scores, spoil
from tests.reports.clips import EVIL, load_clips


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    made = make_scores({"noncausal": 8.0, "causal": 6.5, EVIL: 7.9}, num_mixtures=40)
    made.loc[made["system"] == "noncausal", "estimate"] = 3 - made["estimate"]
    return spoil(made, {0: "silent_estimate", 8: "nan_in_estimate", 14: "length_mismatch(3)"})


def test_mixtures_are_compared_with_the_sum_of_their_sources(scores: pd.DataFrame) -> None:
    analysis = analyse(scores, baseline="noncausal")
    odd = str(analysis.means.dropna().index[3])

    def spoiled(mixture_id: str, *, noise: float = 0.0) -> Clips:
        clips = load_clips(mixture_id)
        wrong = clips.references[0] if mixture_id == odd else 0.0
        mixture = clips.mixture + noise * np.random.default_rng(0).normal(0, 0.05, 16000) + wrong
        return dataclasses.replace(clips, mixture=mixture)

    assert sum_check.residual_db(spoiled(odd)) == pytest.approx(10 * np.log10(1 / 5), abs=0.2)  # s1 of 2 s1 + s2
    exact = sum_check.check_sums(analysis, load_clips)
    assert exact.sentence == "37 of 40 mixtures compared with the sum of their sources: they are identical."
    assert exact.findings.empty
    found = sum_check.check_sums(analysis, spoiled)
    assert found.findings[["finding", "mixture_id"]].to_numpy().tolist() == [["not a sum", odd]]
    noisy = sum_check.check_sums(analysis, lambda name: spoiled(name, noise=1.0))
    assert "the median residual is −5 dB of the mixture, for example noise" in noisy.sentence
    assert noisy.findings.empty
    assert sum_check.check_sums(analysis, None).sentence == ""
