"""How much audio a plan stands for, from the lengths in the manifest alone: mixtures, hours, files, bytes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.errors import WorkError
from pipeline.recipe import Mix

WAV_HEADER_BYTES = {"pcm16": 44, "float32": 80, "flac": 44}
BYTES_PER_SAMPLE = {"pcm16": 2, "float32": 4, "flac": 2}


@dataclass(frozen=True)
class Footprint:
    """What rendering writes; for FLAC the bytes are those of 16-bit wav, which it stays below."""

    num_mixtures: int
    num_files: int
    num_bytes: int
    seconds: float


def footprint(plan: pd.DataFrame, manifest: pd.DataFrame, mix: Mix) -> Footprint:
    """Count what rendering ``plan`` (tables.PLAN) of ``manifest`` (tables.MANIFEST) by ``mix`` would write."""
    lengths = manifest.set_index("utterance_id")[["num_samples", "sample_rate"]]
    rows = plan.join(lengths, on="utterance_id", validate="many_to_one")
    # The length of scipy.signal.resample_poly's output is ceil(n · up / down).
    common = np.gcd(rows["sample_rate"], mix.sample_rate)
    rows["length"] = -(-rows["num_samples"] * (mix.sample_rate // common) // (rows["sample_rate"] // common))
    mixtures = rows.groupby(["split", "mixture_id"])["length"].agg([mix.mode, "count"])
    num_files = int((mixtures["count"] + 1).sum())
    num_samples = int((mixtures[mix.mode] * (mixtures["count"] + 1)).sum())
    num_bytes = num_samples * BYTES_PER_SAMPLE[mix.encoding] + num_files * WAV_HEADER_BYTES[mix.encoding]
    return Footprint(len(mixtures), num_files, num_bytes, float(mixtures[mix.mode].sum()) / mix.sample_rate)


def require_room(folder: Path, num_bytes: int) -> None:
    """Raise WorkError unless the disk under ``folder`` has room for ``num_bytes`` and a little more."""
    free = free_bytes(folder)
    if num_bytes > free:
        raise WorkError(
            f"{folder}: {num_bytes / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; make room or choose another --work"
        )


def free_bytes(folder: Path) -> int:
    """Free space where ``folder`` is or will be."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


def written_bytes(folder: Path) -> int:
    """What an interrupted run has left in a folder already."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
