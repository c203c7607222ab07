"""Learning rates against the paper's words and closed forms."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.recipe.schema import Train
from pipeline.training.schedules import Plateau, learning_rate


def halvings(losses: list[float], patience: int = 3) -> list[int]:
    """Number of halvings after each epoch."""
    plateau = Plateau()
    counts = []
    for loss in losses:
        plateau.update(loss, patience=patience)
        counts.append(plateau.num_halvings)
    return counts


def test_halves_after_three_consecutive_epochs_without_a_better_one() -> None:
    assert halvings([5.0, 6.0, 6.0, 6.0]) == [0, 0, 0, 1]


def test_an_equal_loss_is_no_improvement() -> None:
    assert halvings([5.0, 5.0, 5.0, 5.0]) == [0, 0, 0, 1]


def test_epochs_are_compared_with_the_best_not_with_the_one_before() -> None:
    # Every epoch but the second is better than the one before it, none better than the first.
    assert halvings([1.0, 9.0, 8.0, 7.0]) == [0, 0, 0, 1]


def test_the_count_starts_again_after_a_halving_and_after_a_better_epoch() -> None:
    assert halvings([1.0] + [2.0] * 8) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert halvings([5.0, 6.0, 6.0, 4.0, 6.0, 6.0, 6.0]) == [0, 0, 0, 0, 0, 0, 1]


def test_the_early_stop_counter_is_not_reset_by_halvings() -> None:
    plateau = Plateau()
    for loss in [1.0] + [2.0] * 7:
        plateau.update(loss, patience=3)
    assert plateau.epochs_without_better == 7


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=40), st.integers(1, 5))
def test_halvings_are_runs_without_a_better_epoch_in_units_of_the_patience(losses: list[float], patience: int) -> None:
    best, run, expected = math.inf, 0, 0
    for loss in losses:
        run = 0 if loss < best else run + 1
        best = min(best, loss)
        expected += run > 0 and run % patience == 0
    assert halvings(losses, patience)[-1] == expected


def test_plateau_schedule_halves_the_rate() -> None:
    train = Train(schedule="plateau", learning_rate=1e-3)
    assert [learning_rate(train, step=9, num_steps=10, num_halvings=n) for n in range(3)] == [1e-3, 5e-4, 2.5e-4]


def test_cosine_falls_from_the_full_rate_to_zero() -> None:
    train = Train(schedule="cosine", learning_rate=2.0)
    rates = [learning_rate(train, step=step, num_steps=100) for step in range(101)]
    assert rates[0] == 2.0
    assert rates[50] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0, abs=1e-15)
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "constant"])
def test_warm_up_rises_in_equal_steps_to_the_full_rate(schedule: str) -> None:
    train = Train.model_validate({"schedule": schedule, "learning_rate": 1.0, "warmup_steps": 4})
    rates = [learning_rate(train, step=step, num_steps=100) for step in range(5)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_constant_stays() -> None:
    train = Train(schedule="constant", learning_rate=0.5)
    assert {learning_rate(train, step=step, num_steps=9, num_halvings=3) for step in range(9)} == {0.5}
