"""Long signals in overlapping windows: not exact, but with little memory and disk.

Each window is separated by itself: a network with global norms takes the window's statistics for the signal's, and may put out
the sources of two windows in different order. They are reordered so that those of two windows resemble each other most where
the windows overlap (the largest sum of correlations), and over that time one window is faded into the next. Sources that are
silent during the whole overlap may end up swapped: nothing tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import scipy

from pipeline.compute.scratch import Scratch
from pipeline.models import Network
from pipeline.separation.offline import Estimates, separate

MIN_WINDOW_SECONDS, MAX_WINDOW_SECONDS = 4.0, 60.0
OVERLAP_SHARE = 0.25
"""Of a window."""


def window_samples(model: Network, memory_bytes: float) -> int:
    """As long as memory allows, within limits."""
    seconds = memory_bytes / model.activation_bytes(model.sample_rate)
    return round(min(max(seconds, MIN_WINDOW_SECONDS), MAX_WINDOW_SECONDS) * model.sample_rate)


def overlap_add(
    model: Network,
    mixture: Scratch,
    estimates: Scratch,
    num_samples: int,
    *,
    window: int,
    advance: Callable[[float], None] = lambda share: None,
) -> None:
    """Separate a mixture ``[time, 1]`` into estimates ``[time, source]``.

    Args:
        model: a trained network.
        mixture: at the model's rate.
        estimates: to be written; every window's at their level in the mixture.
        num_samples: of both.
        window: samples, at least two.
        advance: called with the shares of the work that have been done; they sum to one.
    """
    tail: Estimates = np.zeros((model.num_sources, 0), np.float32)  # of the window before, where the next one overlaps it
    for start, stop, following in _windows(num_samples, window):
        found = separate(model, mixture.read(start, stop)[:, 0], sample_rate=model.sample_rate)
        found = found[best_order(tail, found[:, : tail.shape[1]])]
        found[:, : tail.shape[1]] = cross_faded(tail, found[:, : tail.shape[1]])
        estimates.write(start, found[:, : following - start].T)
        tail = found[:, following - start :]
        advance((following - start) / num_samples)


def _windows(num_samples: int, window: int) -> Iterator[tuple[int, int, int]]:
    """Start and stop of every window, and where the next one starts; the last one ends with the signal."""
    start, last = 0, max(num_samples - window, 0)
    step = max(1, round((1 - OVERLAP_SHARE) * window))
    while start < last:
        following = min(start + step, last)
        yield start, start + window, following
        start = following
    yield start, num_samples, num_samples


def best_order(before: Estimates, after: Estimates) -> npt.NDArray[np.int64]:
    """Which source of ``after`` continues each one of ``before``, both ``[source, time]`` of the same time."""
    first, second = before.astype(np.float64), after.astype(np.float64)
    norms = np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(second, axis=1)
    correlations = first @ second.T / np.maximum(norms, np.finfo(np.float64).tiny)
    order: npt.NDArray[np.int64] = scipy.optimize.linear_sum_assignment(correlations, maximize=True)[1]
    return order


def cross_faded(before: Estimates, after: Estimates) -> Estimates:
    """From one signal ``[source, time]`` to the other, along half a period of a cosine."""
    share = 0.5 - 0.5 * np.cos(np.pi * (np.arange(before.shape[1]) + 0.5) / max(before.shape[1], 1))
    faded: Estimates = (before + share * (after - before)).astype(np.float32)
    return faded
