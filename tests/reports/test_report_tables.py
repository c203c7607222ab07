"""Tables of a report."""

from __future__ import annotations

import numpy as np

from pipeline import reports
from pipeline.reports import (
    formatting,
    report_tables,
)
from pipeline.reports.analysis import analyse
from pipeline.reports.means import mixture_means
from tests.report_cases import make_scores


def test_a_long_list_of_findings_is_cut() -> None:
    scores = make_scores(num_mixtures=60)
    scores = scores[(scores["system"] == "noncausal") | (scores["mixture_id"] < "0010")]
    grid = report_tables.health_grid(analyse(scores, baseline="noncausal").health)
    assert len(grid.rows) == 31
    assert grid.rows[-1] == ("…", "–", "20 more in summary.json")


def test_without_mixtures_the_plain_metrics_come_first() -> None:
    columns = ["si_snri_db", "sdri_db", "input_si_snr_db", "input_sdr_db"]
    analysis = analyse(make_scores(num_mixtures=8).assign(**dict.fromkeys(columns, np.nan)))
    results = report_tables.results_grid(analysis)
    assert results.headings[2] == "SI-SNR, dB"
    assert results.rows[0][2] == formatting.number(mixture_means(analysis.scores, "si_snr_db")["noncausal"].mean())
    assert analysis.headline.startswith("noncausal reaches an SI-SNR of")


def test_extra_metrics_are_summarised() -> None:
    scores = make_scores(num_mixtures=8).assign(pesq=2.5)
    spread = report_tables.spread_grid(analyse(scores, baseline="noncausal"))
    assert ("noncausal", "PESQ", "8", "2.50", "0.00") in [row[:5] for row in spread.rows]
    assert reports.gate(scores, scores.assign(pesq=2.0), "pesq < -0.2").tripped
