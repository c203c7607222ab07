"""Mixing on the fly on a device: the utterances lie in its memory, and the host sends only what it has drawn.

The draws are those of :class:`pipeline.training.segments.DynamicSegments`, from the same keys; the samples are its own but for
the last bits, since a device adds up in another order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.audio.mixing import PEAK, PEAK_RULES, PeakRule, source_gain
from pipeline.audio.resampling import polyphase
from pipeline.training.batches import Batch
from pipeline.training.compiling import Compiled
from pipeline.training.segments import Cut, DynamicSegments, Placed


class DeviceMixing:
    """Segments that are mixed on the device that holds the utterances.

    Args:
        segments: what is drawn; without noise.
        samples: of its bank, one utterance after another, on the device.
        compiled: whether a compiler makes one pass of the mixing.
    """

    def __init__(self, segments: DynamicSegments, samples: Tensor, *, compiled: bool) -> None:
        self._segments = segments
        self._samples = samples
        self._offsets: list[int] = segments.bank.offsets.tolist()
        most = segments.speed_percent
        found = [polyphase(speed, 100) for speed in range(100 - most, 100 + most + 1)]
        self._rates = [each[:3] for each in found]
        self._taps = torch.zeros(len(found), *(max(each[3].shape[axis] for each in found) for axis in range(2)))
        for number, (*_, taps) in enumerate(found):
            self._taps[number, : taps.shape[0], : taps.shape[1]] = torch.from_numpy(taps)
        self._taps = self._taps.to(samples.device)
        self._mix = Compiled(mixed, enabled=compiled)

    def gather(self, epoch: int, indices: Sequence[int]) -> Batch:
        """The batch of these segments; nothing waits for the device."""
        placed = [self._segments.place(epoch, index) for index in indices]
        lengths = [self._length(each) for each in placed]
        cuts = self._moved(torch.tensor([self._numbers(each) for each in placed]))
        gains = self._moved(torch.tensor([self._gains(each) for each in placed], dtype=torch.float32))
        ends = self._moved(torch.tensor(lengths))
        rule = PEAK_RULES[self._segments.sampler.rule]
        sizes = (self._width, self._segments.num_samples)
        mixture, sources = self._mix.with_fallback(
            lambda: self._mix(self._samples, self._taps, cuts, gains, ends, *sizes, rule), undo=lambda: None
        )
        return Batch(mixture, sources, ends.clamp_max(self._segments.num_samples))

    @property
    def _width(self) -> int:
        """Samples of the longest mixture before it is cut: beginnings are rounded up to a millisecond, lengths to a sample."""
        sampler = self._segments.sampler
        is_full = all(overlap == 1.0 for overlap in sampler.overlap)
        slack = 0 if is_full else sampler.num_sources * (self._segments.bank.sample_rate // 1000 + 3)
        return self._segments.num_samples + slack

    def _numbers(self, placed: Placed) -> list[list[int]]:
        """What :func:`mixed` needs of each source."""
        return [self._numbers_of(cut, start) for cut, start in zip(placed.cuts, placed.starts, strict=True)]

    def _numbers_of(self, cut: Cut, start: int) -> list[int]:
        number = cut.speed_percent - 100 + self._segments.speed_percent
        first = self._offsets[cut.place] + cut.start
        return [first, cut.stop - cut.start, cut.num_samples, start, number, *self._rates[number]]

    def _gains(self, placed: Placed) -> list[float]:
        facts = [self._segments.bank.facts[cut.place] for cut in placed.cuts]
        rule = self._segments.sampler.rule
        levels = zip(placed.draw.levels_db, facts, strict=True)
        return [source_gain(rule, level, each["level_db"], each["peak"]) for level, each in levels]

    def _length(self, placed: Placed) -> int:
        """Samples of the whole mixture."""
        ends = [start + cut.num_samples for cut, start in zip(placed.cuts, placed.starts, strict=True)]
        return min(ends) if self._segments.mode == "min" else max(ends)

    def _moved(self, values: Tensor) -> Tensor:
        if self._samples.device.type == "cuda":
            values = values.pin_memory()
        return values.to(self._samples.device, non_blocking=True)


def mixed(
    samples: Tensor, taps: Tensor, cuts: Tensor, gains: Tensor, lengths: Tensor, width: int, num_samples: int, rule: PeakRule
) -> tuple[Tensor, Tensor]:
    """What :func:`pipeline.audio.mixing.mix` makes of cuts at their speeds, for a batch at once.

    Args:
        samples: ``[sample]`` of all utterances.
        taps: ``[speed, phase, tap]``; see :func:`pipeline.audio.resampling.polyphase`.
        cuts: ``[batch, source, 8]``: the first sample, how many are read, how many come of them, how many are silent before, the
            number of the speed, and its ``up``, ``down`` and ``half``.
        gains: ``[batch, source]``, linear.
        lengths: ``[batch]`` of whole mixtures, at most ``width``; the peak rule looks at all of each.
        width: samples to compute.
        num_samples: those to return, with zeros after a mixture's end.
        rule: the peak rule.

    Returns:
        Mixtures ``[batch, time]`` and sources ``[batch, source, time]``.
    """
    first, num_read, num_made, start, speed, up, down, half = (each[..., None] for each in cuts.unbind(-1))  # [batch, source, 1]
    time = torch.arange(width, device=samples.device)
    heard = (time >= start) & (time < start + num_made) & (time < lengths[:, None, None])  # [batch, source, time]
    place = torch.where(heard, time - start, 0) * down + half
    newest = torch.div(place, up, rounding_mode="floor")
    phase = place - newest * up
    rows = torch.zeros_like(phase, dtype=torch.float32)
    for tap in range(taps.shape[-1]):
        sample = newest - tap
        inside = heard & (sample >= 0) & (sample < num_read)
        rows = rows + torch.where(inside, samples[torch.where(inside, first + sample, 0)], 0.0) * taps[speed, phase, tap]
    rows = rows * gains[:, :, None]
    mixture = rows.sum(1)
    peak = mixture.abs().amax(1)
    if rule == "always":
        peak = torch.maximum(peak, rows.abs().amax((1, 2)))
    scale = torch.where(peak > (PEAK if rule == "down" else 0.0), PEAK / peak, 1.0)
    scaled = torch.cat([mixture[:, None], rows], dim=1)[:, :, :num_samples] * scale[:, None, None]
    return scaled[:, 0].contiguous(), scaled[:, 1:].contiguous()
