"""Separation while the signal arrives: the estimates of the whole, piece by piece, as soon as each sample is final."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.errors import AudioError, ModelError
from pipeline.models import Network


def stream(
    model: Network, batch: int | None = None, *, forget_seconds: float | None = None, round_weights: bool = False
) -> Stream:
    """Separate a signal while it arrives, with a causal network: ``stream.push(chunk)``, …, ``stream.finish()``.

    What comes out is ``model(mixture)`` in pieces, equal to it within rounding however the mixture is cut. A sample is given out
    once it is final: when the samples up to the network's look-ahead have arrived, rounded up to its hops.

    Args:
        model: a causal network; the stream keeps a copy with its weights of now.
        batch: so many signals, all in step, with ``[batch, …]`` before every shape; by default one.
        forget_seconds: let cumulative norms forget: a frame's share in their statistics falls to 1/e after so many seconds. By
            default they weigh everything since the start alike, as in training, and so hardly change any more after minutes.
            With it, the estimates are no longer those of ``model(mixture)``.
        round_weights: round the inner matrices to bfloat16. Chunks of a few frames then take less time on a CPU whose cache does
            not hold the network in float32; the estimates differ from those of ``model(mixture)`` by some thousandths.

    Returns:
        The stream, which takes audio at ``model.sample_rate``.

    Raises:
        ModelError: when the network is not causal, with the reason; when there is nothing to forget.
    """
    return Stream(model, batch, forget_seconds=forget_seconds, round_weights=round_weights)


class Stream:
    """One signal, or several in step, separated while they arrive; see :func:`stream`.

    The estimates' scale is arbitrary, as that of ``model(mixture)`` is.

    Attributes:
        sample_rate: Hz, of what is pushed.
        num_sources: in every estimate.
        latency_samples: the longest time from a sample's arrival until its estimate is out.
    """

    def __init__(
        self, model: Network, batch: int | None = None, *, forget_seconds: float | None = None, round_weights: bool = False
    ) -> None:
        if batch is not None and batch < 1:
            raise ModelError(f"batch (={batch}) must be at least 1; leave it out for a single signal")
        self.sample_rate = model.sample_rate
        self.num_sources = model.num_sources
        self.latency_samples = model.look_ahead_limit + 1
        self._hop = model.hop_samples
        self._batch = batch
        forget_frames = None if forget_seconds is None else forget_seconds * model.sample_rate / self._hop
        self._network = model.streaming(batch or 1, forget_frames=forget_frames, rounded=round_weights)
        self._start = self._network.memory()
        self._pending = next(model.parameters()).detach().new_empty(batch or 1, 0)
        self.reset()

    def reset(self) -> None:
        """Forget everything, for a new signal."""
        self._network.restore(self._start)
        self._pending = self._pending[:, :0]
        self._num_run = 0
        self._finished = False

    def push(self, chunk: npt.NDArray[Any] | Tensor) -> Tensor:
        """Take the next samples; returns the estimates that have become final.

        Args:
            chunk: ``[time]``, of any length, also none; floating point.

        Returns:
            ``[source, time]`` on the network's device, possibly no sample. Over all calls, ``finish`` included, there are as many
            as have been pushed.

        Raises:
            AudioError: when the chunk has another shape or type, or is not finite; nothing of it is taken.
            ModelError: after ``finish``.
        """
        if self._finished:
            raise ModelError("the stream is finished; reset() starts another")
        return self._shaped(self._separate(self._checked(torch.as_tensor(chunk))))

    def finish(self) -> Tensor:
        """End the signal; returns the rest of the estimates, ``[source, time]``."""
        if self._finished:
            raise ModelError("the stream is finished already; reset() starts another")
        self._finished = True
        num_missing = self._num_run + self._pending.shape[1] - max(0, self._num_run - self._network.delay_samples)
        silence = -self._pending.shape[1] % self._hop + self._network.delay_samples
        rest = self._separate(self._pending.new_zeros(len(self._pending), silence if num_missing else 0))
        return self._shaped(rest[..., :num_missing])

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of all that the stream remembers, as tensors by name."""
        own = {"num_run": torch.tensor(self._num_run), "finished": torch.tensor(self._finished), "pending": self._pending.clone()}
        return {**own, **{f"network.{name}": tensor for name, tensor in self._network.memory().items()}}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where another stream of the same model, batch and options was when its state was taken.

        Raises:
            ModelError: when the state does not fit; the stream stays as it was.
        """
        pending = state.get("pending", torch.empty(0))
        if pending.shape[:-1] != self._pending.shape[:-1] or not {"num_run", "finished"} <= state.keys():
            raise ModelError("this is no state of such a stream; use the same model and batch size")
        prefix = "network."
        self._network.restore({name[len(prefix) :]: each for name, each in state.items() if name.startswith(prefix)})
        self._pending = pending.to(self._pending.device, self._pending.dtype, copy=True)
        self._num_run, self._finished = int(state["num_run"]), bool(state["finished"])

    def _checked(self, chunk: Tensor) -> Tensor:
        """The chunk as ``[batch, time]`` in the network's type."""
        expected = "[time]" if self._batch is None else f"[{self._batch}, time]"
        if chunk.ndim != (1 if self._batch is None else 2) or (self._batch is not None and len(chunk) != self._batch):
            raise AudioError(f"a chunk of this stream must be {expected}; this one is {list(chunk.shape)}")
        if not chunk.is_floating_point():
            raise AudioError(
                f"a chunk must be floating point, between -1 and 1; this one is {chunk.dtype}: divide it by its full scale"
            )
        if not chunk.isfinite().all():
            raise AudioError("the chunk contains samples that are not numbers (NaN or infinite)")
        return chunk.detach().reshape(len(self._pending), -1).to(self._pending.device, self._pending.dtype)

    @torch.no_grad()
    def _separate(self, samples: Tensor) -> Tensor:
        """Final estimates ``[batch, source, time]`` after more samples ``[batch, time]``."""
        waiting = torch.cat([self._pending, samples], dim=1)
        num_ready = waiting.shape[1] // self._hop * self._hop
        self._pending = waiting[:, num_ready:]
        if not num_ready:
            return samples.new_empty(len(samples), self.num_sources, 0)
        estimates = self._network(waiting[:, :num_ready])
        early = max(0, self._network.delay_samples - self._num_run)  # of the time before the signal
        self._num_run += num_ready
        return estimates[..., early:]

    def _shaped(self, estimates: Tensor) -> Tensor:
        return estimates[0] if self._batch is None else estimates
