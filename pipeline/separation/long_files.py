"""One long recording from file to files, in bounded memory: read, separated and written in blocks.

The mixture at the model's rate and the estimates lie on disk in between, because the estimates' level depends on the whole of
them. How a recording is separated:

* ``whole``: at once, where its activations fit into the memory allowed.
* ``streaming``: a causal network, block by block; exact.
* ``layers``: any other network, layer by layer with intermediate results on disk; exact. See :mod:`pipeline.models.layerwise`.
* ``windows``: any other network for which the disk allowed is too small; not exact. See :mod:`pipeline.separation.overlap_add`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.audio.files import read_blocks, write_blocks
from pipeline.audio.headers import AudioHeader
from pipeline.compute.scratch import Scratch, free_bytes
from pipeline.models import Network
from pipeline.separation.offline import levelling_gains
from pipeline.separation.overlap_add import overlap_add, window_samples
from pipeline.separation.resampling import resample_blocks
from pipeline.separation.streaming import stream

Method = Literal["whole", "streaming", "layers", "windows"]

GIGABYTE = 1e9
BLOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """What separating one recording may take."""

    max_memory_gb: float = 2.0
    """Of activations, beside the program and the model; beyond, a recording is not separated at once."""
    max_disk_gb: float = 50.0
    """Of intermediate results; beyond, or where the disk has less room, they are not exact."""


@dataclass(frozen=True)
class LongFile:
    """A recording, how it is to be separated, and where its intermediate results go."""

    path: Path
    header: AudioHeader
    channel: int | None
    method: Method
    num_samples: int
    """At the model's rate."""
    folder: Path
    limits: Limits
    forget_seconds: float | None = None


def choose_method(model: Network, num_samples: int, limits: Limits, folder: Path, forget_seconds: float | None = None) -> Method:
    """How to separate so many samples at the model's rate; a forgetting network always streams."""
    if forget_seconds is not None:
        return "streaming"
    if model.activation_bytes(num_samples) <= limits.max_memory_gb * GIGABYTE:
        return "whole"
    if model.causal:
        return "streaming"
    return "layers" if disk_bytes(model, num_samples) <= disk_allowed(limits, folder) else "windows"


def disk_bytes(model: Network, num_samples: int) -> int:
    """What exact separation of a non-causal network keeps on disk until it is done."""
    return model.layer_by_layer(num_samples).disk_bytes + 4 * (1 + model.num_sources) * num_samples


def disk_allowed(limits: Limits, folder: Path) -> float:
    """A tenth of the free room is left to others."""
    return min(limits.max_disk_gb * GIGABYTE, 0.9 * free_bytes(folder))


def why(model: Network, long: LongFile) -> str:
    """One line: how a recording is separated, and why it is not at once."""
    memory = model.activation_bytes(long.num_samples) / GIGABYTE
    limit = (
        f"{long.path}: too long to separate at once ({memory:.1f} GB of memory; --max-memory is {long.limits.max_memory_gb:g})"
    )
    if long.method == "streaming":
        return f"{limit}; streamed instead, with the same result"
    disk, allowed = disk_bytes(model, long.num_samples) / GIGABYTE, disk_allowed(long.limits, long.folder) / GIGABYTE
    if long.method == "layers":
        return f"{limit}; done layer by layer instead, with the same result and up to {disk:.1f} GB of disk in {long.folder}"
    window = window_samples(model, long.limits.max_memory_gb * GIGABYTE) / model.sample_rate
    return (
        f"{limit}; separated in overlapping windows of {window:.0f} s, which is NOT exact: that would take {disk:.1f} GB of "
        f"disk, and {allowed:.1f} GB may be used in {long.folder} (see --max-disk and --scratch)"
    )


def separate_long(model: Network, long: LongFile, targets: Sequence[Path], advance: Callable[[float], None]) -> None:
    """Separate a recording into one file per source, 32-bit float wav at the recording's own rate and length.

    Args:
        model: a trained network.
        long: the recording.
        targets: of each source.
        advance: called with the shares of the work that have been done; they sum to one.

    Raises:
        AudioError: the recording is damaged.
        ModelError: the network cannot be used in that way.
        WorkError: the disk is full.
    """
    rate, device = long.header.sample_rate, next(model.parameters()).device
    with Scratch(long.folder, 1) as mixture, Scratch(long.folder, model.num_sources) as estimates:
        _keep(mixture, resample_blocks(read_blocks(long.path, channel=long.channel), rate, model.sample_rate, device))
        _separate(model, long, mixture, estimates, advance)
        gains = _gains(model, long.num_samples, mixture, estimates)
        for source, target in enumerate(targets):
            levelled = _levelled(model, long.num_samples, estimates, source, gains)
            blocks = _cut(resample_blocks(levelled, model.sample_rate, rate, device), long.header.num_samples)
            write_blocks(target, blocks, long.header.num_samples, rate)


def _keep(scratch: Scratch, blocks: Iterator[npt.NDArray[Any]]) -> None:
    start = 0
    for block in blocks:
        scratch.write(start, block[:, None])
        start += len(block)


def _separate(model: Network, long: LongFile, mixture: Scratch, estimates: Scratch, advance: Callable[[float], None]) -> None:
    if long.method == "streaming":
        stream_through(model, mixture, estimates, long.num_samples, forget_seconds=long.forget_seconds, advance=advance)
    elif long.method == "layers":
        model.layer_by_layer(long.num_samples)(mixture, estimates, advance)
    else:
        window = window_samples(model, long.limits.max_memory_gb * GIGABYTE)
        overlap_add(model, mixture, estimates, long.num_samples, window=window, advance=advance)


def stream_through(
    model: Network,
    mixture: Scratch,
    estimates: Scratch,
    num_samples: int,
    *,
    forget_seconds: float | None = None,
    advance: Callable[[float], None] = lambda share: None,
) -> None:
    """Separate a mixture ``[time, 1]`` into estimates ``[time, source]`` by :func:`pipeline.separation.streaming.stream`."""
    live, written = stream(model, forget_seconds=forget_seconds), 0

    def keep(final: Tensor) -> None:
        nonlocal written
        estimates.write(written, final.T.cpu().numpy())
        written += final.shape[1]

    for start, stop in _blocks(model, num_samples):
        keep(live.push(mixture.read(start, stop)[:, 0]))
        advance((stop - start) / num_samples)
    keep(live.finish())


# ------------------------------------------------------------------------------------------------------------------ level
def _gains(model: Network, num_samples: int, mixture: Scratch, estimates: Scratch) -> Tensor:
    """The gains of :func:`pipeline.separation.separate`, from sums over the whole signal."""
    squares = torch.zeros(model.num_sources, model.num_sources, dtype=torch.float64)
    products = torch.zeros(model.num_sources, dtype=torch.float64)
    for start, stop in _blocks(model, num_samples):
        block = torch.from_numpy(estimates.read(start, stop)).double()  # [time, source]
        squares += block.T @ block
        products += block.T @ torch.from_numpy(mixture.read(start, stop)[:, 0]).double()
    return levelling_gains(squares, products)


def _levelled(
    model: Network, num_samples: int, estimates: Scratch, source: int, gains: Tensor
) -> Iterator[npt.NDArray[np.float32]]:
    for start, stop in _blocks(model, num_samples):
        yield (float(gains[source]) * estimates.read(start, stop)[:, source].astype(np.float64)).astype(np.float32)


def _blocks(model: Network, num_samples: int) -> Iterator[tuple[int, int]]:
    size = round(BLOCK_SECONDS * model.sample_rate)
    for start in range(0, num_samples, size):
        yield start, min(start + size, num_samples)


def _cut(blocks: Iterator[npt.NDArray[Any]], num_samples: int) -> Iterator[npt.NDArray[Any]]:
    """The first samples: after two conversions of the rate there may be a few too many."""
    for block in blocks:
        yield block[:num_samples]
        num_samples -= len(block[:num_samples])
