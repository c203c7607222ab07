"""The CUDA path, without a CUDA device: fake tensors carry device and dtype through forward, autocast and loss.

The backward pass is left out: torch's engine asks the driver for a stream before it runs one.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.losses import pit_loss
from pipeline.models import build_model
from pipeline.recipe import Model


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("num_sources", [2, 3])
@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_step_stays_on_the_device(
    causal: bool, num_sources: int, with_lengths: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tensor made on the host by mistake, or a wait for the device's values, would raise here."""
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *_: True)
    settings = Model(
        causal=causal, num_filters=16, hidden_channels=8, bottleneck_channels=4, skip_channels=4, blocks_per_repeat=2
    )
    with FakeTensorMode(allow_non_fake_inputs=False):
        with torch.device("cuda"):
            model = build_model(settings, num_sources=num_sources)
            sources = torch.empty(2, num_sources, 1000)
            lengths = torch.empty(2, dtype=torch.int64) if with_lengths else None
        with torch.autocast("cuda", dtype):
            estimates = model(sources.sum(1))
            loss, permutation = pit_loss(estimates, sources, lengths)
        assert (estimates.device.type, estimates.dtype, estimates.shape) == ("cuda", torch.float32, (2, num_sources, 1000))
        assert (loss.device.type, loss.dtype, permutation.device.type) == ("cuda", torch.float32, "cuda")


def test_negative_control_a_host_tensor_is_noticed() -> None:
    with FakeTensorMode(), pytest.raises(RuntimeError, match="device"):
        torch.empty(2, device="cuda") + torch.empty(2)
