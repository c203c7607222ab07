"""Quality over time from the start of a mixture."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.reports import (
    over_time,
)
from pipeline.reports.analysis import analyse
from tests.report_cases import make_scores, spoil
from tests.reports.clips import EVIL, load_clips


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    made = make_scores({"noncausal": 8.0, "causal": 6.5, EVIL: 7.9}, num_mixtures=40)
    made.loc[made["system"] == "noncausal", "estimate"] = 3 - made["estimate"]
    return spoil(made, {0: "silent_estimate", 8: "nan_in_estimate", 14: "length_mismatch(3)"})


def test_frame_si_snr_is_that_of_the_noise() -> None:
    generator = np.random.default_rng(2)
    reference, noise = generator.normal(0, 1, (2, 40000))
    noise[20000:] *= 0.1
    reference[36000:] = 0
    found = over_time.frame_si_snr_db(3 * (reference + noise), reference, 4000)
    np.testing.assert_allclose(found[:5], 0, atol=0.6)
    np.testing.assert_allclose(found[5:9], 20, atol=0.6)
    assert np.isnan(found[9])


def test_improvement_over_time_keeps_the_order_of_systems(scores: pd.DataFrame) -> None:
    analysis = analyse(scores, baseline="causal")
    table = over_time.improvement_over_time(analysis, load_clips)
    assert list(dict.fromkeys(table["system"])) == ["causal", "noncausal", EVIL]
    assert table[table["system"] == "causal"]["seconds"].tolist() == [0.25, 0.75, 1.25, 1.75]
    assert table[table["system"] == "causal"]["value"].mean() == pytest.approx(-20 * np.log10(0.3), abs=0.5)
