"""Training in several processes at once, as ``torchrun`` starts them; one process is a group of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Group:
    """Processes that train one system together; ``rank`` 0 writes the files."""

    rank: int = 0
    size: int = 1

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


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group that torchrun's environment names, over NCCL on CUDA and gloo elsewhere; left when the block ends."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or distributed.is_initialized():
        yield Group(distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else Group()
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()
