"""What surrounds training steps: validation on whole mixtures, separating them as `separate` does, and mixing on the device."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch

from pipeline.compute import devices
from pipeline.mixtures.plans.drawn import MixtureSampler
from pipeline.mixtures.shards import Shard, Signal, write_shard
from pipeline.recipe.schema import RandomPlan
from pipeline.separation.offline import separate, separate_several
from pipeline.training.batches import collate
from pipeline.training.compiling import Compiled
from pipeline.training.device_mixing import DeviceMixing
from pipeline.training.loop import Training, TrainingSets
from pipeline.training.resident import copied
from pipeline.training.segments import DynamicSegments, PackedMixtures, Samples
from tests.gpu.common import seconds_each

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


def around_steps(training: Training, small: bool) -> Iterator[dict[str, Any]]:
    """Rows: validation and separation, in batches as large as there is room for, and as on a CPU; and mixing."""
    number, packed, by_eights, separated = (12, 6, 6, 4) if small else (NUM_MIXTURES, NUM_PACKED, NUM_BY_EIGHTS, NUM_SEPARATED)
    with tempfile.TemporaryDirectory() as folder:
        mixtures = packed_noise(Path(folder), packed, (0.2, 0.3) if small else SECONDS)
        validate(training, mixtures, min(packed, 64))  # compiles the kernels and fills the allocator
        # At toy size a CPU does what is otherwise only for a card.
        with mock.patch.object(devices, "room_for_mixtures", lambda device: 10**7) if small else nullcontext():
            yield {"around": "validation", **validate(training, mixtures, number)}
        with mock.patch.object(devices, "room_for_mixtures", lambda device: None):
            yield {"around": "validation in batches of 8", **validate(training, mixtures, by_eights)}
        yield from separation(training, mixtures, separated)
    yield from mixing(training.device, small)


def mixing(device: torch.device, small: bool) -> Iterator[dict[str, Any]]:
    """Rows: segments of 4 seconds a second, mixed on the fly at speeds of ±5 %: drawn only, by the host, and by the device."""
    size, times = (2, 2) if small else (32, 30)
    with tempfile.TemporaryDirectory() as folder:
        segments = new_mixtures(Path(folder), 0.4 if small else 4.0)
        on_device = DeviceMixing(segments, copied(segments.bank, device), compiled=device.type == "cuda")
        ways: dict[str, Callable[[int], Any]] = {
            "drawing": lambda epoch: [segments.place(epoch, index) for index in range(size)],
            "mixing by one thread of the host": lambda epoch: collate([segments.segment(epoch, index) for index in range(size)]),
            "mixing by the device, drawing included": lambda epoch: on_device.gather(epoch, range(size)),
        }
        for name, work in ways.items():
            work(1)
            seconds, _ = timed(lambda work=work: [work(epoch) for epoch in range(1, times + 1)], device)
            yield {"around": name, "segments": size * times, "seconds": seconds, "segments_per_second": size * times / seconds}
        given: list[Any] = []
        compute = on_device._mix
        on_device._mix = Compiled(lambda *arguments: given.append(arguments) or compute(*arguments), enabled=False)
        true, found = collate([segments.segment(1, index) for index in range(size)]), on_device.gather(1, range(size))
        each = seconds_each(lambda: compute(*given[0]), device, times)
        deviation = float((found.sources.cpu() - true.sources).abs().max())
        yield {"around": "mixing by the device alone", "segments_per_second": size / each, "deviation": deviation}


def new_mixtures(folder: Path, seconds: float) -> DynamicSegments:
    """New mixtures of 16 noises of 8 speakers, a quarter longer than a segment."""
    random = np.random.default_rng(0)
    length = round(1.25 * seconds * SAMPLE_RATE)
    names = [f"u{number}" for number in range(16)]
    facts = {"level_db": -20.0, "peak": 0.5}
    signals = (Signal(name, 0.1 * random.standard_normal((1, length), np.float32), facts) for name in names)
    write_shard(folder / "bank.shard", signals, sample_rate=SAMPLE_RATE, dtype="float32")
    manifest = pd.DataFrame({"utterance_id": names, "speaker_id": [f"s{number % 8}" for number in range(16)]})
    manifest = manifest.assign(split="train", sample_rate=SAMPLE_RATE, num_samples=length)
    plan = RandomPlan(kind="random", level="rms", min_seconds=0.4)
    sampler = MixtureSampler(manifest, plan, split="train", seed=0)
    num_samples = round(seconds * SAMPLE_RATE)
    bank = Shard(folder / "bank.shard")
    return DynamicSegments(bank, sampler, mode="min", num_samples=num_samples, num_segments=100, speed_percent=5)


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
        yield {"around": name, "mixtures": number, "seconds": seconds, "mixtures_per_second": number / seconds}
    together, alone = found.values()
    yield {
        "around": "deviation of estimates",
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
