"""The fast path of a CPU equals the readable definition, forward and in every gradient, in pieces and at the edges."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.models import build_model
from pipeline.models.conv_tasnet import Block, ConvTasNet
from pipeline.models.kernels import cpu as kernels
from pipeline.models.norms import NORMS
from pipeline.recipe.schema import Model
from pipeline.training.losses import pit_loss

pytestmark = pytest.mark.skipif(kernels.library() is None, reason="there is no C++ compiler for the kernels")

SIZES = {"num_filters": 16, "filter_length": 8, "bottleneck_channels": 12, "skip_channels": 8, "hidden_channels": 37}
CASES = [{}, {"causal": True}, {"causal": True, "norm": "frame"}, {"norm": "cumulative"}, {"causal": True, "kernel_size": 2}]


def block(dilation: int = 4, *, with_residual: bool = True, **changes: object) -> Block:
    torch.manual_seed(0)
    made = Block(Model.model_validate({**SIZES, **changes}), dilation, with_residual=with_residual)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def outcome(made: Block, x: Tensor) -> dict[str, Tensor]:
    """Output and all gradients."""
    made.zero_grad()
    x = x.clone().requires_grad_()
    y = torch.cat(made(x), dim=-1)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).cos().reshape(y.shape)
    (y * weights).sum().backward()
    assert x.grad is not None
    return {"y": y.detach(), "x": x.grad} | {name: p.grad for name, p in made.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("changes", CASES)
@given(frames=st.integers(1, 600), dilation=st.sampled_from([1, 2, 16, 128]), batch=st.integers(1, 3))
@settings(max_examples=8, deadline=None)
def test_equals_the_definition(changes: dict[str, object], frames: int, dilation: int, batch: int) -> None:
    made = block(dilation, **changes)
    x = torch.randn(batch, frames, 12, generator=torch.Generator().manual_seed(frames))
    assert kernels.usable(x)
    fast = outcome(made, x)
    with kernels.disabled():
        plain = outcome(made, x)
    for name, expected in plain.items():
        # The slopes' gradients are sums of both signs over all channels and frames, and small against their terms.
        tolerance = 1e-3 if "slope" in name else 1e-5
        scale = expected.abs().max().clamp_min(1e-3)
        assert (fast[name] - expected).abs().max() <= tolerance * scale, name


@pytest.mark.parametrize("kind", NORMS)
@given(frames=st.integers(1, 600), channels=st.integers(8, 80), batch=st.integers(1, 3), level=st.sampled_from([1.0, 1e-3, 1e3]))
@settings(max_examples=8, deadline=None)
def test_a_norm_by_itself_equals_the_definition(kind: str, frames: int, channels: int, batch: int, level: float) -> None:
    torch.manual_seed(frames)
    norm = NORMS[kind](channels, eps=1e-20)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_()
    x = (level * (torch.randn(batch, frames, channels) + 3)).requires_grad_()
    factors = torch.randn(batch, frames, channels)
    fast, plain = (
        [y, *torch.autograd.grad((y * factors).sum(), [x, norm.weight, norm.bias])]
        for y in (kernels.normalised(norm, x), norm(x))
    )
    for mine, expected in zip(fast, plain, strict=True):
        assert (mine - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_every_gradient_in_float32_is_as_near_the_truth_as_the_definitions() -> None:
    made, x = block(causal=True), torch.randn(2, 700, 12)
    fast = outcome(made, x)
    truth = outcome(made.double(), x.double())
    for name, expected in truth.items():
        assert (fast[name].double() - expected).abs().max() <= 2e-4 * expected.abs().max(), name


@pytest.mark.parametrize("changes", [{}, {"causal": True}, {"causal": True, "norm": "frame"}])
def test_offset_of_ten_thousand_deviations(changes: dict[str, object]) -> None:
    """A float32 near 1000 is only known to 6e-5, 6e-4 of the deviations here, whoever computes with it."""
    made, x = block(hidden_channels=512, **changes), torch.randn(2, 300, 12)
    with torch.no_grad():
        made.expand.bias.fill_(1000.0)
        made.expand.weight.mul_(0.1 / made.expand.weight.norm(dim=1, keepdim=True))
        fast = torch.cat(made(x), dim=-1)
        truth = torch.cat(made.double()(x.double()), dim=-1)
    assert (fast.double() - truth).abs().max() < 2e-3 * truth.abs().max()


def training_step(model: ConvTasNet, mixture: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        estimates = model(mixture)
    pit_loss(estimates, sources)[0].backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return estimates.detach(), gradient


@pytest.mark.parametrize("causal", [False, True])
def test_under_autocast_it_is_as_near_as_rounding_allows(causal: bool) -> None:
    torch.manual_seed(0)
    model = build_model(Model.model_validate({**SIZES, "causal": causal, "blocks_per_repeat": 3, "num_repeats": 2}))
    sources = torch.randn(2, 2, 2000)
    fast = training_step(model, sources.sum(1), sources)
    with kernels.disabled():
        plain = training_step(model, sources.sum(1), sources)
    for mine, other in zip(fast, plain, strict=True):
        assert torch.nn.functional.cosine_similarity(mine.flatten(), other.flatten(), dim=0) > 0.998


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch, num_threads: int) -> None:
    made = block()
    y = torch.randn(3, 700, 37, requires_grad=True)
    monkeypatch.setattr(kernels.functional, "linear", lambda *_: y)  # matrix products may differ with the threads
    before = torch.get_num_threads()
    expected = _hidden_outcome(made, y)
    try:
        torch.set_num_threads(num_threads)
        found = _hidden_outcome(made, y)
    finally:
        torch.set_num_threads(before)
    for mine, other in zip(found, expected, strict=True):
        assert torch.equal(mine, other)


def _hidden_outcome(made: Block, y: Tensor) -> list[Tensor]:
    hidden = kernels.hidden(made, y)
    parameters = [made.expand.bias, made.depthwise.taps, made.norm_1.weight, made.activation_1.slope, made.activation_2.slope]
    return [hidden, *torch.autograd.grad(hidden.square().sum(), [y, *parameters])]


def test_not_a_number_stays_not_a_number() -> None:
    made, x = block(), torch.randn(1, 50, 12)
    x[0, 10, 3] = float("nan")
    with torch.autocast("cpu", torch.bfloat16):
        residual, _ = made(x)
    assert residual.isnan().all()


def test_where_it_does_not_apply() -> None:
    x = torch.randn(1, 5, 12)
    assert not kernels.usable(x.double())
    assert not kernels.usable(x.to("meta"))
    with kernels.disabled():
        assert not kernels.usable(x)
    with torch.autocast("cpu", torch.float16):
        assert not kernels.usable(x)
    assert kernels.usable(x)


def test_the_backward_pass_runs_once() -> None:
    y = block()(torch.randn(1, 9, 12))[1].sum()
    y.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        y.backward()


def test_without_a_compiler_the_definition_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "library", lambda: None)
    x = torch.randn(1, 30, 12)
    assert not kernels.usable(x)
    assert block()(x)[1].isfinite().all()


def test_a_failed_build_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.shutil, "which", lambda _: None)
    assert kernels.library.__wrapped__() is None
