"""Mixtures per second against the way LibriMix is published: decode, scale, resample and write every variant by itself.

    python tests/benchmarks/generate.py --mixtures 1000 --variants one      # 8 kHz, min, all types
    python tests/benchmarks/generate.py --mixtures 300 --variants all       # 8 and 16 kHz, min and max, all types

Both ways render the same rows of surrogate audio with the same number of processes, in turns, and their files are compared.
Lengths and rows are those of Libri2Mix's test set where TASNET_CORPORA has it, and of the same kind otherwise. Each way starts
its processes anew in every round and ends with its tables. The published script fills those a row at a time (`--tables by-row`);
they can be made at once instead, in its favour (`--tables at-once`). Nothing is removed between the rounds, as ext4 is slow to
make files where others were just removed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from scipy.signal import lfilter, resample_poly

from pipeline.mixtures.plans import librimix_lists
from pipeline.mixtures.plans.published import listed_manifest
from pipeline.mixtures.renderers.base import Inputs
from pipeline.mixtures.rendering import render
from pipeline.recipe.schema import LibriMixPlan, Mix, MixType, Variant

RATE = 16000
TYPES: list[MixType] = ["mix_clean", "mix_both", "mix_single"]
VARIANTS = {"one": [(8000, "min")], "all": [(8000, "min"), (8000, "max"), (16000, "min"), (16000, "max")]}
SUBSET = "test-clean"
PARTS = ("source_1", "source_2", "noise")


# --------------------------------------------------------------------------------------------------------------- the rows
def rows_and_lengths(number: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows of metadata, and the length in samples of every file they name."""
    folder = Path(os.environ.get("TASNET_CORPORA", "")) / "librimix"
    if (folder / "Libri2Mix").is_dir() and "TASNET_CORPORA" in os.environ:
        rows = pd.read_csv(folder / f"Libri2Mix/libri2mix_{SUBSET}.csv", nrows=number)
        lists = [pd.read_csv(folder / name, dtype=str) for name in (f"LibriSpeech/{SUBSET}.csv", "Wham_noise/test.csv")]
        known = pd.concat(lists).set_index("origin_path")["length"].astype(int)
        return rows, {path: int(known[path]) for name in _path_columns(rows) for path in rows[name]}
    return _invented(number)


def _invented(number: int) -> tuple[pd.DataFrame, dict[str, int]]:
    generator = np.random.default_rng(0)
    rows = pd.DataFrame({"mixture_ID": [f"{k}-1-0_{k}-2-0" for k in range(number)]})
    for k in (1, 2):
        rows[f"source_{k}_path"] = [f"{SUBSET}/{k}/1/{k}-1-{row}.flac" for row in range(number)]
        rows[f"source_{k}_gain"] = generator.uniform(0.2, 2, number)
    rows["noise_path"], rows["noise_gain"] = [f"tt/{row}.wav" for row in range(number)], generator.uniform(0.2, 2, number)
    return rows, {path: int(generator.uniform(4, 16) * RATE) for name in _path_columns(rows) for path in rows[name]}


def _path_columns(rows: pd.DataFrame) -> list[str]:
    return [name for name in rows.columns if name.endswith("_path")]


def write_surrogates(folder: Path, lengths: dict[str, int]) -> None:
    """Coloured noise with the rhythm of speech, so that FLAC decodes at the pace of speech."""
    for number, (path, length) in enumerate(lengths.items()):
        generator = np.random.default_rng(number)
        rhythm = np.sin(2 * np.pi * (2 + number % 3) * np.arange(length) / RATE).clip(0)
        samples = 0.02 * lfilter([1], [1, -1.6, 0.8], generator.normal(size=length)) * rhythm
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / path, samples.clip(-0.9, 0.9), RATE)


# ------------------------------------------------------------------------------------------------------ the published way
def published_way(folder: Path, out: Path, variants: list[tuple[int, str]], num_workers: int, tables: str) -> None:
    """Every variant after the other, every row by itself, then the tables."""
    for rate, mode in variants:
        top = out / f"Libri2Mix/wav{rate // 1000}k/{mode}"
        for name in ("test/s1", "test/s2", "test/noise", *(f"test/{kind}" for kind in TYPES), "metadata"):
            (top / name).mkdir(parents=True)
        rows = pd.read_csv(folder / f"libri2mix_{SUBSET}.csv")
        with ProcessPoolExecutor(num_workers) as pool:
            render_row = partial(_published_row, folder, top / "test", rate, mode)
            results = list(pool.map(render_row, [row for _, row in rows.iterrows()], chunksize=10))
        for number, kind in enumerate(TYPES):
            table = TABLES[tables]([result[number] for result in results])
            described = [name for name in table.columns if not name.endswith("_SNR")]
            table[described].to_csv(top / f"metadata/mixture_test_{kind}.csv", index=False)
            metrics = ["mixture_ID", *(name for name in table.columns if name.endswith("_SNR"))]
            table[metrics].to_csv(top / f"metadata/metrics_test_{kind}.csv", index=False)


def _by_row(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A table, and its half again for the second family, a row at a time: ``DataFrame.loc[len(table)]``."""
    halves = []
    for ending in (True, False):
        names = [name for name in rows[0] if name == "mixture_ID" or name.endswith("_SNR") == ending]
        table = pd.DataFrame(columns=names)
        for row in rows:
            table.loc[len(table)] = [row[name] for name in names]
        halves.append(table)
    return halves[1].join(halves[0].drop(columns="mixture_ID"))


TABLES: dict[str, Callable[[list[dict[str, Any]]], pd.DataFrame]] = {"at-once": pd.DataFrame, "by-row": _by_row}


def _published_row(folder: Path, out: Path, rate: int, mode: str, row: Any) -> list[dict[str, Any]]:
    sources = [soundfile.read(folder / row[f"source_{k}_path"], dtype="float32")[0] for k in (1, 2)]
    longest = max(map(len, sources))
    noise = soundfile.read(folder / row["noise_path"], dtype="float32", stop=longest)[0]
    noise = noise if len(noise) == longest else _looped(noise, longest)
    gains = [row["source_1_gain"], row["source_2_gain"], row["noise_gain"]]
    signals = [resample_poly(x * gain, rate, RATE) for x, gain in zip([*sources, noise], gains, strict=True)]
    length = (min if mode == "min" else max)(map(len, signals))
    signals = [np.pad(x[:length], (0, length - len(x[:length]))) for x in signals]
    paths = [out / name / f"{row['mixture_ID']}.wav" for name in ("s1", "s2", "noise")]
    for path, samples in zip(paths, signals, strict=True):
        soundfile.write(path, samples, rate)
    rows = []
    for kind, parts in zip(TYPES, ((0, 1), (0, 1, 2), (0, 2)), strict=True):
        mixture = np.zeros_like(signals[0])
        for part in parts:
            mixture += signals[part]
        path = out / kind / f"{row['mixture_ID']}.wav"
        soundfile.write(path, mixture, rate)
        described = {"mixture_ID": row["mixture_ID"], "mixture_path": path, "length": length}
        for part in parts:
            described |= {f"{PARTS[part]}_path": paths[part], f"{PARTS[part]}_SNR": _snr(signals[part], mixture - signals[part])}
        rows.append(described)
    return rows


def _snr(signal: Any, rest: Any) -> float:
    return float(10 * np.log10(np.mean(signal**2) / (np.mean(rest**2) + 1e-10) + 1e-10))


def _looped(noise: Any, length: int) -> Any:
    window = np.hanning(RATE + 1)
    up, down = window[: RATE // 2 + 1], window[RATE // 2 :]
    longer = noise
    while len(longer) < length:
        joint = longer[-len(down) :] * down + noise[: len(up)] * up
        longer = np.concatenate((longer[: -len(down)], joint, noise[len(up) :]))
    return longer[:length]


# ---------------------------------------------------------------------------------------------------------------- our way
def our_way(folder: Path, out: Path, variants: list[tuple[int, str]], num_workers: int) -> None:
    """One pass over the rows for all variants, tables, journal and checksums included."""
    plan, speech, noises = librimix_lists.read_lists(folder, LibriMixPlan(kind="librimix", splits=["test"]), lambda _: [SUBSET])
    listed = [listed_manifest(table, folder, num_workers=num_workers) for table in (speech, noises)]
    first, *others = [Variant.model_validate({"sample_rate": rate, "mode": mode}) for rate, mode in variants]
    mix = Mix(sample_rate=first.sample_rate, mode=first.mode, types=TYPES, also=others)
    render(plan, pd.concat(listed), Inputs("librimix", folder, folder, None, mix), out, num_workers=num_workers)


# -------------------------------------------------------------------------------------------------------------- comparing
def seconds_of(work: Callable[[], None]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def differing(ours: Path, published: Path) -> int:
    """How many of the published files ours do not equal."""
    paths = [path.relative_to(published) for path in published.rglob("*.wav")]
    return sum((published / path).read_bytes() != (ours / path).read_bytes() for path in paths)


def main() -> int:
    """Run both ways in turns, print the median of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixtures", type=int, default=300)
    parser.add_argument("--variants", choices=sorted(VARIANTS), default="one")
    parser.add_argument("--tables", choices=sorted(TABLES), default="by-row")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    variants, num_workers = VARIANTS[arguments.variants], arguments.workers
    with tempfile.TemporaryDirectory() as scratch:
        top, times = Path(scratch), {"published": [], "ours": []}
        rows, lengths = rows_and_lengths(arguments.mixtures)
        write_surrogates(top / "in", lengths)
        rows.to_csv(top / f"in/libri2mix_{SUBSET}.csv", index=False)
        for number in range(arguments.rounds):
            published = partial(published_way, top / "in", top / f"published-{number}", variants, num_workers, arguments.tables)
            ours = partial(our_way, top / "in", top / f"ours-{number}", variants, num_workers)
            times["published"].append(seconds_of(published))
            times["ours"].append(seconds_of(ours))
        different = sum(differing(top / f"ours-{number}", top / f"published-{number}") for number in range(arguments.rounds))
    for way, seconds in times.items():
        rounds = ", ".join(f"{s:.2f} s" for s in seconds)
        print(f"{way:>10}: {arguments.mixtures / median(seconds):7.1f} mixtures/s  ({rounds})")
    ratios = [published / ours for published, ours in zip(times["published"], times["ours"], strict=True)]
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"     ratio: {median(ratios):.2f} (of each round: {each}), files that differ: {different}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
