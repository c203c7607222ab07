"""Validation: the loss of a network on whole mixtures, and a causal network's promise not to look ahead."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pipeline.compute import devices
from pipeline.errors import ModelError
from pipeline.models import Network, look_ahead
from pipeline.training.batches import WHOLE, Batch, Room, validation_batches
from pipeline.training.losses import Loss, pit_loss, several_sound
from pipeline.training.segments import Mixtures


def batches_on(
    device: torch.device, model: Network, mixtures: Mixtures, *, batch_size: int, share: slice = WHOLE, num_workers: int = 1
) -> Iterator[Batch]:
    """The mixtures that a network is validated on, on its device: of a CUDA card as many at once as it has room for.

    Launching a network's few hundred kernels takes the host as long as the device computes on dozens of mixtures.
    """
    num_bytes = devices.room_for_mixtures(device)
    room = None if num_bytes is None else Room(num_bytes, model.activation_bytes)
    pin = device.type == "cuda"
    for batch in validation_batches(mixtures, batch_size=batch_size, share=share, num_workers=num_workers, pin=pin, room=room):
        yield batch.to(device)


@torch.no_grad()
def validation_sums(model: Network, batch: Batch, precision: torch.dtype, loss: Loss = pit_loss) -> Tensor:
    """Summed over a batch: the loss and the number of mixtures; and of those in which several sources sound the negative SI-SNR,
    that of taking the mixture itself for every source, and their number. One speaker alone leaves nothing to improve on.

    Where a device has too little memory for the batch, its halves are summed one after the other.
    """
    try:
        return _sums(model, batch, precision, loss)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    half = len(batch) // 2  # out here, where the error no longer holds the memory of its frames
    return sum(validation_sums(model, part, precision, loss) for part in (batch[:half], batch[half:]))  # type: ignore[return-value]


def _sums(model: Network, batch: Batch, precision: torch.dtype, loss: Loss) -> Tensor:
    with devices.autocast(batch.mixture.device, precision):
        estimates = model(batch.mixture, batch.num_samples) if batch.padded else model(batch.mixture)
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
