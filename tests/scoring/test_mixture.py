"""One mixture's rows: statuses, permutations, silence, metrics on request."""

import numpy as np
import pytest
from scipy import signal

from pipeline.errors import ScoreError
from pipeline.scoring.metrics import mir_eval_sources
from pipeline.scoring.mixture import is_clipped
from pipeline.scoring.scoring import score
from tests.scoring.cases import RATE, Samples, separated
from tests.separations import low_passed, with_interference


def test_both_outputs_of_one_talker() -> None:
    """SI-SNR and SIR may disagree here; the row says by which the estimates were assigned, and whether they do."""
    _, references, mixture = separated(2)
    estimates = references[[0, 0]] + np.array([[0.1], [0.3]]) * references[[1, 1]]
    scores = score(estimates, references, mixture=mixture, sample_rate=RATE, permutation="sir")
    expected = mir_eval_sources(estimates, references, compute_permutation=True)
    assert (scores["estimate"] - 1).tolist() == expected[3].tolist()
    np.testing.assert_allclose(scores["sdr_db"], expected[0], atol=1e-6)
    assert set(scores["permutation"]) == {"sir"}


def test_permutations_that_disagree_are_flagged() -> None:
    """Both outputs follow the first talker: one with noise of its own, one with more of the other talker; SIR ignores noise."""
    random = np.random.default_rng(3)
    references = random.standard_normal((2, 4000))
    noise = random.standard_normal(4000)
    estimates = np.stack([references[0] + 0.01 * references[1] + noise, references[0] + 0.05 * references[1]])
    by_si_snr, by_sir = (
        score(estimates, references, mixture=references.sum(0), sample_rate=RATE, permutation=criterion)
        for criterion in ("si_snr", "sir")
    )
    assert by_si_snr["permutations_agree"].equals(by_sir["permutations_agree"])
    assert by_si_snr["permutations_agree"].tolist() == [by_si_snr["estimate"].equals(by_sir["estimate"])] * 2
    assert not by_si_snr["permutations_agree"].any()


def status_of(estimates: Samples, references: Samples, mixture: Samples | None) -> list[str]:
    return score(estimates, references, mixture=mixture, sample_rate=RATE)["status"].tolist()


def test_statuses() -> None:
    estimates, references, mixture = separated(4)
    silence, broken = np.zeros(3000), np.where(np.arange(3000) == 9, np.nan, estimates[1])
    assert status_of(np.stack([estimates[0], silence]), references, mixture) == ["ok", "silent_estimate"]
    assert status_of(np.stack([estimates[0], broken]), references, mixture) == ["ok", "nan_estimate"]
    assert status_of(estimates, np.stack([references[0], silence]), mixture) == ["ok", "silent_reference"]
    assert status_of(estimates, np.stack([broken, references[1]]), mixture) == ["nan_reference", "ok"]
    assert status_of(estimates, references, silence) == ["silent_mixture"] * 2
    assert status_of(estimates, references, np.full(3000, np.nan)) == ["nan_mixture"] * 2
    assert status_of(estimates, references, mixture[:-7]) == ["shortened(-7)"] * 2
    assert status_of(estimates[:, :-12], references, mixture) == ["length_mismatch(-12)"] * 2
    assert status_of(estimates[:, :1499], references, mixture) == ["too_short_estimate"] * 2
    assert status_of(estimates[:, :1500], references, mixture) == ["length_mismatch(-1500)"] * 2
    assert status_of(estimates[:, :500], references[:, :500], mixture[:500]) == ["shorter_than_filter"] * 2
    assert status_of(references * 0.5, references, mixture) == ["perfect"] * 2
    assert status_of(np.stack([np.clip(40 * estimates[0], -1, 1), estimates[1]]), references, mixture) == ["clipped", "ok"]
    assert status_of(3 * estimates, references, mixture) == ["ok"] * 2
    assert status_of(estimates[:, :0], references, mixture) == ["empty_estimate"] * 2
    assert status_of(silence[None, :1], references[:1, :1], mixture[:1]) == [
        "silent_reference;silent_estimate;silent_mixture;shorter_than_filter"
    ]


def test_ill_conditioned_references_are_flagged_and_scored_as_mir_eval_does() -> None:
    """Low-passed and faded in and out, so that next to nothing is left above 500 Hz: the normal equations cannot be solved."""
    random = np.random.default_rng(0)
    references = low_passed(0.1 * random.standard_normal((2, 4000))) * signal.windows.hann(4000)
    estimates = with_interference(references, random, 10.0, 20.0)
    scores = score(estimates, references, mixture=references.sum(0), sample_rate=RATE)
    assert scores["status"].tolist() == ["ill_conditioned"] * 2
    np.testing.assert_allclose(scores["sdr_db"], mir_eval_sources(estimates, references)[0], atol=1e-6)


def test_three_equal_samples_at_full_scale_are_clipped() -> None:
    loud, quiet = 1.0, 1 - 2.0**-14
    assert is_clipped(np.array([0.0, loud, loud, loud, 0.0]))
    assert is_clipped(np.array([-loud, -loud, -loud]))
    assert not is_clipped(np.array([loud, loud, 0.0, loud, loud]))
    assert not is_clipped(np.array([loud, -loud, loud, -loud]))
    assert not is_clipped(np.array([quiet, quiet, quiet]))
    assert is_clipped(np.full(3, 1 - 2.0**-15))


def test_values_of_silence() -> None:
    estimates, references, mixture = separated(5)
    scores = score(np.stack([estimates[0], np.zeros(3000)]), references, mixture=mixture, sample_rate=RATE)
    assert np.isfinite(scores.loc[0, ["si_snr_db", "sdr_db", "sdri_db"]].astype(float)).all()
    assert (scores.loc[1, ["si_snr_db", "si_snri_db", "sdr_db", "sdri_db"]] == -np.inf).all()
    assert np.isfinite(scores["input_sdr_db"]).all()


def test_a_silent_source_changes_nothing_for_the_other() -> None:
    estimates, references, mixture = separated(6)
    alone = score(estimates, references, mixture=mixture, sample_rate=RATE)
    beside = score(estimates, np.stack([references[0], np.zeros(3000)]), mixture=mixture, sample_rate=RATE)
    assert beside.loc[0, "sdr_db"] == pytest.approx(alone.loc[0, "sdr_db"], abs=1e-9)
    assert np.isnan(beside.loc[1, "sdr_db"])


# ------------------------------------------------------------------------------------------------------- metrics on request
def test_sir_and_sar_on_request() -> None:
    estimates, references, mixture = separated(9)
    scores = score(estimates[::-1], references, mixture=mixture, sample_rate=RATE, also=["sir", "sar"])
    _, sir_db, sar_db, _ = mir_eval_sources(estimates, references)
    np.testing.assert_allclose(scores["sir_db"], sir_db, atol=1e-6)
    np.testing.assert_allclose(scores["sar_db"], sar_db, atol=1e-6)


def test_sir_of_silent_references() -> None:
    estimates, references, mixture = separated(9)
    scores = score(estimates, 0 * references, mixture=mixture, sample_rate=RATE, also=["sir", "sa_sdr"], permutation="sir")
    assert scores["status"].tolist() == ["silent_reference"] * 2
    assert scores[["sir_db", "sa_sdr_db"]].isna().all(axis=None)


def test_sir_of_references_that_nearly_depend_on_each_other() -> None:
    _, references, mixture = separated(9)
    references[1] = references[0] + 1e-6 * references[1]
    estimates = references + 0.1 * separated(10)[1]
    scores = score(estimates, references, mixture=mixture, sample_rate=RATE, also=["sir"], permutation="sir")
    assert scores["status"].tolist() == ["ill_conditioned"] * 2
    expected = mir_eval_sources(estimates, references, compute_permutation=True)
    assert (scores["estimate"] - 1).tolist() == expected[3].tolist()
    np.testing.assert_allclose(scores["sir_db"], expected[1], atol=1e-6)


def test_aggregated_sdr_is_defined_with_a_silent_source() -> None:
    _, references, mixture = separated(10)
    references[1] = 0.0
    estimates = 0.5 * references
    estimates[1, :100] = 0.5 * 0.1 * references[0, :100]
    expected = 10 * np.log10(np.sum(references[0] ** 2) / np.sum((0.1 * references[0, :100]) ** 2))
    scores = score(estimates, references, mixture=mixture, sample_rate=RATE, also=["sa_sdr"])
    assert scores["sa_sdr_db"].tolist() == pytest.approx([expected] * 2, abs=1e-9)


def test_metrics_without_a_value_are_said() -> None:
    """STOI needs 0.4 s of speech; the aggregated SDR is undefined where any estimate holds NaN."""
    pytest.importorskip("pystoi")
    estimates, references, mixture = separated(11)
    scores = score(estimates, references, mixture=mixture, sample_rate=RATE, also=["stoi", "sar"])
    assert scores["stoi"].isna().all()
    assert scores["status"].tolist() == ["no_stoi"] * 2
    estimates[1, 9] = np.nan
    scores = score(estimates, references, mixture=mixture, sample_rate=RATE, also=["sa_sdr"])
    assert scores["status"].tolist() == ["no_sa_sdr", "nan_estimate"]


def test_unknown_criteria_and_metrics() -> None:
    estimates, references, mixture = separated(11)
    with pytest.raises(ScoreError, match="choose si_snr or sir"):
        score(estimates, references, mixture=mixture, sample_rate=RATE, permutation="sdr")  # type: ignore[arg-type]
    with pytest.raises(ScoreError, match="metric 'stio': choose among sir, sar"):
        score(estimates, references, mixture=mixture, sample_rate=RATE, also=["stio"])  # type: ignore[list-item]


# ------------------------------------------------------------------------------------------------------- one speaker alone
def test_the_level_of_an_output_that_should_be_silent() -> None:
    """White noise of a hundredth of the mixture's amplitude: -40 dB; the other row, and SI-SNR there, are as ever."""
    _, references, _ = separated(7)
    speaker, noise = references[0], references[1] * references[0].std() / references[1].std()
    estimates = np.stack([0.01 * noise, speaker + 0.1 * noise])
    scores = score(estimates, np.stack([speaker, 0 * speaker]), mixture=speaker, sample_rate=RATE)
    assert scores["estimate"].tolist() == [2, 1]
    assert scores["silent_level_db"].isna().tolist() == [True, False]
    assert scores.loc[1, "silent_level_db"] == pytest.approx(-40, abs=1e-6)
    assert scores.loc[0, "si_snr_db"] == pytest.approx(20, abs=0.5)


def test_a_silent_output_of_a_silent_source_is_as_good_as_can_be() -> None:
    _, references, _ = separated(7)
    given = np.stack([references[0], 0 * references[0]])
    scores = score(given, given, mixture=references[0], sample_rate=RATE)
    assert scores.loc[1, "silent_level_db"] == -np.inf
    assert scores.loc[1, "status"] == "silent_reference;silent_estimate"


def test_no_level_without_a_mixture_or_of_sources_that_sound() -> None:
    estimates, references, mixture = separated(7)
    silent = np.stack([references[0], 0 * references[0]])
    assert "silent_level_db" not in score(estimates, silent, mixture=None, sample_rate=RATE)
    assert "silent_level_db" not in score(estimates, references, mixture=mixture, sample_rate=RATE)
    estimates[1, 5] = np.nan
    assert "silent_level_db" not in score(estimates, silent, mixture=mixture, sample_rate=RATE)
