"""The kernels of a CPU equal the readable definition, forward and in every gradient, in pieces and at the edges."""

import copy
import functools
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.files import cache_folder
from pipeline.models import ConvTasNet, build_model
from pipeline.models.conv_tasnet import Block
from pipeline.models.kernels import cpu, dispatch, library, ops
from pipeline.models.norms import NORMS
from pipeline.recipe.schema import Model
from pipeline.training.losses import pit_loss
from tests.networks import unlike_new

pytestmark = pytest.mark.skipif(library.load() is None, reason="there is no C++ compiler for the kernels")

SIZES = {"num_filters": 16, "filter_length": 8, "bottleneck_channels": 12, "skip_channels": 8, "hidden_channels": 37}
CASES = [{}, {"causal": True}, {"causal": True, "norm": "frame"}, {"norm": "cumulative"}, {"causal": True, "kernel_size": 2}]


def new_block(dilation: int = 4, *, with_residual: bool = True, **changes: object) -> Block:
    torch.manual_seed(0)
    return unlike_new(Block(Model.model_validate({**SIZES, **changes}), dilation, with_residual=with_residual))


def outcome(block: Block, x: Tensor) -> dict[str, Tensor]:
    """Output and all gradients."""
    block.zero_grad()
    x = x.clone().requires_grad_()
    y = torch.cat(block(x), dim=-1)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).cos().reshape(y.shape)
    (y * weights).sum().backward()
    assert x.grad is not None
    return {"y": y.detach(), "x": x.grad} | {name: p.grad for name, p in block.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("changes", CASES)
@given(frames=st.integers(1, 600), dilation=st.sampled_from([1, 2, 16, 128]), batch=st.integers(1, 3))
@settings(max_examples=8, deadline=None)
def test_a_block_equals_the_definition(changes: dict[str, object], frames: int, dilation: int, batch: int) -> None:
    block = new_block(dilation, **changes)
    x = torch.randn(batch, frames, 12, generator=torch.Generator().manual_seed(frames))
    assert dispatch.hidden(block, x) is not None
    fast = outcome(block, x)
    with dispatch.definition_only():
        plain = outcome(block, x)
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
    outcomes = []
    for y in (dispatch.normalised(norm, x), norm(x)):
        assert y is not None
        outcomes.append([y, *torch.autograd.grad((y * factors).sum(), [x, norm.weight, norm.bias])])
    for mine, expected in zip(*outcomes, strict=True):
        assert (mine - expected).abs().max() <= 1e-5 * expected.abs().max()


def error(found: Tensor, truth: Tensor) -> float:
    """The root mean square of the error, as a share of that of the truth."""
    return math.sqrt(float((found.double() - truth).square().mean() / truth.square().mean()))


@pytest.mark.parametrize("changes", CASES)
def test_in_float32_no_gradient_is_much_farther_from_the_truth_than_the_definitions(changes: dict[str, object]) -> None:
    block, x = new_block(**changes), torch.randn(2, 700, 12, generator=torch.Generator().manual_seed(0))
    fast = outcome(block, x)
    with dispatch.definition_only():
        plain = outcome(block, x)
    truth = outcome(block.double(), x.double())
    for name, expected in truth.items():
        # The slopes' gradients are one number each, whose error may happen to be small in either.
        floor = 1e-5 if "slope" in name else 1e-7
        assert error(fast[name], expected) <= 3 * error(plain[name], expected) + floor, name


def training_step(model: ConvTasNet, sources: Tensor) -> dict[str, Tensor]:
    """Estimates and gradients; those of the slopes, single numbers in which errors may cancel, as one vector."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=sources.dtype == torch.float32):
        estimates = model(sources.sum(1))
    pit_loss(estimates, sources)[0].backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    slopes = torch.cat([gradients.pop(name) for name in list(gradients) if name.endswith("slope")])
    return {"estimates": estimates.detach(), "slopes": slopes, **gradients}


SEEDS = range(4)


@functools.cache
def networks(causal: bool) -> list[tuple[ConvTasNet, Tensor, dict[str, Tensor], dict[str, Tensor]]]:
    """For every seed a network, sources, and their training step by the definition, under autocast and in float64."""
    found = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = build_model(Model.model_validate({**SIZES, "causal": causal, "blocks_per_repeat": 3, "num_repeats": 2}))
        sources = torch.randn(2, 2, 2000)
        with dispatch.definition_only():
            plain = training_step(model, sources)
        found.append((model, sources, plain, training_step(copy.deepcopy(model).double(), sources.double())))
    return found


def error_ratio(causal: bool) -> float:
    """The kernels' error under autocast over the definition's, each the RMS of the relative errors of all tensors and seeds."""
    fast_errors, plain_errors = [], []
    for model, sources, plain, truth in networks(causal):
        fast = training_step(model, sources)
        fast_errors += [error(fast[name], expected) for name, expected in truth.items()]
        plain_errors += [error(plain[name], expected) for name, expected in truth.items()]
    return math.hypot(*fast_errors) / math.hypot(*plain_errors)


@pytest.mark.parametrize("causal", [False, True])
def test_under_autocast_the_error_is_the_definitions(causal: bool) -> None:
    """Both round the same activations to bfloat16, each in its own way, so their errors are independent and equally large.

    The ratio of such errors is near 1; at 2, three quarters of the kernels' error power would be their own.
    """
    assert error_ratio(causal) < 2


def wrong_tap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The convolution reads the last tap's weights from the first."""
    original = cpu._block_passes

    def broken(y: Tensor, parameters: list[Tensor], *sizes: int) -> object:
        taps = parameters[4].clone()
        taps[-1] = taps[0]
        return original(y, [*parameters[:4], taps, *parameters[5:]], *sizes)

    monkeypatch.setattr(cpu, "_block_passes", broken)


def no_gradient_of_one_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of six blocks gets no gradient for the bias of its convolution."""
    original, num_calls = cpu.hidden_backward, 0

    def broken(*arguments: Any) -> list[Tensor]:
        nonlocal num_calls
        num_calls += 1
        gradients = original(*arguments)
        if num_calls % 6 == 0:  # the backward pass ends with the first block
            gradients[6].zero_()
        return gradients

    monkeypatch.setattr(cpu, "hidden_backward", broken)


def statistics_of_another_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame is normalised with the mean of the frame before it."""
    original = cpu._Merged.normal

    def broken(self: Any, k: int) -> dict[str, Tensor]:
        normal = original(self, k)
        return {name: value.roll(1, 1) if name.startswith("mean") else value for name, value in normal.items()}

    monkeypatch.setattr(cpu._Merged, "normal", broken)


@pytest.mark.parametrize("break_kernels", [wrong_tap, no_gradient_of_one_bias, statistics_of_another_frame])
def test_that_bound_notices_a_broken_kernel(
    monkeypatch: pytest.MonkeyPatch, break_kernels: Callable[[pytest.MonkeyPatch], None]
) -> None:
    break_kernels(monkeypatch)
    assert error_ratio(causal=True) > 2


@pytest.mark.parametrize("changes", [{}, {"causal": True}, {"causal": True, "norm": "frame"}])
def test_offset_of_ten_thousand_deviations(changes: dict[str, object]) -> None:
    """A float32 near 1000 is only known to 6e-5, 6e-4 of the deviations here, whoever computes with it."""
    block, x = new_block(hidden_channels=512, **changes), torch.randn(2, 300, 12)
    with torch.no_grad():
        block.expand.bias.fill_(1000.0)
        block.expand.weight.mul_(0.1 / block.expand.weight.norm(dim=1, keepdim=True))
        fast = torch.cat(block(x), dim=-1)
        truth = torch.cat(block.double()(x.double()), dim=-1)
    assert (fast.double() - truth).abs().max() < 2e-3 * truth.abs().max()


def hidden_arguments(channels: int = 37, frames: int = 700, norm: str = "global") -> tuple[object, ...]:
    """Of the operator ``hidden``."""
    torch.manual_seed(0)
    y = torch.randn(3, frames, channels, requires_grad=True)
    shapes = [(channels,), (1,), (channels,), (channels,), (3, channels), (channels,), (1,), (channels,), (channels,)]
    return y, [torch.rand(shape, requires_grad=True) for shape in shapes], norm, [1e-8, 1e-8], 4, 4


def hidden_outcome(*arguments: object) -> list[Tensor]:
    y, parameters, *_ = arguments
    assert isinstance(y, Tensor) and isinstance(parameters, list)
    hidden = ops.hidden(*arguments)[0]
    return [hidden, *torch.autograd.grad(hidden.square().sum(), [y, *parameters])]


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_threads_do_not_change_a_bit(num_threads: int) -> None:
    before = torch.get_num_threads()
    expected = hidden_outcome(*hidden_arguments())
    try:
        torch.set_num_threads(num_threads)
        found = hidden_outcome(*hidden_arguments())
    finally:
        torch.set_num_threads(before)
    for mine, other in zip(found, expected, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # that torch's own check reads
@pytest.mark.parametrize("norm", NORMS)
def test_the_operators_keep_the_rules_of_operators(norm: str) -> None:
    """Schema, fake tensors, autograd registration and tracing, as torch checks them."""
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
    torch.library.opcheck(ops.hidden, hidden_arguments(9, 20, norm), test_utils=checks)
    weight, bias = (torch.rand(9, requires_grad=True) for _ in range(2))
    arguments = (torch.randn(2, 20, 9, requires_grad=True), weight, bias, norm, 1e-8)
    torch.library.opcheck(ops.normalised, arguments, test_utils=checks)


def test_not_a_number_stays_not_a_number() -> None:
    block, x = new_block(), torch.randn(1, 50, 12)
    x[0, 10, 3] = float("nan")
    with torch.autocast("cpu", torch.bfloat16):
        residual, _ = block(x)
    assert residual.isnan().all()


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a compiler that copies a library which is compiled already; returns the cache."""
    whole = library.find_built(cache_folder() or tmp_path)
    if whole is None:
        pytest.skip("there is no compiled library to copy")
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ncp {whole} "$2"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tasnet-pipeline"


def test_a_failed_build_is_no_error_and_the_compilers_words_are_kept(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Path(os.environ["CXX"]).write_text("#!/bin/sh\necho no such flag >&2\nexit 1\n")
    with caplog.at_level(logging.INFO):
        assert library.load.__wrapped__() is None
    assert "the compiler says: no such flag" in caplog.text
    assert not list(stand_in.iterdir())
    monkeypatch.setattr(library.shutil, "which", lambda _: None)
    assert library.load.__wrapped__() is None


def test_a_library_that_was_cut_short_is_compiled_again(stand_in: Path) -> None:
    assert library.load.__wrapped__() is not None
    built = library.find_built(stand_in)
    assert built is not None
    built.write_bytes(built.read_bytes()[:1000])
    assert library.find_built(stand_in) is None
    assert library.load.__wrapped__() is not None
    assert library.find_built(stand_in) == built


def test_what_a_login_node_compiled_serves_a_node_without_a_compiler(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert library.load.__wrapped__() is not None
    monkeypatch.setattr(library.shutil, "which", lambda _: None)
    assert library.load.__wrapped__() is not None


def test_users_without_a_home_compile_for_themselves(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder() is None
    assert library.load.__wrapped__() is not None
    assert not stand_in.exists()
