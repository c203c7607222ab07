"""Whole mixtures on the device, as a training validates and `separate` separates them: seconds, at once and as on a CPU."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from pipeline.compute import devices
from pipeline.mixtures.shards import Shard, Signal, write_shard
from pipeline.separation.offline import separate, separate_several
from pipeline.training.loop import Training, TrainingSets
from pipeline.training.segments import PackedMixtures, Samples

SAMPLE_RATE = 8000
NUM_MIXTURES, NUM_PACKED, NUM_BY_EIGHTS, NUM_SEPARATED = 5000, 1000, 500, 48
SECONDS = (4.0, 6.0)
"""Shortest and longest mixture."""


class Repeated:
    """Packed mixtures, again and again, up to a number."""

    def __init__(self, mixtures: PackedMixtures, number: int) -> None:
        self._mixtures, self._number = mixtures, number

    def __len__(self) -> int:
        return self._number

    def num_samples(self, index: int) -> int:
        """Of a mixture."""
        return self._mixtures.num_samples(index % len(self._mixtures))

    def read(self, index: int, start: int, stop: int) -> tuple[Samples, Samples]:
        """A cut of one."""
        return self._mixtures.read(index % len(self._mixtures), start, stop)


def packed_noise(folder: Path, number: int, seconds: tuple[float, float]) -> PackedMixtures:
    """Mixtures of two noises, of evenly spread lengths."""
    random = np.random.default_rng(0)

    def signals() -> Iterator[Signal]:
        for index, length in enumerate(np.linspace(*seconds, number)):
            rows = random.integers(-8000, 8000, (3, round(length * SAMPLE_RATE)), np.int16)
            rows[0] = rows[1] + rows[2]
            yield Signal(f"m{index}", rows)

    write_shard(folder / "valid.shard", signals(), sample_rate=SAMPLE_RATE, dtype="int16")
    return PackedMixtures(Shard(folder / "valid.shard"))


def whole_mixtures(training: Training, small: bool) -> Iterator[dict[str, Any]]:
    """Rows: validation and separation, in batches as large as there is room for, and as on a CPU."""
    number, packed, by_eights, separated = (12, 6, 6, 4) if small else (NUM_MIXTURES, NUM_PACKED, NUM_BY_EIGHTS, NUM_SEPARATED)
    with tempfile.TemporaryDirectory() as folder:
        mixtures = packed_noise(Path(folder), packed, (0.2, 0.3) if small else SECONDS)
        validate(training, mixtures, min(packed, 64))  # compiles the kernels and fills the allocator
        # At toy size a CPU does what is otherwise only for a card.
        with mock.patch.object(devices, "room_for_mixtures", lambda device: 10**7) if small else nullcontext():
            yield {"whole": "validation", **validate(training, mixtures, number)}
        with mock.patch.object(devices, "room_for_mixtures", lambda device: None):
            yield {"whole": "validation in batches of 8", **validate(training, mixtures, by_eights)}
        yield from separation(training, mixtures, separated)


def validate(training: Training, mixtures: PackedMixtures, number: int) -> dict[str, Any]:
    """A validation as it comes at the end of an epoch, reading included."""
    training.sets = TrainingSets(training.sets.train, Repeated(mixtures, number))
    seconds, (loss, _) = timed(training._validate, training.device)
    return {"mixtures": number, "seconds": seconds, "mixtures_per_second": number / seconds, "loss_db": loss}


def separation(training: Training, mixtures: PackedMixtures, number: int) -> Iterator[dict[str, Any]]:
    """Mixtures in one batch, and one by one, in float32; how far the estimates are from each other, of the peak."""
    read = [mixtures.read(index, 0, mixtures.num_samples(index))[0] for index in range(0, len(mixtures), len(mixtures) // number)]
    read = read[:number]
    model = training.model.eval()
    ways = {
        "separation": lambda: separate_several(model, read, sample_rate=SAMPLE_RATE),
        "separation one by one": lambda: [separate(model, each, sample_rate=SAMPLE_RATE) for each in read],
    }
    found = {}
    for name, work in ways.items():
        work()
        seconds, found[name] = timed(work, training.device)
        yield {"whole": name, "mixtures": number, "seconds": seconds, "mixtures_per_second": number / seconds}
    together, alone = found.values()
    yield {
        "whole": "deviation of estimates",
        "of_the_peak": max(float(abs(a - b).max() / abs(b).max()) for a, b in zip(together, alone, strict=True)),
    }
    model.train()


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds until the device has finished, and the result."""
    devices.synchronise(device)
    started = time.perf_counter()
    result = work()
    devices.synchronise(device)
    return time.perf_counter() - started, result
