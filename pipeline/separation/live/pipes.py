"""Live separation of raw audio between two pipes: 16-bit samples in, 16-bit samples out, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.errors import AudioError
from pipeline.models import Network
from pipeline.separation.offline import levelling_gains
from pipeline.separation.resampling import Resampler
from pipeline.separation.streaming import stream

FULL_SCALE = 32768
SAMPLE = np.dtype("<i2")


def separate_pcm(
    model: Network,
    recording: BinaryIO,
    *,
    chunk_samples: int,
    sample_rate: int | None = None,
    source: int | None = None,
    forget_seconds: float | None = None,
) -> Iterator[bytes]:
    """Separate raw audio while it is read, at the level the sources have in the mixture so far.

    Args:
        model: a causal network.
        recording: mono, signed 16-bit little-endian.
        chunk_samples: samples to wait for before each step.
        sample_rate: Hz of what is read and yielded, by default the model's; converting takes as long as its filters reach.
        source: only this one, from 1; by default all, as interleaved channels.
        forget_seconds: see :func:`pipeline.separation.streaming.stream`.

    Yields:
        Signed 16-bit little-endian samples as they become final; together as many per source as were read.

    Raises:
        ModelError: when the network is not causal.
        AudioError: when there is no such source, or the audio ends within a sample (after all else has been yielded).
    """
    if source is not None and not 1 <= source <= model.num_sources:
        raise AudioError(f"there is no source {source}: the model separates {model.num_sources}")
    live = _Separation(model, sample_rate or model.sample_rate, source, forget_seconds)
    rest = b""
    while data := recording.read(chunk_samples * SAMPLE.itemsize):
        data, whole = rest + data, (len(rest) + len(data)) // SAMPLE.itemsize * SAMPLE.itemsize
        data, rest = data[:whole], data[whole:]
        yield _interleaved(live.push(torch.from_numpy(np.frombuffer(data, SAMPLE).astype(np.float32) / FULL_SCALE)))
    yield _interleaved(live.finish())
    if rest:
        raise AudioError("the audio ended within a sample: it must be signed 16-bit, little-endian, one channel")


class _Separation:
    """Between samples [time] at one rate and the estimates of the chosen sources [source, time] at the same rate."""

    def __init__(self, model: Network, rate: int, source: int | None, forget_seconds: float | None) -> None:
        self._stream = stream(model, forget_seconds=forget_seconds)
        self._level = RunningLevel(model.num_sources)
        self._before, self._after = Resampler(rate, model.sample_rate), Resampler(model.sample_rate, rate)
        self._chosen = slice(None) if source is None else slice(source - 1, source)
        self._device = next(model.parameters()).device
        self._num_left = 0  # samples whose estimates are not out yet

    def push(self, samples: Tensor) -> Tensor:
        mixture = self._before.push(samples.to(self._device))
        estimates = self._converted(self._stream.push(mixture), mixture)
        self._num_left += len(samples) - estimates.shape[1]
        return estimates

    def finish(self) -> Tensor:
        """The rest; two conversions may have made a sample too many."""
        last = self._before.finish()
        ends = [self._converted(self._stream.push(last), last), self._converted(self._stream.finish(), torch.zeros(0))]
        return torch.cat([*ends, self._after.finish()], dim=1)[:, : self._num_left]

    def _converted(self, estimates: Tensor, mixture: Tensor) -> Tensor:
        levelled = self._level.apply(estimates, mixture.cpu())[self._chosen]
        return self._after.push(levelled.to(self._device, torch.float32))


def _interleaved(estimates: Tensor) -> bytes:
    samples: npt.NDArray[np.float32] = (estimates.cpu() * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1).T.numpy()
    return samples.astype(SAMPLE).tobytes()


class RunningLevel:
    """The gains of :func:`pipeline.separation.separate`, fitted to everything that has come out so far.

    They settle within the first second of sound; between two chunks they move along a ramp.
    """

    def __init__(self, num_sources: int) -> None:
        self._squares = torch.zeros(num_sources, num_sources, dtype=torch.float64)
        self._products = torch.zeros(num_sources, dtype=torch.float64)
        self._gains: Tensor | None = None
        self._mixture = torch.zeros(0, dtype=torch.float64)  # whose estimates have not come out yet

    def apply(self, estimates: Tensor, mixture: Tensor) -> Tensor:
        """Set the level of estimates ``[source, time]``, as new samples of the mixture ``[time]`` have gone in."""
        estimates = estimates.detach().double().cpu()
        waiting = torch.cat([self._mixture, mixture.double()])
        now, self._mixture = waiting[: estimates.shape[1]], waiting[estimates.shape[1] :]
        self._squares += estimates @ estimates.T
        self._products += estimates @ now
        gains = levelling_gains(self._squares, self._products)
        before = gains if self._gains is None else self._gains
        if estimates.shape[1]:
            self._gains = gains
        ramp = torch.arange(1, estimates.shape[1] + 1, dtype=torch.float64) / max(1, estimates.shape[1])
        return (before[:, None] + (gains - before)[:, None] * ramp) * estimates
