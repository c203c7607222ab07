"""The gradients of a batch: those of its parts, and of all processes that share it, are added up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.compute import devices
from pipeline.compute.distributed import Group
from pipeline.errors import TrainingError
from pipeline.training import losses
from pipeline.training.batches import Batch
from pipeline.training.compiling import Compiled


@dataclass(frozen=True)
class Loss:
    """A network's loss on a batch, as one function, so that a compiler sees the network and the loss together.

    Attributes:
        network: the network.
        precision: dtype of the matrix products.
        of_estimates: of estimates, sources and lengths; one of ``losses.LOSSES``.
    """

    network: Callable[[Tensor], Tensor]
    precision: torch.dtype
    of_estimates: losses.Loss = losses.pit_loss

    def compute(self, mixture: Tensor, sources: Tensor, num_samples: Tensor) -> Tensor:
        """The mean loss, dB, of ``[batch, time]`` mixtures of ``[batch, source, time]`` sources."""
        with devices.autocast(mixture.device, self.precision):
            estimates = self.network(mixture)
        return self.of_estimates(estimates, sources, num_samples)[0]


@dataclass(frozen=True)
class Gradients:
    """Adds a batch's gradients to those of the parameters.

    Attributes:
        batch_size: segments in a batch, over all processes.
        micro_batch: segments of this process that go through the network at once; by default all of them.
        parameters: the network's.
        group: the processes that share a batch.
    """

    batch_size: int
    micro_batch: int | None
    parameters: tuple[nn.Parameter, ...]
    group: Group

    def add(self, loss_of: Compiled, batch: Batch) -> Tensor:
        """Forward and back; returns this process's share of the batch's loss, dB, without waiting for the device.

        Args:
            loss_of: :meth:`Loss.compute`.
            batch: this process's share of a batch.
        """
        loss = torch.zeros((), device=batch.mixture.device)
        size = self.part_size(batch)
        # A recorded graph writes each part's gradients to the same place, so those of earlier parts are kept elsewhere.
        aside = loss_of.graphs and size < len(batch)
        kept: list[Tensor] = []
        for first in range(0, len(batch), size):
            loss += self._add_part(loss_of, batch[first : first + size])
            if aside:
                kept = self._set_aside(kept)
        for parameter, gradient in zip(self.parameters, kept, strict=aside):
            parameter.grad = gradient
        return loss

    def _set_aside(self, kept: list[Tensor]) -> list[Tensor]:
        """Add the parameters' gradients to those kept, and drop them."""
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        if not kept:
            return [gradient.clone() for gradient in gradients]
        torch._foreach_add_(kept, gradients)
        return kept

    def _add_part(self, loss_of: Compiled, part: Batch) -> Tensor:
        mean: Tensor = loss_of(part.mixture, part.sources, part.num_samples)
        loss = mean * (len(part) / self.batch_size)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def exchange(self, loss: Tensor) -> Tensor:
        """Give all processes the sums of their gradients; returns the sum of their losses, which is the whole batch's.

        All of it is one array, exchanged once the backward pass is done. To exchange parts of it meanwhile, as torch's
        DistributedDataParallel does, would need calls in the middle of that pass, which a recorded graph has no place for.
        """
        if self.group.size == 1:
            return loss
        learning = [each for each in self.parameters if each.grad is not None]
        parts = [loss[None], *(each.grad.flatten() for each in learning if each.grad is not None)]
        total, *sums = torch.split(self.group.total(torch.cat(parts)), [len(part) for part in parts])
        for parameter, summed in zip(learning, sums, strict=True):
            parameter.grad = summed.view_as(parameter)
        return total[0]

    def part_size(self, batch: Batch) -> int:
        """Segments that go through the network at once."""
        return self.micro_batch or len(batch)

    @contextmanager
    def explaining_memory(self, batch: Batch) -> Iterator[None]:
        """What to do where a step needs more memory than the device has.

        Raises:
            TrainingError: in place of torch's ``OutOfMemoryError``.
        """
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise TrainingError(self._memory_advice(self.part_size(batch), batch.mixture.device)) from error

    def _memory_advice(self, size: int, device: torch.device) -> str:
        if size == 1:
            return f"{device} has too little memory to train on a single segment at a time; lower train.segment_seconds"
        half = size // 2
        return (
            f"{device} has too little memory to train on {size} segments at once; use --micro-batch {half} (the same training, "
            f"{half} at a time) or train.batch_size = {half * self.group.size}, and half of that if it is still too much"
        )
