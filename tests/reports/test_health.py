"""What looks wrong with a test set."""

from __future__ import annotations

from pipeline.reports import health
from pipeline.reports.analysis import Context, analyse
from tests.report_cases import make_scores, spoil


def test_excluded_rows_are_counted_by_status() -> None:
    scores = spoil(make_scores(num_mixtures=10), {0: "silent_estimate", 4: "silent_estimate"})
    scores.loc[7, "status"] = "clipped"
    table = health.excluded(scores, "si_snri_db").set_index("status")
    assert table.loc["silent_estimate", ["rows", "mixtures", "counted"]].tolist() == [2, 2, False]
    assert table.loc["clipped", ["rows", "counted"]].tolist() == [1, True]


def test_a_healthy_test_set_has_no_findings() -> None:
    assert health.findings(make_scores(num_mixtures=60)).empty


def test_references_with_an_offset_are_named() -> None:
    scores = make_scores(num_mixtures=60)
    scores.loc[scores.index[:1], "status"] = "inverted;reference_offset"
    found = health.findings(scores)
    name, source = scores["mixture_id"].iloc[0], scores["source"].iloc[0]
    assert found.to_numpy().tolist() == [["offset", name, f"constant offset (DC) in the reference of {source}"]]


def test_what_the_dataset_shows_stands_beside_what_the_scores_show() -> None:
    context = Context(dataset_findings=[("amplified noise", "m1", "s2 was amplified by 70 dB: hardly speech")])
    assert analyse(make_scores(num_mixtures=60), context).health["finding"].tolist() == ["amplified noise"]


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
    found = health.findings(scores).set_index("finding")
    assert found.loc["different audio", "mixture_id"] == ids[30]
    assert found.loc["duplicate", "mixture_id"] == ids[7]
    assert found.loc["not a sum", "mixture_id"] == ids[11]
    assert found.loc["missing", "mixture_id"] == ids[20]
    assert found.loc["outlying speaker", "detail"].startswith("spk05")
