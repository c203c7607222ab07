"""The CUDA path, without a CUDA device: fake tensors carry device and dtype through forward, autocast and loss.

The backward pass is left out: torch's engine asks the driver for a stream before it runs one.
"""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.models import build_model
from pipeline.models.kernels import dispatch
from pipeline.recipe.presets import PRESETS
from pipeline.recipe.schema import Model, System, Train
from pipeline.training.losses import pit_loss
from pipeline.training.optimisers import Optimiser


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


@pytest.mark.parametrize("norm", ["global", "cumulative"])
def test_padded_mixtures_are_validated_by_the_kernels(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kernels for a network of one block, and nothing of them on the host."""
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(dispatch, "available", lambda device: True)
    monkeypatch.setattr(dispatch, "_suits", lambda x: True)  # a fake tensor is not a plain one
    monkeypatch.setattr(dispatch, "_fit", lambda *_: True)
    settings = Model(norm=norm, num_filters=16, hidden_channels=8, bottleneck_channels=4, skip_channels=4, blocks_per_repeat=1,
                     num_repeats=1)  # fmt: skip
    called: list[str] = []
    with FakeTensorMode(allow_non_fake_inputs=False), Noted(called):
        with torch.device("cuda"):
            model = build_model(settings)
            sources, lengths = torch.empty(3, 2, 1000), torch.empty(3, dtype=torch.int64)
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            estimates = model(sources.sum(1), lengths)
        assert pit_loss(estimates, sources, lengths)[0].device.type == "cuda"
    assert [name for name in called if "tasnet" in name] == ["tasnet.normalised_of_padded", "tasnet.hidden_of_padded"]


class Noted(TorchDispatchMode):
    """Notes the operators that are called."""

    def __init__(self, called: list[str]) -> None:
        super().__init__()
        self.called = called

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.called.append(str(func).removesuffix(".default"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_optimiser_stays_on_the_device(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows the backward pass: clipping, and the one or two optimisers."""
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *_: (9, 0))
    sizes = {
        "num_filters": 64,
        "hidden_channels": 8,
        "bottleneck_channels": 4,
        "skip_channels": 4,
        "blocks_per_repeat": 2,
    }
    system = System(
        model=Model.model_validate({**PRESETS[preset]["model"], **sizes}),
        train=Train.model_validate(PRESETS[preset]["train"]),
    )
    with FakeTensorMode(allow_non_fake_inputs=False):
        with torch.device("cuda"):
            model = build_model(system.model)
        optimiser = Optimiser(model, system.train)
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.set_learning_rate(1e-4)
        optimiser.step(1 - norm.isfinite().float())
        optimiser.zero_grad()
        assert norm.device.type == "cuda"
        state = optimiser.state_dict()
        moments = [value for part in state.values() for each in part["state"].values() for value in each.values()]
        assert {value.device.type for value in moments if isinstance(value, torch.Tensor) and value.ndim} == {"cuda"}


def test_negative_control_a_host_tensor_is_noticed() -> None:
    with FakeTensorMode(), pytest.raises(RuntimeError, match="device"):
        torch.empty(2, device="cuda") + torch.empty(2)
