"""A small corpus to mix, plans of it, and what the tests of its datasets compare."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from pipeline.audio.files import write_audio
from pipeline.mixtures.renderers.base import Inputs
from pipeline.recipe.schema import SPLITS, Mix, RandomPlan
from tests.voices import voice

RATE = 16000
COLUMNS = ["utterance_id", "speaker_id", "sex", "split", "path", "sample_rate", "num_samples"]

Corpus = tuple[Path, pd.DataFrame]
"""Its folder and its manifest."""
Audio = tuple[Path, pd.DataFrame, pd.DataFrame]
"""A folder of speech and noise, the manifest of the speech, and that of the noise."""


def write_corpus(root: Path) -> Corpus:
    """Three splits of four speakers with three utterances each, every one of another length."""
    rows = []
    for speaker in range(4 * len(SPLITS)):
        split = SPLITS[speaker // 4]
        name = f"{split}{speaker % 4}"
        (root / name).mkdir()
        for take in range(3):
            samples = voice(speaker, take, seconds=0.5 + 0.05 * (3 * speaker + take), sample_rate=RATE)
            path = f"{name}/{take}.flac"
            soundfile.write(root / path, samples, RATE)
            rows.append((f"{name}-{take}", name, "F", split, path, RATE, len(samples)))
    return root, pd.DataFrame(rows, columns=COLUMNS)


def plan_settings(num_mixtures: int = 8, **settings: Any) -> RandomPlan:
    """Rules for a plan that the small corpus has enough speech for."""
    return RandomPlan(kind="random", num_mixtures={"train": num_mixtures, "valid": 2, "test": 3}, min_seconds=0.4, **settings)


def inputs_of(kind: str, root: Path, mix: Mix | None = None, *, noise_root: Path | None = None) -> Inputs:
    """Inputs of a rendering, by default of the recipe's default mix."""
    return Inputs(kind, root, noise_root, None, mix or Mix())


def write_mixtures(folder: Path, *, utterance: str = "011") -> pd.DataFrame:
    """Six mixtures of two sources, noise for voices: their table; the files are below the folder."""
    draw = np.random.default_rng(0)
    rows = []
    for number, split in enumerate(["train", "train", "train", "valid", "test", "test"]):
        mixture_id, num_samples = f"{'cba'[number % 3]}-{utterance}_NA-{number}", 800 + number
        sources = draw.normal(0, 0.05, (2, num_samples))
        paths = [f"2speakers/wav8k/min/{split}/{part}/{mixture_id}.wav" for part in ("mix", "s1", "s2")]
        for path, samples in zip(paths, [sources.sum(0), *sources], strict=True):
            write_audio(folder / path, samples, 8000, "float32")
        row = {"mixture_id": mixture_id, "split": split, "sample_rate": 8000, "mode": "min", "num_samples": num_samples}
        row |= {"num_sources": 2, "scale": 1.0, "mixture_path": paths[0]}
        for k, sex in ((1, "F"), (2, "")):
            row |= {f"source_{k}_path": paths[k], f"source_{k}_utterance_id": f"u{number}{k}", f"source_{k}_gain": 1.0}
            row |= {f"source_{k}_speaker_id": f"0{k}", f"source_{k}_sex": sex}
        rows.append(row)
    return pd.DataFrame(rows)


def digests(folder: Path) -> dict[str, str]:
    """Every file below a folder, with the SHA-256 of its content."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
