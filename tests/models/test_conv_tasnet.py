"""The network against torchaudio's, the paper's parameter counts, and the promises of its docstring."""

import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.models import build_model
from pipeline.models.conv_tasnet import ConvTasNet
from pipeline.recipe.schema import Model
from pipeline.training.losses import pit_loss
from tests.networks import network, unlike_new

SMALL = {
    "num_filters": 16,
    "filter_length": 8,
    "bottleneck_channels": 6,
    "skip_channels": 6,
    "hidden_channels": 10,
    "blocks_per_repeat": 3,
    "num_repeats": 2,
}


def small(*, num_sources: int = 2, seed: int = 0, **changes: object) -> ConvTasNet:
    torch.manual_seed(seed)
    return build_model(Model.model_validate({**SMALL, **changes}), num_sources=num_sources).eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Table II: N, L, B, H, Sc, P, X, R, receptive field in seconds, parameters with the paper's dead last residual.
TABLE_II = [
    (128, 40, 128, 256, 128, 3, 7, 2, 1.28, 1_472_157),
    (256, 40, 128, 256, 128, 3, 7, 2, 1.28, 1_532_061),
    (512, 40, 128, 256, 128, 3, 7, 2, 1.28, 1_651_869),
    (512, 40, 128, 256, 256, 3, 7, 2, 1.28, 2_243_485),
    (512, 40, 128, 512, 128, 3, 7, 2, 1.28, 3_060_381),
    (512, 40, 128, 512, 512, 3, 7, 2, 1.28, 6_211_485),
    (512, 40, 256, 256, 256, 3, 7, 2, 1.28, 3_228_445),
    (512, 40, 256, 512, 256, 3, 7, 2, 1.28, 6_013_213),
    (512, 40, 256, 512, 512, 3, 7, 2, 1.28, 8_113_949),
    (512, 40, 128, 512, 128, 3, 6, 4, 1.27, 5_075_121),
    (512, 40, 128, 512, 128, 3, 4, 6, 0.46, 5_075_121),
    (512, 40, 128, 512, 128, 3, 8, 3, 3.83, 5_075_121),
    (512, 32, 128, 512, 128, 3, 8, 3, 3.06, 5_066_929),
    (512, 16, 128, 512, 128, 3, 8, 3, 1.53, 5_050_545),
]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("n", "length", "b", "h", "sc", "p", "x", "r", "seconds", "published"), TABLE_II)
def test_table_ii(
    n: int,
    length: int,
    b: int,
    h: int,
    sc: int,
    p: int,
    x: int,
    r: int,
    seconds: float,
    published: int,
    causal: bool,
) -> None:
    architecture = Model(
        causal=causal, num_filters=n, filter_length=length, bottleneck_channels=b, hidden_channels=h, skip_channels=sc,
        kernel_size=p, blocks_per_repeat=x, num_repeats=r,
    )  # fmt: skip
    with torch.device("meta"):
        model = build_model(architecture)
    dead_residual = h * b + b  # weights and biases of the last block's residual convolution, which nothing reads
    assert sum(parameter.numel() for parameter in model.parameters()) == published - dead_residual
    assert model.receptive_field_samples / 8000 == pytest.approx(seconds, abs=0.006)


def copy_from_torchaudio(model: ConvTasNet, peer: torchaudio.models.ConvTasNet) -> None:
    """Give ``model`` the weights of torchaudio's network, whose convolutions keep channels before time."""

    def fill(target: Tensor, *parts: Tensor) -> None:
        target.copy_(torch.cat([part.reshape(part.shape[0], -1) for part in parts]).reshape(target.shape))

    generator = peer.mask_generator
    with torch.no_grad():
        fill(model.encoder.filters.weight, peer.encoder.weight)
        fill(model.decoder.basis.weight, peer.decoder.weight[:, 0].T)
        fill(model.separator.input_norm.weight, generator.input_norm.weight)
        fill(model.separator.input_norm.bias, generator.input_norm.bias)
        fill(model.separator.bottleneck.weight, generator.input_conv.weight)
        fill(model.separator.bottleneck.bias, generator.input_conv.bias)
        fill(model.separator.output_activation.slope, generator.output_prelu.weight)
        fill(model.separator.output.weight, generator.output_conv.weight)
        fill(model.separator.output.bias, generator.output_conv.bias)
        for block, theirs in zip(model.separator.blocks, generator.conv_layers, strict=True):
            expand, prelu_1, norm_1, depthwise, prelu_2, norm_2 = theirs.conv_layers
            fill(block.expand.weight, expand.weight)
            fill(block.expand.bias, expand.bias)
            fill(block.activation_1.slope, prelu_1.weight)
            fill(block.activation_2.slope, prelu_2.weight)
            for norm, other in ((block.norm_1, norm_1), (block.norm_2, norm_2)):
                fill(norm.weight, other.weight)
                fill(norm.bias, other.bias)
            fill(block.depthwise.taps, depthwise.weight[:, 0].T)
            fill(block.depthwise.bias, depthwise.bias)
            outs = [theirs.skip_out] if theirs.res_out is None else [theirs.res_out, theirs.skip_out]
            fill(block.residual_and_skip.weight, *(out.weight for out in outs))
            fill(block.residual_and_skip.bias, *(out.bias for out in outs))


@pytest.mark.parametrize("mask", ["sigmoid", "relu"])
@pytest.mark.parametrize("time", [1, 7, 800, 803])
def test_equals_torchaudio(mask: str, time: int) -> None:
    torch.manual_seed(1)
    peer = torchaudio.models.ConvTasNet(
        num_sources=3, enc_kernel_size=8, enc_num_feats=16, msk_kernel_size=3, msk_num_feats=6, msk_num_hidden_feats=10,
        msk_num_layers=3, msk_num_stacks=2, msk_activate=mask,
    )  # fmt: skip
    unlike_new(peer)
    model = small(num_sources=3, mask=mask)
    copy_from_torchaudio(model, peer)
    mixture = noise(2, time)
    torch.testing.assert_close(model(mixture), peer(mixture[:, None]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
@given(st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_any_length_gives_the_same_length_without_a_dead_tail(causal: bool, time: int) -> None:
    estimates = small(causal=causal)(noise(1, time))
    assert estimates.shape == (1, 2, time)
    assert estimates[..., -1].abs().min() > 0


@pytest.mark.parametrize("changes", [{}, {"causal": True}, {"causal": True, "norm": "frame"}, {"norm": "cumulative"}])
@pytest.mark.parametrize("gain", [1e-6, 1e-3, 1e3])
def test_masks_do_not_depend_on_the_level(changes: dict[str, object], gain: float) -> None:
    model = small(**changes)
    mixture = 0.1 * noise(1, 500)
    expected = model(mixture)
    error = (model(gain * mixture) / gain - expected).square().mean() / expected.square().mean()
    assert error < 1e-6  # -60 dB, at an RMS of 1e-7; the usual eps gives -8 dB at 5e-6


@pytest.mark.parametrize("mask", ["sigmoid", "relu", "softmax"])
@pytest.mark.parametrize("encoder", ["linear", "relu"])
@pytest.mark.parametrize("causal", [False, True])
def test_every_parameter_learns(mask: str, encoder: str, causal: bool) -> None:
    model = small(mask=mask, encoder=encoder, causal=causal)
    loss, _ = pit_loss(model(noise(2, 300)), noise(2, 2, 300, seed=1))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_softmax_masks_sum_to_one_over_the_sources() -> None:
    model = small(mask="softmax", num_sources=3)
    masks = model.separator(model.encoder(noise(1, 100)))
    torch.testing.assert_close(masks.sum(2), torch.ones_like(masks.sum(2)))


@pytest.mark.parametrize("causal", [False, True])
def test_silence_in_silence_out_with_finite_gradients(causal: bool) -> None:
    model = small(causal=causal)
    estimates = model(torch.zeros(1, 100))
    assert torch.equal(estimates, torch.zeros(1, 2, 100))
    estimates.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_bfloat16_autocast_stays_close() -> None:
    model = small(causal=True)
    mixture = noise(1, 1000)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = model(mixture)
    fine = model(mixture)
    assert coarse.dtype == torch.float32
    assert (coarse - fine).square().mean() < 1e-3 * fine.square().mean()


def test_causal_with_a_global_norm_is_refused() -> None:
    contradiction = Model.model_construct(**{**Model().model_dump(), "causal": True, "norm": "global"})
    with pytest.raises(ModelError, match="global"):
        build_model(contradiction)


def test_even_kernels_of_causal_networks() -> None:
    assert small(causal=True, kernel_size=2)(noise(1, 77)).shape == (1, 2, 77)


def test_one_batch_is_overfitted() -> None:
    """Nothing is wrong with a network and loss that can learn one batch by heart."""
    torch.manual_seed(0)
    time = torch.arange(800) / 8000
    pitches = torch.tensor([[200.0, 900.0], [350.0, 1300.0]])
    sources = torch.sin(2 * torch.pi * pitches[..., None] * time) * (1 + 0.1 * noise(2, 2, 1))
    model = build_model(Model.model_validate({**SMALL, "num_filters": 32, "filter_length": 16, "hidden_channels": 32}))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(75):
        loss, _ = pit_loss(model(sources.sum(1)), sources)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
    assert -loss.item() > 15.0


@pytest.mark.parametrize("shape", [(50,), (1, 2, 50)])
def test_mixtures_of_other_dimensions_are_refused(shape: tuple[int, ...]) -> None:
    model = build_model(Model(num_filters=8, filter_length=4, bottleneck_channels=4, hidden_channels=4, skip_channels=4))
    with pytest.raises(ModelError, match=r"mixtures must be \[batch, time\], of one channel"):
        model(torch.zeros(shape))


@pytest.mark.parametrize("changes", [{"causal": False}, {"causal": True}, {"causal": False, "norm": "frame"}])
def test_mixtures_padded_to_one_length_are_separated_as_if_alone(changes: dict[str, object]) -> None:
    """Whole hops and odd lengths, the longest, and a single sample."""
    model = network(**changes)
    lengths = torch.tensor([203, 160, 91, 7, 1])
    mixtures = torch.randn(5, 203, dtype=torch.float64) * (torch.arange(203) < lengths[:, None])
    with torch.no_grad():
        together, unaware = model(mixtures, lengths), model(mixtures)
        for each, told, untold, length in zip(mixtures, together, unaware, lengths.tolist(), strict=True):
            alone = model(each[None, :length])[0]
            torch.testing.assert_close(told[:, :length], alone, rtol=1e-10, atol=1e-12)
            # The control: what looks ahead hears the padding unless it is told of it.
            heard = not torch.allclose(untold[:, :length], alone, rtol=1e-3)
            assert heard == (not model.causal and length < 203)
