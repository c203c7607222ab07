"""Oracle estimates: what masks on the mixture's spectrogram reach when they are made from the references themselves.

They bound what a system that masks an STFT can score, and stand in reports beside the systems. As in Luo & Mesgarani 2019,
section IV-F: 32 ms Hann windows, 8 ms apart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from pipeline.audio import read_audio, write_audio
from pipeline.parallel import map_parallel

Mask = Literal["ratio", "binary", "wiener"]
Signals = npt.NDArray[np.float64]

WINDOW_SECONDS = 0.032
HOP_SECONDS = 0.008


def oracle(mixture: Signals, references: Signals, *, sample_rate: int, mask: Mask = "ratio") -> Signals:
    """Estimates by an ideal mask.

    With S_k the STFT of reference k, the mixture's STFT is multiplied by

        ratio     |S_k| / Σ_j |S_j|            (IRM)
        binary    1 where |S_k| is the largest (IBM; of equals, the first source's)
        wiener    |S_k|² / Σ_j |S_j|²          (Wiener-like)

    Args:
        mixture: [time].
        references: [source, time].
        sample_rate: Hz.
        mask: which of the three.

    Returns:
        Estimates [source, time]; the masks of all sources sum to one, so they sum to the mixture.
    """
    num_samples = mixture.shape[-1]
    transform = _transform(sample_rate)
    padded = np.pad(np.vstack([references, mixture]), ((0, 0), (0, max(transform.m_num - num_samples, 0))))
    spectra = transform.stft(padded)
    masks = _masks(np.abs(spectra[:-1]), mask)
    estimates: Signals = transform.istft(masks * spectra[-1], k1=padded.shape[-1]).real[:, :num_samples]
    return estimates


def _transform(sample_rate: int) -> ShortTimeFFT:
    window = hann(round(WINDOW_SECONDS * sample_rate), sym=False)
    return ShortTimeFFT(window, hop=round(HOP_SECONDS * sample_rate), fs=sample_rate)


def _masks(magnitudes: Signals, mask: Mask) -> Signals:
    """Masks [source, frequency, frame] from magnitudes of the same shape; equal shares where all of them are zero."""
    if mask == "binary":
        return np.asarray(magnitudes.argmax(axis=0) == np.arange(len(magnitudes))[:, None, None], dtype=np.float64)
    powers = magnitudes ** (2 if mask == "wiener" else 1)
    total = powers.sum(axis=0)
    return np.asarray(np.divide(powers, total, out=np.full_like(powers, 1 / len(powers)), where=total > 0))


def write_oracles(
    mixtures: pd.DataFrame,
    dataset_dir: str | Path,
    out_dir: str | Path,
    *,
    masks: Collection[Mask] = get_args(Mask),
    num_workers: int | None = None,
) -> dict[str, Path]:
    """Write oracle estimates of a rendered dataset as ``out_dir/<mask>/{s1,s2,…}/<mixture_id>.wav`` (32-bit float).

    Args:
        mixtures: rows of ``mixtures.csv`` (``tables.MIXTURES``) of one split.
        dataset_dir: what their paths are relative to.
        out_dir: where the folders of the masks go.
        masks: which ones.
        num_workers: processes; one per core by default.

    Returns:
        For every mask its folder, under the name its rows have in reports: ready for ``scoring.score_dataset``.

    Raises:
        AudioError: a file of the dataset that cannot be read.
    """
    work = partial(_write_mixture, dataset_dir=Path(dataset_dir), out_dir=Path(out_dir), masks=tuple(masks))
    for _ in map_parallel(work, mixtures.to_dict("records"), num_workers=num_workers, description="oracles"):
        pass
    return {f"oracle-{mask}": Path(out_dir) / mask for mask in masks}


def _write_mixture(row: Mapping[Any, Any], *, dataset_dir: Path, out_dir: Path, masks: Collection[Mask]) -> None:
    numbers = range(1, int(row["num_sources"]) + 1)
    mixture, sample_rate = read_audio(dataset_dir / row["mixture_path"])
    references = np.stack([read_audio(dataset_dir / row[f"source_{number}_path"])[0] for number in numbers])
    for mask in masks:
        estimates = oracle(mixture, references, sample_rate=sample_rate, mask=mask)
        for number, estimate in zip(numbers, estimates, strict=True):
            write_audio(out_dir / mask / f"s{number}" / f"{row['mixture_id']}.wav", estimate, sample_rate, "float32")
