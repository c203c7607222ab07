"""Peak memory, time and exactness of separating long recordings, with an untrained network of a recipe's size.

    TASNET_CORPORA=… python tests/benchmarks/long_files.py [--recipe demo] [--minutes 60]

The recording is the sum of two endless talks, each of other speakers' utterances. Every system runs in a process of its own, once
in blocks, and with ``--compare MINUTES`` a cut of that length both ways, whose estimates are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 8000


def talk(speakers: list[Path]) -> Iterator[NDArray[np.float64]]:
    """Utterances of these speakers in turn, again and again, each at the same level."""
    from pipeline.audio.files import read_audio
    from pipeline.audio.resampling import resample

    for number in range(10**9):
        files = sorted(speakers[number % len(speakers)].glob("*.flac"))
        samples, sample_rate = read_audio(files[number // len(speakers) % len(files)])
        samples = resample(samples, sample_rate, RATE)
        yield 0.05 * samples / samples.std()


def write_mixture(path: Path, minutes: float) -> None:
    from pipeline.audio.files import write_audio

    speakers = sorted(each for each in (Path(os.environ["TASNET_CORPORA"]) / "speech").iterdir() if each.is_dir())
    num_samples = round(60 * minutes * RATE)
    mixture = np.zeros(num_samples)
    for own in (speakers[::2], speakers[1::2]):
        start = 0
        for utterance in talk(own):
            part = utterance[: num_samples - start]
            mixture[start : start + len(part)] += part
            start += len(part)
            if start == num_samples:
                break
    write_audio(path, np.clip(mixture, -1, 1), RATE)


def separate_here(recording: Path, recipe: str, system: str, out: Path, max_memory: float) -> dict[str, Any]:
    """One recording by one system, in this process."""
    import torch

    from pipeline.models import build_model
    from pipeline.recipe.reading import load_recipe
    from pipeline.separation import Limits, separate_files

    torch.manual_seed(0)
    model = build_model(load_recipe(recipe).systems[system].model, sample_rate=RATE).eval()
    before, started = _peak_gb(), time.perf_counter()
    (done,) = separate_files(model, [recording], out, limits=Limits(max_memory_gb=max_memory))
    seconds = time.perf_counter() - started
    return {"method": done.method, "seconds": seconds, "peak_gb": _peak_gb(), "program_gb": before, "problem": done.problem}


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def apart(*arguments: object) -> dict[str, Any]:
    """One of the functions above in a process of its own. A process starts with the peak of the one that starts it: this one."""
    command = [sys.executable, __file__, "--one", json.dumps([str(each) for each in arguments])]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


def done_here(function: str, *arguments: str) -> dict[str, Any]:
    if function == "write":
        write_mixture(Path(arguments[0]), float(arguments[1]))
        return {}
    recording, recipe, system, out, max_memory = arguments
    return separate_here(Path(recording), recipe, system, Path(out), float(max_memory))


def deviation(first: Path, second: Path, name: str) -> float:
    """The largest of all sources, as a share of the peak."""
    from pipeline.audio.files import read_blocks

    difference = peak = 0.0
    for source in (1, 2):
        files = [read_blocks(folder / f"{name}_s{source}.wav") for folder in (first, second)]
        for found, expected in zip(*files, strict=True):
            difference = max(difference, float(np.abs(found - expected).max()))
            peak = max(peak, float(np.abs(expected).max()))
    return difference / peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--systems", default="causal,noncausal")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--compare", type=float, default=1, help="minutes to separate at once, too; 0 for none")
    parser.add_argument("--folder", type=Path, help="of recordings and estimates; by default a temporary one")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(done_here(*json.loads(given.one))))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        measure(Path(temporary), given.recipe, given.systems.split(","), given.minutes, given.compare)


def measure(folder: Path, recipe: str, systems: list[str], minutes: float, compare: float) -> None:
    lengths = dict.fromkeys([minutes, *([compare] if compare else [])])
    for length in lengths:
        apart("write", folder / f"{length:g}.wav", length)
    for system in systems:
        for length in lengths:
            long = apart("separate", folder / f"{length:g}.wav", recipe, system, folder / system, 0)
            print(system, f"{length:g} min", long, flush=True)
        if compare:
            name, whole = f"{compare:g}", folder / f"{system}-whole"
            at_once = apart("separate", folder / f"{name}.wav", recipe, system, whole, 1000)
            print(system, f"{name} min", at_once, flush=True)
            print(system, f"largest deviation {deviation(folder / system, whole, name):.1e} of the peak", flush=True)


if __name__ == "__main__":
    main()
