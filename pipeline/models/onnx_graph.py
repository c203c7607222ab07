"""A Conv-TasNet as an ONNX graph, written node by node: the whole network, or the step of a stream with its state.

The graph says what ``conv_tasnet.py`` and, for the step, ``streaming.py`` say, with statistics merged in float64 as there; the
tests compare them in onnxruntime. Written by hand it has a fifth of the nodes that tracing leaves, and takes no minutes to make.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.models.conv_tasnet import Block, ConvTasNet
from pipeline.models.layers import DepthwiseConv
from pipeline.models.norms import LayerNorm
from pipeline.models.streaming import State, StreamingCopy

OPSET = 18
IR_VERSION = 9
"""Read by onnxruntime from 1.14 on."""
END = sys.maxsize
MIXTURE, ESTIMATES = "mixture", "estimates"
STATE, NEXT_STATE = "state.", "next_state."
"""Before the names that :class:`pipeline.models.streaming.StreamingCopy` gives to what it remembers."""
_TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int64": TensorProto.INT64}


def graph_file(network: ConvTasNet, metadata: Mapping[str, str], *, step: bool = False, num_hops: int | None = None) -> bytes:
    """A network as the bytes of an ONNX file.

    The whole network maps ``mixture [batch, time]`` to ``estimates [batch, source, time]``. The step of a stream also takes all
    of :meth:`StreamingCopy.states` as inputs named ``state.NAME``, and returns what they have become as ``next_state.NAME``; its
    time is a multiple of L/2, and its estimates are L/2 samples late.

    Args:
        network: with parts as ``build_model`` makes them.
        metadata: to be kept in the file; its ``description`` is the model's doc string too.
        step: the step instead of the whole network.
        num_hops: fixes the length of a step; by default each call may bring any number of whole hops.

    Raises:
        ModelError: the network has parts that have been replaced, or cannot stream.
    """
    plain = {type(part) for part in ConvTasNet(network.settings).modules()}
    if any(type(part) not in plain or "forward" in vars(part) for part in network.modules()):
        raise ModelError("parts of this network have been replaced; only networks as build_model makes them can be exported")
    graph = _Graph(network, {state.name: state for state in StreamingCopy(network).states()} if step else {}, step)
    hop = network.hop_samples
    made = helper.make_model(
        graph.whole("time" if not step else num_hops * hop if num_hops else f"{hop} * hops"),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="tasnet-pipeline",
        producer_version=metadata.get("version", ""),
        doc_string=metadata.get("description", ""),
    )
    helper.set_model_props(made, dict(metadata))
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString(deterministic=True))


@dataclass
class _Graph:
    """Nodes and weights so far; methods add to them and return the names of their results."""

    network: ConvTasNet
    states: dict[str, State]
    """What a step remembers, by name."""
    is_step: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, onnx.TensorProto] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    """Of the network's parts, by identity."""
    count: str = ""
    """Of frames up to and including each, ``[frames, 1]`` float64."""
    is_first: str = ""
    """Whether no frame came before this step."""

    def whole(self, length: int | str) -> onnx.GraphProto:
        """The graph, with signals of a length."""
        self.names = {id(part): name for name, part in self.network.named_modules()}
        frames = self.encoded()
        masks = self.separated(frames)
        self.decoded(self.op("Mul", self.op("Unsqueeze", frames, self.ints(2)), masks))
        mixture = helper.make_tensor_value_info(MIXTURE, TensorProto.FLOAT, ["batch", length])
        estimates = helper.make_tensor_value_info(ESTIMATES, TensorProto.FLOAT, ["batch", self.network.num_sources, length])
        before, after = (
            [helper.make_tensor_value_info(prefix + name, _TYPES[each.dtype], each.shape) for name, each in self.states.items()]
            for prefix in (STATE, NEXT_STATE)
        )
        name = "step" if self.is_step else "offline"
        return helper.make_graph(self.nodes, name, [mixture, *before], [estimates, *after], list(self.weights.values()))

    # ------------------------------------------------------------------------------------------------------------ the network
    def encoded(self) -> str:
        """``[batch, frames, N]``."""
        encoder = self.network.encoder
        hop = encoder.stride
        if not self.is_step:
            length = self.op("Shape", MIXTURE, start=1, end=2)
            missing = self.op("Mod", self.op("Neg", length), self.ints(hop))
            pads = self.op("Concat", self.ints(0, hop, 0), self.op("Add", missing, self.ints(hop)), axis=0)
            samples = self.op("Pad", MIXTURE, pads)
        else:
            samples = self.continued("encoder.memory", MIXTURE, hop)
        halves = self.op("Reshape", samples, self.ints(0, -1, hop))  # [batch, frames + 1, L/2]
        frames = self.op("Concat", self.cut(halves, 1, 0, -1), self.cut(halves, 1, 1), axis=2)  # [batch, frames, L]
        responses = self.op("MatMul", frames, self.weight("encoder.filters.weight", encoder.filters.weight.T))
        self.counted(responses)
        return self.op("Relu", responses) if encoder.rectify else responses

    def counted(self, frames: str) -> None:
        """Number the frames, if a norm is going to ask."""
        if self.network.settings.norm_kind != "cumulative":
            return
        number = self.op("Squeeze", self.op("Shape", frames, start=1, end=2))
        one = self.constant(np.array(1))
        numbers = self.op("Range", one, self.op("Add", number, one), one)
        if self.is_step:
            before = f"{STATE}num_frames"
            self.op("Add", before, number, output=f"{NEXT_STATE}num_frames")
            numbers = self.op("Add", numbers, before)
            self.is_first = self.op("Equal", before, self.constant(np.array(0)))
        self.count = self.op("Cast", self.op("Unsqueeze", numbers, self.ints(1)), to=TensorProto.DOUBLE)

    def separated(self, frames: str) -> str:
        """The masks, ``[batch, frames, source, N]``."""
        separator = self.network.separator
        x = self.linear(self.norm(frames, separator.input_norm), separator.bottleneck)  # [batch, frames, B]
        skips = ""
        for block in separator.blocks:
            assert isinstance(block, Block)
            x, skip = self.block(x, block)
            skips = self.op("Add", skips, skip) if skips else skip
        logits = self.linear(self.prelu(skips, separator.output_activation), separator.output)  # [batch, frames, source · N]
        shape = self.ints(0, 0, self.network.num_sources, self.network.settings.num_filters)
        logits = self.op("Reshape", logits, shape)
        if separator.mask == "softmax":
            return self.op("Softmax", logits, axis=2)  # over the sources
        return self.op("Sigmoid" if separator.mask == "sigmoid" else "Relu", logits)

    def block(self, x: str, block: Block) -> tuple[str, str]:
        """The sum to pass on ``[batch, frames, B]``, and the share of the skip path ``[batch, frames, Sc]``."""
        y = self.norm(self.prelu(self.linear(x, block.expand), block.activation_1), block.norm_1)  # [batch, frames, H]
        y = self.norm(self.prelu(self.depthwise(y, block.depthwise), block.activation_2), block.norm_2)
        both = self.linear(y, block.residual_and_skip)
        if not block.sizes[0]:
            return x, both
        residual, skip = self.ops("Split", both, self.ints(*block.sizes), num_outputs=2, axis=2)
        return self.op("Add", x, residual), skip

    def decoded(self, masked: str) -> None:
        """The estimates, from masked frames ``[batch, frames, source, N]``."""
        decoder = self.network.decoder
        hop = decoder.stride
        frames = self.op("MatMul", masked, self.weight("decoder.basis.weight", decoder.basis.weight.T))
        frames = self.op("Transpose", frames, perm=[0, 2, 1, 3])  # [batch, source, frames, L]
        first, second = self.ops("Split", frames, self.ints(hop, hop), num_outputs=2, axis=3)  # each [batch, source, frames, L/2]
        if not self.is_step:
            halves = self.op("Add", self.cut(first, 2, 1), self.cut(second, 2, 0, -1))
            samples = self.op("Reshape", halves, self.ints(0, 0, -1))
            length = self.op("Shape", MIXTURE, start=1, end=2)
            self.op("Slice", samples, self.ints(0), length, self.ints(2), output=ESTIMATES)
            return
        before = self.op("Unsqueeze", f"{STATE}decoder.memory", self.ints(2))
        overlapping = self.op("Concat", before, self.cut(second, 2, 0, -1), axis=2)
        self.op("Squeeze", self.cut(second, 2, -1), self.ints(2), output=f"{NEXT_STATE}decoder.memory")
        self.op("Reshape", self.op("Add", first, overlapping), self.ints(0, 0, -1), output=ESTIMATES)

    # -------------------------------------------------------------------------------------------------------------- its layers
    def linear(self, x: str, part: Any) -> str:
        """A product with a matrix, and its bias."""
        name = self.names[id(part)]
        product = self.op("MatMul", x, self.weight(f"{name}.weight", part.weight.T))
        return self.op("Add", product, self.weight(f"{name}.bias", part.bias))

    def prelu(self, x: str, part: Any) -> str:
        """A rectifier with a learned slope."""
        return self.op("PRelu", x, self.weight(f"{self.names[id(part)]}.slope", part.slope))

    def depthwise(self, x: str, part: DepthwiseConv) -> str:
        """A convolution, as shifted multiply-adds."""
        name, reach = self.names[id(part)], sum(part.padding)
        if self.is_step and reach:
            x = self.continued(f"{name}.memory", x, reach)
        elif reach:
            x = self.op("Pad", x, self.ints(0, part.padding[0], 0, 0, part.padding[1], 0))
        y = self.weight(f"{name}.bias", part.bias)
        for i, tap in enumerate(part.taps):
            start = i * part.dilation
            shifted = self.cut(x, 1, start, start - reach or END)
            y = self.op("Add", y, self.op("Mul", self.weight(f"{name}.taps.{i}", tap), shifted))
        return y

    def norm(self, x: str, part: LayerNorm) -> str:
        """A layer norm of any kind, see :meth:`pipeline.models.norms.LayerNorm.normalise`."""
        name = self.names[id(part)]
        frame_mean = self.op("ReduceMean", x, self.ints(-1))  # [batch, frames, 1]
        centred = self.op("Sub", x, frame_mean)
        variance = self.wide(self.op("ReduceMean", self.op("Mul", centred, centred), self.ints(-1)))
        wide_mean = mean = self.wide(frame_mean)
        if part.kind == "global":
            mean, variance = self.merged(wide_mean, variance)
        elif part.kind == "cumulative":
            mean, variance = self.accumulated(wide_mean, variance, f"{name}.memory")
        deviation = self.op("Sqrt", self.op("Add", variance, self.constant(np.array(part.eps))))
        y = self.op("Mul", centred, self.narrow(self.op("Reciprocal", deviation)))
        if mean != wide_mean:
            y = self.op("Add", y, self.narrow(self.op("Div", self.op("Sub", wide_mean, mean), deviation)))
        scaled = self.op("Mul", y, self.weight(f"{name}.weight", part.weight))
        return self.op("Add", scaled, self.weight(f"{name}.bias", part.bias))

    def merged(self, mean: str, variance: str) -> tuple[str, str]:
        """Mean and variance of all frames together, ``[batch, 1, 1]``."""
        overall = self.op("ReduceMean", mean, self.ints(1))
        offset = self.op("Sub", mean, overall)
        between = self.op("ReduceMean", self.op("Mul", offset, offset), self.ints(1))
        return overall, self.op("Add", self.op("ReduceMean", variance, self.ints(1)), between)

    def accumulated(self, mean: str, variance: str, memory: str) -> tuple[str, str]:
        """Mean and variance of the frames so far, ``[batch, frames, 1]``."""
        first = self.cut(mean, 1, 0, 1)
        if self.is_step:
            sums = self.op("Unsqueeze", STATE + memory, self.ints(1))  # [batch, 1, 4]
            first = self.op("Where", self.is_first, first, self.cut(sums, 2, 0, 1))
        offset = self.op("Sub", mean, first)
        terms = self.op("Concat", offset, self.op("Mul", offset, offset), variance, axis=2)  # [batch, frames, 3]
        totals = self.op("CumSum", terms, self.constant(np.array(1)))
        if self.is_step:
            totals = self.op("Add", self.cut(sums, 2, 1), totals)
            left = self.op("Concat", first, self.cut(totals, 1, -1), axis=2)
            self.op("Squeeze", left, self.ints(1), output=NEXT_STATE + memory)
        means = self.op("Div", totals, self.count)
        offset, squares, variances = self.ops("Split", means, self.ints(1, 1, 1), num_outputs=3, axis=2)
        between = self.op("Sub", squares, self.op("Mul", offset, offset))
        nonnegative = self.op("Max", between, self.constant(np.array(0.0)))
        return self.op("Add", first, offset), self.op("Add", variances, nonnegative)

    def continued(self, name: str, x: str, length: int) -> str:
        """``x`` after the last ``length`` of what came before it, along axis 1; remembers the last of both for the next step."""
        longer = self.op("Concat", STATE + name, x, axis=1)
        self.op("Slice", longer, self.ints(-length), self.ints(END), self.ints(1), output=NEXT_STATE + name)
        return longer

    # ------------------------------------------------------------------------------------------------------------------- nodes
    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """A node with one output."""
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def ops(self, kind: str, *inputs: str, num_outputs: int, **attributes: Any) -> list[str]:
        """A node with several outputs."""
        name = f"{kind}_{len(self.nodes)}"
        outputs = [f"{name}_{k}" for k in range(num_outputs)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return outputs

    def cut(self, x: str, axis: int, start: int, end: int = END) -> str:
        """``x[start:end]`` along an axis."""
        return self.op("Slice", x, self.ints(start), self.ints(end), self.ints(axis))

    def wide(self, x: str) -> str:
        """In float64."""
        return self.op("Cast", x, to=TensorProto.DOUBLE)

    def narrow(self, x: str) -> str:
        """In float32."""
        return self.op("Cast", x, to=TensorProto.FLOAT)

    def weight(self, name: str, tensor: Tensor) -> str:
        """A parameter."""
        return self.initialised(name, tensor.detach().cpu().float().contiguous().numpy())

    def ints(self, *values: int) -> str:
        """A list of whole numbers."""
        return self.constant(np.array(values))

    def constant(self, value: npt.NDArray[Any]) -> str:
        """A number or list of numbers that is the same for all networks."""
        text = "_".join(map(str, value.tolist())) if value.ndim else str(value.item())
        return self.initialised(f"{'list' if value.ndim else 'number'}_{text}", value)

    def initialised(self, name: str, value: npt.NDArray[Any]) -> str:
        """A named array in the file, kept once."""
        self.weights.setdefault(name, numpy_helper.from_array(value, name))
        return name
