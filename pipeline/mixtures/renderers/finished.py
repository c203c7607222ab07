"""Finished mixtures: read and measured, and left where they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.audio.files import dequantise, read_stored
from pipeline.errors import AudioError
from pipeline.mixtures.plans.planned import PlannedMixture
from pipeline.mixtures.renderers.base import (
    MIXTURES_FILE,
    Array,
    AudioFile,
    Inputs,
    Rendered,
    mixture_cells,
    source_cells,
)

LINK = "corpus"
"""In the dataset's folder, the link to the corpus that its paths lead through."""
RESIDUAL = "residual_db"
EXACT_DB = -40.0
"""A smaller residual is what rounding leaves."""
_LEAST_DB = -120.0


class FinishedRenderer:
    """Makes the tables of a dataset whose audio is there."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def render(self, mixture: PlannedMixture) -> Rendered:
        """The files of a mixture as they are, and its row, which says how far the mixture is from the sum of its sources."""
        assert mixture.finished is not None, "the kind's plans have it"
        planned = (mixture.finished, *mixture.sources)
        paths = [each.path if each.path.startswith("/") else f"{LINK}/{each.path}" for each in planned]
        signals = [self._read(each.path, mixture.finished.num_samples) for each in planned]
        variant = self._inputs.mix.variants[0]
        row = mixture_cells(mixture, variant, num_samples=len(signals[0]), scale=1.0, path=paths[0])
        row[RESIDUAL] = residual_db(signals[0], signals[1:])
        for source, path in zip(mixture.sources, paths[1:], strict=True):
            row |= source_cells(mixture, source, path, 1.0) | {f"source_{source.name.removeprefix('s')}_speaker_id": ""}
        files = [AudioFile(p, s, variant.sample_rate, is_there=True) for p, s in zip(paths, signals, strict=True)]
        return Rendered(files, {MIXTURES_FILE: row})

    def _read(self, path: str, num_samples: int) -> Array:
        samples, sample_rate = read_stored(self._inputs.corpus_root / path)
        if (len(samples), sample_rate) != (num_samples, self._inputs.mix.sample_rate):
            raise AudioError(
                f"{self._inputs.corpus_root / path}: has {len(samples)} samples at {sample_rate} Hz, and its mixture has "
                f"{num_samples} at {self._inputs.mix.sample_rate} Hz"
            )
        return samples


def residual_db(mixture: Array, sources: Sequence[Array]) -> float:
    """Power of a mixture [time] minus its sources, in dB relative to the mixture; -120 dB where nothing is left."""
    whole = dequantise(mixture).astype(np.float64)
    power = float(np.square(whole).sum())
    left = float(np.square(whole - sum(dequantise(source).astype(np.float64) for source in sources)).sum())
    if left <= power * 10 ** (_LEAST_DB / 10):
        return _LEAST_DB
    return float(10 * np.log10(left / power)) if power else 0.0


def describe_residuals(residuals_db: Sequence[float]) -> str:
    """What the residuals of mixtures say, in a sentence without its end."""
    values = np.asarray(residuals_db, dtype=np.float64)
    inexact = values[values > EXACT_DB]
    if not len(inexact):
        return f"all {len(values):,} mixtures are the sum of their sources"
    return (
        f"{len(inexact):,} of {len(values):,} mixtures are not the sum of their sources: what is left (noise, reverberation, "
        f"another gain) is at {np.median(inexact):.1f} dB of the mixture in the median, at {inexact.max():.1f} dB at most"
    )
