"""Layer by layer, a network's estimates are those of the whole signal, whatever the norm and however long the chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.compute.scratch import Scratch
from pipeline.errors import ModelError
from pipeline.models import ConvTasNet
from pipeline.models.kernels import dispatch, library
from pipeline.models.kernels.cpu import HiddenInSteps
from pipeline.models.layerwise import Hidden, LayerByLayer, frame_statistics
from tests.networks import PRECISIONS, network

KINDS: list[dict[str, Any]] = [
    {"causal": False},
    {"causal": False, "norm": "cumulative", "mask": "softmax", "encoder": "relu"},
    {"causal": False, "norm": "frame", "mask": "relu"},
    {"causal": False, "kernel_size": 5, "filter_length": 2, "skip_channels": 3},
    {"causal": True},
    {"causal": True, "norm": "frame"},
]


def noise(num_samples: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Its level and offset change, so that statistics of a part are not those of the whole."""
    signal = torch.randn(num_samples, generator=torch.Generator().manual_seed(num_samples), dtype=torch.float64)
    return (signal * torch.linspace(0.01, 2, num_samples) + torch.linspace(0, 1, num_samples)).to(dtype)


def layer_by_layer(
    model: ConvTasNet, signal: Tensor, chunk_frames: int, folder: Path, shares: list[float] | None = None
) -> Tensor:
    dtype = signal.numpy().dtype
    with Scratch(folder, 1, dtype) as mixture, Scratch(folder, model.num_sources, dtype) as estimates:
        mixture.write(0, signal[:, None].numpy())
        LayerByLayer(model, len(signal), chunk_frames=chunk_frames)(mixture, estimates, ([] if shares is None else shares).append)
        return torch.from_numpy(estimates.read(0, len(signal))).T


def deviation(model: ConvTasNet, signal: Tensor, chunk_frames: int, folder: Path) -> float:
    with torch.inference_mode():
        expected = model(signal[None])[0]
    return float((layer_by_layer(model, signal, chunk_frames, folder) - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(("dtype", "limit"), PRECISIONS)
@pytest.mark.parametrize("changes", KINDS)
@given(num_samples=st.integers(1, 500), chunk_frames=st.integers(1, 60), num_sources=st.integers(1, 3))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_equals_the_whole(
    changes: dict[str, Any],
    dtype: torch.dtype,
    limit: float,
    num_samples: int,
    chunk_frames: int,
    num_sources: int,
    tmp_path: Path,
) -> None:
    """Also where chunks are shorter than what a convolution reaches."""
    model = network(dtype, num_sources, **changes)
    assert deviation(model, noise(num_samples, dtype), chunk_frames, tmp_path) <= limit


@pytest.mark.parametrize("changes", KINDS)
def test_without_kernels(changes: dict[str, Any], tmp_path: Path) -> None:
    with dispatch.definition_only():
        assert deviation(network(torch.float32, **changes), noise(803, torch.float32), 41, tmp_path) <= 1e-5


def test_an_offset_of_many_deviations_keeps_its_digits(tmp_path: Path) -> None:
    """The decoder sees it through the mask alone, but the first norm has to take it away."""
    model, signal = network(torch.float32, causal=False), 1e-3 * noise(803) + 1
    expected = model.double()(signal[None])[0]
    found = layer_by_layer(model.float(), signal.float(), 41, tmp_path)
    with torch.inference_mode():
        whole = model(signal[None].float())[0]
    scale = expected.abs().max()
    assert (found - expected).abs().max() / scale <= 2 * (whole - expected).abs().max() / scale + 1e-6


def test_with_the_statistics_of_a_part_it_would_differ(tmp_path: Path) -> None:
    """The negative control: a global norm, chunk by chunk."""
    model, signal = network(causal=False), noise(800)
    expected = layer_by_layer(model, signal, 1000, tmp_path)
    halves = [layer_by_layer(model, half, 1000, tmp_path) for half in signal.split(400)]
    assert (torch.cat(halves, dim=1) - expected).abs().max() > 1e-2 * expected.abs().max()


@pytest.mark.parametrize("changes", KINDS)
def test_progress_adds_up_and_nothing_stays_on_disk(changes: dict[str, Any], tmp_path: Path) -> None:
    shares: list[float] = []
    layer_by_layer(network(**changes), noise(403), 17, tmp_path, shares)
    assert sum(shares) == pytest.approx(1)
    assert list(tmp_path.iterdir()) == []


def test_the_disk_it_takes_is_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for changes in KINDS:
        written: dict[int, int] = {}
        real = Scratch.write

        def counted(self: Scratch, start: int, rows: Any, written: dict[int, int] = written, real: Any = real) -> None:
            written[id(self)] = max(written.get(id(self), 0), (start + len(rows)) * self.width * self.dtype.itemsize)
            real(self, start, rows)

        model, signal = network(torch.float32, **changes), noise(403, torch.float32)
        with monkeypatch.context() as patch:
            patch.setattr(Scratch, "write", counted)
            layer_by_layer(model, signal, 17, tmp_path)
        assert sum(written.values()) - 4 * 403 * 3 == LayerByLayer(model, 403).disk_bytes


def test_a_hook_that_would_be_skipped_is_refused() -> None:
    model = network(causal=False)
    model.separator.blocks[1].register_forward_hook(lambda *_: None)
    with pytest.raises(ModelError, match=r"separator\.blocks\.1 has a hook"):
        LayerByLayer(model, 100)


def test_a_block_in_compiled_steps_equals_its_definition() -> None:
    if library.load() is None:
        pytest.skip("there is no C++ compiler for the kernels")
    block, x = network(torch.float32, causal=False).separator.blocks[2], torch.randn(1, 50, 8)
    with torch.inference_mode():
        compiled, definition = dispatch.hidden_in_steps(block, x), Hidden(block, x)
        assert isinstance(compiled, HiddenInSteps)
        for found, expected in zip(compiled.first(), definition.first(), strict=True):
            torch.testing.assert_close(found, expected)
        one = torch.rand(2, 1, 50, 1, dtype=torch.float64).unbind()
        for found, expected in zip(compiled.convolve(one), definition.convolve(one), strict=True):  # type: ignore[arg-type]
            torch.testing.assert_close(found, expected)
        constant = torch.rand(2, 1, 1, 1, dtype=torch.float64).unbind()
        some = slice(7, 31)
        torch.testing.assert_close(compiled.normalise(constant, some), definition.normalise(constant, some))  # type: ignore[arg-type]


def test_the_statistics_of_frames() -> None:
    mean, variance = frame_statistics(torch.tensor([[[1.0, 3.0]]]))
    assert (mean.item(), variance.item()) == (2, 1)
