"""A mixture after a history is separated as in a stream of both; frame norms do not age, cumulative ones do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.separation.ageing import HISTORIES, SILENCE, History, Stretch, separate_after
from pipeline.separation.streaming import stream
from tests.separation.networks import network

RANDOM = np.random.default_rng(0)
MIXTURES = [RANDOM.standard_normal(count).astype(np.float32) for count in (803, 400)]
OTHERS = [RANDOM.standard_normal(count).astype(np.float32) for count in (501, 700, 600)]


def after(stretches: tuple[Stretch, ...], **options: Any) -> list[NDArray[np.float32]]:
    forget_seconds = options.pop("forget_seconds", None)
    history = History("a history", stretches)
    return list(separate_after(network(**options), history, MIXTURES, OTHERS, forget_seconds=forget_seconds))


def deviation(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("forget_seconds", [None, 0.05])
def test_it_is_the_end_of_a_stream_through_both(forget_seconds: float | None) -> None:
    """Other mixtures end with the last of them, however much of them it is."""
    earlier = np.concatenate([OTHERS[2], *OTHERS, *OTHERS])[-round(0.3 * 8000) :]
    found = after((Stretch(0.3), Stretch(0.1, SILENCE), Stretch(0.05, 20.0)), forget_seconds=forget_seconds)
    for mixture, estimates in zip(MIXTURES, found, strict=True):
        live = stream(network(), forget_seconds=forget_seconds)
        parts = [earlier, np.zeros(800, np.float32), 10 * OTHERS[2][-400:], mixture]
        whole = np.concatenate([live.push(np.concatenate(parts).astype(np.float32)), live.finish()], axis=1)
        assert estimates.shape == (2, len(mixture))
        assert deviation(estimates, whole[:, -len(mixture) :]) <= 1e-5


def test_its_own_history_is_each_mixtures() -> None:
    found = after((Stretch(0.2, itself=True),))
    for mixture, estimates in zip(MIXTURES, found, strict=True):
        live = stream(network())
        whole = np.concatenate([live.push(np.tile(mixture, 6)[-1600 - len(mixture) :]), live.finish()], axis=1)
        assert deviation(estimates, whole[:, -len(mixture) :]) <= 1e-5


def test_only_cumulative_norms_remember_the_level_long_ago() -> None:
    loud = (Stretch(1, 40.0), Stretch(0.2))
    assert deviation(after(loud, norm="frame")[0], after((Stretch(0.2),), norm="frame")[0]) <= 1e-5
    aged, fresh = after(loud)[0], after((Stretch(0.2),))[0]
    assert deviation(aged, fresh) > 0.05
    window = {"forget_seconds": 0.01}
    assert deviation(after(loud, **window)[0], after((Stretch(0.2),), **window)[0]) < 0.1 * deviation(aged, fresh)


def test_a_network_that_cannot_stream_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot stream"):
        after((), causal=False)


def test_the_first_history_is_the_one_to_compare_with() -> None:
    assert HISTORIES[0].stretches == ()
    assert len({history.name for history in HISTORIES}) == len(HISTORIES)
