"""Assignments of estimates to references."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.scoring.permutations import all_permutations, best_permutation

decibels = st.floats(-200, 200, width=32)
squares = st.integers(1, 5).flatmap(lambda size: hnp.arrays(np.float64, (size, size), elements=decibels))


def total(scores: np.ndarray, permutation: np.ndarray) -> float:
    return float(scores[permutation, np.arange(scores.shape[1])].sum())


@given(squares)
def test_no_assignment_is_better(scores: np.ndarray) -> None:
    best = total(scores, best_permutation(scores))
    others = [total(scores, np.array(order)) for order in permutations(range(len(scores)))]
    assert best == pytest.approx(max(others), abs=1e-9)


@given(squares)
def test_every_estimate_is_given_once(scores: np.ndarray) -> None:
    assert sorted(best_permutation(scores)) == list(range(len(scores)))


def test_direction_is_estimate_then_reference() -> None:
    scores = np.full((3, 3), -10.0)
    scores[2, 0] = scores[0, 1] = scores[1, 2] = 10.0  # estimate 2 is reference 0, and so on
    assert best_permutation(scores).tolist() == [2, 0, 1]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_of_ties_the_first_wins(size: int) -> None:
    assert best_permutation(np.zeros((size, size))).tolist() == list(range(size))


def test_of_equally_good_assignments_the_first_wins() -> None:
    """The Hungarian method alone would find others."""
    assert best_permutation([[0.0, 0.0], [1.0, 1.0]]).tolist() == [0, 1]
    assert best_permutation([[0.0, 2.0, 0.0], [1.0, 1.0, 2.0], [0.0, 2.0, 0.0]]).tolist() == [0, 2, 1]


def test_more_estimates_than_references_leave_the_worst_out() -> None:
    assert best_permutation([[0.0, 0.0], [9.0, 1.0], [1.0, 9.0]]).tolist() == [1, 2]
    assert best_permutation(np.eye(5)[::-1, :2]).tolist() == [4, 3]


def test_silence_and_nan_do_not_decide_about_the_others() -> None:
    assert best_permutation([[-np.inf, -np.inf, -np.inf], [1.0, 9.0, 2.0], [0.0, 1.0, 5.0]]).tolist() == [0, 1, 2]
    assert best_permutation([[np.nan, 1.0], [np.nan, 9.0]]).tolist() == [0, 1]
    assert best_permutation([[np.nan, 9.0], [np.nan, 1.0]]).tolist() == [1, 0]
    assert best_permutation([[3.0, np.inf], [5.0, 4.0]]).tolist() == [1, 0]


def test_nan_is_the_worst_score() -> None:
    assert best_permutation([[np.nan, np.nan], [1.0, 0.0], [0.0, 1.0]]).tolist() == [1, 2]
    assert best_permutation([[np.nan, -300.0], [-300.0, -300.0]]).tolist() == [1, 0]
    assert best_permutation([[-np.inf, -300.0], [-300.0, -300.0]]).tolist() == [1, 0]


def test_nan_in_one_of_many_sources() -> None:
    scores = np.diag(np.full(5, 10.0))
    scores[:, 2] = np.nan
    assert best_permutation(scores).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("shape", [(1, 2), (3,), (2, 2, 2)])
def test_shapes_that_cannot_be_assigned(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="estimate, reference"):
        best_permutation(np.zeros(shape))


def test_assignments_are_read_only_as_everyone_shares_them() -> None:
    with pytest.raises(ValueError, match="read-only"):
        all_permutations(2, 2)[0, 0] = 1


def test_assignments_in_lexicographic_order() -> None:
    assert all_permutations(3, 2).tolist() == [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]]
