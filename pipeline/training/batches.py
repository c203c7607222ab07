"""Batches of segments for training, and of whole mixtures for validation, made by threads ahead of the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pipeline.training.segments import Mixtures, Segment, Segments

Made = TypeVar("Made")

WHOLE = slice(None)


@dataclass(frozen=True)
class Batch:
    """Equally long segments: ``mixture [batch, time]``, ``sources [batch, source, time]``, ``num_samples [batch]`` unpadded."""

    mixture: Tensor
    sources: Tensor
    num_samples: Tensor

    def __len__(self) -> int:
        return len(self.mixture)

    def __getitem__(self, rows: slice) -> Batch:
        return Batch(self.mixture[rows], self.sources[rows], self.num_samples[rows])

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; from pinned memory the copy runs beside what the device is doing."""
        moved = (part.to(device, non_blocking=True) for part in (self.mixture, self.sources, self.num_samples))
        return Batch(*moved)

    def pinned(self) -> Batch:
        """The batch in page-locked memory."""
        return Batch(self.mixture.pin_memory(), self.sources.pin_memory(), self.num_samples.pin_memory())


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
    longest_first: bool = False,
) -> Iterator[Batch]:
    """Every mixture once, in batches of similar lengths, each batch cut to its shortest; ``share`` takes some of the batches.

    Cutting rather than padding: a global norm would average over the padding and score the network on what it never hears.
    With the longest first, a CUDA device's allocator asks for memory once and cuts all other batches out of it.
    """
    lengths = [mixtures.num_samples(index) for index in range(len(mixtures))]
    order = sorted(range(len(mixtures)), key=lambda index: (lengths[index], index))
    groups = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    groups = (groups[::-1] if longest_first else groups)[share]

    def batch(number: int) -> Batch:
        length = lengths[groups[number][0]]
        made = collate([Segment(*mixtures.read(index, 0, length), length) for index in groups[number]])
        return made.pinned() if pin else made

    return ahead(batch, range(len(groups)), num_workers=num_workers)
