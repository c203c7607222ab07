"""A trained model as files that run without this package: ONNX, programs of ``torch.export``, or a page for a browser.

There are two kinds. ``offline`` takes whole mixtures, any number and length of them. ``step`` is for live use of a causal model:
it takes the next hops of a signal with the state that the step before has returned, and remembers nothing itself. What a stranger
needs to run them is in the files' metadata.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.compute.version import package_version
from pipeline.errors import UsageError
from pipeline.files import written_whole
from pipeline.models import ConvTasNet, load_model
from pipeline.models.streaming import State, StreamingCopy

FORMAT = "tasnet-pipeline export 1"
FORMATS = ("onnx", "torch", "web")
METADATA_FILE = "tasnet-pipeline.json"
"""In a torch program, beside its graph."""
_IN_FULL = ("encoder.filters.weight", "decoder.basis.weight")
"""What stays in float32 where the rest is int8: the filterbanks touch every sample and are small."""
_OFFLINE = (
    "Separates mixtures [batch, time] of any length into estimates [batch, source, time], as long and in the same order. An "
    "estimate's level and sign are arbitrary: fit the sum of all to the mixture (least squares). The audio is mono, at "
    "sample_rate Hz."
)
_OFFLINE_FACTS = {"kind": "offline", "description": _OFFLINE}
_STEP = (
    "One step of a live separation. Call it again and again with the next samples of the mixtures, [batch, time], a multiple of "
    "hop_samples at once, and with every state tensor: zeros at first, then what the call before has returned for it. The "
    "metadata entry 'state' lists inputs, outputs, types and shapes. The estimates, [batch, source, time], are delay_samples "
    "late: leave out as many at the start, and push as many zeros at the end. An estimate's level and sign are arbitrary. The "
    "audio is mono, at sample_rate Hz."
)


def export_model(
    checkpoint: Path,
    out: Path,
    *,
    to: str = "onnx",
    num_hops: int | None = None,
    int8: bool = False,
    runtime: Path | None = None,
) -> Iterator[Path]:
    """Write a model as ``out/offline.onnx`` and, if it is causal, ``out/step.onnx``; or as ``.pt2`` for torch, or as a page.

    Args:
        checkpoint: a model of :func:`pipeline.save_model`.
        out: the folder.
        to: ``onnx``, ``torch`` or ``web``.
        num_hops: the length of a step's input, in hops; by default every call may bring another number of whole hops.
        int8: also write ``offline.int8.onnx`` and ``step.int8.onnx``, whose inner matrices have 8 bits.
        runtime: of a page, onnxruntime-web; see :func:`pipeline.separation.live.web.runtime_files`.

    Yields:
        Every file, once it is whole.

    Raises:
        CheckpointError: there is no model in the file.
        ModelError: the page of a model that is not causal.
        UsageError: there is no such format or package, or the model has no step to fix the length of.
        WorkError: the folder cannot be written.
    """
    _check(to, num_hops=num_hops, int8=int8, runtime=runtime)
    network = load_model(checkpoint).requires_grad_(False)
    if num_hops is not None and not network.causal:
        raise UsageError("--hops fixes the length of a streaming step, and only causal models have one; leave it out")
    with checkpoint.open("rb") as file:
        facts = _facts(network, hashlib.file_digest(file, "sha256").hexdigest())
    if to == "torch":
        yield from _torch_programs(network, out, facts, num_hops)
    elif to == "web":
        yield from _page(network, checkpoint, out, facts, runtime)
    else:
        yield from _write_onnx(network, out, facts, num_hops, int8=int8)


def _check(to: str, *, num_hops: int | None, int8: bool, runtime: Path | None) -> None:
    if to not in FORMATS:
        raise UsageError(f"--format {to}: choose onnx, torch or web")
    if to != "onnx" and int8:
        raise UsageError("--int8 is for --format onnx only")
    if to == "web" and num_hops is not None:
        raise UsageError("--hops is for --format onnx and torch; the page takes chunks of any length")
    if to != "web" and runtime is not None:
        raise UsageError("--runtime is for --format web only")
    for package in ["onnx", *(["onnxruntime"] if int8 else [])] if to != "torch" else []:
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"the export needs the package {package}: pip install 'tasnet-pipeline[export]'")


# ------------------------------------------------------------------------------------------------------------------ metadata
def _facts(network: ConvTasNet, digest: str) -> dict[str, str]:
    """What is true of both kinds."""
    ahead = network.look_ahead_limit
    return {
        "format": FORMAT,
        "version": package_version(),
        "checkpoint_sha256": digest,
        "sample_rate": str(network.sample_rate),
        "num_sources": str(network.num_sources),
        "causal": str(network.causal).lower(),
        "norm": network.settings.norm_kind,
        "hop_samples": str(network.hop_samples),
        "look_ahead_samples": str(ahead) if network.causal else "not limited",
        "model": json.dumps(network.settings.model_dump()),
    }


def _step_facts(network: ConvTasNet, facts: Mapping[str, str], states: Sequence[State], num_hops: int | None) -> dict[str, str]:
    """With the latency: a sample waits for its chunk to be full, and for the hop that overlaps it."""
    hop = network.hop_samples
    latency = hop + hop * (num_hops or 1)
    listed = [
        {**asdict(each), "input": f"state.{each.name}", "output": f"next_state.{each.name}", "initial": 0} for each in states
    ]
    return {
        **facts,
        "kind": "step",
        "chunk_samples": str(num_hops * hop) if num_hops else f"any multiple of {hop}",
        "delay_samples": str(hop),
        "latency_samples": str(latency),
        "latency_ms": f"{1000 * latency / network.sample_rate:g}",
        "latency_is": "from a sample's arrival until its estimate is out, without computing; " + (
            "for chunks of this length" if num_hops else "for chunks of one hop, and one hop more for each further one"
        ),
        "state": json.dumps(listed),
        "description": _STEP,
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------- ONNX
def _write_onnx(network: ConvTasNet, out: Path, facts: Mapping[str, str], num_hops: int | None, *, int8: bool) -> Iterator[Path]:
    for name, content in _onnx_files(network, facts, num_hops):
        with written_whole(out / f"{name}.onnx") as temporary:
            temporary.write_bytes(content)
        yield out / f"{name}.onnx"
        if int8:
            yield _quantised(out / f"{name}.onnx", out / f"{name}.int8.onnx")


def _onnx_files(network: ConvTasNet, facts: Mapping[str, str], num_hops: int | None) -> Iterator[tuple[str, bytes]]:
    """Names and contents."""
    from pipeline.models import onnx_graph

    yield "offline", onnx_graph.graph_file(network, {**facts, **_OFFLINE_FACTS})
    if network.causal:
        yield "step", _step_file(network, facts, num_hops)


def step_file(network: ConvTasNet) -> bytes:
    """What ``step.onnx`` would hold of a causal network that no file holds."""
    return _step_file(network, _facts(network, digest=""), None)


def _step_file(network: ConvTasNet, facts: Mapping[str, str], num_hops: int | None) -> bytes:
    from pipeline.models import onnx_graph

    step_facts = _step_facts(network, facts, StreamingCopy(network).states(), num_hops)
    return onnx_graph.graph_file(network, step_facts, step=True, num_hops=num_hops)


def _page(network: ConvTasNet, checkpoint: Path, out: Path, facts: Mapping[str, str], runtime: Path | None) -> Iterator[Path]:
    from pipeline.separation.live import web

    step_facts = _step_facts(network, facts, StreamingCopy(network).states(), None)
    step = _step_file(network, facts, None)
    return web.write_page(network, checkpoint, out, step=step, step_facts=step_facts, runtime=runtime)


def _quantised(source: Path, target: Path) -> Path:
    """The same file with the inner matrices in 8 bits; activations are rounded to 8 bits for each product as it comes."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = onnx.load(source).graph.node
    kept = [node.name for node in nodes if set(node.input) & set(_IN_FULL)]
    with written_whole(target) as temporary, _without_advice():
        quantize_dynamic(source, temporary, weight_type=QuantType.QInt8, per_channel=True, nodes_to_exclude=kept)
    return target


@contextmanager
def _without_advice() -> Iterator[None]:
    """onnxruntime advises to preprocess a graph that has nothing to preprocess."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


# --------------------------------------------------------------------------------------------------------------------- torch
class Step(nn.Module):
    """A stream's step as a function: ``mixture, *state -> estimates, *state``, the state in the order of :attr:`states`."""

    def __init__(self, network: ConvTasNet) -> None:
        super().__init__()
        self.streaming = StreamingCopy(network)
        self.states = self.streaming.states()

    def forward(self, mixture: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Take one step."""
        before = {each.name: tensor for each, tensor in zip(self.states, state, strict=True)}
        estimates, memory = self.streaming.step(mixture, before)
        return estimates, *(memory[each.name] for each in self.states)

    def zeros(self, batch: int) -> list[Tensor]:
        """The state before the first step."""
        sizes = [tuple(int(batch if size == "batch" else size) for size in each.shape) for each in self.states]
        return [torch.zeros(size, dtype=getattr(torch, each.dtype)) for size, each in zip(sizes, self.states, strict=True)]


def _torch_programs(network: ConvTasNet, out: Path, facts: Mapping[str, str], num_hops: int | None) -> Iterator[Path]:
    from torch.export import Dim

    batch, hop = Dim("batch"), network.hop_samples
    whole = torch.zeros(2, 5 * hop + 1)
    yield _write_program(network, (whole,), ({0: batch, 1: Dim("time")},), out / "offline.pt2", {**facts, **_OFFLINE_FACTS})
    if network.causal:
        step = Step(network)
        length = {} if num_hops else {1: hop * Dim("hops", min=1)}
        shapes = ({0: batch, **length}, tuple({0: batch} if each.shape else None for each in step.states))
        given = (torch.zeros(2, hop * (num_hops or 5)), *step.zeros(2))
        yield _write_program(step, given, shapes, out / "step.pt2", _step_facts(network, facts, step.states, num_hops))


def _write_program(
    module: nn.Module, given: tuple[Tensor, ...], shapes: tuple[Any, ...], path: Path, facts: Mapping[str, str]
) -> Path:
    """Export for all sizes; ``torch.export.load(path).module()`` runs it."""
    symbolic_shapes: Any = torch.fx.experimental._config
    # Otherwise a size of one, as of signals within one hop, would be refused.
    with symbolic_shapes.patch(backed_size_oblivious=True), torch.no_grad():
        program = torch.export.export(module, given, dynamic_shapes=shapes, strict=False)
    for graph in program.graph_module.modules():
        for node in graph.graph.nodes if isinstance(graph, torch.fx.GraphModule) else []:
            node.meta.pop("stack_trace", None)  # it names folders of this machine
    with written_whole(path) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file, extra_files={METADATA_FILE: json.dumps(dict(facts), indent=1)})
    return path
