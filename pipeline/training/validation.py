"""Validation: the loss of a network on whole mixtures, and a causal network's promise not to look ahead."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.compute import devices
from pipeline.errors import ModelError
from pipeline.models import Network, look_ahead
from pipeline.training.batches import Batch
from pipeline.training.losses import Loss, pit_loss, several_sound


@torch.no_grad()
def validation_sums(model: Network, batch: Batch, precision: torch.dtype, loss: Loss = pit_loss) -> Tensor:
    """Summed over a batch: the loss and the number of mixtures; and of those in which several sources sound the negative SI-SNR,
    that of taking the mixture itself for every source, and their number. One speaker alone leaves nothing to improve on."""
    with devices.autocast(batch.mixture.device, precision):
        estimates = model(batch.mixture)
    value, _ = loss(estimates, batch.sources, batch.num_samples)
    several = several_sound(batch.sources, batch.num_samples)
    sources, lengths = batch.sources[several], batch.num_samples[several]
    sums = [value * len(batch), torch.full_like(value, len(batch)), *torch.zeros(3).to(value)]
    if len(sources):
        untouched = batch.mixture[several][:, None].expand_as(sources)
        sums[2:4] = (pit_loss(each, sources, lengths)[0] * len(sources) for each in (estimates[several], untouched))
        sums[4] = torch.full_like(value, len(sources))
    return torch.stack(sums).double()


def check_causality(model: Network) -> None:
    """Measure how far a network that is said to be causal looks ahead.

    Raises:
        ModelError: further than it may.
    """
    if not model.causal:
        return
    measured = look_ahead(model)
    if measured is None or measured > model.look_ahead_limit:
        seen = "sees the whole signal" if measured is None else f"looks {measured:,} samples ahead"
        raise ModelError(
            f"causal = true, but the network {seen} (allowed: {model.look_ahead_limit}). "
            "Use norm = 'cumulative', or causal = false."
        )
