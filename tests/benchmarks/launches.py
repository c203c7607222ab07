"""What validation on a CUDA card launches and moves, counted with fake tensors, not measured; no GPU is needed.

    python tests/benchmarks/launches.py

The paper's network and the loss, operator by operator as they run there: every operator that computes is a launch, reads its
inputs and writes its outputs once; a block's kernels are five launches, a norm's alone three, and they are counted pass by pass.
"""

from __future__ import annotations

import argparse
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.models import build_model
from pipeline.models.kernels import dispatch
from pipeline.recipe.schema import Model
from pipeline.training.losses import pit_loss

SAMPLE_RATE = 8000
KERNELS = {"hidden_of_padded": (5, 6.0), "normalised_of_padded": (3, 3.0)}
"""Launches, and arrays that are read and written."""
VIEWS = {
    "view", "_unsafe_view", "t", "permute", "transpose", "expand", "slice", "select", "unsqueeze", "squeeze", "alias", "detach",
    "split_with_sizes", "split", "unbind", "empty", "empty_like", "device", "promote_types",
}  # fmt: skip


class Count(TorchDispatchMode):
    """Adds up what operators launch and move."""

    def __init__(self) -> None:
        super().__init__()
        self.launches, self.num_bytes = 0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in KERNELS:
            launches, arrays = KERNELS[name]
            self.launches += launches
            self.num_bytes += arrays * args[0].numel() * args[0].element_size()
        elif name not in VIEWS:
            self.launches += 1
            self.num_bytes += sum(
                each.numel() * each.element_size() for each in tree_leaves((args, made)) if isinstance(each, Tensor)
            )
        return made


def count(causal: bool, batch_size: int, seconds: float) -> Count:
    """Of one batch."""
    plain = mock.patch.multiple(dispatch, available=lambda device: True, _suits=lambda x: True, _fit=lambda *_: True)
    possible = mock.patch.multiple(torch.cuda, is_bf16_supported=lambda *_: True, get_device_capability=lambda *_: (9, 0))
    warned = mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    with plain, possible, warned, FakeTensorMode(), torch.no_grad():
        with torch.device("cuda"):
            model = build_model(Model(causal=causal))
            sources = torch.empty(batch_size, 2, round(seconds * SAMPLE_RATE))
            lengths = torch.empty(batch_size, dtype=torch.int64)
        with Count() as counted:
            with torch.autocast("cuda", torch.bfloat16):
                estimates = model(sources.sum(1), lengths)
            pit_loss(estimates, sources, lengths)
            pit_loss(estimates, sources, lengths)  # of the several that sound, and of the mixture itself
            pit_loss(estimates, sources, lengths)
    return counted


def main() -> None:
    """Print a line for each norm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=44)
    parser.add_argument("--mixtures", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a mixture")
    given = parser.parse_args()
    for causal in (False, True):
        found = count(causal, given.batch_size, given.seconds)
        batches, norm = -(-given.mixtures // given.batch_size), "cLN" if causal else "gLN"
        print(
            f"{norm}: {given.mixtures:,} mixtures of {given.seconds:g} s, {given.batch_size} at once: "
            f"{batches} times {found.launches} launches, {given.mixtures / given.batch_size * found.num_bytes / 1e12:.1f} TB"
        )


if __name__ == "__main__":
    main()
