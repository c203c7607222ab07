"""Validation: the loss of a network on whole mixtures, and a causal network's promise not to look ahead."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.compute import devices
from pipeline.errors import ModelError
from pipeline.models import Network, look_ahead
from pipeline.training.batches import Batch
from pipeline.training.losses import pit_loss


@torch.no_grad()
def validation_sums(model: Network, batch: Batch, precision: torch.dtype) -> Tensor:
    """Summed over a batch: the loss, the loss of taking the mixture itself for every source, and the count."""
    with devices.autocast(batch.mixture.device, precision):
        estimates = model(batch.mixture)
    loss, _ = pit_loss(estimates, batch.sources, batch.num_samples)
    untouched = batch.mixture[:, None].expand_as(batch.sources)
    mixture_loss, _ = pit_loss(untouched, batch.sources, batch.num_samples)
    return torch.stack([loss * len(batch), mixture_loss * len(batch), torch.full_like(loss, len(batch))]).double()


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
