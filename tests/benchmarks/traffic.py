"""Bytes that a training step of the paper's network moves through a GPU's memory, counted, not measured; no GPU is needed.

    python tests/benchmarks/traffic.py

The network and its loss are traced as a compiler sees them, forward and backward. Matrix products read their inputs and write
their outputs once; the passes of ``passes.py`` are counted one by one; everything between is taken to be fused: a result that a
product, a kernel or the backward pass needs is written once, and what it is made of is read once.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.models import build_model
from pipeline.models.kernels import dispatch
from pipeline.recipe.schema import Model
from pipeline.training.gradients import Loss

SAMPLE_RATE, SECONDS = 8000, 4
STRAND = 16
"""Frames of a strand; around the convolution the two frames before it are read as well."""
HALO = (STRAND + 2) / STRAND
PASSES = {
    # statistics, convolve, normalise
    "hidden": 1 + (HALO + 1) + 2,
    # normalise_back_sums, normalise_back, convolve_back_sums, convolve_back
    "hidden_backward": 2 + 3 + (HALO + 1) + (HALO + 2),
    "normalised": 1 + 2,
    "normalised_backward": 2 + 3,
}
"""Arrays of a kernel's first input that it reads and writes."""
PRODUCTS = ("mm", "addmm", "bmm", "convolution")
VIEWS = (
    "view", "_unsafe_view", "reshape", "t", "permute", "transpose", "expand", "slice", "select", "unsqueeze", "squeeze", "alias",
    "detach", "getitem", "split_with_sizes", "split", "unbind",
)  # fmt: skip


def name_of(node: fx.Node) -> str:
    """An operator's name without namespace and overload."""
    return str(getattr(node.target, "__name__", node.target)).split(".")[0]


def is_product(node: fx.Node) -> bool:
    """Whether a matrix product, or a kernel of ours."""
    return node.op == "call_function" and (name_of(node) in PRODUCTS or name_of(node) in PASSES)


def base(node: fx.Node) -> fx.Node:
    """What a view looks at; a kernel's several results are told apart."""
    while node.op == "call_function" and name_of(node) in VIEWS and not (name_of(node) == "getitem" and is_product(parent(node))):
        node = parent(node)
    return node


def parent(node: fx.Node) -> fx.Node:
    """A node's first input."""
    return node.all_input_nodes[0]


def num_bytes(node: fx.Node) -> int:
    """Of a node's result."""
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return sum(each.numel() * each.element_size() for each in values if isinstance(each, Tensor))


def num_read(node: fx.Node) -> int:
    """Bytes that are read of what a node looks at: a part of it, or all of it once where it is repeated."""
    return min(num_bytes(node), num_bytes(base(node)))


def traffic(graph: fx.Graph) -> Iterator[tuple[str, float]]:
    """What moves bytes, and how many."""
    written = {
        base(each)
        for node in graph.nodes
        if is_product(node) or node.op == "output"
        for each in node.all_input_nodes
        if is_fused(base(each))
    }
    for node in graph.nodes:
        if node.op == "call_function" and name_of(node) in PASSES:
            yield "kernels", PASSES[name_of(node)] * num_bytes(parent(node))
        elif is_product(node):
            yield "products", sum(map(num_read, node.all_input_nodes)) + num_bytes(node)
        elif node in written:
            yield "between", sum(map(num_read, leaves(node, written))) + num_bytes(node)


def is_fused(node: fx.Node) -> bool:
    """Whether a compiler computes a node inside a larger pass."""
    return node.op == "call_function" and not is_product(node) and name_of(node) != "getitem"


def leaves(node: fx.Node, written: set[fx.Node]) -> set[fx.Node]:
    """What a written node is made of: products, inputs and other written nodes, or views of them."""
    found: set[fx.Node] = set()
    waiting, seen = list(node.all_input_nodes), set()
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        if base(each) in written or not is_fused(base(each)):
            found.add(each)
        else:
            waiting += base(each).all_input_nodes
    return found


def gigabytes(causal: bool, batch_size: int, sizes: dict[str, Any]) -> dict[str, float]:
    """Of a step, by segment."""
    totals = dict.fromkeys(("kernels", "products", "between"), 0.0)

    def counting(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        for kind, moved in traffic(graph.graph):
            totals[kind] += moved / batch_size / 1e9
        return make_boxed_func(graph.forward)

    backend = aot_autograd(fw_compiler=counting, bw_compiler=counting, partition_fn=min_cut_rematerialization_partition)
    with FakeTensorMode():  # shapes only: nothing is computed
        model = build_model(Model(causal=causal, **sizes))
        compute = torch.compile(Loss(model, torch.bfloat16).compute, backend=backend, dynamic=False, fullgraph=True)
        sources = torch.empty(batch_size, 2, SECONDS * SAMPLE_RATE)
        lengths = torch.empty(batch_size, dtype=torch.int64)
        compute(sources.sum(1), sources, lengths).backward()
    return totals


def main() -> None:
    """Print a line for each norm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--without-kernels", action="store_true", help="the network as it is defined, all left to a compiler")
    parser.add_argument("--small", action="store_true", help="a network for a test")
    given = parser.parse_args()
    sizes = {"num_filters": 64, "hidden_channels": 64, "bottleneck_channels": 16, "skip_channels": 16, "num_repeats": 1}
    if not given.without_kernels:
        dispatch._COMPILED = ("cpu",)  # the CPU's kernels in place of a card's: the graph is the same
    for causal in (False, True):
        found = gigabytes(causal, given.batch_size, sizes if given.small else {})
        parts = ", ".join(f"{kind} {amount:.2f}" for kind, amount in found.items())
        print(f"{'cLN' if causal else 'gLN'}: {math.fsum(found.values()):.2f} GB a segment of {SECONDS} s ({parts})")


if __name__ == "__main__":
    main()
