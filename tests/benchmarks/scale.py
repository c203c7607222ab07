"""What planning and mixing take as datasets grow: time and memory of a plan, and of a rendering's first mixtures.

    python tests/benchmarks/scale.py --mixtures 100000 1000000 --render 300

The corpus is that of train-clean-100, invented: 251 speakers with 114 utterances each of 12 seconds. Each step runs in a process
of its own, whose peak memory counts. The first mixtures are rendered in as many processes as there are cores, from a few of the
utterances, and the rest is extrapolated: rendering takes the same time per mixture, however many there are.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from pipeline.mixtures.footprint import footprint
from pipeline.mixtures.plans.drawn import draw_plan
from pipeline.mixtures.plans.lint import lint
from pipeline.mixtures.plans.planned import planned_mixtures
from pipeline.mixtures.renderers.base import Inputs
from pipeline.mixtures.rendering import render
from pipeline.recipe.schema import Mix, RandomPlan, Variant
from pipeline.tables import MANIFEST, PLAN, read_table, write_table

RATE, SECONDS = 16000, 12
SPEAKERS, UTTERANCES = 251, 114
VARIANTS = [Variant(sample_rate=rate, mode=mode) for rate in (8000, 16000) for mode in ("min", "max")]


def manifest() -> pd.DataFrame:
    """A row per utterance; lengths differ by up to two seconds."""
    lengths = np.random.default_rng(0).integers(-RATE, RATE, (SPEAKERS, UTTERANCES)) + SECONDS * RATE
    rows = [
        (f"{s:04d}-{k:04d}", f"{s:04d}", "F", "train", f"{s:04d}/{k:04d}.flac", RATE, int(lengths[s, k]))
        for s in range(SPEAKERS)
        for k in range(UTTERANCES)
    ]
    return pd.DataFrame(rows, columns=["utterance_id", "speaker_id", "sex", "split", "path", "sample_rate", "num_samples"])


# ----------------------------------------------------------------------------------------------------------------- steps
def plan(folder: Path, number: int) -> None:
    """What stage ``plan`` does."""
    utterances = manifest()
    drawn = draw_plan(utterances, RandomPlan(kind="random", num_mixtures={"train": number}), seed=0)
    lint(drawn, utterances)
    write_table(utterances, folder / "manifest.csv", MANIFEST)
    write_table(drawn, folder / "plan.csv", PLAN)


def gather(folder: Path, number: int) -> None:
    """What stage ``mix`` does before it renders: read the tables, and gather the plan's rows by mixture."""
    mixtures = planned_mixtures(read_table(folder / "plan.csv", PLAN), read_table(folder / "manifest.csv", MANIFEST))
    sorted(mixtures, key=lambda mixture: [source.path for source in mixture.sources])


def measured(step: Callable[[Path, int], None], folder: Path, number: int) -> tuple[float, float]:
    """Seconds of processor time and GiB of memory that a step takes in a fresh process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_measure, args=(step, folder, number, there))
    process.start()
    there.close()
    try:
        seconds, memory = here.recv()
    except EOFError:
        raise SystemExit(f"{step.__name__} of {number:,} mixtures was killed: is there enough memory?") from None
    process.join()
    return float(seconds), float(memory)


def _measure(step: Callable[[Path, int], None], folder: Path, number: int, answer: Any) -> None:
    began = time.process_time()
    step(folder, number)
    answer.send((time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


# ------------------------------------------------------------------------------------------------------------- rendering
def rendered_per_second(folder: Path, number: int, variant: Variant) -> float:
    """Mixtures per second of wall time, of the first mixtures of a plan."""
    utterances = manifest()
    drawn = draw_plan(utterances, RandomPlan(kind="random", num_mixtures={"train": number}), seed=0)
    used = utterances[utterances["utterance_id"].isin(drawn["utterance_id"])]
    for path, num_samples in zip(used["path"], used["num_samples"], strict=True):
        (folder / path).parent.mkdir(exist_ok=True)
        if not (folder / path).exists():
            noise = np.random.default_rng(num_samples).standard_normal(num_samples)
            soundfile.write(folder / path, 0.1 * noise, RATE)
    mix = Mix(sample_rate=variant.sample_rate, mode=variant.mode)
    began = time.perf_counter()
    render(drawn, used, Inputs("random", folder, None, None, mix), folder / f"{variant.sample_rate}-{variant.mode}")
    return number / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mixtures", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--render", type=int, default=300, metavar="N", help="mixtures to render of each variant; 0 for none")
    given = parser.parse_args()
    print("| mixtures | plan: s | GiB | plan.csv: MB | gather: s | GiB |\n|---|---|---|---|---|---|")
    for number in given.mixtures:
        with tempfile.TemporaryDirectory() as name:
            planned, gathered = measured(plan, Path(name), number), measured(gather, Path(name), number)
            megabytes = (Path(name) / "plan.csv").stat().st_size / 1e6
            print(
                f"| {number:,} | {planned[0]:.0f} | {planned[1]:.2f} | {megabytes:,.0f} | {gathered[0]:.0f} | {gathered[1]:.2f} |"
            )
    if given.render:
        _extrapolate(given.render, max(given.mixtures))


def _extrapolate(number: int, total: int) -> None:
    print(f"\n| of {total:,} mixtures | mixtures/s | hours | GB |\n|---|---|---|---|")
    utterances = manifest()
    sample = draw_plan(utterances, RandomPlan(kind="random", num_mixtures={"train": 10_000}), seed=0)
    with tempfile.TemporaryDirectory() as name:
        for variant in VARIANTS:
            rate = rendered_per_second(Path(name), number, variant)
            mix = Mix(sample_rate=variant.sample_rate, mode=variant.mode)
            gigabytes = footprint(sample, utterances, mix).disk_bytes / 10_000 * total / 1e9
            print(f"| {variant.sample_rate} Hz, {variant.mode} | {rate:.0f} | {total / rate / 3600:.1f} | {gigabytes:,.0f} |")


if __name__ == "__main__":
    main()
