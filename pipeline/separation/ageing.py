"""How a stream ages: the same mixtures separated after nothing, after minutes of others, after silence and changes of level.

Cumulative norms weigh everything since the start alike: after minutes they hardly follow what comes, be it other talkers or
another level. The separation of one mixture after different histories shows what that costs, and what forgetting brings back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.models import Network
from pipeline.separation.streaming import Stream, stream

Signal = npt.NDArray[np.float32]

BLOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Stretch:
    """A stretch of what a stream takes before the mixture in question."""

    seconds: float
    gain_db: float = 0.0
    """Of its mixtures; minus infinity is silence."""
    itself: bool = False
    """The mixture in question again and again; otherwise others, of other talkers."""


@dataclass(frozen=True)
class History:
    """All that a stream takes before the mixture in question."""

    name: str
    stretches: tuple[Stretch, ...] = ()


SILENCE = -np.inf
HISTORIES = (
    History("nothing"),
    History("4 s", (Stretch(4),)),
    History("10 s", (Stretch(10),)),
    History("60 s", (Stretch(60),)),
    History("10 min", (Stretch(600),)),
    History("60 s, same talkers", (Stretch(60, itself=True),)),
    History("10 s, 60 s of silence", (Stretch(10), Stretch(60, SILENCE))),
    History("60 s, 20 dB louder", (Stretch(60, 20.0),)),
    History("60 s, 20 dB quieter", (Stretch(60, -20.0),)),
)


def separate_after(
    model: Network, history: History, mixtures: Sequence[Signal], others: Sequence[Signal], *, forget_seconds: float | None = None
) -> Iterator[Signal]:
    """Separate each mixture by a stream that has just been through a history.

    Args:
        model: a causal network.
        history: what comes first.
        mixtures: each ``[time]`` at the model's rate.
        others: mixtures for the history, one after another and over again.
        forget_seconds: see :func:`pipeline.separation.streaming.stream`.

    Yields:
        The estimates of each mixture ``[source, time]``, at an arbitrary scale.

    Raises:
        ModelError: the network is not causal, or has nothing to forget.
    """
    live = stream(model, forget_seconds=forget_seconds)
    is_shared = not any(stretch.itself for stretch in history.stretches)
    state, late = None, 0
    for mixture in mixtures:
        if state is None or not is_shared:
            late, state = _taken(live, _signal(history, [mixture], others, model.sample_rate)), live.state_dict()
        live.load_state_dict(state)
        found = [live.push(mixture).cpu().numpy(), live.finish().cpu().numpy()]
        yield np.concatenate(found, axis=1)[:, late:]


def _taken(live: Stream, signal: Signal) -> int:
    """Start again and take a signal; returns by how many samples the estimates are late."""
    live.reset()
    size = round(BLOCK_SECONDS * live.sample_rate)
    return len(signal) - sum(live.push(signal[start : start + size]).shape[1] for start in range(0, len(signal), size))


def _signal(history: History, itself: Sequence[Signal], others: Sequence[Signal], sample_rate: int) -> Signal:
    parts = [
        _gain(stretch.gain_db) * _repeated(itself if stretch.itself else others, round(stretch.seconds * sample_rate))
        for stretch in history.stretches
    ]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _gain(gain_db: float) -> np.float32:
    return np.float32(10 ** (gain_db / 20))


def _repeated(mixtures: Sequence[Signal], num_samples: int) -> Signal:
    """The mixtures one after another, again and again, cut at the start: what comes last is always the same."""
    parts: list[Signal] = []
    missing = num_samples
    while missing > 0:
        parts.insert(0, mixtures[-1 - len(parts) % len(mixtures)][-missing:])
        missing -= len(parts[0])
    return np.concatenate([np.zeros(0, np.float32), *parts])
