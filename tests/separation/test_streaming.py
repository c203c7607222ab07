"""A stream's estimates are the network's, however the signal is cut; what breaks that is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pipeline
from pipeline.errors import AudioError, ModelError
from pipeline.models import ConvTasNet
from pipeline.models.kernels import dispatch
from pipeline.models.streaming import StreamingConv
from pipeline.separation.streaming import Stream, stream
from tests import networks
from tests.networks import PRECISIONS

KINDS: list[dict[str, Any]] = [
    {},
    {"norm": "frame"},
    {"kernel_size": 2, "mask": "softmax", "encoder": "relu"},
    {"kernel_size": 1, "mask": "relu", "filter_length": 2},
]


def network(dtype: torch.dtype = torch.float64, num_sources: int = 2, **changes: Any) -> ConvTasNet:
    """Causal, unless the changes say otherwise."""
    return networks.network(dtype, num_sources, **{"causal": True, **changes})


def noise(num_samples: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(num_samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def in_chunks(signal: Tensor, *sizes: int) -> Iterator[Tensor]:
    """The signal cut into chunks of these sizes, again and again."""
    start, k = 0, 0
    while start < signal.shape[-1]:
        yield signal[..., start : start + sizes[k % len(sizes)]]
        start += sizes[k % len(sizes)]
        k += 1


def streamed(stream: Stream, signal: Tensor, *sizes: int) -> Tensor:
    return torch.cat([*map(stream.push, in_chunks(signal, *sizes)), stream.finish()], dim=-1)


@torch.no_grad()
def offline(model: ConvTasNet, signal: Tensor) -> Tensor:
    with dispatch.definition_only():
        estimates: Tensor = model(signal[None])[0]
    return estimates


def deviation(found: Tensor, expected: Tensor) -> float:
    """The largest, relative to the peak."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("changes", KINDS)
@given(num_samples=st.integers(1, 400), sizes=st.lists(st.integers(0, 50), min_size=1, max_size=5), num_sources=st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_any_length_in_any_chunks_equals_the_network(
    changes: dict[str, Any], dtype: torch.dtype, tolerance: float, num_samples: int, sizes: list[int], num_sources: int
) -> None:
    model = network(dtype, num_sources, **changes)
    signal = noise(num_samples, dtype)
    assert deviation(streamed(stream(model), signal, *sizes, 7), offline(model, signal)) <= tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("size", [1, 4, 5000])
def test_from_single_samples_to_the_whole(dtype: torch.dtype, tolerance: float, size: int) -> None:
    model, signal = network(dtype), noise(701, dtype)
    assert deviation(streamed(stream(model), signal, size), offline(model, signal)) <= tolerance


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_minutes_do_not_drift(dtype: torch.dtype, tolerance: float) -> None:
    """Three minutes with an offset and changes of level by 60 dB, longer than a float32 could count and sum."""
    model = network(dtype, filter_length=16, blocks_per_repeat=2, num_repeats=1)
    signal = noise(180 * 8000, dtype) + 0.3
    signal *= torch.tensor([1.0, 1e-3, 0.1, 1e-2, 1.0, 0.3], dtype=dtype).repeat_interleave(240_000)
    found, expected = streamed(stream(model), signal, 8001, 79, 40_000), offline(model, signal)
    for part in range(0, signal.shape[0], 240_000):  # the quiet parts by themselves
        assert deviation(found[:, part : part + 240_000], expected[:, part : part + 240_000]) <= tolerance


def test_silence_then_speech() -> None:
    model, signal = network(torch.float32), torch.cat([torch.zeros(501), noise(500, torch.float32)])
    assert deviation(streamed(stream(model), signal, 80), offline(model, signal)) <= 1e-5


def test_every_sample_comes_out_as_soon_as_it_is_final() -> None:
    model, signal = network(), noise(100)
    live = stream(model)
    assert live.latency_samples == 8
    num_out = 0
    for num_in, sample in enumerate(signal, start=1):
        num_out += live.push(sample[None]).shape[1]
        assert num_out == max(0, num_in // 4 * 4 - 4)
    assert num_out + live.finish().shape[1] == 100


def test_several_in_step() -> None:
    model = network()
    signals = torch.stack([noise(333, seed=k) for k in range(3)])
    found = streamed(stream(model, batch=3), signals, 10, 0, 31)
    for k in range(3):
        assert deviation(found[k], offline(model, signals[k])) <= 1e-12


def test_a_numpy_chunk_and_other_precisions_are_taken() -> None:
    model, signal = network(torch.float32), noise(100)
    live = stream(model)
    found = torch.cat([live.push(signal.numpy()), live.finish()], dim=1)
    assert found.dtype == torch.float32
    assert deviation(found, offline(model, signal.float())) <= 1e-5


@pytest.mark.parametrize("at", [0, 1, 30, 203])
def test_a_state_continues_in_another_stream(at: int) -> None:
    model, signal = network(), noise(400)
    first = stream(model)
    start = first.push(signal[:at])
    state = first.state_dict()
    assert all(type(each) is Tensor for each in state.values())
    first.push(signal[at:])  # the saved state is a copy
    second = stream(model)
    second.push(noise(50, seed=9))
    second.load_state_dict(state)
    found = torch.cat([start, streamed(second, signal[at:], 13)], dim=1)
    assert deviation(found, offline(model, signal)) <= 1e-12


def test_a_state_of_something_else_is_refused_and_changes_nothing() -> None:
    model, signal = network(), noise(400)
    live = stream(model)
    start = live.push(signal[:200])
    others = [
        stream(network(blocks_per_repeat=2)).state_dict(),
        stream(network(hidden_channels=21)).state_dict(),
        stream(model, batch=2).state_dict(),
        model.state_dict(),
    ]
    for other in others:
        with pytest.raises(ModelError, match="state of"):
            live.load_state_dict(other)
    assert deviation(torch.cat([start, live.push(signal[200:]), live.finish()], dim=1), offline(model, signal)) <= 1e-12


def test_a_stream_ends_and_starts_again() -> None:
    model, signal = network(), noise(60)
    live = stream(model)
    first = streamed(live, signal, 7)
    for late in (lambda: live.push(signal), live.finish):
        with pytest.raises(ModelError, match=r"finished.*reset\(\)"):
            late()
    live.reset()
    assert torch.equal(streamed(live, signal, 7), first)
    assert stream(model).finish().shape == (2, 0)


def test_the_networks_later_training_does_not_reach_a_stream() -> None:
    model, signal = network(), noise(60)
    live, expected = stream(model), offline(model, signal)
    with torch.no_grad():
        model.decoder.basis.weight.zero_()
    assert deviation(streamed(live, signal, 60), expected) <= 1e-12


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (np.zeros((1, 5)), r"must be \[time\]; this one is \[1, 5\]"),
        (np.zeros(5, np.int16), "floating point"),
        (np.array([0.0, np.nan]), "NaN"),
    ],
)
def test_a_chunk_that_cannot_be_taken_changes_nothing(chunk: np.ndarray, words: str) -> None:
    model, signal = network(), noise(50)
    live = stream(model)
    start = live.push(signal[:21])
    with pytest.raises(AudioError, match=words):
        live.push(chunk)
    with pytest.raises(AudioError, match=r"\[2, time\]"):
        stream(model, batch=2).push(np.zeros((3, 5)))
    assert deviation(torch.cat([start, live.push(signal[21:]), live.finish()], dim=1), offline(model, signal)) <= 1e-12


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"causal": False}, "convolutions look 14 frames ahead, and its global layer norm"),
        ({"causal": False, "norm": "cumulative"}, "convolutions look 14 frames ahead; train"),
        ({"causal": False, "kernel_size": 1}, "global layer norm needs the whole signal; train one with causal = true"),
    ],
)
def test_a_network_that_needs_the_future_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=f"^this network cannot stream: its .*{reason}") as caught:
        stream(network(**changes))
    assert "\n" not in str(caught.value)


def test_a_hook_that_would_be_skipped_is_refused() -> None:
    model = network()
    model.separator.blocks[1].depthwise.register_forward_hook(lambda *_: None)  # type: ignore[union-attr, operator]
    with pytest.raises(ModelError, match=r"separator\.blocks\.1\.depthwise has a hook"):
        stream(model)


# ---------------------------------------------------------------------------------------------------------------- forgetting
def remembered_after(seconds: float | None) -> float:
    """How much a loud first half second still changes the estimates of a later one."""
    model = network(torch.float64, norm="cumulative")
    loud, other = 10 * noise(4000, seed=1), noise(4000, seed=2)
    later = noise(4000, seed=3)
    outcomes = [
        streamed(stream(model, forget_seconds=seconds), torch.cat([past, later]), 1000)[:, -400:] for past in (loud, other)
    ]
    return deviation(outcomes[0], outcomes[1])


def test_a_forgetting_window_lets_the_past_go() -> None:
    assert remembered_after(0.02) < 1e-3 < 1e-2 < remembered_after(None)


def test_forgetting_does_not_depend_on_the_chunks() -> None:
    model, signal = network(filter_length=2), noise(3000)
    whole = streamed(stream(model, forget_seconds=0.01), signal, 3000)
    assert deviation(streamed(stream(model, forget_seconds=0.01), signal, 1, 8, 30), whole) <= 1e-12
    assert deviation(whole, offline(model, signal)) > 1e-3
    nearly_never = streamed(stream(model, forget_seconds=1e9), signal, 100)
    assert deviation(nearly_never, offline(model, signal)) <= 1e-6


def test_what_cannot_be_forgotten() -> None:
    with pytest.raises(ModelError, match="no cumulative layer norm"):
        stream(network(norm="frame"), forget_seconds=1.0)
    for seconds in (0.0, -1.0, 0.0005, float("nan")):
        with pytest.raises(ModelError, match="at least 2"):
            stream(network(), forget_seconds=seconds)


# --------------------------------------------------------------------------------------------------------- negative controls
def one_sample_dropped(signal: Tensor) -> Tensor:
    return torch.cat([signal[:100], signal[101:], signal[-1:]])


def one_sample_changed(signal: Tensor) -> Tensor:
    return torch.cat([signal[:100], signal[100:101] + 1e-6, signal[101:]])


@pytest.mark.parametrize("change", [one_sample_dropped, one_sample_changed])
def test_the_equality_notices_a_changed_input(change: Callable[[Tensor], Tensor]) -> None:
    model, signal = network(), noise(400)
    assert deviation(streamed(stream(model), change(signal), 10), offline(model, signal)) > 1e-8


def test_the_equality_notices_a_context_that_is_a_frame_off(monkeypatch: pytest.MonkeyPatch) -> None:
    original = StreamingConv.forward

    def broken(self: StreamingConv, x: Tensor) -> Tensor:
        y = original(self, x)
        self.memory = self.memory.roll(1, 1)
        return y

    model, signal = network(), noise(400)
    monkeypatch.setattr(StreamingConv, "forward", broken)
    with dispatch.definition_only():
        assert deviation(streamed(stream(model), signal, 10), offline(model, signal)) > 1e-3


def test_the_equality_notices_a_count_that_starts_again() -> None:
    model, signal = network(), noise(400)
    live = stream(model)
    start = live.push(signal[:200])
    live.load_state_dict(live.state_dict() | {"network.num_frames": torch.tensor(1)})
    assert deviation(torch.cat([start, live.push(signal[200:]), live.finish()], dim=1), offline(model, signal)) > 1e-3


def test_the_public_name() -> None:
    assert pipeline.stream is stream
