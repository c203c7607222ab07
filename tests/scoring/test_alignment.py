"""Delays, signs and offsets: found, said in the status, removed only when asked for."""

import numpy as np
import pytest

from pipeline.scoring.alignment import Correlator, Shift
from pipeline.scoring.mixture import Row, Settings, score_mixture
from pipeline.scoring.recordings import Recording
from pipeline.scoring.scoring import score
from tests.scoring.cases import RATE, Samples, separated


def delayed(signals: Samples, delay: int) -> Samples:
    """Signals [..., time] of the same length, ``delay`` samples late (or early)."""
    moved = np.zeros_like(signals)
    if delay >= 0:
        moved[..., delay:] = signals[..., : signals.shape[-1] - delay]
    else:
        moved[..., :delay] = signals[..., -delay:]
    return moved


def rows_of(estimates: Samples, references: Samples, *, align: bool) -> list[Row]:
    settings = Settings(align=align)
    recordings = {"a": [Recording(one) for one in estimates]}
    return score_mixture(recordings, [Recording(one) for one in references], None, sample_rate=RATE, settings=settings)["a"]


@pytest.mark.parametrize("delay", [1, 80, -80, 700])
@pytest.mark.parametrize("sign", [1, -1])
def test_delay_and_sign_are_found(delay: int, sign: int) -> None:
    estimates, references, _ = separated(0)
    found = [Correlator(references).shift_of(one) for one in sign * delayed(estimates, delay)]
    assert found == [Shift(delay, inverted=sign < 0)] * 2


@pytest.mark.parametrize("delay", [80, -80, 700])
def test_a_delay_is_said_and_removed_only_when_asked_for(delay: int) -> None:
    estimates, references, _ = separated(1)
    late = delayed(estimates, delay)
    as_they_are, moved = rows_of(late, references, align=False), rows_of(late, references, align=True)
    assert [row["status"] for row in as_they_are] == [f"delayed({delay:+d})"] * 2
    assert all(row["si_snr_db"] < -5 for row in as_they_are)
    for row in moved:
        assert row["status"].split(";")[-1] == f"aligned({-delay:+d})"
        assert "delayed" not in row["status"]
    if delay > 0:
        expected = score(estimates[:, :-delay], references[:, :-delay], mixture=None, sample_rate=RATE)["si_snr_db"]
        assert [row["si_snr_db"] for row in moved] == pytest.approx(expected.tolist(), abs=1e-9)


def test_the_sign_is_said_and_changes_no_score() -> None:
    estimates, references, mixture = separated(2)
    upright, inverted = (score(sign * estimates, references, mixture=mixture, sample_rate=RATE) for sign in (1, -1))
    assert inverted["status"].tolist() == ["inverted"] * 2
    np.testing.assert_allclose(inverted["sdr_db"], upright["sdr_db"])


def test_an_offset_is_said_and_removed_only_when_asked_for() -> None:
    estimates, references, _ = separated(3)
    shifted = estimates + np.array([[0.5 * estimates.std()], [0.0]])
    as_they_are, centred = rows_of(shifted, references, align=False), rows_of(shifted, references, align=True)
    assert [row["status"] for row in as_they_are] == ["dc_offset", "ok"]
    assert [row["status"] for row in centred] == ["centred", "ok"]
    assert as_they_are[0]["sdr_db"] < 7
    without_offset = rows_of(estimates - estimates.mean(axis=1, keepdims=True), references, align=False)
    assert centred[0]["sdr_db"] == pytest.approx(without_offset[0]["sdr_db"], abs=1e-6)


def test_an_offset_that_the_reference_shares_is_no_fault_of_the_estimate() -> None:
    estimates, references, _ = separated(3)
    assert {row["status"] for row in rows_of(estimates + 0.1, references + 0.1, align=False)} == {"reference_offset"}


def test_what_resembles_nothing_has_no_delay() -> None:
    _, references, _ = separated(4)
    noise = np.random.default_rng(9).standard_normal(references.shape)
    assert {row["status"] for row in rows_of(noise, references, align=False)} == {"ok"}
    assert {row["status"] for row in rows_of(noise, references, align=True)} == {"ok"}


def test_silence_and_nan_are_left_to_their_own_statuses() -> None:
    estimates, references, _ = separated(5)
    broken = np.stack([np.zeros_like(estimates[0]), np.full_like(estimates[0], np.nan)])
    statuses = {row["status"] for row in rows_of(broken, references, align=True)}
    assert statuses == {"silent_estimate", "nan_estimate"}


def test_an_offset_of_the_reference_itself_is_said() -> None:
    estimates, references, _ = separated(4)
    moved = references + 0.4 * np.array([[1.0], [0.0]])
    assert [row["status"] for row in rows_of(estimates, moved, align=False)] == ["dc_offset;reference_offset", "ok"]
