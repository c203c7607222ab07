"""Streaming on a CPU: one call of compiled code takes a piece through the whole network.

Weights are packed once, memory is laid out once, and a piece allocates nothing but its result. What it remembers goes by the same
names and shapes as in the definition, :class:`pipeline.models.streaming.StreamingCopy`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.kernels import dispatch, library
from pipeline.models.norms import CumulativeLayerNorm
from pipeline.models.streaming import StreamingCopy, check_memory

MAX_FRAMES = 32
"""Frames of a member that go through the network together: enough for the products, and their activations stay in the cache."""
MAX_TAPS = 16
"""Of a convolution, in ``stream.cpp``."""
_MASKS = ("sigmoid", "relu", "softmax")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class _Product(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_long) for name in ("inputs", "outputs")),
        *((name, ctypes.c_void_p) for name in ("weights", "bias")),
        ("half", ctypes.c_long),
    )


class _Norm(ctypes.Structure):
    _fields_ = (("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p), ("eps", ctypes.c_double), ("sums", ctypes.c_void_p))


class _Block(ctypes.Structure):
    _fields_ = (
        *((name, _Product) for name in ("expand", "residual", "skip")),
        *((name, _Norm) for name in ("norm_1", "norm_2")),
        *((name, ctypes.c_float) for name in ("slope_1", "slope_2")),
        *((name, ctypes.c_long) for name in ("num_taps", "dilation")),
        *((name, ctypes.c_void_p) for name in ("taps", "bias", "ring")),
        ("ring_frames", ctypes.c_long),
    )


_SIZES = ("batch", "threads", "max_frames", "hop", "num_sources", "num_blocks")
_MORE_SIZES = ("filters", "hidden", "hidden_width", "mask", "rectify")


class _Network(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_long) for name in (*_SIZES, *_MORE_SIZES)),
        ("forget_rate", ctypes.c_double),
        *((name, _Product) for name in ("encoder", "bottleneck", "output", "decoder")),
        ("input_norm", _Norm),
        ("output_slope", ctypes.c_float),
        ("blocks", ctypes.POINTER(_Block)),
        *((name, ctypes.c_void_p) for name in ("samples_before", "overlap", "workspace")),
        ("workspace_floats", ctypes.c_long),
    )


def compiled(network: Any, plain: nn.Module, definition: StreamingCopy) -> CompiledStreaming | None:
    """The same as a definition, in compiled code; None where only the definition will do.

    Args:
        network: a ``ConvTasNet``.
        plain: another of its settings, on any device, which nobody has changed.
        definition: the network's, without anything remembered.
    """
    parameters = dict(network.named_parameters())
    if any(type(each) is not nn.Parameter or each.dtype != torch.float32 for each in parameters.values()):
        return None
    if not dispatch.suits_streaming(next(iter(parameters.values()))):
        return None
    if [(name, type(part)) for name, part in network.named_modules()] != [(n, type(part)) for n, part in plain.named_modules()]:
        return None
    if any("forward" in vars(part) or any(getattr(part, hooks) for hooks in _HOOKS) for part in network.modules()):
        return None
    if network.settings.kernel_size > MAX_TAPS:
        return None
    if {name: each.shape for name, each in parameters.items()} != {name: each.shape for name, each in plain.named_parameters()}:
        return None
    return CompiledStreaming(network, definition)


class CompiledStreaming:
    """See :class:`pipeline.models.protocol.Streaming`; made by :func:`compiled`, which checks the network."""

    def __init__(self, network: Any, definition: StreamingCopy) -> None:
        self.delay_samples = definition.delay_samples
        self._library = library.load()
        self._panel = int(self._library.stream_panel())  # type: ignore[union-attr]
        self._weights = self._room(network)
        self._num_bytes = 0  # of it that are used
        self._tensors: list[Tensor] = []  # whose memory the struct points to
        self._num_frames = 0
        self._batch, self._hop = definition.batch_size, definition.hop_samples
        self._rounded = definition.rounded
        self._forget_rate = 1 / definition.forget_frames if definition.forget_frames else 0.0
        self._memory: dict[str, Tensor] = {}  # by the definition's names; of convolutions, the rings
        self._reach: dict[str, int] = {}  # of a ring, the frames before the next one that are needed
        self._shapes = definition.memory()
        with torch.no_grad():
            self._struct = self._pack(network)

    def __call__(self, piece: Tensor) -> Tensor:
        """Separate whole hops that follow those before."""
        samples = piece.to("cpu", torch.float32).contiguous()
        estimates = torch.empty(self._batch, self._struct.num_sources, samples.shape[1])
        num_frames = samples.shape[1] // self._hop
        self._library.stream_piece(  # type: ignore[union-attr]
            ctypes.byref(self._struct),
            ctypes.c_void_p(samples.data_ptr()),
            ctypes.c_void_p(estimates.data_ptr()),
            ctypes.c_long(num_frames),
            ctypes.c_long(self._num_frames),
        )
        self._num_frames += num_frames
        return estimates

    def memory(self) -> dict[str, Tensor]:
        """A copy of all that is remembered, as the definition has it."""
        found = {"num_frames": torch.tensor(self._num_frames)}
        for name, memory in self._memory.items():
            shape = self._shapes[name].shape
            found[name] = memory[:, self._places(name, memory), : shape[2]] if name in self._reach else memory.clone()
        return {name: found[name] for name in self._shapes}

    def restore(self, memory: Mapping[str, Tensor]) -> None:
        """Go on from a copy of :meth:`memory`, this one's or the definition's."""
        check_memory(memory, self._shapes)
        self._num_frames = int(memory["num_frames"])
        for name, own in self._memory.items():
            given = memory[name].to("cpu", own.dtype)
            if name in self._reach:
                own.zero_()[:, self._places(name, own), : given.shape[2]] = given
            else:
                own.copy_(given)

    def _places(self, name: str, ring: Tensor) -> Tensor:
        """Of the frames that are needed, the earliest first."""
        return (self._num_frames - self._reach[name] + torch.arange(self._reach[name])) % ring.shape[1]

    # ----------------------------------------------------------------------------------------------------------------- packing
    def _room(self, network: Any) -> Tensor:
        """Memory for all weights in the order of their use; what turns out to be too much is never touched."""
        room = torch.empty(sum(16 * each.numel() + 256 * self._panel**2 for each in network.parameters()), dtype=torch.uint8)
        self._library.stream_large_pages(ctypes.c_void_p(room.data_ptr()), ctypes.c_long(room.numel()))  # type: ignore[union-attr]
        return room

    def _placed(self, panels: Tensor) -> int:
        """The address of weights, after those before."""
        room = self._weights[self._num_bytes :][: panels.numel() * panels.itemsize].view(panels.dtype)
        self._num_bytes += -(-panels.numel() * panels.itemsize // 64) * 64
        room.view(panels.shape).copy_(panels)
        return room.data_ptr()

    def _pack(self, network: Any) -> _Network:
        settings, separator = network.settings, network.separator
        width, num_sources = self._wide(settings.num_filters), network.num_sources
        blocks = [self._block(f"separator.blocks.{k}", block) for k, block in enumerate(separator.blocks)]
        output = separator.output
        by_source = self._stored(output.weight).reshape(num_sources, -1, output.in_features), output.bias.reshape(num_sources, -1)
        missing = width - settings.num_filters
        output_weight = functional.pad(by_source[0], (0, 0, 0, missing)).flatten(0, 1)
        threads = max(1, min(torch.get_num_threads(), self._batch))
        packed = _Network(
            batch=self._batch, threads=threads, max_frames=MAX_FRAMES, hop=self._hop, num_sources=num_sources,
            num_blocks=len(blocks), filters=settings.num_filters, hidden=settings.hidden_channels,
            hidden_width=self._wide(settings.hidden_channels), mask=_MASKS.index(separator.mask),
            rectify=int(network.encoder.rectify), forget_rate=self._forget_rate,
            encoder=self._product(network.encoder.filters.weight, None, settings.filter_length),
            bottleneck=self._product(self._stored(separator.bottleneck.weight), separator.bottleneck.bias),
            output=self._product(output_weight, functional.pad(by_source[1], (0, missing)).flatten()),
            decoder=self._product(network.decoder.basis.weight, None),
            input_norm=self._norm("separator.input_norm", separator.input_norm),
            output_slope=separator.output_activation.slope.item(),
            blocks=(_Block * len(blocks))(*blocks),
            samples_before=self._remembered("encoder.memory"), overlap=self._remembered("decoder.memory"),
        )  # fmt: skip
        rows = -(-self._batch // threads) * MAX_FRAMES
        widest = max(width, packed.hidden_width, num_sources * packed.decoder.outputs)
        floats = rows * (width + packed.bottleneck.outputs + packed.output.inputs + widest + packed.output.outputs + 4)
        packed.workspace_floats = floats + (MAX_FRAMES + 1) * self._hop + 16 * 16
        packed.workspace = self._kept(torch.zeros(threads, packed.workspace_floats))
        return packed

    def _block(self, name: str, block: Any) -> _Block:
        convolution = block.depthwise
        last = block.residual_and_skip
        weights, biases = torch.split(self._stored(last.weight), block.sizes), torch.split(last.bias, block.sizes)
        memory = f"{name}.depthwise.memory"
        ring_frames = convolution.padding[0] + MAX_FRAMES
        self._reach[memory] = convolution.padding[0]
        self._memory[memory] = torch.zeros(self._batch, ring_frames, self._wide(block.expand.out_features))
        return _Block(
            expand=self._product(self._stored(block.expand.weight), block.expand.bias),
            residual=self._product(weights[0], biases[0]) if block.sizes[0] else _Product(),
            skip=self._product(weights[1], biases[1]),
            norm_1=self._norm(f"{name}.norm_1", block.norm_1),
            norm_2=self._norm(f"{name}.norm_2", block.norm_2),
            slope_1=block.activation_1.slope.item(), slope_2=block.activation_2.slope.item(),
            num_taps=len(convolution.taps), dilation=convolution.dilation,
            taps=self._row(convolution.taps), bias=self._row(convolution.bias),
            ring=self._memory[memory].data_ptr(), ring_frames=ring_frames,
        )  # fmt: skip

    def _stored(self, weight: Tensor) -> Tensor:
        """A matrix of the separator as it is kept."""
        return weight.bfloat16() if self._rounded else weight

    def _product(self, weight: Tensor, bias: Tensor | None, inputs: int | None = None) -> _Product:
        """A matrix ``[outputs, inputs]`` in panels; inputs are padded as rows are, unless their number is given."""
        num_inputs = inputs or self._wide(weight.shape[1])
        outputs = self._wide(weight.shape[0])
        padded = functional.pad(weight, (0, num_inputs - weight.shape[1], 0, outputs - weight.shape[0]))
        panels = padded.reshape(-1, self._panel, num_inputs).transpose(1, 2)  # [panel, input, output]
        bias = torch.zeros(outputs) if bias is None else bias
        half = weight.dtype == torch.bfloat16
        return _Product(inputs=num_inputs, outputs=outputs, weights=self._placed(panels), bias=self._row(bias), half=half)

    def _norm(self, name: str, norm: Any) -> _Norm:
        sums = self._remembered(f"{name}.memory") if type(norm) is CumulativeLayerNorm else None
        return _Norm(weight=self._row(norm.weight), bias=self._row(norm.bias), eps=norm.eps, sums=sums)

    def _remembered(self, name: str) -> int:
        self._memory[name] = self._shapes[name].clone()
        return self._memory[name].data_ptr()

    def _row(self, values: Tensor) -> int:
        return self._kept(functional.pad(values, (0, self._wide(values.shape[-1]) - values.shape[-1])))

    def _kept(self, tensor: Tensor) -> int:
        """The address of a copy that lives as long as this object."""
        self._tensors.append(tensor.detach().clone(memory_format=torch.contiguous_format))
        return self._tensors[-1].data_ptr()

    def _wide(self, count: int) -> int:
        return -(-count // self._panel) * self._panel
