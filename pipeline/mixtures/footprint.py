"""How much audio a plan makes, from the lengths in the manifest alone: mixtures, hours, files, bytes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from pipeline.errors import WorkError
from pipeline.mixtures.plans.planned import is_source
from pipeline.recipe.schema import Mix, Variant

WAV_HEADER_BYTES = {"pcm16": 44, "float32": 56, "flac": 44}
BYTES_PER_SAMPLE = {"pcm16": 2, "float32": 4, "flac": 2}
BLOCK_BYTES = 4096
"""Of the usual file systems."""
RECORD_BYTES = 1024
"""About how much the journal and the tables say about each file, all together."""

Size = TypeVar("Size", int, "pd.Series[int]")


@dataclass(frozen=True)
class Footprint:
    """What rendering writes; for FLAC the bytes are those of 16-bit wav, an upper bound."""

    num_mixtures: int
    num_files: int
    num_bytes: int
    seconds: float
    disk_bytes: int
    """The room it takes on a disk: files in whole blocks, and the tables and records about them."""


def footprint(plan: pd.DataFrame, manifest: pd.DataFrame, mix: Mix) -> Footprint:
    """Count what rendering ``plan`` (tables.PLAN) of ``manifest`` (tables.MANIFEST) by ``mix`` would write, all variants.

    Exact for wav from the lengths alone; ``num_mixtures`` and ``seconds`` are those of the first variant.
    """
    rows = _sources(plan, manifest)
    parts = [_of_variant(rows, variant, mix) for variant in mix.variants]
    num_files, num_bytes, disk_bytes = (
        sum(getattr(part, name) for part in parts) for name in ("num_files", "num_bytes", "disk_bytes")
    )
    return Footprint(parts[0].num_mixtures, num_files, num_bytes, parts[0].seconds, disk_bytes)


def longest_mixture(plan: pd.DataFrame, manifest: pd.DataFrame, mix: Mix) -> int:
    """Samples of the longest mixture of a plan, in the first variant; 0 where there is none."""
    variant = mix.variants[0]
    return int(_lengths(_sources(plan, manifest), variant)[variant.mode].max()) if len(plan) else 0


def resampled_lengths(files: pd.DataFrame, sample_rate: int) -> pd.Series[int]:
    """Samples that files (rows with ``num_samples`` and ``sample_rate``) have after ``scipy.signal.resample_poly``."""
    common = np.gcd(files["sample_rate"], sample_rate)
    lengths: pd.Series[int] = -(-files["num_samples"] * (sample_rate // common) // (files["sample_rate"] // common))
    return lengths


def _sources(plan: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """The plan's rows of speech with the lengths of its files; noise is cut or extended to them, so its length is left out."""
    speech, files = plan[is_source(plan)], manifest.set_index("utterance_id")[["num_samples", "sample_rate"]]
    return speech.join(files, on="utterance_id", validate="many_to_one")


def _lengths(rows: pd.DataFrame, variant: Variant) -> pd.DataFrame:
    """A row for each mixture: its samples under the name of the variant's mode, and the ``count`` of its sources."""
    starts = np.rint(rows["start_seconds"] * variant.sample_rate).astype("int64")
    ends = starts + resampled_lengths(rows, variant.sample_rate)
    mixtures: pd.DataFrame = ends.groupby([rows["split"], rows["mixture_id"]]).agg([variant.mode, "count"])
    return mixtures


def _of_variant(rows: pd.DataFrame, variant: Variant, mix: Mix) -> Footprint:
    mixtures = _lengths(rows, variant)
    files = mixtures["count"] + len(mix.types) + mix.with_noise
    sizes = mixtures[variant.mode] * BYTES_PER_SAMPLE[mix.encoding] + WAV_HEADER_BYTES[mix.encoding]
    disk_bytes = int((files * (in_blocks(sizes) + RECORD_BYTES)).sum())
    seconds = float(mixtures[variant.mode].sum()) / variant.sample_rate
    return Footprint(len(mixtures), int(files.sum()), int((files * sizes).sum()), seconds, disk_bytes)


def in_blocks(num_bytes: Size) -> Size:
    """The room that a file of ``num_bytes`` takes on a disk."""
    return -(-num_bytes // BLOCK_BYTES) * BLOCK_BYTES


def require_room(folder: Path, num_bytes: int) -> None:
    """Raise WorkError unless the disk under ``folder`` has room for ``num_bytes`` and a little more."""
    free = free_bytes(folder)
    if num_bytes > free:
        raise WorkError(
            f"{folder}: needs {num_bytes / 1e9:.1f} GB and has {free / 1e9:.1f} GB free; make room or choose another --work"
        )


def free_bytes(folder: Path) -> int:
    """Free space where ``folder`` is or will be."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


def written_bytes(folder: Path) -> int:
    """The room that the files of an interrupted run take already."""
    return sum(in_blocks(path.stat().st_size) for path in folder.rglob("*") if path.is_file())
