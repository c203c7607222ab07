"""Training in several processes at once, as ``torchrun`` starts them; one process is a group of one.

Process 0 runs a recipe's stages and writes every file. The others wait for its word, join it for a training, and wait again. What
they say to each other beside gradients goes over gloo, from host to host: nobody waits for a device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

from pipeline.compute.torchrun import rank, world_size
from pipeline.errors import TrainingError

_FOREVER = timedelta(days=365)
"""The others wait while process 0 makes mixtures or scores; if it ends, they know at once."""


class LostError(TrainingError):
    """Another process of the group has ended."""


@dataclass(frozen=True)
class Group:
    """Processes that train together; ``rank`` 0 writes the files."""

    rank: int = 0
    size: int = 1
    hosts: distributed.ProcessGroup | None = None
    """The same processes over gloo."""

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """The part of every global batch that is this process's."""
        return slice(self.rank, None, self.size)

    def total(self, values: Tensor) -> Tensor:
        """Sum over all processes."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def most(self, number: int) -> int:
        """The largest of all processes' numbers."""
        if self.size == 1:
            return number
        numbers = torch.tensor([number])
        distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=self.hosts)
        return int(numbers)

    def tell(self, word: str) -> None:
        """Say a word to the other processes, which are waiting for it in :meth:`hear`."""
        if self.size > 1:
            distributed.broadcast_object_list([word], src=0, group=self.hosts)

    def hear(self) -> str:
        """Wait for process 0 to say a word."""
        words = [""]
        distributed.broadcast_object_list(words, src=0, group=self.hosts)
        return words[0]


_joined: list[Group] = []
"""The group this process is in, if any."""


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group that torchrun's environment names, over NCCL on CUDA and gloo elsewhere, until the block ends.

    Inside such a block it is the group joined already.

    Raises:
        LostError: another process has ended.
    """
    if _joined or world_size() == 1:
        yield _joined[0] if _joined else Group()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        hosts = distributed.new_group(backend="gloo", timeout=_FOREVER)
        assert isinstance(hosts, distributed.ProcessGroup)
        _joined.append(Group(rank(), world_size(), hosts))
        yield _joined[0]
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise LostError(f"process {rank()} of {world_size()}: another process has ended, and says why") from error
        raise
    finally:
        _joined.clear()
    distributed.destroy_process_group()  # after an error there may be nobody left to take leave of
