"""Oracle estimates: what masks on the mixture's spectrogram reach when they are computed from the references themselves.

They bound what a system that masks an STFT can score, and appear in reports beside the systems. As in Luo & Mesgarani 2019,
section IV-F: 32 ms Hann windows, 8 ms apart.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy

Mask = Literal["ratio", "binary", "wiener"]
Signals = npt.NDArray[np.float64]

SYSTEMS: dict[str, Mask] = {"oracle IRM": "ratio", "oracle IBM": "binary", "oracle WFM": "wiener"}
"""The masks by their names in score tables: ideal ratio mask, ideal binary mask, Wiener-like filter mask."""

VERSION = 1
"""Raised whenever an estimate may change; rows of another version are recomputed."""

WINDOW_SECONDS = 0.032
HOP_SECONDS = 0.008


def oracle(mixture: Signals, references: Signals, *, sample_rate: int, mask: Mask = "ratio") -> Signals:
    """Estimates by an ideal mask.

    With S_k the STFT of reference k, and the rest of the mixture (noise) counted as one reference more, the mixture's STFT is
    multiplied by

        ratio     |S_k| / Σ_j |S_j|            (IRM)
        binary    1 where |S_k| is the largest (IBM; the first source wins ties)
        wiener    |S_k|² / Σ_j |S_j|²          (Wiener-like, WFM)

    Args:
        mixture: [time].
        references: [source, time].
        sample_rate: Hz.
        mask: which of the three.

    Returns:
        Estimates [source, time]; the masks of all sources and the noise sum to one, so without noise they sum to the mixture.
    """
    num_samples = mixture.shape[-1]
    transform = _transform(sample_rate)
    signals = np.vstack([references, mixture - references.sum(axis=0), mixture])
    padded = np.pad(signals, ((0, 0), (0, max(transform.m_num - num_samples, 0))))
    spectra = transform.stft(padded)
    masks = _masks(np.abs(spectra[:-1]), mask)[:-1]
    estimates: Signals = transform.istft(masks * spectra[-1], k1=padded.shape[-1]).real[:, :num_samples]
    return estimates


def _transform(sample_rate: int) -> scipy.signal.ShortTimeFFT:
    window = scipy.signal.windows.hann(round(WINDOW_SECONDS * sample_rate), sym=False)
    return scipy.signal.ShortTimeFFT(window, hop=round(HOP_SECONDS * sample_rate), fs=sample_rate)


def _masks(magnitudes: Signals, mask: Mask) -> Signals:
    """Masks [source, frequency, frame] from magnitudes of the same shape; equal shares where all of them are zero."""
    if mask == "binary":
        return np.asarray(magnitudes.argmax(axis=0) == np.arange(len(magnitudes))[:, None, None], dtype=np.float64)
    powers = magnitudes ** (2 if mask == "wiener" else 1)
    total = powers.sum(axis=0)
    return np.asarray(np.divide(powers, total, out=np.full_like(powers, 1 / len(powers)), where=total > 0))
