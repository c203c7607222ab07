"""The training losses: negative SI-SNR, or negative SA-SDR, under the best assignment of estimates to references.

The pairwise matrix comes first and the permutation second: the matrix needs one inner product per pair, which is a small matrix
product over time, so no tensor of size ``[batch, estimate, reference, time]`` is ever allocated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import permutations

import scipy
import torch
from torch import Tensor

from pipeline.errors import ModelError

CAP = 1e-12
"""Share of an estimate's energy added to target and error alike: values stay within ±120 dB, whatever the level."""
SILENCE = 1e-8
"""A reference with less than this share of the energy of its mixture's strongest one (-80 dB) is silent and left out."""
ENUMERATED_SOURCES = 3
"""Up to this many sources every permutation is scored, on the device and without waiting for it; with more, the Hungarian
algorithm runs on the host."""


def pairwise_si_snr(estimates: Tensor, references: Tensor, num_samples: Tensor | None = None) -> Tensor:
    """SI-SNR of every estimate against every reference.

    ``10 log10(|t|² / |e - t|²)`` with ``t`` the projection of the estimate ``e`` onto the reference, both with zero mean
    (eq. 15 of Luo & Mesgarani, 2019). Energies are float64 whatever autocast says. Finite everywhere, gradients included:
    a zero estimate scores 0 dB, and so does everything against a reference without any energy.

    Args:
        estimates: ``[batch, estimate, time]``.
        references: ``[batch, reference, time]``.
        num_samples: ``[batch]`` true lengths; samples beyond them are ignored. By default all samples count.

    Returns:
        ``[batch, estimate, reference]`` in dB.
    """
    with torch.autocast(estimates.device.type, enabled=False):
        estimates_0 = _zero_mean(estimates, num_samples)
        references_0 = _zero_mean(references, num_samples)
        inner = _inner_products(estimates_0, references_0)  # [batch, estimate, reference]
        estimate_energy = _energy(estimates_0)[:, :, None]  # [batch, estimate, 1]
        reference_energy = _energy(references_0)[:, None, :]  # [batch, 1, reference]
        silent = reference_energy == 0
        target = inner.square() / torch.where(silent, 1.0, reference_energy)
        error = (estimate_energy - target).clamp_min(0.0)
        # The second term is only for the zero estimate, whose own energy gives no floor.
        floor = CAP * estimate_energy + torch.where(silent, 1.0, CAP**2 * reference_energy)
        ratio_db = 10 * (torch.log10(target + floor) - torch.log10(error + floor))
        ratio_db = torch.where(silent, 0.0, ratio_db)
    return ratio_db.to(torch.promote_types(estimates.dtype, torch.float32))


def pit_loss(estimates: Tensor, references: Tensor, num_samples: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Utterance-level permutation-invariant loss: minus the mean SI-SNR of the best assignment.

    Silent references are excluded: a mixture's loss is the mean over its other sources (0 if it has none), and the loss is the
    mean over mixtures.

    Args:
        estimates: ``[batch, source, time]``.
        references: ``[batch, source, time]``.
        num_samples: ``[batch]`` true lengths; by default all samples count.

    Returns:
        The loss in dB (scalar), and the permutation ``[batch, reference]``: the index of the estimate that each reference got,
        so that ``estimates[b, permutation[b]]`` stands in the order of the references.

    Raises:
        ModelError: there are more estimates than references, or fewer.
    """
    _check_pairs("pit_loss", estimates, references)
    scores = pairwise_si_snr(estimates, references, num_samples)
    active = _active(references, num_samples)  # [batch, reference]
    scores = torch.where(active[:, None, :], scores, 0.0)
    permutation = best_permutation(scores)
    assigned = scores.gather(1, permutation[:, None, :]).squeeze(1)  # [batch, reference]
    mixture_scores = assigned.sum(1) / active.sum(1).clamp_min(1)
    return -mixture_scores.mean(), permutation


def sa_sdr_loss(estimates: Tensor, references: Tensor, num_samples: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Permutation-invariant loss that is defined for silent sources: minus the source-aggregated SDR of the best assignment.

    ``10 log10(Σ|e_j - s_j|² / Σ|s_j|²)`` (von Neumann et al., "SA-SDR", ICASSP 2022), the mean over mixtures. Whatever sounds
    where its source is silent adds to the error, as does a wrong level: the loss is not scale-invariant. A mixture of nothing but
    silence counts 0. Energies are float64; values stay above -120 dB.

    Args:
        estimates: ``[batch, source, time]``.
        references: ``[batch, source, time]``.
        num_samples: ``[batch]`` true lengths; by default all samples count.

    Returns:
        As :func:`pit_loss`.

    Raises:
        ModelError: there are more estimates than references, or fewer.
    """
    _check_pairs("sa_sdr_loss", estimates, references)
    with torch.autocast(estimates.device.type, enabled=False):
        estimated, wanted = _inside(estimates, num_samples), _inside(references, num_samples)
        energies = _energy(estimated)[:, :, None] + _energy(wanted)[:, None, :]
        errors = (energies - 2 * _inner_products(estimated, wanted)).clamp_min(0.0)  # [batch, estimate, reference]
        permutation = best_permutation(-errors)
        error = errors.gather(1, permutation[:, None, :]).sum((1, 2))  # [batch]
        energy = _energy(wanted).sum(1)
        silent = energy == 0
        floor = torch.where(silent, 1.0, CAP * energy)
        ratio_db = 10 * (torch.log10(error + floor) - torch.log10(energy + floor))
        ratio_db = torch.where(silent, 0.0, ratio_db)
    return ratio_db.mean().to(torch.promote_types(estimates.dtype, torch.float32)), permutation


Loss = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""Of estimates, references and lengths: the loss in dB and the permutation."""
LOSSES: Mapping[str, Loss] = {"si_snr": pit_loss, "sa_sdr": sa_sdr_loss}
"""By the recipe's ``train.loss``."""


def _check_pairs(name: str, estimates: Tensor, references: Tensor) -> None:
    if estimates.shape[:2] != references.shape[:2]:
        shapes = f"{list(estimates.shape)} and {list(references.shape)}"
        raise ModelError(f"{name} needs an estimate for every reference, both as [batch, source, time]; these are {shapes}")


def several_sound(references: Tensor, num_samples: Tensor | None = None) -> Tensor:
    """Which mixtures have two sources that are not silent, or one if there is no more than one, ``[batch]``."""
    return _active(references, num_samples).sum(1) >= min(2, references.shape[1])


def best_permutation(scores: Tensor) -> Tensor:
    """The assignment with the highest total.

    Args:
        scores: ``[batch, estimate, reference]``, square.

    Returns:
        ``[batch, reference]``: the estimate of each reference; on a tie the first permutation in lexical order.
    """
    scores = scores.detach()
    if scores.shape[1] > ENUMERATED_SOURCES:
        return _assigned(scores)
    orders = list(permutations(range(scores.shape[1])))
    totals = [torch.stack([scores[:, e, r] for r, e in enumerate(order)]).sum(0) for order in orders]
    best = torch.stack(totals).argmax(0)  # [batch]
    # Looking the winner up in a table would copy that table to the device and wait; arithmetic on its number does not.
    columns = [torch.stack([(best == i) * e for i, e in enumerate(column)]).sum(0) for column in zip(*orders, strict=True)]
    return torch.stack(columns, dim=1)  # [batch, reference]


def _assigned(scores: Tensor) -> Tensor:
    rows = [scipy.optimize.linear_sum_assignment(matrix.T, maximize=True)[1] for matrix in scores.double().cpu().numpy()]
    return torch.stack([torch.as_tensor(row) for row in rows]).to(scores.device)


def _zero_mean(signals: Tensor, num_samples: Tensor | None) -> Tensor:
    """Float64 signals without their mean, zero beyond their true length."""
    signals = signals.double()
    if num_samples is None:
        return signals - signals.mean(-1, keepdim=True)
    inside = torch.arange(signals.shape[-1], device=signals.device) < num_samples[:, None, None]  # [batch, 1, time]
    signals = torch.where(inside, signals, 0.0)
    mean = signals.sum(-1, keepdim=True) / num_samples[:, None, None].clamp_min(1)
    return torch.where(inside, signals - mean, 0.0)


def _inside(signals: Tensor, num_samples: Tensor | None) -> Tensor:
    """Float64 signals, zero beyond their true length."""
    if num_samples is None:
        return signals.double()
    inside = torch.arange(signals.shape[-1], device=signals.device) < num_samples[:, None, None]  # [batch, 1, time]
    return torch.where(inside, signals.double(), 0.0)


def _inner_products(estimates: Tensor, references: Tensor) -> Tensor:
    """``[batch, estimate, time]`` and ``[batch, reference, time]`` → ``[batch, estimate, reference]``."""
    if estimates.device.type != "cuda":
        return estimates @ references.transpose(1, 2)
    # A float64 matrix product is slow on most cards; a few sums are compiled into the pass that makes the signals.
    rows = [torch.stack([(e * r).sum(-1) for r in references.unbind(1)], dim=-1) for e in estimates.unbind(1)]
    return torch.stack(rows, dim=1)


def _energy(signals: Tensor) -> Tensor:
    return signals.square().sum(-1)


def _active(references: Tensor, num_samples: Tensor | None) -> Tensor:
    """Which references are not silent, ``[batch, reference]``."""
    energy = _energy(_zero_mean(references, num_samples))
    return energy > SILENCE * energy.amax(1, keepdim=True)
