"""Recordings that scoring is tried on: estimates, references and mixtures of noise, as arrays and as files."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.audio.files import write_audio
from pipeline.tables import MIXTURES, read_table, write_table
from tests.separations import with_interference

Samples = NDArray[np.float64]
RATE = 8000


def separated(seed: int, num_sources: int = 2, num_samples: int = 3000) -> tuple[Samples, Samples, Samples]:
    """Estimates, references and mixture."""
    random = np.random.default_rng(seed)
    references = 0.1 * random.standard_normal((num_sources, num_samples))
    return with_interference(references, random, 10.0, 20.0), references, references.sum(0)


def write_dataset(folder: Path, num_mixtures: int = 6, num_samples: int = 3000) -> pd.DataFrame:
    """Rendered mixtures, and estimates of the systems ``a`` and ``b``."""
    rows = []
    for number in range(num_mixtures):
        mixture_id = f"00{number}"
        estimates, references, mixture = separated(number, num_samples=num_samples)
        row = {"mixture_id": mixture_id, "split": "test", "sample_rate": RATE, "mode": "min", "num_samples": num_samples}
        row |= {"num_sources": 2, "scale": 1.0, "mixture_path": f"mix/{mixture_id}.wav"}
        write_audio(folder / row["mixture_path"], mixture, RATE)
        for source in (1, 2):
            row |= {f"source_{source}_path": f"s{source}/{mixture_id}.wav", f"source_{source}_utterance_id": mixture_id}
            row |= {f"source_{source}_speaker_id": f"01{source}", f"source_{source}_sex": "F", f"source_{source}_gain": 1.0}
            write_audio(folder / row[f"source_{source}_path"], references[source - 1], RATE)
            for system, share in (("a", 0.0), ("b", 0.2)):
                estimate = estimates[source - 1] + share * mixture
                write_audio(folder / system / f"s{source}" / f"{mixture_id}.wav", estimate, RATE, "float32")
        rows.append(row)
    write_table(pd.DataFrame(rows), folder / "mixtures.csv", MIXTURES)
    return read_table(folder / "mixtures.csv", MIXTURES)


def write_folder(folder: Path, layout: str, mixtures: dict[str, Samples]) -> None:
    """Write sources [source, time] by mixture, in a layout such as ``s{source}/{mixture_id}.wav``."""
    first = 0 if "est" in layout else 1
    for mixture_id, signals in mixtures.items():
        for number, one in enumerate(signals, start=first):
            path = folder / layout.format(mixture_id=mixture_id, source=number)
            write_audio(path, one, RATE, "flac" if layout.endswith("flac") else "float32")


def noise(seed: int, *shape: int) -> Samples:
    return np.random.default_rng(seed).standard_normal(shape)
