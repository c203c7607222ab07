"""A network for signals that are too long for memory, exactly as it treats short ones.

A norm needs the statistics of everything before it, so the network is computed layer by layer: what a block hands on, and the
sum of the skip paths so far, lie on disk and are read in chunks, with the frames around them that the convolution reaches. A
block takes two sweeps over the signal: the first for the statistics of its second norm, the second for its results and for the
statistics of the next block's first norm. Hidden activations are several times as large; every sweep recomputes them instead of
keeping them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.compute.scratch import Scratch
from pipeline.errors import ModelError
from pipeline.models.kernels import dispatch
from pipeline.models.kernels.cpu import HiddenInSteps
from pipeline.models.norms import CumulativeLayerNorm, Given
from pipeline.models.streaming import StreamingDecoder

CHUNK_BYTES = 2**25
"""Of the activations of a chunk: small beside the rest of the process, and enough for fast products."""


class LayerByLayer:
    """The network as it is now, for one long signal.

    Args:
        network: built of the parts in this folder, causal or not.
        num_samples: of the signal, at least one.
        chunk_frames: frames to compute at once; by default as many as ``CHUNK_BYTES`` hold.

    Raises:
        ModelError: a part of the network is hooked, which would have no effect here.
    """

    def __init__(self, network: Any, num_samples: int, *, chunk_frames: int | None = None) -> None:
        _check_plain(network)
        settings = network.settings
        self.network = network
        self.num_samples = num_samples
        self.num_frames = -(-num_samples // network.hop_samples) + 1
        self.chunk_frames = chunk_frames or max(1, CHUNK_BYTES // bytes_per_frame(network))
        self._widths = (settings.bottleneck_channels, settings.skip_channels)
        self.has_memory = settings.norm_kind != "frame"  # whether norms need the statistics of other frames
        weight = next(network.parameters())
        self.device, self.dtype = weight.device, weight.dtype
        self._stored = np.dtype(np.float64 if weight.dtype == torch.float64 else np.float32)

    @property
    def disk_bytes(self) -> int:
        """Of what lies on disk between the layers."""
        statistics = 3 * 2 * 8 if self.network.settings.norm_kind == "cumulative" else 0
        return int(self.num_frames * (sum(self._widths) * self._stored.itemsize + statistics))

    @property
    def num_sweeps(self) -> int:
        """Times that the signal, or what has become of it, is read from beginning to end."""
        num_blocks = len(self.network.separator.blocks)
        return 3 + 2 * num_blocks if self.has_memory else 2 + num_blocks

    @torch.inference_mode()
    def __call__(self, mixture: Scratch, estimates: Scratch, advance: Callable[[float], None] = lambda share: None) -> None:
        """Separate.

        Args:
            mixture: ``[time, 1]``.
            estimates: ``[time, source]``, to be written.
            advance: called with the shares of the work that have been done; they sum to one.

        Raises:
            WorkError: the disk is full.
        """
        with ExitStack() as stack:
            x, skips = (stack.enter_context(Scratch(mixture.folder, width, self._stored)) for width in self._widths)
            first, following, second = (_Statistics(self.network, self.num_frames, mixture.folder, stack) for _ in range(3))
            run = _Run(self, mixture, x, skips, lambda frames: advance(frames / self.num_frames / self.num_sweeps))
            run.start(second, first)
            blocks = list(self.network.separator.blocks)
            for block, after in zip(blocks, [*blocks[1:], None], strict=True):
                run.block(block, after, first, second, following)
                first, following = following, first
            run.decode(estimates)


def bytes_per_frame(network: Any) -> int:
    """Memory that the activations of a frame take while they are computed, roughly."""
    settings = network.settings
    filters, hidden = (2 + 4 * network.num_sources) * settings.num_filters, 6 * settings.hidden_channels
    numbers = max(filters, hidden) + 2 * (settings.bottleneck_channels + settings.skip_channels)
    return int(numbers * next(network.parameters()).element_size())


def _check_plain(network: nn.Module) -> None:
    for name, part in network.named_modules():
        if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            raise ModelError(
                f"{name or 'the network'} has a hook or a forward of its own, which long signals would skip; remove it"
            )


# ------------------------------------------------------------------------------------------------------------- statistics
class _Statistics:
    """What a norm normalises with, from the statistics of all frames in their order; frame norms need none."""

    def __init__(self, network: Any, num_frames: int, folder: Path, stack: ExitStack) -> None:
        self._kind = type(network.separator.input_norm)
        self._kept = stack.enter_context(Scratch(folder, 2, np.float64)) if self._kind is CumulativeLayerNorm else None
        self._device = next(network.parameters()).device
        self.reset()

    def reset(self) -> None:
        self._sums = torch.zeros(1, 4, dtype=torch.float64, device=self._device)
        self._num_frames = torch.zeros((), dtype=torch.int64, device=self._device)
        self._last = self._sums[:, :2, None]

    def add(self, mean: Tensor, variance: Tensor) -> None:
        """Take the statistics of the next frames, ``[1, frames, 1]``."""
        mean, variance, self._sums = CumulativeLayerNorm.merge_more(
            mean.double(), variance.double(), self._sums, self._num_frames
        )
        merged = torch.cat([mean, variance], dim=2)
        if self._kept is not None:
            self._kept.write(int(self._num_frames), merged[0].cpu().numpy())
        self._last = merged[:, -1:]
        self._num_frames = self._num_frames + mean.shape[1]

    def of(self, start: int, stop: int) -> Given:
        """Mean and variance to normalise some frames with, ``[1, 1 or frames, 1]`` float64."""
        given = self._last if self._kept is None else torch.from_numpy(self._kept.read(start, stop))[None].to(self._device)
        return given[:, :, :1], given[:, :, 1:]


def frame_statistics(x: Tensor) -> Given:
    """The mean of each frame's channels, and their variance about it, ``[batch, frames, 1]``."""
    variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    return mean, variance


# ----------------------------------------------------------------------------------------------------------------- sweeps
@dataclass(frozen=True)
class _Window:
    """Some frames with those around them that a convolution reaches."""

    start: int
    stop: int
    first: int
    """Frame of the first row."""
    rows: Tensor
    """``[1, frames, channels]``."""

    @property
    def inner(self) -> slice:
        """The frames themselves, of the rows."""
        return slice(self.start - self.first, self.stop - self.first)


class _Run:
    """The sweeps over one signal."""

    def __init__(self, job: LayerByLayer, mixture: Scratch, x: Scratch, skips: Scratch, advance: Callable[[int], None]) -> None:
        self._job, self._network, self._separator = job, job.network, job.network.separator
        self._mixture, self._x, self._skips = mixture, x, skips
        self._advance = advance

    def start(self, of_input: _Statistics, first: _Statistics) -> None:
        """Everything before the first block, and the statistics of its first norm."""
        norm = self._separator.input_norm
        if self._job.has_memory:
            for start, stop in self._chunks():
                of_input.add(*frame_statistics(self._encoded(start, stop)))
        for start, stop in self._chunks():
            frames = self._encoded(start, stop)
            normal = norm.normalise_with(frames, of_input.of(start, stop)) if self._job.has_memory else norm(frames)
            x = self._separator.bottleneck(normal)
            self._x.write(start, _rows(x))
            self._add_first(self._separator.blocks[0], x, first)

    def block(self, block: Any, after: Any, first: _Statistics, second: _Statistics, following: _Statistics) -> None:
        """One block, and the statistics of the first norm of the block after it, if there is one."""
        second.reset()
        following.reset()
        if self._job.has_memory:
            for window in self._windows(block):
                given = first.of(window.first, window.first + window.rows.shape[1])
                second.add(*(each[:, window.inner] for each in _hidden(block, window.rows).convolve(given)))
        for window in self._windows(block):
            x, skip = block.combine(window.rows[:, window.inner], self._activations(block, window, first, second))
            if block.sizes[0]:
                self._x.write(window.start, _rows(x))
            self._skips.write(window.start, self._skips.read(window.start, window.stop) + _rows(skip))
            self._add_first(after, x, following)

    def decode(self, estimates: Scratch) -> None:
        """From the sum of the skip paths to the estimates."""
        hop, num_samples = self._network.hop_samples, self._job.num_samples
        decoder = StreamingDecoder(self._network.decoder, 1, self._network.num_sources)  # its output is a hop late
        for start, stop in self._chunks():
            masks = self._separator.masks(self._tensor(self._skips.read(start, stop)))
            found = decoder(self._encoded(start, stop)[:, :, None] * masks)[0].T  # [time, source]
            begin, end = (start - 1) * hop, min((stop - 1) * hop, num_samples)
            estimates.write(max(begin, 0), found[max(-begin, 0) : end - begin].cpu().numpy())

    def _activations(self, block: Any, window: _Window, first: _Statistics, second: _Statistics) -> Tensor:
        """A block's normalised hidden activations ``[1, frames, H]`` of a window's own frames."""
        if not self._job.has_memory:
            activations: Tensor = block.hidden(window.rows)[:, window.inner]
            return activations
        hidden = _hidden(block, window.rows)
        hidden.convolve(first.of(window.first, window.first + window.rows.shape[1]))
        return hidden.normalise(second.of(window.start, window.stop), window.inner)

    def _add_first(self, block: Any, x: Tensor, first: _Statistics) -> None:
        if block is not None and self._job.has_memory:
            first.add(*_hidden(block, x).first())

    def _chunks(self) -> Iterator[tuple[int, int]]:
        """Start and stop of every chunk of frames; the progress advances after each."""
        size, num_frames = self._job.chunk_frames, self._job.num_frames
        for start in range(0, num_frames, size):
            stop = min(start + size, num_frames)
            yield start, stop
            self._advance(stop - start)

    def _windows(self, block: Any) -> Iterator[_Window]:
        """Chunks of what comes into a block; what is written over earlier chunks does not show in later windows."""
        before, after = block.depthwise.padding
        rows, first, read = self._x.read(0, 0), 0, 0
        for start, stop in self._chunks():
            ahead = min(stop + after, self._job.num_frames)
            begin = max(start - before, 0)
            rows = np.concatenate([rows[begin - first :], self._x.read(read, ahead)])
            first, read = begin, ahead
            yield _Window(start, stop, first, self._tensor(rows))

    def _encoded(self, start: int, stop: int) -> Tensor:
        """Frames of the encoder's, ``[1, frames, N]``."""
        hop = self._network.hop_samples
        begin, end = (start - 1) * hop, stop * hop  # the signal stands between zeros
        samples = self._mixture.read(max(begin, 0), min(end, self._job.num_samples))[:, 0]
        padded = np.pad(samples, (max(-begin, 0), max(end - self._job.num_samples, 0)))
        frames: Tensor = self._network.encoder.analyse(self._tensor(padded))
        return frames

    def _tensor(self, rows: Any) -> Tensor:
        return torch.from_numpy(rows)[None].to(self._job.device, self._job.dtype)


def _rows(x: Tensor) -> Any:
    """``[1, frames, channels]`` for the disk."""
    return x[0].cpu().numpy()


# ------------------------------------------------------------------------------------------------------- a block in steps
class Hidden:
    """A block's hidden activations over some frames, in steps between which the statistics are merged.

    Args:
        block: a ``Block`` of ``conv_tasnet.py``.
        x: ``[1, frames, B]``. Frames outside count as zeros after the first norm.
    """

    def __init__(self, block: Any, x: Tensor) -> None:
        self._block = block
        self._p: Tensor = block.activation_1(block.expand(x))
        self._q = self._p

    def first(self) -> Given:
        """Each frame's statistics for the first norm."""
        return frame_statistics(self._p)

    def convolve(self, given: Given) -> Given:
        """Each frame's statistics for the second norm, from what the first one normalises with."""
        block = self._block
        self._q = block.activation_2(block.depthwise(block.norm_1.normalise_with(self._p, given)))
        return frame_statistics(self._q)

    def normalise(self, given: Given, inner: slice) -> Tensor:
        """Some frames' activations, from what the second norm normalises these with."""
        activations: Tensor = self._block.norm_2.normalise_with(self._q[:, inner], given)
        return activations


def _hidden(block: Any, x: Tensor) -> Hidden | HiddenInSteps:
    return dispatch.hidden_in_steps(block, x) or Hidden(block, x)
