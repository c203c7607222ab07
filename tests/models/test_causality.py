"""How far networks look: exactly one encoder window when causal, and a test that would notice otherwise."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.models import ConvTasNet, build_model, causality, describe_model, look_ahead
from pipeline.models.conv_tasnet import DepthwiseConv
from pipeline.recipe.schema import Model

SMALL = {
    "num_filters": 12,
    "filter_length": 8,
    "bottleneck_channels": 6,
    "skip_channels": 5,
    "hidden_channels": 10,
    "blocks_per_repeat": 3,
    "num_repeats": 2,
}


def small(num_sources: int = 2, **changes: object) -> ConvTasNet:
    torch.manual_seed(0)
    return build_model(Model.model_validate({**SMALL, **changes}), num_sources=num_sources)


@pytest.mark.parametrize("norm", ["cumulative", "frame"])
@pytest.mark.parametrize("filter_length", [2, 8, 16])
def test_causal_networks_wait_for_the_encoder_window_only(norm: str, filter_length: int) -> None:
    assert look_ahead(small(causal=True, norm=norm, filter_length=filter_length)) == filter_length - 1


def test_negative_control_a_global_norm_sees_the_whole_signal() -> None:
    """Everything else causal: only the norm leaks, through one number per signal."""
    model = small(causal=True)
    leaking = small(causal=False)
    for mine, theirs in zip(model.separator.blocks, leaking.separator.blocks, strict=True):
        theirs.depthwise.padding = mine.depthwise.padding
    assert look_ahead(leaking) is None


@pytest.mark.parametrize("norm", ["cumulative", "frame"])
def test_the_proof_finds_no_change_before_the_encoder_window(norm: str) -> None:
    assert causality(small(causal=True, norm=norm)).largest_deviation < 1e-15


def test_negative_control_the_proof_sees_a_leak_too_small_to_hear() -> None:
    """One weight of one norm lets a millionth of the future's mean through: 120 dB below the signal, and still found."""
    model = small(causal=True)
    leaking = small(causal=True)
    leaking.separator.blocks[2].norm_1.register_forward_hook(lambda part, given, made: made + 1e-6 * made.mean(1, keepdim=True))
    assert causality(leaking).look_ahead_samples is None
    assert 1e-12 < causality(leaking).largest_deviation < 1e-4
    assert causality(model).largest_deviation < 1e-15
    assert causality(small()).largest_deviation > 1e-3


def test_the_deviation_is_that_of_two_runs_by_hand() -> None:
    """The control again, with plain tensors: the same network, the same signal, its last samples replaced."""
    model = small(causal=True).double()
    model.separator.blocks[0].depthwise.padding = (0, 2)
    signal = torch.randn(1, 400, dtype=torch.float64)
    changed = torch.cat([signal[:, :300], torch.randn(1, 100, dtype=torch.float64)], dim=1)
    with torch.inference_mode():
        before, after = model(signal), model(changed)
    assert (after - before)[..., : 300 - 7 - 8].abs().max() == 0
    assert (after - before)[..., : 300 - 7].abs().max() > 0
    assert causality(model).look_ahead_samples == 7 + 8
    assert causality(model).largest_deviation > 1e-6


def test_a_single_late_leak_is_found() -> None:
    """The deepest convolution of an otherwise causal network looks one dilation ahead."""
    model = small(causal=True)
    deepest = model.separator.blocks[-1].depthwise
    assert isinstance(deepest, DepthwiseConv)
    deepest.padding = (deepest.dilation, deepest.dilation)
    assert look_ahead(model) == 8 - 1 + 4 * deepest.dilation


@pytest.mark.parametrize("norm", ["cumulative", "frame"])
def test_centred_networks_look_half_their_receptive_field_ahead(norm: str) -> None:
    model = small(norm=norm)
    assert look_ahead(model) == (model.receptive_field_frames - 1) // 2 * 4 + 8 - 1


def test_the_gradient_agrees() -> None:
    """Output samples at the start of a hop are fed by inputs up to L - 1 later, and by none beyond."""
    model = small(causal=True).double()
    mixture = torch.randn(1, 200, dtype=torch.float64, requires_grad=True)
    model(mixture)[0, :, 100].sum().backward()
    assert mixture.grad is not None
    assert int(mixture.grad[0].nonzero().max()) == 100 + 8 - 1


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = small(causal=True)
    look_ahead(model)
    assert model.training
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("num_sources", [2, 3])
@pytest.mark.parametrize("causal", [False, True])
def test_multiply_accumulates_are_those_torch_counts(num_sources: int, causal: bool) -> None:
    model = small(num_sources=num_sources, causal=causal)
    seconds = 2
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(1, seconds * model.sample_rate))
    frames = seconds * model.sample_rate // 4 + 1
    depthwise = frames * sum(block.depthwise.taps.numel() for block in model.separator.blocks)  # not a product torch counts
    counted = (counter.get_total_flops() / 2 + depthwise) / seconds
    assert describe_model(model)["macs_per_second"] == pytest.approx(counted, rel=1e-3)


def test_the_papers_best_network() -> None:
    facts = describe_model(build_model(Model(causal=True)))
    assert facts["num_parameters"] == 4_984_881
    assert facts["receptive_field_seconds"] == pytest.approx(1.532)
    assert facts["latency_seconds"] == 0.002
    assert facts["norm"] == "cumulative"
    dead_residual = 512 * 128 * 1000  # 1,000 frames a second; published counts include it
    assert 4 * (facts["macs_per_second"] + dead_residual) == pytest.approx(19.9e9, rel=1e-3)
