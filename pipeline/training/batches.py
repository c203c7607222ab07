"""Batches of segments for training, and of whole mixtures for validation, made by threads ahead of the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pipeline.training.segments import Mixtures, Segment, Segments, padded

Made = TypeVar("Made")

WHOLE = slice(None)


@dataclass(frozen=True)
class Batch:
    """Equally long segments: ``mixture [batch, time]``, ``sources [batch, source, time]``, ``num_samples [batch]`` unpadded."""

    mixture: Tensor
    sources: Tensor
    num_samples: Tensor
    padded: bool = False
    """Whether the network must be told where each mixture ends; training segments end in silence that it hears."""

    def __len__(self) -> int:
        return len(self.mixture)

    def __getitem__(self, rows: slice) -> Batch:
        return replace(self, mixture=self.mixture[rows], sources=self.sources[rows], num_samples=self.num_samples[rows])

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; from pinned memory the copy runs beside what the device is doing."""
        mixture, sources, num_samples = (
            part.to(device, non_blocking=True) for part in (self.mixture, self.sources, self.num_samples)
        )
        return Batch(mixture, sources, num_samples, self.padded)

    def pinned(self) -> Batch:
        """The batch in page-locked memory."""
        return Batch(self.mixture.pin_memory(), self.sources.pin_memory(), self.num_samples.pin_memory(), self.padded)


@runtime_checkable
class Batches(Protocol):
    """Training segments that come as batches."""

    def gather(self, epoch: int, indices: Sequence[int]) -> Batch:
        """The segments of these indices."""


def collate(segments: Sequence[Segment]) -> Batch:
    """Stack equally long segments."""
    mixture = torch.from_numpy(np.stack([segment.mixture for segment in segments]))
    sources = torch.from_numpy(np.stack([segment.sources for segment in segments]))
    return Batch(mixture, sources, torch.tensor([segment.num_samples for segment in segments]))


def epoch_batches(
    segments: Segments | Batches,
    *,
    epoch: int,
    steps: range,
    batch_size: int,
    share: slice = WHOLE,
    num_workers: int = 1,
    pin: bool = False,
) -> Iterator[Batch]:
    """The batches ``steps`` of an epoch, in order, made ahead of their use.

    Args:
        segments: where segments come from, one by one or, already on the device, a batch at a time.
        epoch: from 1.
        steps: ``range(k, n)`` leaves out the first ``k`` batches, as after a resumption.
        batch_size: segments in a batch, over all processes.
        share: which of them this process takes (``slice(rank, None, world_size)``).
        num_workers: threads that make batches ahead; with 0 each is made when it is asked for.
        pin: put batches into page-locked memory, for copies to a CUDA device.
    """

    def batch(step: int) -> Batch:
        indices = range(step * batch_size, (step + 1) * batch_size)[share]
        if isinstance(segments, Batches):
            return segments.gather(epoch, indices)
        made = collate([segments.segment(epoch, index) for index in indices])
        return made.pinned() if pin else made

    # What is gathered on the device is queued there; a thread beside would only take turns with the steps.
    return ahead(batch, steps, num_workers=0 if isinstance(segments, Batches) else num_workers)


def ahead(make: Callable[[int], Made], numbers: range, *, num_workers: int) -> Iterator[Made]:
    """``make(number)`` for every number, in order, computed by threads up to four results per thread ahead.

    Threads are enough: NumPy does the work outside the interpreter's lock, and nothing is copied between processes.
    """
    if num_workers == 0:
        yield from map(make, numbers)
        return
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="batches")
    waiting: deque[Future[Made]] = deque()
    try:
        for number in numbers:
            waiting.append(pool.submit(make, number))
            if len(waiting) > 4 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def validation_batches(
    mixtures: Mixtures,
    *,
    batch_size: int,
    share: slice = WHOLE,
    num_workers: int = 1,
    pin: bool = False,
    room: Room | None = None,
) -> Iterator[Batch]:
    """Every mixture once, in batches of similar lengths, each cut to the shortest of ``batch_size`` neighbours in length.

    Cutting rather than padding: a global norm would average over the padding and score the network on what it never hears.

    Args:
        mixtures: any.
        batch_size: mixtures that are cut to one length; also those of a batch, unless there is more room.
        share: which of the batches, or of the mixtures where there is more room, this process takes.
        num_workers: as in :func:`epoch_batches`.
        pin: likewise.
        room: puts as many cut mixtures into a batch as there is room for, padded to the longest, which comes first: a CUDA
            device's allocator then asks for memory once and cuts all other batches out of it.
    """
    lengths = [mixtures.num_samples(index) for index in range(len(mixtures))]
    order = sorted(range(len(mixtures)), key=lambda index: (lengths[index], index))
    groups = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    cuts = [[(index, lengths[group[0]]) for index in group] for group in groups]
    cuts = cuts[share] if room is None else room.filled([cut for group in cuts[::-1] for cut in group[::-1]][share])

    def batch(number: int) -> Batch:
        longest = cuts[number][0][1]
        read = [padded(*mixtures.read(index, 0, length), longest) for index, length in cuts[number]]
        made = replace(collate(read), padded=room is not None)
        return made.pinned() if pin else made

    return ahead(batch, range(len(cuts)), num_workers=num_workers)


@dataclass(frozen=True)
class Room:
    """How much of whole mixtures fits at once.

    Attributes:
        num_bytes: of activations.
        bytes_of: those of a mixture of so many samples.
    """

    num_bytes: int
    bytes_of: Callable[[int], int]

    def filled(self, cuts: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        """Mixtures, each with its length, the longest first, in batches that fit; one alone need not."""
        batches: list[list[tuple[int, int]]] = []
        for cut in cuts:
            if not batches or (len(batches[-1]) + 1) * self.bytes_of(batches[-1][0][1]) > self.num_bytes:
                batches.append([])
            batches[-1].append(cut)
        return batches
