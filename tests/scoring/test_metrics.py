"""SI-SNR and BSS-Eval v3: closed forms, properties, mir_eval as a peer, frozen values."""

import json
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from threadpoolctl import threadpool_limits

from pipeline.scoring.bss_eval import FILTER_LENGTH, _plain_gram
from pipeline.scoring.metrics import References, _preferred, level, mir_eval_sources, pairwise_si_snr, sa_sdr, sdr, si_snr
from pipeline.scoring.permutations import best_permutation
from tests.scoring.cases import Samples, noise
from tests.separations import ILL_CONDITIONED, REALISTIC, chirps, ill_conditioned_set, realistic_set, with_interference

GOLDEN = Path(__file__).parent / "golden" / "metrics.json"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Several processes of several threads each would wait for each other."""
    with threadpool_limits(1):
        yield


# ----------------------------------------------------------------------------------------------------------- closed forms
def apart_in_time() -> tuple[Samples, Samples]:
    """Two references and an artefact of unit energy that no delay below 512 lets overlap: all spans are orthogonal."""
    places = ((0, 1000), (1600, 2600), (3200, 4000))
    signals = np.zeros((3, 4000))
    for one, (start, stop) in zip(signals, places, strict=True):
        one[start:stop] = noise(start, stop - start)
    signals /= np.linalg.norm(signals, axis=1, keepdims=True)
    return signals[:2], signals[2]


@pytest.mark.parametrize("interference", [1e-6, 0.1, 2.0])
@pytest.mark.parametrize("artefact", [1e-6, 0.3, 5.0])
def test_ratios_of_orthogonal_parts(interference: float, artefact: float) -> None:
    references, outside = apart_in_time()
    delayed = np.roll(references, 3, axis=1)  # a filter, so still target and interference
    estimate = delayed[0] + interference * delayed[1] + artefact * outside
    projections = References(references).project(estimate[None])
    assert projections.sdr_db(0, 0) == pytest.approx(-10 * np.log10(interference**2 + artefact**2), abs=1e-6)
    shares = projections.energies[0] / np.sum(projections.signals[0] ** 2)
    whole = 1 + interference**2 + artefact**2
    assert shares.tolist() == pytest.approx([1 / whole, interference**2 / whole], abs=1e-9)
    sir_db, sar_db = projections.sir_sar_db(0, 0)
    assert sir_db == pytest.approx(-20 * np.log10(interference), abs=1e-6)
    assert sar_db == pytest.approx(10 * np.log10((1 + interference**2) / artefact**2), abs=1e-6)


@pytest.mark.parametrize("ratio_db", [-60.0, 0.0, 20.0, 140.0])
def test_si_snr_of_orthogonal_noise(ratio_db: float) -> None:
    time = np.arange(8000) / 8000
    reference, orthogonal = np.sin(2 * np.pi * 50 * time), np.cos(2 * np.pi * 50 * time)
    estimate = 0.3 * reference + 0.3 * 10 ** (-ratio_db / 20) * orthogonal
    assert si_snr(estimate, reference) == pytest.approx(ratio_db, abs=1e-6)


def test_offsets_do_not_count_in_si_snr() -> None:
    reference, estimate = noise(1, 2, 4000)
    assert si_snr(estimate + 7.0, reference - 3.0) == pytest.approx(float(si_snr(estimate, reference)), abs=1e-9)


@pytest.mark.parametrize(("ratio_db", "expected"), [(199.5, 199.5), (200.5, np.inf)])
def test_above_200_db_an_estimate_is_perfect(ratio_db: float, expected: float) -> None:
    time = np.arange(8000) / 8000
    reference, orthogonal = np.sin(2 * np.pi * 50 * time), np.cos(2 * np.pi * 50 * time)
    assert si_snr(reference + 10 ** (-ratio_db / 20) * orthogonal, reference) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("ratio_db", [-30.0, 0.0, 20.0])
@pytest.mark.parametrize("gain", [-3.0, 1e-200, 1e200])
def test_sa_sdr_of_orthogonal_noise(ratio_db: float, gain: float) -> None:
    """One source at a hundredth of the other's energy, and all the noise beside the louder one: one ratio of the sums."""
    time = np.arange(800) / 800
    sine, cosine = np.sin(2 * np.pi * 5 * time), np.cos(2 * np.pi * 5 * time)
    references = np.stack([sine, 0.1 * sine])
    estimates = references + np.stack([np.sqrt(1.01) * 10 ** (-ratio_db / 20) * cosine, np.zeros(800)])
    assert sa_sdr(gain * estimates, references) == pytest.approx(ratio_db, abs=1e-9)
    assert sa_sdr(estimates, gain * references) == pytest.approx(ratio_db, abs=1e-9)


def test_sa_sdr_of_what_cannot_be_scored() -> None:
    references = noise(1, 2, 100)
    broken = np.where(np.arange(100) == 7, np.inf, references)
    assert sa_sdr(0 * references, references) == -np.inf
    assert sa_sdr(-0.3 * references, references) == np.inf
    assert np.isnan([sa_sdr(references, 0 * references), sa_sdr(broken, references), sa_sdr(references, broken)]).all()
    assert sa_sdr(references + [[0.0], [1e-3]] * noise(2, 1, 100), references * [[1], [0]]) < 0


def test_levels_are_exact_powers_of_two() -> None:
    """A peak from 0.5 up to 1, without rounding, for every number that there is."""
    for peak, expected in ((0.5, 0.5), (3.0, 0.75), (1.0, 0.5), (-7.0, -0.875), (np.finfo(float).max, 1 - 2.0**-53)):
        assert level(np.array([peak, 0.0])).tolist() == [expected, 0.0]
    assert level(np.array([[2.0, 1.0], [0.0, 0.0]])).tolist() == [[0.5, 0.25], [0.0, 0.0]]
    assert 0 < level(np.array([5e-324]))[0] < 1
    assert level(np.zeros(0)).shape == (0,)


def test_clear_preferences_decide_and_others_do_not() -> None:
    solved = np.ones((2, 2), dtype=bool)

    def preferred(*energies: tuple[float, float]) -> list[int] | None:
        found = _preferred(np.array(energies), solved)
        return None if found is None else found.tolist()

    assert preferred((1.0, 0.2), (0.3, 0.5)) == [0, 1]
    assert preferred((0.2, 1.0), (0.5, 0.3)) == [1, 0]
    assert preferred((1.0, 0.2), (0.5, 0.3)) is None
    three = _preferred(np.eye(3)[[2, 0, 1]] + 0.1, np.ones((3, 3), dtype=bool))
    assert three is not None and three.tolist() == [2, 0, 1]
    assert preferred((1.0, 1 - 1e-9), (0.3, 0.5)) == [0, 1]
    assert preferred((1.0, 1 - 1e-11), (0.3, 0.5)) is None
    assert preferred((1.0, np.nan), (0.3, 0.5)) is None
    assert _preferred(np.array([[1.0, 0.2], [0.3, 0.5]]), np.array([[True, True], [True, False]])) is None
    assert _preferred(np.array([[1.0, 0.2], [0.3, 0.5], [0.1, 0.1]]), np.ones((3, 2), dtype=bool)) is None


def test_a_filtered_reference_is_no_distortion() -> None:
    reference = noise(3, 6000)
    reference[-FILTER_LENGTH:] = 0.0
    estimate = np.convolve(reference, noise(4, 512))[:6000]
    assert sdr(estimate, reference) > 150
    assert si_snr(estimate, reference) < 10


def test_sdr_by_least_squares_on_every_delay() -> None:
    """The definition itself: a column for each delay, solved by singular values."""
    references, estimates = noise(5, 2, 700), noise(6, 2, 700)
    for estimate, reference in zip(estimates, references, strict=True):
        delayed = linalg.toeplitz(np.pad(reference, (0, 511)), np.zeros(512))
        padded = np.pad(estimate, (0, 511))
        projected = delayed @ np.linalg.lstsq(delayed, padded, rcond=None)[0]
        expected = 10 * np.log10(np.sum(projected**2) / np.sum((padded - projected) ** 2))
        assert sdr(estimate, reference) == pytest.approx(expected, abs=1e-9)


def test_signals_stand_in_any_shape() -> None:
    estimates, references = noise(7, 2, 3, 1000), noise(8, 3, 1000)
    assert si_snr(estimates, references).shape == sdr(estimates, references).shape == (2, 3)
    assert si_snr(estimates, references)[1, 2] == si_snr(estimates[1, 2], references[2])
    assert sdr(estimates, references)[1, 2] == sdr(estimates[1, 2], references[2])


# ------------------------------------------------------------------------------------------------------------- properties
@given(seed=st.integers(0, 2**32 - 1), num_sources=st.integers(1, 3), num_samples=st.integers(600, 9000))
@settings(max_examples=25, deadline=None)
def test_sdr_is_never_below_si_snr(seed: int, num_sources: int, num_samples: int) -> None:
    references = noise(seed, num_sources, num_samples)
    references -= references.mean(axis=1, keepdims=True)
    estimates = with_interference(references, np.random.default_rng(seed), 10.0, 10.0)
    estimates -= estimates.mean(axis=1, keepdims=True)
    assert (sdr(estimates, references) >= si_snr(estimates, references) - 1e-9).all()


@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-150, 150))
@settings(max_examples=25, deadline=None)
def test_level_does_not_matter(seed: int, exponent: float) -> None:
    estimate, reference = noise(seed, 2, 3000)
    estimate += reference
    scaled = estimate * -(10.0**exponent)
    assert si_snr(scaled, reference) == pytest.approx(float(si_snr(estimate, reference)), abs=1e-9)
    assert si_snr(estimate, 10.0**exponent * reference) == pytest.approx(float(si_snr(estimate, reference)), abs=1e-9)
    assert sdr(scaled, reference) == pytest.approx(float(sdr(estimate, reference)), abs=1e-9)


# -------------------------------------------------------------------------------------------------- what cannot be scored
def test_values_of_what_cannot_be_scored() -> None:
    sound = noise(1, 2000)
    silent, constant, broken = np.zeros(2000), np.full(2000, 0.1), np.where(np.arange(2000) == 7, np.nan, sound)
    for metric in (si_snr, sdr):
        assert metric(silent, sound) == metric(constant, sound) == -np.inf
        assert np.isnan([metric(sound, silent), metric(sound, constant), metric(silent, silent)]).all()
        assert np.isnan([metric(broken, sound), metric(sound, broken), metric(np.full(2000, np.inf), sound)]).all()
        assert metric(sound * 0.3, sound) == metric(-1e-12 * sound, sound) == np.inf


def test_a_broken_signal_leaves_the_others_alone() -> None:
    references, estimates = noise(1, 3, 4000), noise(2, 3, 4000) + noise(1, 3, 4000)
    alone = References(references[:2]).project(estimates[:2])
    references[2], estimates[2, 5] = 0.0, np.nan
    beside = References(references).project(estimates)
    for pair in ((0, 0), (1, 1), (0, 1)):
        assert beside.sdr_db(*pair) == alone.sdr_db(*pair)
        assert beside.sir_sar_db(*pair) == alone.sir_sar_db(*pair)
    assert np.isnan(pairwise_si_snr(estimates, references)[2]).all()
    assert beside.sir_permutation(slice(0, 3)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("num_samples", [2, 3, 100, 511, 512, 513])
def test_shorter_than_the_filter(num_samples: int) -> None:
    estimates, references = noise(1, 2, num_samples), noise(2, 2, num_samples)
    expected = mir_eval_sources(estimates, references)[0]
    np.testing.assert_allclose(np.minimum(sdr(estimates, references), 200), np.minimum(expected, 200), atol=1e-6)


def test_one_reference_has_no_interference() -> None:
    reference, estimate = noise(1, 2, 3000)
    projections = References(reference[None]).project(np.stack([estimate, estimate + reference]))
    sir_db, sar_db = projections.sir_sar_db(1, 0)
    assert sir_db == np.inf
    assert sar_db == pytest.approx(projections.sdr_db(1, 0), abs=1e-9)
    assert projections.sir_permutation(slice(0, 2)).tolist() == [1]


# --------------------------------------------------------------------------------------------------------------- mir_eval
def assert_equals_mir_eval(estimates: Samples, references: Samples, *, sir_tolerance_db: float = 1e-3) -> None:
    """Same permutation, SDR within 1e-6 dB, SIR and SAR within a tolerance where their systems are well conditioned."""
    sdr_db, sir_db, sar_db, permutation = mir_eval_sources(estimates, references, compute_permutation=True)
    projections = References(references).project(estimates)
    ours = projections.sir_permutation(slice(0, len(estimates)))
    assert ours.tolist() == permutation.tolist()
    for reference, estimate in enumerate(ours):
        assert projections.sdr_db(estimate, reference) == pytest.approx(sdr_db[reference], abs=1e-6)
        parts = projections.sir_sar_db(estimate, reference)
        for part, expected in zip(parts, (sir_db[reference], sar_db[reference]), strict=True):
            assert min(part, 200) == pytest.approx(min(expected, 200), abs=sir_tolerance_db)


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(len(REALISTIC)), ids=[kind.__name__ for kind in REALISTIC])
def test_equal_to_mir_eval_on_speech(corpora: Path, kind: int) -> None:
    """Five sets of each kind, one of them of three sources; ``tests/benchmarks/score.py`` compares hundreds."""
    numbers = [number for number in range(1, 70, 2) if number % len(REALISTIC) == kind]
    assert sum(number % 10 == 9 for number in numbers) == 1
    for number in numbers:
        assert_equals_mir_eval(*realistic_set(corpora, number, 8000 + 90 * number))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spoil", ILL_CONDITIONED)
def test_equal_to_mir_eval_on_ill_conditioned_references(corpora: Path, spoil: Callable[[Samples], Samples], seed: int) -> None:
    assert_equals_mir_eval(*ill_conditioned_set(corpora, seed, spoil, 16000))


def test_five_sources_are_assigned_by_the_highest_mean_sir() -> None:
    """Beyond three the Hungarian method chooses; here two estimates prefer the same reference, so that all SIRs are needed."""
    references = noise(1, 5, 4000)
    estimates = with_interference(references, np.random.default_rng(2), 0.0, 0.0)[[3, 0, 4, 2, 1]]
    estimates[2] += references[1]
    projections = References(references).project(estimates)
    assert len(set(projections.energies.argmax(axis=1))) < 5
    sir_db = np.array([[projections.sir_sar_db(row, column)[0] for column in range(5)] for row in range(5)])
    best = max(permutations(range(5)), key=lambda order: sir_db[list(order), range(5)].sum())
    assert projections.sir_permutation(slice(0, 5)).tolist() == list(best)


def test_references_that_are_the_same() -> None:
    """The joint system is singular: mir_eval ends in a crash under NumPy 2.4, here it ends in numbers."""
    reference, estimate = noise(1, 2, 3000)
    references, estimates = np.stack([reference, reference]), np.stack([estimate, estimate + reference])
    projections = References(references).project(estimates)
    assert np.isfinite(projections.sdr_db(1, 0))
    assert sorted(projections.sir_permutation(slice(0, 2))) == [0, 1]
    assert np.isfinite(mir_eval_sources(estimates, references)[0]).all()


def test_a_gram_matrix_without_an_inverse() -> None:
    """NumPy raises LinAlgError, which mir_eval 0.8 looks for under a name that NumPy 2.4 has no more: least squares instead."""
    references = np.eye(2, 1500)[[0, 0]]
    estimates = references + 0.1 * noise(2, 2, 1500)
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.solve(_plain_gram(np.fft.fft(references, 2048)), np.ones(1024))
    sdr_db, sir_db, sar_db, _ = mir_eval_sources(estimates, references)
    projections = References(references).project(estimates)
    # An impulse's filters explain the 512 samples that follow; with two equal ones nothing is left to interfere.
    explained = np.sum(estimates[:, :512] ** 2, axis=1)
    expected = 10 * np.log10(explained / (np.sum(estimates**2, axis=1) - explained))
    np.testing.assert_allclose(sdr_db, expected, atol=1e-9)
    assert projections.sdr_db(1, 1) == pytest.approx(expected[1], abs=1e-9)
    ours = projections.sir_sar_db(1, 1)
    assert ours[0] > 150 < sir_db[1]
    assert ours[1] == pytest.approx(sar_db[1], abs=1e-9)


# ---------------------------------------------------------------------------------------------------------- frozen values
def test_frozen_values() -> None:
    """Values of mir_eval 0.8.2 and of the SI-SNR in 80-bit floats; they stay when mir_eval goes."""
    for case in json.loads(GOLDEN.read_text()):
        references, estimates = chirps(case["num_sources"], case["num_samples"])
        projections = References(references).project(estimates)
        permutation = projections.sir_permutation(slice(0, len(estimates)))
        assert permutation.tolist() == case["permutation"]
        assert best_permutation(pairwise_si_snr(estimates, references)).tolist() == case["permutation"]
        pairs = list(zip(permutation, range(len(references)), strict=True))
        np.testing.assert_allclose([projections.sdr_db(*pair) for pair in pairs], case["sdr_db"], atol=1e-6)
        np.testing.assert_allclose([projections.sir_sar_db(*pair) for pair in pairs], case["sir_sar_db"], atol=1e-5)
        np.testing.assert_allclose(si_snr(estimates[permutation], references), case["si_snr_db"], atol=1e-9)
