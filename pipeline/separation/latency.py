"""How far ahead any separator looks, measured from outside: change the future of a signal and see which outputs change.

An output sample depends on the input up to its own time plus the look-ahead. If everything from sample p on is replaced, the
first output that changes is thus at least p minus the look-ahead; the largest difference over all p is the look-ahead. Frames and
blocks make it depend on p: within a block, all p have the same first change, and the last p of the block counts. Since the first
change never moves back as p moves on, that last p is found by bisection.

Normalising a whole file to its level also lets the future through, but only as one number: everything before changes by one
common factor. That is told apart, as it can be fixed without changing the system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import log10, pi

import torch
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.models.causality import change_by_sample, with_other_future

System = Callable[[Tensor], Tensor]
"""A separator: a mixture ``[time]`` float64 to estimates ``[source, time]``."""

NOISE_MARGIN = 4.0
"""Changes count from this many times the difference between two runs on the same input."""
MAX_NOISE = 0.01
SECONDS = 3.0
NUM_PLACES = 3
"""Blocks to measure in each signal; the second follows the first at once, which gives the length of a block."""
_FUTURE_FROM = 0.6
"""Of the signal's length: room for the look-ahead before it, and for blocks after it."""
_NEAR_START = 0.1
"""A change in this share of the past means that no end of the look-ahead is in sight."""
_STEPS = (2.0**-15, 2.0**-23)
"""Of 16-bit and 24-bit files."""


@dataclass(frozen=True)
class Latency:
    """What was found about a system.

    Deviations are shares of the largest output.
    """

    look_ahead_samples: int | None
    """The largest distance from an output sample to a later input sample that it depends on; below zero if all outputs are late
    by that much. None if the system needs the whole signal, or more of it than there was."""
    look_ahead_ms: float | None
    block_samples: int | None
    """From one change of the look-ahead to the next: the hop of a system that works in frames or blocks."""
    whole_file_gain_db: float | None
    """The largest gain by which the future changed the level of everything before; None if it did not."""
    smallest_change: float
    """The smallest deviation that counted as a first change."""
    largest_rest: float
    """The largest deviation before the look-ahead; it did not count."""
    threshold: float
    """Deviations count from here on."""
    noise: float
    """The largest difference between two runs on the same input."""
    num_runs: int
    sample_rate: int


def measure_latency(
    system: System,
    sample_rate: int,
    *,
    num_samples: int | None = None,
    threshold: float = 1e-6,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> Latency:
    """Measure a system on noise and on something like speech.

    Args:
        system: gives equal outputs for equal inputs, or nearly.
        sample_rate: Hz.
        num_samples: length of the signals; by default three seconds. Half of it must be longer than the look-ahead.
        threshold: the deviation, as a share of the largest output, that is more than rounding.
        seed: of the signals.
        advance: called with 1 after every run.

    Raises:
        ModelError: the outputs are not finite, differ too much from run to run, or do not depend on the input.
    """
    num_samples = num_samples or round(SECONDS * sample_rate)
    probes = []
    for make in (_noise, _speech_like):
        signal, other = (make(num_samples, sample_rate, seed + k) for k in (0, 1))
        probes.append(_Probe(system, signal, 2 * other, threshold, advance))
    places = [place for probe in probes for place in _places(probe, torch.Generator().manual_seed(seed))]
    return _together(places, probes, sample_rate)


def _together(places: Sequence[_Place], probes: Sequence[_Probe], sample_rate: int) -> Latency:
    """What all blocks of all signals show."""
    ahead = None if any(place.endless for place in places) else max(place.last - place.first_change for place in places)
    blocks = [place.block for place in places if place.block is not None]
    gains = [gain for probe in probes for gain in probe.gains_db]
    return Latency(
        look_ahead_samples=ahead,
        look_ahead_ms=None if ahead is None else 1000 * ahead / sample_rate,
        block_samples=max(blocks) if blocks and ahead is not None else None,
        whole_file_gain_db=max(gains) if gains else None,
        smallest_change=min(place.change for place in places),
        largest_rest=max(probe.largest_rest(ahead) for probe in probes),
        threshold=max(probe.threshold for probe in probes),
        noise=max(probe.noise for probe in probes),
        num_runs=sum(probe.num_runs for probe in probes),
        sample_rate=sample_rate,
    )


# ------------------------------------------------------------------------------------------------------------------- search
@dataclass(frozen=True)
class _Place:
    """A block: the last replaced position with the same first change."""

    last: int
    first_change: int
    change: float
    endless: bool
    block: int | None = None


def _places(probe: _Probe, generator: torch.Generator) -> Iterator[_Place]:
    first = _block_around(probe, round(_FUTURE_FROM * probe.num_samples), step=1)
    yield first
    if first.endless:
        return
    next_one = _block_around(probe, first.last + 1, step=1)
    block = next_one.last - first.last
    yield replace(next_one, block=None if next_one.endless else block)
    for _ in range(NUM_PLACES - 2):
        room = max(1, probe.num_samples - next_one.last - 2 * block)
        position = next_one.last + 1 + int(torch.randint(room, (), generator=generator)) // 2
        yield _block_around(probe, position, step=max(1, block // 2))


def _block_around(probe: _Probe, position: int, step: int) -> _Place:
    """By steps that double as long as the first change stays, and then by halves."""
    first = probe.first_change(position)
    change = float(probe.changes[position][first])
    low, end = position, probe.num_samples
    if first < _NEAR_START * position:
        return _Place(low, first, change, endless=True)
    high = low + step
    while high < end and probe.first_change(high) <= first:
        low, high = high, high + 2 * (high - low)
    high = min(high, end)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if probe.first_change(middle) <= first else (low, middle)
    return _Place(low, first, change, endless=low == end - 1)


@dataclass
class _Probe:
    """A system on one signal: what changing the signal from a position on changes."""

    system: System
    signal: Tensor
    other: Tensor
    threshold: float
    advance: Callable[[int], None]
    changes: dict[int, Tensor] = field(default_factory=dict)
    """By position; ``[time]``, without what a common gain explains."""
    gains_db: list[float] = field(default_factory=list)
    num_runs: int = 0

    def __post_init__(self) -> None:
        self.before = self._run(self.signal)
        if not self.before.numel() or not self.before.abs().amax():
            raise ModelError("the system's output is silent or empty: there is nothing to measure")
        again = self._run(self.signal)
        length = min(self.before.shape[-1], again.shape[-1])
        if self.before.shape[0] != again.shape[0]:
            raise ModelError("the system returned another number of sources for the same input: it cannot be measured")
        self.noise = float(change_by_sample(self.before[:, :length], again[:, :length]).max())
        if self.noise > MAX_NOISE:
            raise ModelError(
                f"two runs on the same input differ by {self.noise:.2g} of the largest output: the system is random; fix its seed"
            )
        self.threshold = max(self.threshold, NOISE_MARGIN * self.noise)
        self.num_samples = min(len(self.signal), length)

    def first_change(self, position: int) -> int:
        """The first output sample that changes if everything from a position on is replaced; the length if none does."""
        if position not in self.changes:
            self.changes[position] = self._change(position)
        changed = (self.changes[position] > self.threshold).nonzero()
        if not len(changed) and position < self.num_samples * (1 + _FUTURE_FROM) / 2:
            raise ModelError("no output changes with the input's second half: nothing to measure, or a delay as long as that")
        return int(changed[0]) if len(changed) else self.num_samples

    def largest_rest(self, ahead: int | None) -> float:
        """The largest change before the look-ahead."""
        if ahead is None:
            return 0.0
        rests = [change[: max(0, position - ahead)] for position, change in self.changes.items()]
        return max((float(rest.max()) for rest in rests if len(rest)), default=0.0)

    def _change(self, position: int) -> Tensor:
        after = self._run(with_other_future(self.signal, self.other, position))
        if after.shape[0] != self.before.shape[0]:
            raise ModelError("the number of sources changes with the input: it cannot be measured")
        length = min(self.num_samples, after.shape[-1])
        before, after = self.before[:, :length], after[:, :length]
        change = change_by_sample(before, after)
        past = slice(0, position // 2)
        if not float(change[past].max()) > self.threshold:
            return change
        gains, offsets = _common_gain(before[:, past], after[:, past])
        explained = change_by_sample(before, after - (gains - 1) * before - offsets)
        tolerance = max(self.threshold, float(2 * (1 + gains.abs().max()) * _resolution(self.before)))
        if float(explained[past].max()) > tolerance:
            return change
        self.threshold = tolerance
        self.gains_db.append(max(abs(20 * log10(max(1e-9, abs(float(gain))))) for gain in gains))
        return explained

    def _run(self, mixture: Tensor) -> Tensor:
        estimates = self.system(mixture).double()
        self.num_runs += 1
        self.advance(1)
        if not estimates.isfinite().all():
            raise ModelError("the system's output holds samples that are not numbers (NaN or infinite)")
        return estimates


def _common_gain(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """The gain and offset of each source ``[source, time]``, both ``[source, 1]``, that explain a change best."""
    means, new_means = before.mean(1, keepdim=True), after.mean(1, keepdim=True)
    centred = before - means
    gains = (centred * (after - new_means)).sum(1, keepdim=True) / centred.square().sum(1, keepdim=True).clamp_min(1e-300)
    return gains, new_means - gains * means


def _resolution(output: Tensor) -> float:
    """The step of 16-bit or 24-bit samples as a share of the largest; zero for others."""
    for step in _STEPS:
        if bool((output / step == (output / step).round()).all()):
            return step / float(output.abs().amax())
    return 0.0


# ------------------------------------------------------------------------------------------------------------------ signals
def _noise(num_samples: int, _: int, seed: int) -> Tensor:
    return 0.05 * torch.randn(num_samples, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _speech_like(num_samples: int, sample_rate: int, seed: int) -> Tensor:
    """Two voices: harmonics of a moving pitch, in syllables with pauses, over faint noise."""
    generator = torch.Generator().manual_seed(1000 + seed)
    time = torch.arange(num_samples, dtype=torch.float64) / sample_rate
    mixture = 0.02 * _noise(num_samples, sample_rate, seed)
    for pitch in (110.0, 190.0):
        rate, phase, start = torch.rand(3, dtype=torch.float64, generator=generator)
        hertz = pitch * (1 + 0.1 * torch.sin(2 * pi * (1 + rate) * time + 2 * pi * phase))
        angle = 2 * pi * hertz.cumsum(0) / sample_rate
        harmonics = [torch.sin(n * angle) / n for n in range(1, 1 + int(sample_rate / 2 / (1.2 * pitch)))]
        syllables = torch.sin(2 * pi * (3 + rate) * time + 2 * pi * start).clamp_min(0).square()
        mixture = mixture + 0.06 * syllables * torch.stack(harmonics).sum(0)
    return mixture
