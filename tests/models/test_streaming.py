"""The compiled stream equals its definition, remembers the same, and leaves what it cannot do to it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.models import ConvTasNet, build_model
from pipeline.models.kernels import dispatch, library
from pipeline.models.kernels.streaming import CompiledStreaming
from pipeline.models.protocol import Streaming
from pipeline.models.streaming import StreamingCopy
from tests.networks import unlike_new

SIZES: dict[str, Any] = {
    "causal": True, "num_filters": 36, "filter_length": 8, "bottleneck_channels": 20, "skip_channels": 17, "hidden_channels": 70,
    "blocks_per_repeat": 3, "num_repeats": 2,
}  # fmt: skip
KINDS: list[dict[str, Any]] = [
    {},
    {"norm": "frame", "mask": "relu", "encoder": "relu"},
    {"mask": "softmax", "kernel_size": 2, "filter_length": 2},
    {"kernel_size": 1, "blocks_per_repeat": 7, "num_repeats": 1},
    {"blocks_per_repeat": 8, "num_repeats": 1},
]


@pytest.fixture(autouse=True)
def _kernels() -> None:
    if library.load() is None:
        pytest.skip("there is no C++ compiler for the kernels")


def network(num_sources: int = 2, **changes: Any) -> ConvTasNet:
    torch.manual_seed(0)
    return unlike_new(build_model(**{**SIZES, **changes}, num_sources=num_sources)).eval()


def signals(batch: int, num_hops: int, hop: int) -> Tensor:
    return torch.randn(batch, num_hops * hop, generator=torch.Generator().manual_seed(num_hops))


def streamed(streaming: Streaming, signal: Tensor, sizes: list[int], hop: int) -> Tensor:
    """Through a streaming network in pieces of so many hops, again and again."""
    pieces, start = [], 0
    while start < signal.shape[1]:
        stop = start + hop * sizes[len(pieces) % len(sizes)]
        pieces.append(streaming(signal[:, start:stop].contiguous()))
        start = stop
    return torch.cat(pieces, dim=-1)


def truth(model: ConvTasNet, signal: Tensor, sizes: list[int], **options: Any) -> Tensor:
    """Of the definition in float64."""
    found = StreamingCopy(model.double(), len(signal), **options)
    model.float()
    with torch.no_grad():
        return streamed(found, signal.double(), sizes, model.hop_samples)


def deviation(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("changes", KINDS)
@given(
    batch=st.integers(1, 3),
    num_sources=st.integers(1, 3),
    num_hops=st.integers(1, 300),
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=4),
    forget_frames=st.sampled_from([None, 20.0]),
)
@settings(max_examples=8, deadline=None)
def test_it_equals_the_definition(
    changes: dict[str, Any], batch: int, num_sources: int, num_hops: int, sizes: list[int], forget_frames: float | None
) -> None:
    model = network(num_sources, **changes)
    options: dict[str, Any] = {} if changes.get("norm") else {"forget_frames": forget_frames}
    signal = signals(batch, num_hops, model.hop_samples)
    compiled = model.streaming(batch, **options)
    assert isinstance(compiled, CompiledStreaming)
    found = streamed(compiled, signal, sizes, model.hop_samples)
    assert deviation(found, truth(model, signal, [num_hops], **options)) <= 1e-5


@pytest.mark.parametrize("num_threads", [1, 2, 3, 7])
def test_threads_do_not_change_a_bit(num_threads: int) -> None:
    model, signal = network(), signals(5, 40, 4)
    expected = torch.cat([streamed(model.streaming(), each[None], [7], 4) for each in signal])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(num_threads)
        found = streamed(model.streaming(5), signal, [7], 4)
    finally:
        torch.set_num_threads(before)
    assert deviation(found, expected.double()) <= 1e-6


@pytest.mark.parametrize("at", [1, 3, 40, 300])
def test_what_it_remembers_is_what_the_definition_remembers(at: int) -> None:
    model, signal = network(blocks_per_repeat=5), signals(2, 400, 4)
    expected = truth(model, signal, [400])
    compiled, definition = model.streaming(2), StreamingCopy(model, 2)
    for first, second in ((compiled, definition), (definition, compiled)):
        start = first(signal[:, : 4 * at])
        memory = first.memory()
        second(signal[:, :100])
        second.restore(memory)
        for name, each in second.memory().items():
            assert torch.equal(each, memory[name]), name
        rest = second(signal[:, 4 * at :])
        assert deviation(torch.cat([start, rest], dim=-1), expected) <= 1e-5
        first.restore({name: torch.zeros_like(each) for name, each in memory.items()})
        second.restore({name: torch.zeros_like(each) for name, each in memory.items()})


def test_rounded_matrices_are_those_of_the_definition() -> None:
    model, signal = network(), signals(1, 200, 4)
    rounded = model.streaming(rounded=True)
    assert isinstance(rounded, CompiledStreaming)
    found = streamed(rounded, signal, [10], 4)
    assert deviation(found, truth(model, signal, [200], rounded=True)) <= 1e-5
    assert 1e-5 < deviation(found, truth(model, signal, [200])) < 0.05


def test_levels_from_silence_to_full_scale() -> None:
    model, signal = network(), signals(1, 300, 4)
    signal[:, :400] = 0
    signal[:, 400:800] *= 1e-4
    signal[:, 800:] *= 1e3
    found, expected = streamed(model.streaming(), signal, [10], 4), truth(model, signal, [300])
    assert deviation(found[..., :800], expected[..., :800]) <= 1e-5
    assert deviation(found, expected) <= 1e-5


# -------------------------------------------------------------------------------------------- what is left to the definition
def hooked(model: ConvTasNet) -> None:
    model.separator.bottleneck.register_forward_hook(lambda *_: None)


def patched(model: ConvTasNet) -> None:
    model.separator.output.forward = lambda x: 0 * nn.Linear.forward(model.separator.output, x)  # type: ignore[method-assign]


def replaced(model: ConvTasNet) -> None:
    model.separator.bottleneck = nn.Sequential(model.separator.bottleneck, nn.Tanh())  # type: ignore[assignment]


def double(model: ConvTasNet) -> None:
    model.double()


def many_taps(model: ConvTasNet) -> None:
    model.__dict__.update(network(kernel_size=17).__dict__)


@pytest.mark.parametrize("change", [hooked, patched, replaced, double, many_taps])
def test_a_changed_network_streams_as_it_is(change: Callable[[ConvTasNet], None]) -> None:
    model = network()
    change(model)
    streaming = model.streaming()
    assert isinstance(streaming, StreamingCopy)
    signal = signals(1, 60, 4).to(next(model.parameters()).dtype)
    with torch.no_grad():
        found, expected = streamed(streaming, signal, [7], 4), model(signal)
    assert (found[..., 4:] - expected[..., :-4]).abs().max() <= 1e-5 * expected.abs().max().clamp_min(1e-3)


def test_no_compiler_and_comparisons_use_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    assert isinstance(model.streaming(), CompiledStreaming)
    with dispatch.definition_only():
        assert isinstance(model.streaming(), StreamingCopy)
    with torch.autocast("cpu", torch.bfloat16):
        assert isinstance(model.streaming(), StreamingCopy)
    monkeypatch.setattr(library, "load", lambda: None)
    assert isinstance(model.streaming(), StreamingCopy)


# --------------------------------------------------------------------------------------------------------- negative controls
def other_taps(model: ConvTasNet) -> None:
    model.separator.blocks[3].depthwise.taps[0] += 1e-3  # type: ignore[union-attr, operator, index]


def other_last_channel(model: ConvTasNet) -> None:
    model.separator.output.weight[-1] += 1e-2


@pytest.mark.parametrize("change", [other_taps, other_last_channel])
def test_the_bound_notices_a_small_change_of_a_weight(change: Callable[[ConvTasNet], None]) -> None:
    model, signal = network(), signals(1, 200, 4)
    wrong = copy.deepcopy(model)
    with torch.no_grad():
        change(wrong)
    assert deviation(streamed(wrong.streaming(), signal, [10], 4), truth(model, signal, [200])) > 1e-5


def test_the_bound_notices_a_ring_that_is_a_frame_off() -> None:
    model, signal = network(), signals(1, 200, 4)
    compiled = model.streaming()
    assert isinstance(compiled, CompiledStreaming)
    start = compiled(signal[:, :400].contiguous())
    compiled._memory["separator.blocks.1.depthwise.memory"].copy_(
        compiled._memory["separator.blocks.1.depthwise.memory"].roll(1, 1)
    )
    found = torch.cat([start, compiled(signal[:, 400:].contiguous())], dim=-1)
    assert deviation(found, truth(model, signal, [200])) > 1e-4
