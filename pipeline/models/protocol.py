"""What the rest of the pipeline needs of a separation network, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from pipeline.compute.scratch import Scratch
from pipeline.recipe.schema import Model


class Streaming(Protocol):
    """A causal network that takes signals piece by piece, and remembers what it needs of the pieces before."""

    delay_samples: int
    """By so much its output comes later than the network's own: whole hops."""

    def __call__(self, piece: Tensor, /) -> Tensor:
        """Separate whole hops that follow the piece before, ``[batch, time] -> [batch, source, time]``, at least one hop."""

    def memory(self) -> dict[str, Tensor]:
        """A copy of all that it remembers, by name; every tensor but the counts has the batch first."""

    def restore(self, memory: Mapping[str, Tensor], /) -> None:
        """Go on from there; ModelError if the names or shapes are those of another network."""


class LayerByLayer(Protocol):
    """A network for one signal that is too long for memory."""

    @property
    def disk_bytes(self) -> int:
        """Of intermediate results."""

    def __call__(self, mixture: Scratch, estimates: Scratch, advance: Callable[[float], None], /) -> None:
        """Separate ``[time, 1]`` into ``[time, source]``; intermediate results lie in the mixture's folder until it is done.

        ``advance`` is called with the shares of the work that have been done; they sum to one.
        """


class Network(Protocol):
    """A ``torch.nn.Module`` that separates ``[batch, time] -> [batch, source, time]`` and says what it is.

    Called with ``num_samples`` ``[batch]`` as well, it separates every mixture as if it ended after so many samples.
    Training, separation, checkpoints and reports use nothing else of a network; another architecture needs these members only.
    """

    settings: Model
    """The architecture; saved with the weights, it builds the network again."""
    num_sources: int
    sample_rate: int
    """Hz, of the audio that the network is trained on."""

    @property
    def causal(self) -> bool:
        """Whether the network promises to look no further ahead than ``look_ahead_limit``."""

    @property
    def look_ahead_limit(self) -> int:
        """Samples beyond its own time that an output sample of a causal network may depend on."""

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next: how far a network looks ahead repeats with them."""

    @property
    def receptive_field_samples(self) -> int:
        """Samples that one output sample can depend on, other than through norms."""

    @property
    def macs_per_second(self) -> float:
        """Multiply-accumulates per second of audio."""

    def inner_matrices(self) -> Iterator[Tensor]:
        """The matrices that mix channels between the encoder and the masks: what Muon is meant for."""

    def streaming(self, batch_size: int = 1, *, forget_frames: float | None = None, rounded: bool = False) -> Streaming:
        """A copy of the network, with its weights of now, for as many signals that arrive piece by piece, all in step.

        Args:
            batch_size: signals.
            forget_frames: after so many frames, a frame's share in cumulative statistics has fallen to 1/e; by default it stays.
            rounded: round the inner matrices to bfloat16, which halves what has to be read for every piece.

        Raises:
            ModelError: saying what keeps the network from streaming, and what to do.
        """

    def activation_bytes(self, num_samples: int) -> int:
        """Memory that separating a signal of so many samples at once takes beside the weights, roughly."""

    def layer_by_layer(self, num_samples: int) -> LayerByLayer:
        """The network for one signal that is too long for memory; exact, whether causal or not."""

    # ------------------------------------------------------------------------------------------- as of every torch module
    def __call__(self, mixture: Tensor, num_samples: Tensor | None = None, /) -> Tensor: ...  # noqa: D102
    def parameters(self) -> Iterator[nn.Parameter]: ...  # noqa: D102
    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102
    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> Any: ...  # noqa: D102
    def train(self, mode: bool = True, /) -> Self: ...  # noqa: D102
    def eval(self) -> Self: ...  # noqa: D102
    def requires_grad_(self, requires_grad: bool = True, /) -> Self: ...  # noqa: D102
    def to(self, device: str | torch.device, /) -> Self: ...  # noqa: D102
