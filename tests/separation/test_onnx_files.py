"""The exported step as an engine of streams."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.errors import CheckpointError, ModelError
from pipeline.separation.onnx_files import OnnxStreaming, open_session
from tests.separation.networks import network


@pytest.mark.parametrize("batch", [1, 3])
def test_it_streams_as_the_network_does(batch: int) -> None:
    model, signal = network(), torch.randn(batch, 4 * 60, generator=torch.Generator().manual_seed(0))
    streaming = OnnxStreaming(model, batch, num_threads=1)
    found = torch.cat([streaming(piece) for piece in signal.split([4, 40, 196], dim=1)], dim=-1)
    expected = model(signal).detach()
    assert (found[..., 4:] - expected[..., :-4]).abs().max() <= 1e-5 * expected.abs().max()


def test_it_goes_on_from_a_copy_of_its_state() -> None:
    streaming, signal = OnnxStreaming(network(), num_threads=1), torch.randn(1, 80)
    streaming(signal)
    memory = streaming.memory()
    first = streaming(signal)
    assert not torch.equal(streaming(signal), first)
    streaming.restore(memory)
    assert torch.equal(streaming(signal), first)


def test_what_cannot_stream_or_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot stream"):
        OnnxStreaming(network(causal=False))
    with pytest.raises(CheckpointError, match="no such file"):
        open_session(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no graph", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"text\.onnx: onnxruntime cannot run it"):
        open_session(tmp_path / "text.onnx")
