"""A whole packed dataset in a device's memory: batches are gathered there, and the host sends only the positions of segments.

The positions are those that :class:`pipeline.training.segments.StaticSegments` draws, so every sample is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.mixtures.shards import Shard
from pipeline.training.batches import Batch, Batches
from pipeline.training.device_mixing import DeviceMixing
from pipeline.training.segments import DynamicSegments, StaticSegments

PIECE = 2**26
"""Samples that are copied at once."""
SPARE_SHARE = 0.25
"""Of a device's memory, to be left for the longer mixtures of a validation and for other programs."""
BANK_SHARE = 0.25
"""Of a device's memory, which utterances to be mixed there may take."""


class ResidentSegments:
    """The segments of a packed dataset, on a device.

    Args:
        segments: which cuts of which mixtures.
        device: holds all samples.
    """

    def __init__(self, segments: StaticSegments, device: torch.device) -> None:
        self._segments = segments
        self._device = device
        self._shard = segments.shard
        self._samples = copied(self._shard, device)
        self._time = torch.arange(segments.num_samples, device=device)

    def gather(self, epoch: int, indices: Sequence[int]) -> Batch:
        """The batch of these segments; nothing waits for the device."""
        firsts, lengths = zip(*(self._firsts(epoch, index) for index in indices), strict=True)
        first = self._moved(torch.tensor(np.stack(firsts)))  # [batch, row]
        length = self._moved(torch.tensor(lengths))  # [batch]
        inside = self._time < length[:, None, None]  # [batch, 1, time]
        places = torch.where(inside, first[:, :, None] + self._time, 0)  # [batch, row, time]
        values = self._samples[places]
        full_scale = 2.0**15 if values.dtype == torch.int16 else 1.0
        rows = torch.where(inside, values.float() / full_scale, 0.0)
        return Batch(rows[:, 0], rows[:, 1:], length)

    def _firsts(self, epoch: int, index: int) -> tuple[np.ndarray, int]:
        """Where in the file a segment's rows begin, and how many samples it has."""
        chosen, start, stop = self._segments.place(epoch, index)
        rows, length = self._shard.shapes[chosen]
        return self._shard.offsets[chosen] + np.arange(rows) * length + start, stop - start

    def _moved(self, values: Tensor) -> Tensor:
        if self._device.type == "cuda":
            values = values.pin_memory()
        return values.to(self._device, non_blocking=True)


def copied(shard: Shard, device: torch.device) -> Tensor:
    """All samples of a file on a device, in pieces: the file may be larger than the host's memory."""
    dtype = torch.int16 if shard.samples.dtype.kind == "i" else torch.float32
    samples = torch.empty(shard.samples.size, dtype=dtype, device=device)
    for first in range(0, shard.samples.size, PIECE):
        piece = np.array(shard.samples[first : first + PIECE])
        samples[first : first + len(piece)] = torch.from_numpy(piece)
    return samples


def placed_at_once(segments: object) -> bool:
    """Whether :func:`resident` is to be called before the first step.

    What a device mixes rounds otherwise than what the host mixes, so all steps are to be mixed in one place, in whatever process.
    """
    return isinstance(segments, DynamicSegments)


def resident(segments: object, device: torch.device, *, compiled: bool) -> Batches | None:
    """The segments on a CUDA device, if they are made of one packed file and there is room for it; else None.

    Cuts of mixtures take what some training steps have left, which are then held by the allocator and not counted as free.
    Utterances to be mixed must fit into a fixed share of all the memory; ``compiled`` says whether a compiler makes the mixing.
    """
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    if isinstance(segments, StaticSegments) and segments.shard.samples.nbytes <= free - SPARE_SHARE * total:
        return ResidentSegments(segments, device)
    if isinstance(segments, DynamicSegments) and segments.noise is None and segments.bank.samples.nbytes <= BANK_SHARE * total:
        return DeviceMixing(segments, copied(segments.bank, device), compiled=compiled)
    return None
