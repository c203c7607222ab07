"""Norms against float64 oracles that sum over every frame anew, under everything that breaks running sums."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.models.norms import NORMS, CumulativeLayerNorm, FrameLayerNorm, GlobalLayerNorm

KINDS = sorted(NORMS)


def oracle(x: Tensor, kind: str, eps: float = 1e-8) -> Tensor:
    """Each frame normalised by statistics taken anew over the frames it may see: O(frames²), float64."""
    x = x.double()
    frames = []
    for k in range(x.shape[1]):
        seen = {"global": x, "cumulative": x[:, : k + 1], "frame": x[:, k : k + 1]}[kind]
        variance = seen.var(dim=(1, 2), correction=0, keepdim=True)
        frames.append((x[:, k : k + 1] - seen.mean(dim=(1, 2), keepdim=True)) / torch.sqrt(variance + eps))
    return torch.cat(frames, dim=1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_equals_the_oracle(kind: str, batch: int, frames: int, channels: int, seed: int) -> None:
    x = normal(batch, frames, channels, seed=seed).double()
    torch.testing.assert_close(NORMS[kind](channels)(x), oracle(x, kind), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_and_bias_are_per_channel(kind: str) -> None:
    norm = NORMS[kind](3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        norm.bias.copy_(torch.tensor([0.0, -1.0, 5.0]))
    x = normal(2, 9, 3)
    expected = oracle(x, kind) * torch.tensor([1.0, 2.0, 3.0]) + torch.tensor([0.0, -1.0, 5.0])
    torch.testing.assert_close(norm(x).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_offset_of_ten_thousand_deviations(kind: str) -> None:
    x = 1000.0 + 0.1 * normal(2, 300, 64)
    error = (NORMS[kind](64)(x).double() - oracle(x, kind)).abs().max()
    assert error < 2e-3  # a float32 near 1000 is itself only known to 6e-5, that is 6e-4 deviations


def test_a_mean_that_float32_cannot_hold() -> None:
    """Frames of 4096, 4097 and 4097: the mean is 4096 2/3, the variance 2/9, and neither loses a digit."""
    x = torch.tensor([4096.0, 4097.0, 4097.0])[None, :, None].expand(1, 3, 2)
    expected = torch.tensor([-2.0, 1.0, 1.0])[None, :, None].expand(1, 3, 2) / 2**0.5
    torch.testing.assert_close(GlobalLayerNorm(2)(x), expected, rtol=1e-6, atol=0)


def test_a_ramp_has_a_closed_form() -> None:
    """Of 0, 1, …, k the mean is k / 2 and the variance k (k + 2) / 12, so the last frame comes out as √(3 k / (k + 2))."""
    k = torch.arange(2000, dtype=torch.float64)
    x = k[None, :, None].expand(1, 2000, 2).float()
    expected = torch.sqrt(3 * k / (k + 2)).float()
    y = CumulativeLayerNorm(2)(x)[0]
    torch.testing.assert_close(y, expected[:, None].expand(2000, 2), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_statistics_wide(kind: str, dtype: torch.dtype) -> None:
    """More frames than either 16-bit type can count, and squares that overflow float16."""
    x = (300.0 + normal(1, 5000, 16)).to(dtype)
    norm = NORMS[kind](16)
    with torch.autocast("cpu", dtype):
        y = norm(x)
    assert y.dtype == dtype
    expected = norm(x.double())
    assert (
        torch.equal(y, expected.to(dtype)) or (y.double() - expected).abs().max() <= torch.finfo(dtype).eps * expected.abs().max()
    )


def test_silent_prefix_then_speech() -> None:
    x = normal(1, 400, 32)
    x[:, :200] = 0
    y = CumulativeLayerNorm(32)(x)
    assert torch.equal(y[:, :200], torch.zeros(1, 200, 32))
    torch.testing.assert_close(y.double(), oracle(x, "cumulative"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_silence_has_finite_gradients(kind: str) -> None:
    x = torch.zeros(1, 20, 4, requires_grad=True)
    norm = NORMS[kind](4, eps=1e-20)
    norm(x).square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_constant_input_never_yields_a_negative_variance() -> None:
    y = CumulativeLayerNorm(8)(torch.full((1, 3000, 8), 12345.678))
    assert y.isfinite().all()


def test_loud_then_quiet() -> None:
    x = normal(1, 500, 16)
    x[:, 250:] *= 1e-5
    torch.testing.assert_close(CumulativeLayerNorm(16)(x).double(), oracle(x, "cumulative"), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_an_hour_of_frames() -> None:
    """At 1,000 frames a second, against statistics of the whole taken at a few places."""
    x = 0.5 + normal(1, 3_600_000, 4)
    y = CumulativeLayerNorm(4)(x)
    for k in (1, 1000, 1_000_000, 3_600_000):
        seen = x[:, :k].double()
        expected = (seen[:, -1] - seen.mean()) / torch.sqrt(seen.var(correction=0) + 1e-8)
        torch.testing.assert_close(y[:, k - 1].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str) -> None:
    norm = NORMS[kind](3).double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
    x = normal(2, 6, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(norm, (x,))


@pytest.mark.parametrize("norm", [CumulativeLayerNorm(5), FrameLayerNorm(5)])
@given(st.integers(1, 29))
@settings(max_examples=20, deadline=None)
def test_causal_norms_do_not_see_the_future(norm: CumulativeLayerNorm | FrameLayerNorm, change: int) -> None:
    x = normal(1, 30, 5)
    altered = x.clone()
    altered[:, change:] += 10.0
    assert torch.equal(norm(x)[:, :change], norm(altered)[:, :change])


def test_negative_control_the_global_norm_sees_the_future() -> None:
    x = normal(1, 30, 5)
    altered = x.clone()
    altered[:, 20:] += 10.0
    assert not torch.allclose(GlobalLayerNorm(5)(x)[:, :20], GlobalLayerNorm(5)(altered)[:, :20])


def in_pieces(x: Tensor, sizes: list[int], forget_frames: float | None = None) -> Tensor:
    """A cumulative norm over frames that come in pieces."""
    norm, sums, count = CumulativeLayerNorm(x.shape[2]), x.new_zeros(len(x), 4, dtype=torch.float64), torch.tensor(0)

    def merge(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal sums, count
        found_mean, found_variance, sums = norm.merge_more(mean, variance, sums, count, forget_frames)
        count = count + mean.shape[1]
        return found_mean, found_variance

    pieces = x.split(sizes, dim=1)
    return torch.cat([norm.normalise(piece, norm.weight, norm.bias, norm.eps, merge) for piece in pieces], dim=1).detach()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.sampled_from([0.0, 1.0, 1e4]))
@settings(max_examples=30, deadline=None)
def test_running_sums_continue_where_the_last_piece_ended(sizes: list[int], offset: float) -> None:
    x = offset + normal(2, sum(sizes), 5).double()
    torch.testing.assert_close(in_pieces(x, sizes), CumulativeLayerNorm(5)(x).detach(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("forget_frames", [2.0, 7.5, 1000.0])
def test_forgetting_weighs_frames_by_their_age(forget_frames: float) -> None:
    """Against weighted statistics of all frames so far, taken anew for every frame."""
    x = 3.0 + normal(2, 900, 5).double()
    expected = []
    for k in range(x.shape[1]):
        seen = x[:, : k + 1]
        shares = torch.exp(-torch.arange(k, -1, -1, dtype=torch.float64) / forget_frames)
        shares = (shares / shares.sum() / x.shape[2])[:, None]
        mean = (shares * seen).sum((1, 2), keepdim=True)
        variance = (shares * (seen - mean).square()).sum((1, 2), keepdim=True)
        expected.append((x[:, k : k + 1] - mean) / torch.sqrt(variance + 1e-8))
    found = in_pieces(x, [1, 2, 40, 512, 345], forget_frames)
    torch.testing.assert_close(found, torch.cat(expected, dim=1), rtol=1e-10, atol=1e-10)
