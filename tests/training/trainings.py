"""Small trainings for tests: a tiny network, mixtures made from numbers, and segments drawn from steady noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from pipeline.audio.levels import LevelRule, level_db, loudness
from pipeline.compute.options import Options
from pipeline.mixtures.plans.drawn import MixtureSampler
from pipeline.mixtures.plans.librimix_drawn import as_another_source
from pipeline.mixtures.plans.wham import under_first_speaker
from pipeline.mixtures.shards import Shard, Signal, write_shard
from pipeline.recipe.schema import Model, RandomPlan, System, Train
from pipeline.training.batches import Batch, epoch_batches
from pipeline.training.loop import TrainingSets
from pipeline.training.segments import DynamicSegments, Samples, Segment, Segments
from pipeline.training.state import load_state

RATE = 8000


TINY = Model(
    num_filters=16,
    filter_length=16,
    bottleneck_channels=8,
    skip_channels=8,
    hidden_channels=16,
    blocks_per_repeat=2,
    num_repeats=1,
)


QUIET = Options(device="cpu", compile="off", num_loaders=0)

TIMES = ["segments_per_second", "seconds", "warmup_seconds", "peak_memory_gib"]
"""Columns of a history that differ between equal trainings."""


class Tones:
    """Mixtures of a low and a high tone, made from their number; segments and whole mixtures alike."""

    def __init__(self, num: int = 12, length: int = 800, *, silent: bool = False) -> None:
        self.num, self.length, self.silent = num, length, silent

    def __len__(self) -> int:
        return self.num

    def num_samples(self, index: int) -> int:
        return self.length + 8 * (index % 3)

    def read(self, index: int, start: int, stop: int) -> tuple[Samples, Samples]:
        random = np.random.default_rng(index)
        frequencies = random.uniform([0.01, 0.2], [0.1, 0.4])[:, None]
        sources = np.sin(2 * np.pi * frequencies * np.arange(start, stop) + random.uniform(0, 6, (2, 1))).astype(np.float32)
        if self.silent and index % 2:
            sources[1] = 0
        return sources.sum(0), sources

    def segment(self, epoch: int, index: int) -> Segment:
        return Segment(*self.read(1000 * epoch + index, 0, self.length), self.length)


SETS = TrainingSets(Tones(), Tones(5))


def system(**changes: object) -> System:
    values: dict[str, object] = {"batch_size": 3, "epochs": 3, "precision": "float32", "segment_seconds": 0.1}
    return System(model=TINY, train=Train.model_validate(values | changes))


EVERYTHING = system(
    epochs=20, ema_decay=0.9, schedule="plateau", plateau_epochs=1, learning_rate=0.05, mixing="dynamic", speed_percent=10
)


class Noisy:
    """Steady noise for speech and noise alike, so that a cut is as loud as the whole; measured as packing measures it."""

    def __init__(self, folder: Path, level: LevelRule) -> None:
        random = np.random.default_rng(0)
        self.folder, self.level, self.random = folder, level, random
        rows = [(f"u{k}", f"s{k % 4}", 8000 + 500 * k) for k in range(8)]
        manifest = pd.DataFrame(rows, columns=["utterance_id", "speaker_id", "num_samples"]).assign(
            split="train", sample_rate=RATE
        )
        self.bank = self.shard("bank", [(name, 0.01 * (k + 1), length) for k, (name, _, length) in enumerate(rows)], level)
        plan = RandomPlan(kind="random", level=level, min_seconds=0.4)
        self.sampler = MixtureSampler(manifest, plan, split="train", seed=3)

    def shard(self, name: str, signals: list[tuple[str, float, int]], level: LevelRule) -> Shard:
        made = []
        for key, scale, length in signals:
            samples = (scale * self.random.standard_normal((1, length))).astype(np.float32)
            facts = {"level_db": level_db(samples[0], RATE, level), "peak": float(np.abs(samples).max())}
            made.append(Signal(key, samples, {**facts, "lufs": loudness(samples[0], RATE)}))
        write_shard(self.folder / f"{name}.shard", made, sample_rate=RATE, dtype="float32")
        return Shard(self.folder / f"{name}.shard")

    def segments(self, **changes: Any) -> DynamicSegments:
        noise_rule = as_another_source if self.level == "loudness" else under_first_speaker
        arguments: dict[str, Any] = {"mode": "min", "num_samples": 6000, "num_segments": 20, "noise_rule": noise_rule} | changes
        return DynamicSegments(self.bank, self.sampler, **arguments)


def spoken(folder: Path) -> TrainingSets:
    """New mixtures on the fly, at another speed every time."""
    return TrainingSets(Noisy(folder, "rms").segments(num_samples=800, num_segments=12, speed_percent=10), Tones(5))


def drawn(segments: Segments, **changes: object) -> list[Batch]:
    arguments: dict[str, object] = {"epoch": 2, "steps": range(5), "batch_size": 3, "num_workers": 1}
    return list(epoch_batches(segments, **(arguments | changes)))  # type: ignore[arg-type]


def equal(one: list[Batch], other: list[Batch]) -> bool:
    parts = ("mixture", "sources", "num_samples")
    return len(one) == len(other) and all(
        torch.equal(getattr(a, part), getattr(b, part)) for a, b in zip(one, other, strict=True) for part in parts
    )


def weights(folder: Path) -> bytes:
    """All bits of the last weights, of their average and of the optimiser."""
    state = load_state(folder / "last.safetensors")
    parts = state["optimiser"].values()
    moments = [value for part in parts for moment in part["state"].values() for value in moment.values()]
    return b"".join(
        tensor.numpy().tobytes() for tensor in [*state["model"].values(), *(state["average"] or {}).values(), *moments]
    )


def assert_same_training(one: Path, other: Path) -> None:
    assert weights(one) == weights(other)
    first, second = (load_file(folder / "best.safetensors") for folder in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in first)
    histories = [pd.read_csv(folder / "history.csv").drop(columns=TIMES) for folder in (one, other)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
