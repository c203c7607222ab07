"""The linear algebra of BSS-Eval v3: blocks, Toeplitz systems, joint spans, mir_eval's own arithmetic."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from threadpoolctl import threadpool_limits

from pipeline.scoring.bss_eval import FILTER_LENGTH, Blocks, JointSpan, Span, ToeplitzInverse, project_plainly
from tests.scoring.cases import Samples, noise
from tests.separations import chirps


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Several processes of several threads each would wait for each other."""
    with threadpool_limits(1):
        yield


@pytest.mark.parametrize("num_samples", [1, 3089, 3090, 6689, 6690, 20000])
def test_blocks_hold_the_signal_and_its_tail(num_samples: int) -> None:
    """All of one length, of at most about 3,600 samples, and no more of them than needed."""
    blocks = Blocks(num_samples)
    signal = noise(1, num_samples)
    cut = blocks.cut(signal)
    assert cut.shape == (blocks.count, blocks.length)
    assert (blocks.count - 1) * blocks.length < num_samples + 511 <= blocks.count * blocks.length
    assert blocks.length <= 3600
    np.testing.assert_array_equal(cut.ravel()[:num_samples], signal)
    assert not cut.ravel()[num_samples:].any()
    with_past = blocks.cut_with_past(signal)
    np.testing.assert_array_equal(with_past[:, 511:], cut)
    np.testing.assert_array_equal(with_past[1:, :511], cut[:-1, -511:])
    assert not with_past[0, :511].any()


@given(seed=st.integers(0, 2**32 - 1), num_samples=st.integers(2, 12000))
@settings(max_examples=25, deadline=None)
def test_blocks_correlate_and_filter_as_a_whole(seed: int, num_samples: int) -> None:
    reference, estimate = noise(seed, 2, num_samples)
    blocks = Blocks(num_samples)
    span = Span(reference, blocks)
    np.testing.assert_allclose(span.correlate(blocks.spectra(blocks.cut(estimate))), _lags(estimate, reference), atol=1e-8)
    taps = noise(seed + 1, 512)
    filtered = span.filtered(taps).reshape(-1)[: num_samples + 511]
    np.testing.assert_allclose(filtered, np.convolve(reference, taps), atol=1e-8)


def _lags(estimate: Samples, reference: Samples) -> Samples:
    """Σ_t e(t) s(t - τ), term by term."""
    return np.array([estimate[lag:] @ reference[: len(reference) - lag] if lag < len(reference) else 0.0 for lag in range(512)])


@given(seed=st.integers(0, 2**32 - 1), length=st.integers(2, 40))
def test_toeplitz_inverse(seed: int, length: int) -> None:
    column = np.correlate(noise(seed, 200), noise(seed, 200), "full")[199:][:length]
    right_sides = noise(seed + 1, 3, length)
    solutions, solved = ToeplitzInverse(column).solve(right_sides)
    assert solved.all()
    np.testing.assert_allclose(solutions @ linalg.toeplitz(column), right_sides, atol=1e-10)


@pytest.mark.parametrize("column", [np.ones(8), np.zeros(8), np.array([-2.0, 1.0, 0.0])], ids=str)
def test_toeplitz_inverse_knows_when_it_fails(column: Samples) -> None:
    """Singular, zero, negative definite."""
    solutions, solved = ToeplitzInverse(column).solve(noise(1, 2, len(column)))
    assert solved.tolist() == [False, False]
    np.testing.assert_array_equal(solutions, np.zeros((2, len(column))))


def test_toeplitz_inverse_of_some_of_several_right_sides() -> None:
    """Next to singular: a right side in the range of the matrix holds, one outside does not."""
    column = np.ones(6)
    column[0] += 1e-15
    solutions, solved = ToeplitzInverse(column).solve(np.stack([np.zeros(6), noise(1, 6)]))
    assert solved.tolist() == [True, False]
    assert not solutions.any()


def test_plain_projection_is_mir_evals_bit_for_bit() -> None:
    import mir_eval.separation  # the oracle's private function, only here

    references, estimates = chirps(2, 5000)
    np.testing.assert_array_equal(
        project_plainly(references, estimates[0]), mir_eval.separation._project(references, estimates[0], FILTER_LENGTH)
    )


def test_joint_span_refuses_what_it_cannot_solve() -> None:
    reference = noise(1, 3000)
    blocks = Blocks(3000)
    assert JointSpan([Span(reference, blocks), Span(reference, blocks)]).factor is None
    assert JointSpan([Span(reference, blocks), Span(noise(2, 3000), blocks)]).factor is not None


def test_joint_projection_is_the_least_squares_one() -> None:
    """Onto every delay of every reference, with a column for each, solved by singular values."""
    references, estimate = noise(1, 3, 300), noise(2, 300)
    blocks = Blocks(300)
    projection = JointSpan([Span(one, blocks) for one in references[:1]]).project(blocks.spectra(blocks.cut(estimate)))
    delayed = linalg.toeplitz(np.pad(references[0], (0, 511)), np.zeros(512))
    expected = delayed @ np.linalg.lstsq(delayed, np.pad(estimate, (0, 511)), rcond=None)[0]
    np.testing.assert_allclose(projection.ravel()[:811], expected, atol=1e-9)
