"""Latency measured on systems whose look-ahead is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import ModelError
from pipeline.models import look_ahead
from pipeline.separation import separate
from pipeline.separation.latency import Latency, System, measure_latency
from tests.separation.networks import network

RATE = 1000


def identity(mixture: Tensor) -> Tensor:
    return torch.stack([mixture, 0.5 * mixture])


def late(by: int) -> System:
    return lambda mixture: functional.pad(mixture, (by, 0))[None, : len(mixture)]


def fir(*future: float) -> System:
    """The sample itself, and future ones with these weights."""

    def system(mixture: Tensor) -> Tensor:
        padded = functional.pad(mixture, (0, len(future)))
        parts = [weight * padded[k : k + len(mixture)] for k, weight in enumerate((1.0, *future))]
        return torch.stack(parts).sum(0)[None]

    return system


def in_blocks(size: int, inner: System = identity) -> System:
    """Every block is scaled by its own level."""

    def system(mixture: Tensor) -> Tensor:
        blocks = inner(mixture)[0].split(size)
        return torch.cat([block / block.square().mean().sqrt() for block in blocks])[None]

    return system


def to_peak(inner: System = identity) -> System:
    """The file's largest sample becomes 0.9: the future gets in as a gain."""
    return lambda mixture: 0.9 * inner(mixture) / inner(mixture).abs().amax()


def without_mean(mixture: Tensor) -> Tensor:
    return (mixture - (mixture + mixture.square()).mean())[None]


def standardised_then_bent(mixture: Tensor) -> Tensor:
    """A level of the whole file, but before something that is not linear: no common factor undoes it."""
    return torch.tanh(mixture / mixture.std())[None]


def following_gain(mixture: Tensor) -> Tensor:
    """A gain from the past only."""
    return (mixture / (0.01 + mixture.abs().cummax(0).values))[None]


def in_16_bits(inner: System) -> System:
    return lambda mixture: (inner(mixture) * 2**15).round() / 2**15


def measured(system: System, **options: Any) -> Latency:
    return measure_latency(system, RATE, **options)


@pytest.mark.parametrize(
    ("system", "ahead", "block", "leaks"),
    [
        (identity, 0, 1, False),
        (late(7), -7, 1, False),
        (fir(0.5, 0.0, 0.1), 3, 1, False),
        (fir(*[0.0] * 99, 1e-4), 100, 1, False),
        (in_blocks(10), 9, 10, False),
        (in_blocks(64, fir(0.5, 0.5)), 65, 64, False),
        (in_blocks(300), 299, 300, False),
        (following_gain, 0, 1, False),
        (to_peak(), 0, 1, True),
        (to_peak(fir(0.0, 0.3)), 2, 1, True),
        (to_peak(late(3)), -3, 1, True),
        (without_mean, 0, 1, True),
        (in_16_bits(to_peak(fir(0.5))), 1, 1, True),
        (in_16_bits(fir(0.5)), 1, 1, False),
    ],
)
def test_systems_of_known_look_ahead(system: System, ahead: int, block: int, leaks: bool) -> None:
    found = measured(system)
    assert (found.look_ahead_samples, found.block_samples, found.whole_file_gain_db is not None) == (ahead, block, leaks)
    assert found.look_ahead_ms == pytest.approx(1000 * ahead / RATE)
    assert found.largest_rest <= found.threshold < found.smallest_change


@pytest.mark.parametrize("system", [standardised_then_bent, lambda mixture: mixture.flip(0)[None], in_blocks(1500)])
def test_systems_that_need_the_whole_signal(system: System) -> None:
    found = measured(system)
    assert (found.look_ahead_samples, found.look_ahead_ms, found.whole_file_gain_db) == (None, None, None)


def test_the_gain_of_a_leak_is_the_one_there_was() -> None:
    """The future is louder by 6 dB at least, so the normalised past gets that much quieter."""
    gain = measured(to_peak()).whole_file_gain_db
    assert gain is not None
    assert 3 < gain < 12


# ------------------------------------------------------------------------------------------------------------ our networks
def of_model(**changes: Any) -> System:
    model = network(**changes).double().requires_grad_(False)
    return lambda mixture: model(mixture[None])[0]


@pytest.mark.parametrize(
    "changes",
    [{}, {"norm": "frame", "filter_length": 16}, {"causal": False, "norm": "frame"}, {"causal": False, "norm": "cumulative"}],
)
def test_our_networks_look_as_far_as_the_report_says(changes: dict[str, Any]) -> None:
    """The report's proof tries every position within a hop that it knows; this one knows nothing."""
    found = measured(of_model(**changes), threshold=1e-10)
    assert found.look_ahead_samples == look_ahead(network(**changes))
    assert found.block_samples == network(**changes).hop_samples
    if network(**changes).causal:
        assert found.look_ahead_samples == network(**changes).settings.filter_length - 1
        assert found.largest_rest < 1e-14


def test_what_separate_returns_takes_only_its_level_from_the_future() -> None:
    """It fits the estimates of the whole file to the mixture."""
    model = network()
    found = measure_latency(lambda mixture: torch.from_numpy(separate(model, mixture, sample_rate=8000)), 8000, num_samples=4000)
    assert (found.look_ahead_samples, found.block_samples) == (7, 4)
    assert found.whole_file_gain_db is not None
    assert found.whole_file_gain_db > 0.01


def test_a_global_norm_is_no_mere_gain() -> None:
    found = measured(of_model(causal=False), threshold=1e-10)
    assert (found.look_ahead_samples, found.whole_file_gain_db) == (None, None)


# -------------------------------------------------------------------------------------------------------------- randomness
def noisy(level: float) -> System:
    generator = torch.Generator().manual_seed(0)
    return lambda mixture: fir(0.5, 0.5)(mixture) + level * torch.randn(len(mixture), dtype=torch.float64, generator=generator)


def test_the_threshold_follows_the_noise_of_the_system() -> None:
    found = measured(noisy(1e-5))
    assert found.look_ahead_samples == 2
    assert 1e-4 < found.noise < 1e-3
    assert found.threshold == pytest.approx(4 * found.noise, rel=0.5)


@pytest.mark.parametrize(
    ("system", "message"),
    [
        (noisy(0.1), "the system is random; fix its seed"),
        (lambda mixture: torch.ones(1, len(mixture)), "no output changes"),
        (lambda mixture: torch.zeros(1, len(mixture)), "silent or empty"),
        (lambda mixture: mixture[None] / 0 * 0, "not numbers"),
        (late(2800), "no output changes"),
    ],
)
def test_what_cannot_be_measured_is_said(system: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        measured(system)
