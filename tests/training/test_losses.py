"""SI-SNR in closed form, against a direct transcription of its definition, and permutations that a wrong direction would fail."""

import math
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.scoring.metrics import sa_sdr
from pipeline.training.losses import CAP, best_permutation, pairwise_si_snr, pit_loss, sa_sdr_loss, several_sound


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def definition(estimate: Tensor, reference: Tensor) -> float:
    estimate = estimate.double() - estimate.double().mean()
    reference = reference.double() - reference.double().mean()
    target = (estimate @ reference) * reference / (reference @ reference)
    return 10 * math.log10(target.square().sum() / (estimate - target).square().sum())


def orthogonal(num: int, time: int) -> Tensor:
    """Zero-mean, unit-energy, mutually orthogonal signals ``[num, time]``."""
    basis = noise(time, num).double()
    return torch.linalg.qr(basis - basis.mean(0))[0].T


def test_closed_form() -> None:
    """A reference plus an orthogonal error of a tenth its amplitude is at 20 dB, at any scale and offset."""
    reference, error = orthogonal(2, 500)
    for scale in (1e-6, 1.0, 1e6):
        estimate = scale * (reference + 0.1 * error) + 3.0 * scale
        assert pairwise_si_snr(estimate[None, None], reference[None, None]).item() == pytest.approx(20.0, abs=1e-4)


def test_float32_signals_are_compared_in_float64() -> None:
    """An error of a ten-thousandth the amplitude: in float32 its energy drowns in the rounding of the signal's."""
    reference, error = orthogonal(2, 500).float()
    score = pairwise_si_snr((reference + 1e-4 * error)[None, None], reference[None, None])
    assert score.item() == pytest.approx(80.0, abs=0.05)


def test_values_at_the_ends_of_the_scale() -> None:
    """±120 dB for the reference itself and for what is orthogonal to it, 0 dB for silence on either side."""
    reference, other = orthogonal(2, 500)
    silence = torch.zeros(500, dtype=torch.float64)
    estimates, references = torch.stack([reference, other, silence])[None], torch.stack([reference, silence])[None]
    expected = torch.tensor([[120.0, 0.0], [-120.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(pairwise_si_snr(estimates, references)[0], expected, rtol=0, atol=1e-2)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_every_pair_follows_the_definition(num_estimates: int, num_references: int, seed: int) -> None:
    estimates = noise(2, num_estimates, 50, seed=seed)
    references = noise(2, num_references, 50, seed=seed + 1)
    scores = pairwise_si_snr(estimates, references)
    for b in range(2):
        for e in range(num_estimates):
            for r in range(num_references):
                expected = definition(estimates[b, e], references[b, r])
                capped = 10 * math.log10(1 + CAP * 10 ** (abs(expected) / 10))
                assert scores[b, e, r].item() == pytest.approx(expected, abs=1e-3 + capped)


@pytest.mark.parametrize("gain", [1e-6, 1.0, 1e4])
def test_fifteen_db_reads_fifteen_at_any_level(gain: float) -> None:
    reference, error = orthogonal(2, 8000)
    estimate = reference + 10 ** (-15 / 20) * error
    score = pairwise_si_snr((gain * estimate).float()[None, None], (gain * reference).float()[None, None])
    assert score.item() == pytest.approx(15.0, abs=1e-3)


def test_true_lengths_ignore_the_padding() -> None:
    estimates, references = noise(2, 2, 400), noise(2, 2, 400, seed=1)
    lengths = torch.tensor([400, 250])
    scores = pairwise_si_snr(estimates, references, lengths)
    torch.testing.assert_close(scores[1:], pairwise_si_snr(estimates[1:, :, :250], references[1:, :, :250]))
    estimates[1, :, 250:] = 1e6
    torch.testing.assert_close(scores, pairwise_si_snr(estimates, references, lengths))
    loss, _ = pit_loss(estimates, references, lengths)
    alone = [pit_loss(estimates[b : b + 1, :, :n], references[b : b + 1, :, :n])[0] for b, n in enumerate(lengths.tolist())]
    torch.testing.assert_close(loss, torch.stack(alone).mean())


@pytest.mark.parametrize("length", [0, 1])
def test_nothing_but_padding_scores_nothing(length: int) -> None:
    """A single sample is its own mean, so it has no energy left either."""
    estimates = noise(1, 2, 10).requires_grad_()
    loss, _ = pit_loss(estimates, noise(1, 2, 10, seed=1), torch.tensor([length]))
    loss.backward()
    assert loss.item() == 0.0 and estimates.grad is not None and torch.equal(estimates.grad, torch.zeros(1, 2, 10))


@pytest.mark.parametrize("num_sources", [2, 3, 4, 5])
def test_the_permutation_restores_the_order(num_sources: int) -> None:
    references = noise(1, num_sources, 200)
    for order in permutations(range(num_sources)):
        estimates = references[:, list(order)] + 0.1 * noise(1, num_sources, 200, seed=1)
        _, permutation = pit_loss(estimates, references)
        restored = estimates[0, permutation[0]]
        assert (restored - references[0]).square().mean() < 0.02


def test_three_cycle() -> None:
    """Estimates hold references 1, 2, 0: reference 0 is estimate 2, and the inverse permutation would say 1."""
    references = noise(1, 3, 200)
    _, permutation = pit_loss(references[:, [1, 2, 0]], references)
    assert permutation.tolist() == [[2, 0, 1]]


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_enumeration_and_assignment_agree(seed: int) -> None:
    scores = noise(3, 3, 3, seed=seed)
    padded = torch.full((3, 4, 4), -1e3)
    padded[:, :3, :3] = scores
    padded[:, 3, 3] = 1e3
    assert torch.equal(best_permutation(scores), best_permutation(padded)[:, :3])


@given(st.sampled_from([2, 3, 4]), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_the_loss_does_not_depend_on_order_or_scale(num_sources: int, seed: int) -> None:
    estimates, references = noise(2, num_sources, 60, seed=seed), noise(2, num_sources, 60, seed=seed + 1)
    loss, _ = pit_loss(estimates, references)
    shuffled = 7.0 * estimates.flip(1) + 1.0
    assert pit_loss(shuffled, references)[0].item() == pytest.approx(loss.item(), abs=1e-4)


@pytest.mark.parametrize("silent", [[0], [1], [0, 1]])
def test_silent_sources_are_left_out(silent: list[int]) -> None:
    references = noise(2, 2, 300)
    references[0, silent] = 0.0
    estimates = noise(2, 2, 300, seed=1).requires_grad_()
    loss, _ = pit_loss(estimates, references)
    loss.backward()
    assert loss.isfinite() and estimates.grad is not None and estimates.grad.isfinite().all()
    heard = [r for r in range(2) if r not in silent]
    first = max((definition(estimates[0, e].detach(), references[0, r]) for e in range(2) for r in heard), default=0.0)
    second, _ = pit_loss(estimates[1:], references[1:])
    assert loss.item() == pytest.approx((second.item() - first) / 2, abs=1e-3)


def test_zero_and_perfect_estimates_are_finite() -> None:
    references = noise(1, 2, 300)
    for estimates in (torch.zeros(1, 2, 300), references.clone()):
        estimates.requires_grad_()
        loss, _ = pit_loss(estimates, references)
        loss.backward()
        assert loss.isfinite() and estimates.grad is not None and estimates.grad.isfinite().all()
    assert loss.item() < -90.0


def test_everything_silent() -> None:
    estimates = torch.zeros(1, 2, 100, requires_grad=True)
    loss, _ = pit_loss(estimates, torch.zeros(1, 2, 100))
    loss.backward()
    assert loss.item() == 0.0 and estimates.grad is not None and torch.equal(estimates.grad, torch.zeros(1, 2, 100))


def test_gradients() -> None:
    references = noise(2, 3, 20).double()
    estimates = noise(2, 3, 20, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda e: pairwise_si_snr(e, references, torch.tensor([20, 13])), (estimates,))


def test_autocast_does_not_coarsen_the_loss() -> None:
    estimates, references = noise(2, 2, 4000), noise(2, 2, 4000, seed=1)
    estimates = references + 0.1 * estimates
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = pit_loss(estimates, references)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, pit_loss(estimates, references)[0])


@pytest.mark.parametrize("shape", [(1, 2, 8), (1, 3, 8), (2, 2, 8)])
def test_estimates_and_references_are_as_many(shape: tuple[int, ...]) -> None:
    references = torch.ones(1, 2, 8)
    if shape == (1, 2, 8):
        pit_loss(torch.ones(shape), references)
    else:
        with pytest.raises(ModelError, match="an estimate for every reference"):
            pit_loss(torch.ones(shape), references)


# ---------------------------------------------------------------------------------------------------------------- SA-SDR
def test_sa_sdr_in_closed_form() -> None:
    """Sources of energy 1 and 4 under orthogonal errors of energy 0.02 and 0.03: 5 / 0.05 is 20 dB, of two sources together."""
    first, second, *errors = orthogonal(4, 500)
    references = torch.stack([first, 2 * second])[None]
    estimates = references + torch.stack([math.sqrt(0.02) * errors[0], math.sqrt(0.03) * errors[1]])
    for order in ([0, 1], [1, 0]):
        loss, permutation = sa_sdr_loss(estimates[:, order], references)
        assert loss.item() == pytest.approx(-20.0, abs=1e-6)
        assert permutation.tolist() == [order]


def test_sa_sdr_of_a_silent_source_is_what_sounds_in_its_place() -> None:
    """A leak of a thousandth of the speaker's energy into the silent output: 30 dB; half of the speaker in each output: 3 dB."""
    speaker, other = orthogonal(2, 500)
    references = torch.stack([speaker, torch.zeros_like(speaker)])[None]
    leak = torch.stack([speaker, math.sqrt(1e-3) * other])[None]
    assert sa_sdr_loss(leak, references)[0].item() == pytest.approx(-30.0, abs=1e-6)
    halves = torch.stack([speaker / 2, speaker / 2])[None]
    assert sa_sdr_loss(halves, references)[0].item() == pytest.approx(10 * math.log10(0.5), abs=1e-6)
    assert pit_loss(halves, references)[0].item() < -100  # which is why that loss learns to split a speaker


def test_sa_sdr_at_the_ends_of_its_scale() -> None:
    """-120 dB for the sources, 0 dB for silence, 3 dB for inverted sources: exchanged, each errs by itself and by another."""
    sources = orthogonal(3, 500)
    references = torch.stack([sources[:2], torch.stack([torch.zeros_like(sources[2]), sources[2]])])
    for estimates, expected in ((references, -120.0), (torch.zeros_like(references), 0.0), (-references, 10 * math.log10(2))):
        free = estimates.clone().requires_grad_()
        loss, _ = sa_sdr_loss(free, references)
        loss.backward()
        assert loss.item() == pytest.approx(expected, abs=0.01)
        assert free.grad is not None and free.grad.isfinite().all()


def test_sa_sdr_of_nothing_but_silence_counts_nothing() -> None:
    estimates = noise(1, 2, 100).requires_grad_()
    loss, _ = sa_sdr_loss(estimates, torch.zeros(1, 2, 100))
    loss.backward()
    assert loss.item() == 0.0 and estimates.grad is not None and not estimates.grad.any()


def test_sa_sdr_stops_where_the_sound_does() -> None:
    references, estimates = noise(2, 2, 60), noise(2, 2, 60, seed=1)
    lengths = torch.tensor([60, 40])
    each = [sa_sdr_loss(estimates[k : k + 1, :, :n], references[k : k + 1, :, :n])[0].item() for k, n in enumerate(lengths)]
    assert sa_sdr_loss(estimates, references, lengths)[0].item() == pytest.approx(sum(each) / 2, abs=1e-5)


def test_sa_sdr_agrees_with_the_score_where_the_level_is_right() -> None:
    """The score fits one gain to all sources, which is 1 under an error that is orthogonal to them."""
    basis = orthogonal(4, 500)
    references, estimates = basis[:2], basis[:2] + 0.3 * basis[2:]
    assert -sa_sdr_loss(estimates[None], references[None])[0].item() == pytest.approx(sa_sdr(estimates, references), abs=1e-6)


def test_gradients_of_sa_sdr() -> None:
    references = noise(2, 3, 20).double()
    references[0, 1] = 0
    estimates = noise(2, 3, 20, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda e: sa_sdr_loss(e, references, torch.tensor([20, 13]))[0], (estimates,))


def test_losses_say_which_was_given_unequal_numbers() -> None:
    with pytest.raises(ModelError, match="sa_sdr_loss needs an estimate for every reference"):
        sa_sdr_loss(noise(1, 3, 20), noise(1, 2, 20))


def test_which_mixtures_have_several_sources() -> None:
    references = noise(4, 3, 50)
    references[1, 0] = 0
    references[2, 1:] = 0
    references[3] = 0
    assert several_sound(references).tolist() == [True, True, False, False]
    assert several_sound(noise(2, 1, 50) * torch.tensor([1.0, 0.0])[:, None, None]).tolist() == [True, False]
