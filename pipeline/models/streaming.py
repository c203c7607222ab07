"""A causal network for signals that arrive piece by piece, exactly as it treats the whole.

The network's own ``forward`` runs on every piece. Only those of its parts that look beyond a single frame are replaced, each by a
part that remembers the end of what came before: the encoder and the convolutions their left context, the decoder what still
overlaps, and cumulative norms their running sums in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.models.filterbanks import Decoder, Encoder
from pipeline.models.layers import DepthwiseConv, depthwise
from pipeline.models.norms import MAX_FRAMES, CumulativeLayerNorm, GlobalLayerNorm

MIN_FORGET_FRAMES = 2.0


@dataclass(frozen=True)
class State:
    """One of the tensors that a stream remembers; all begin as zeros."""

    name: str
    dtype: str
    """As numpy calls it."""
    shape: tuple[int | str, ...]
    """``"batch"`` stands for the number of signals."""


class StreamingCopy(nn.Module):
    """The definition of streaming: a network's copy whose parts remember.

    Args:
        network: causal, built of the parts in this folder. Modules of other classes are taken to work frame by frame.
        batch_size: signals, all in step.
        forget_frames: see :meth:`CumulativeLayerNorm.merge_more`.
        rounded: round the separator's matrices to bfloat16, the encoder's and the decoder's not.

    Shape:
        ``[batch, hops · L/2] -> [batch, source, hops · L/2]``, one hop later than the network's own output.

    Raises:
        ModelError: when the network needs the future, or has nothing to forget.
    """

    num_frames: Tensor

    def __init__(self, network: Any, batch_size: int = 1, forget_frames: float | None = None, *, rounded: bool = False) -> None:
        super().__init__()
        _check_causal(network)
        _check_forgetting(network, forget_frames)
        self.hop_samples: int = network.hop_samples
        self.delay_samples = self.hop_samples
        self.batch_size = batch_size
        self.forget_frames = forget_frames
        self.rounded = rounded
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.register_buffer("num_frames", torch.zeros((), dtype=torch.int64, device=next(network.parameters()).device))
        self._replace_parts()
        if rounded:
            for part in self.network.separator.modules():
                if isinstance(part, nn.Linear):
                    part.weight.copy_(part.weight.bfloat16())

    def _replace_parts(self) -> None:
        remembering: dict[type, Callable[[Any], nn.Module]] = {
            Encoder: lambda part: StreamingEncoder(part, self.batch_size),
            DepthwiseConv: lambda part: StreamingConv(part, self.batch_size),
            CumulativeLayerNorm: lambda part: StreamingNorm(part, self.batch_size, self.forget_frames, lambda: self.num_frames),
            Decoder: lambda part: StreamingDecoder(part, self.batch_size, self.network.num_sources),
        }
        for name, part in list(self.network.named_modules()):
            if type(part) in remembering:
                if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
                    raise ModelError(f"{name} has a hook or a forward of its own, which a stream would skip; remove it to stream")
                self.network.set_submodule(name, remembering[type(part)](part))

    def forward(self, piece: Tensor) -> Tensor:
        """Separate whole hops that follow those before."""
        outputs = []
        for hops in torch.split(piece, MAX_FRAMES * self.hop_samples, dim=-1):
            outputs.append(self.network(hops))
            self.num_frames = self.num_frames + hops.shape[-1] // self.hop_samples
        return torch.cat(outputs, dim=-1)

    def step(self, piece: Tensor, memory: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """As a function without side effects: the estimates of whole hops after ``memory``, and what is remembered then.

        Args:
            piece: at most :data:`MAX_FRAMES` hops where older frames are forgotten.
            memory: of the shapes of :meth:`memory`, for any number of signals.
        """
        before = self._memory()
        try:
            self._set_memory(memory)
            estimates = self.network(piece)
            self.num_frames = self.num_frames + piece.shape[-1] // self.hop_samples
            return estimates, self._memory()
        finally:
            self._set_memory(before)

    def memory(self) -> dict[str, Tensor]:
        """A copy of all that the parts remember, and the number of frames so far."""
        return {name: tensor.clone() for name, tensor in self._memory().items()}

    def states(self) -> list[State]:
        """What :meth:`memory` holds, without what this network does not need."""
        counted = any(isinstance(part, StreamingNorm) for part in self.network.modules())
        return [
            State(name, str(each.dtype).removeprefix("torch."), ("batch", *each.shape[1:]) if each.ndim else ())
            for name, each in self._memory().items()
            if each.numel() and (counted or each.ndim)
        ]

    def restore(self, memory: Mapping[str, Tensor]) -> None:
        """Go on from a copy of :meth:`memory`.

        Raises:
            ModelError: when it is that of another network or batch.
        """
        check_memory(memory, self._memory())
        self._set_memory({name: memory[name].to(own.device, own.dtype, copy=True) for name, own in self._memory().items()})

    def _set_memory(self, memory: Mapping[str, Tensor]) -> None:
        for name, tensor in memory.items():
            part, _, buffer = name.rpartition(".")
            setattr(self.network.get_submodule(part) if part else self, buffer, tensor)

    def _memory(self) -> dict[str, Tensor]:
        parts = {name: part.memory for name, part in self.network.named_modules() if isinstance(part, _PARTS)}
        return {"num_frames": self.num_frames, **{f"{name}.memory": memory for name, memory in parts.items()}}


def check_memory(memory: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise a ModelError unless names and shapes are the expected ones."""
    if memory.keys() != expected.keys():
        wrong = sorted(memory.keys() ^ expected.keys())[0]
        raise ModelError(
            f"this is the state of another network: {wrong} is missing from one of them; use the same model and options"
        )
    for name, tensor in expected.items():
        if memory[name].shape != tensor.shape:
            raise ModelError(
                f"this is the state of another stream: {name} has the shape {list(memory[name].shape)}, and here "
                f"{list(tensor.shape)}; use the same model and batch size"
            )


def _check_causal(network: nn.Module) -> None:
    reasons = []
    ahead = sum(part.padding[1] for part in network.modules() if isinstance(part, DepthwiseConv))
    if ahead:
        reasons.append(f"its convolutions look {ahead} frames ahead")
    if any(isinstance(part, GlobalLayerNorm) for part in network.modules()):
        reasons.append("its global layer norm needs the whole signal")
    if reasons:
        raise ModelError(f"this network cannot stream: {', and '.join(reasons)}; train one with causal = true")


def _check_forgetting(network: nn.Module, forget_frames: float | None) -> None:
    if forget_frames is None:
        return
    if not any(isinstance(part, CumulativeLayerNorm) for part in network.modules()):
        raise ModelError("this network has no cumulative layer norm, so there is nothing to forget; leave forget_seconds out")
    if not forget_frames >= MIN_FORGET_FRAMES:
        raise ModelError(f"forget_seconds covers {forget_frames:g} frames; it must cover at least {MIN_FORGET_FRAMES:g}")


class StreamingEncoder(nn.Module):
    """An encoder that remembers the last L/2 samples."""

    memory: Tensor

    def __init__(self, encoder: Encoder, batch_size: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("memory", encoder.filters.weight.new_zeros(batch_size, encoder.stride))

    def forward(self, hops: Tensor) -> Tensor:
        """``[batch, hops · L/2] -> [batch, hops, N]``."""
        samples = torch.cat([self.memory, hops], dim=1)
        self.memory = samples[:, hops.shape[1] :]
        return self.encoder.analyse(samples)


class StreamingConv(nn.Module):
    """A causal convolution that remembers its left context."""

    memory: Tensor

    def __init__(self, convolution: DepthwiseConv, batch_size: int) -> None:
        super().__init__()
        self.convolution = convolution
        taps = convolution.taps
        self.register_buffer("memory", taps.new_zeros(batch_size, convolution.padding[0], taps.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, frames, channels] -> [batch, frames, channels]``."""
        part = self.convolution
        frames = torch.cat([self.memory, x], dim=1)
        self.memory = frames[:, x.shape[1] :]
        return depthwise(frames, part.taps, part.bias, dilation=part.dilation, padding=(0, 0))


class StreamingNorm(nn.Module):
    """A cumulative norm that remembers its running sums, in float64."""

    memory: Tensor

    def __init__(
        self, norm: CumulativeLayerNorm, batch_size: int, forget_frames: float | None, num_before: Callable[[], Tensor]
    ) -> None:
        super().__init__()
        self.norm = norm
        self.forget_frames = forget_frames
        self._num_before = num_before
        self.register_buffer("memory", norm.weight.new_zeros(batch_size, 4, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, frames, channels] -> [batch, frames, channels]``."""
        return self.norm.normalise(x, self.norm.weight, self.norm.bias, self.norm.eps, self._merge)

    def _merge(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        merged = self.norm.merge_more(mean, variance, self.memory, self._num_before(), self.forget_frames)
        self.memory = merged[2]
        return merged[:2]


class StreamingDecoder(nn.Module):
    """A decoder that remembers the second half of the last frame, which the next one overlaps."""

    memory: Tensor

    def __init__(self, decoder: Decoder, batch_size: int, num_sources: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.register_buffer("memory", decoder.basis.weight.new_zeros(batch_size, num_sources, decoder.stride))

    def forward(self, masked: Tensor) -> Tensor:
        """``[batch, hops, source, N] -> [batch, source, hops · L/2]``."""
        frames = self.decoder.basis(masked).transpose(1, 2)  # [batch, source, hops, L]
        before = nn.functional.pad(self.memory, (self.decoder.stride, 0))[:, :, None]  # the last frame, its first half empty
        self.memory = frames[:, :, -1, self.decoder.stride :]
        return self.decoder.overlap(torch.cat([before, frames], dim=2))


_PARTS = (StreamingEncoder, StreamingConv, StreamingNorm, StreamingDecoder)
