"""Training in several processes at once, as ``torchrun`` starts them; one process is a group of one.

Process 0 runs a recipe's stages and writes every file. The others wait for it to name a training, join it, and wait again. All
but gradients and sums goes over gloo, from host to host, so that nobody waits for a device.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from pipeline.compute.torchrun import local_world_size, max_restarts, num_restarts, rank, shares_store, world_size
from pipeline.errors import LostProcessError

logger = logging.getLogger("pipeline")

_TO_MEET = timedelta(minutes=10)
"""How long processes wait for each other at the start; one that died just before never comes."""
_A_YEAR = timedelta(days=365)
"""How long the others wait while process 0 makes mixtures or scores; if it ends, they know at once."""

# The name is new in torch 2.14, what it does is not.
set_timeout = getattr(distributed, "set_timeout", None) or distributed.distributed_c10d._set_pg_timeout


@dataclass(frozen=True)
class Group:
    """Processes that train together; ``rank`` 0 writes the files."""

    rank: int = 0
    size: int = 1
    gloo: distributed.ProcessGroup | None = None
    """The same processes, for what does not lie on a device."""

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

    def copy_from_first(self, values: Iterable[Tensor]) -> None:
        """Replace the values of all processes by those of process 0."""
        if self.size > 1:
            for value in values:
                distributed.broadcast(value.detach(), src=0)

    def all_reduce_max(self, number: int) -> int:
        """The largest of all processes' numbers."""
        if self.size == 1:
            return number
        numbers = torch.tensor([number])
        distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=self.gloo)
        return int(numbers)

    def broadcast(self, text: str) -> None:
        """Send a text from process 0 to all others, which wait for it in :meth:`receive`."""
        if self.size > 1:
            distributed.broadcast_object_list([text], src=0, group=self.gloo)

    def receive(self) -> str:
        """Wait for what process 0 sends with :meth:`broadcast`."""
        texts = [""]
        distributed.broadcast_object_list(texts, src=0, group=self.gloo)
        return texts[0]


_joined: list[Group] = []
"""The group this process is in, if any."""


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group that torchrun's environment names, over NCCL on CUDA and gloo elsewhere, until the block ends.

    Inside such a block it is the group joined already.

    Raises:
        LostProcessError: another process has ended.
    """
    if _joined or world_size() == 1:
        yield _joined[0] if _joined else Group()
        return
    try:
        _joined.append(_join(device))
        yield _joined[0]
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise LostProcessError(f"rank {rank()} of {world_size()}: another process has ended; its message says why") from error
        raise
    finally:
        _joined.clear()
    distributed.destroy_process_group()  # not after an error: the others may be gone


def _join(device: torch.device) -> Group:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, number, size = next(rendezvous("env://"))
    _warn_of_old_addresses()
    backend = "nccl" if device.type == "cuda" else "gloo"
    # On one machine the number of restarts tells apart what each start has stored.
    own = PrefixStore(f"restart {num_restarts() if _on_one_machine() else ''}", store)
    distributed.init_process_group(backend, store=own, rank=number, world_size=size)
    gloo = distributed.new_group(backend="gloo", timeout=_TO_MEET)
    assert isinstance(gloo, distributed.ProcessGroup)
    # Once all have met, the others wait as long as process 0 works by itself.
    set_timeout(_A_YEAR, gloo)
    return Group(rank(), world_size(), gloo)


def _warn_of_old_addresses() -> None:
    if not _on_one_machine() and shares_store() and max_restarts() and rank() == 0:
        logger.warning(
            "torchrun: set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for it on every machine, or processes that it starts again may "
            "wait for those that have died"
        )


def _on_one_machine() -> bool:
    return local_world_size() == world_size()
