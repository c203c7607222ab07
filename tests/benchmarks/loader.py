"""How fast one worker delivers training segments, beside how fast the network takes them here.

    python tests/benchmarks/loader.py                       # the paper's network, 4-s segments of two sources at 8 kHz
    python tests/benchmarks/loader.py --no-training         # the loader alone

Noise of the length of sentences stands for speech: packed mixtures (int16) for cuts of rendered mixtures, packed utterances for
mixtures made on the fly, with and without speed perturbation and noise.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.mixtures.plans.drawn import MixtureSampler
from pipeline.mixtures.plans.wham import under_first_speaker
from pipeline.mixtures.shards import Shard, Signal, write_shard
from pipeline.recipe.schema import Model, RandomPlan, System, Train
from pipeline.training.batches import epoch_batches
from pipeline.training.benchmark import benchmark_training
from pipeline.training.segments import DynamicSegments, PackedMixtures, Segments, StaticSegments

RATE, SECONDS, BATCH_SIZE = 8000, 4.0, 8
NUM_SPEAKERS, UTTERANCES_EACH, NUM_MIXTURES = 50, 8, 400


def noise(random: np.random.Generator, rows: int) -> np.ndarray:
    """As long as a sentence: 3 to 10 seconds."""
    return (0.05 * random.standard_normal((rows, random.integers(3 * RATE, 10 * RATE)))).astype(np.float32)


def static(folder: Path) -> Segments:
    """Cuts of packed mixtures."""
    random = np.random.default_rng(0)
    signals = (Signal(f"m{k}", (2**15 * noise(random, 3)).astype(np.int16)) for k in range(NUM_MIXTURES))
    write_shard(folder / "train.shard", signals, sample_rate=RATE, dtype=np.int16)
    return StaticSegments(PackedMixtures(Shard(folder / "train.shard")), num_samples=round(SECONDS * RATE), seed=0)


def bank(folder: Path, name: str, number: int) -> Shard:
    """Packed utterances, or clips of noise, with their facts."""
    random = np.random.default_rng(1)
    facts = {"level_db": -26.0, "peak": 0.25, "lufs": -26.0}
    write_shard(
        folder / name, (Signal(f"u{k}", noise(random, 1), facts) for k in range(number)), sample_rate=RATE, dtype=np.float32
    )
    return Shard(folder / name)


def dynamic(folder: Path) -> Iterator[tuple[str, Segments]]:
    """Mixtures made on the fly."""
    utterances = bank(folder, "utterances.shard", NUM_SPEAKERS * UTTERANCES_EACH)
    speakers = [f"s{k % NUM_SPEAKERS}" for k in range(len(utterances))]
    manifest = pd.DataFrame({"utterance_id": utterances.names, "speaker_id": speakers, "num_samples": utterances.num_samples})
    sampler = MixtureSampler(manifest.assign(split="train", sample_rate=RATE), RandomPlan(kind="random"), split="train", seed=0)
    clips = bank(folder, "noise.shard", 100)
    for name, options in {
        "dynamic": {},
        "dynamic, speed": {"speed_percent": 5},
        "dynamic, noise": {"noise": clips, "noise_rule": under_first_speaker},
    }.items():
        yield (
            name,
            DynamicSegments(utterances, sampler, mode="min", num_samples=round(SECONDS * RATE), num_segments=1000, **options),
        )


def segments_per_second(segments: Segments, seconds: float = 4.0) -> float:
    """Of one worker that does nothing else, after the first batches."""
    batches = epoch_batches(segments, epoch=1, steps=range(10**6), batch_size=BATCH_SIZE, num_workers=1)
    for _ in range(4):
        next(batches)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        count += len(next(batches))
    rate = count / (time.perf_counter() - started)
    batches.close()  # type: ignore[attr-defined]
    return rate


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-training", action="store_true")
    parser.add_argument("--steps", type=int, default=8, help="of the training")
    given = parser.parse_args()
    training = 0.0
    if not given.no_training:
        system = System(model=Model(), train=Train(segment_seconds=SECONDS, batch_size=2))
        training = benchmark_training(system, sample_rate=RATE, num_steps=given.steps).segments_per_second
        print(f"{'training':16} {training:10.2f} segments/s")
    with tempfile.TemporaryDirectory() as folder:
        for name, segments in [("static", static(Path(folder))), *dynamic(Path(folder))]:
            rate = segments_per_second(segments)
            beside = f"   {rate / training:6.0f} times the training" if training else ""
            print(f"{name:16} {rate:10.0f} segments/s{beside}")


if __name__ == "__main__":
    main()
