"""Intelligibility and perceived quality, computed by the optional packages pystoi and pesq.

Only this module imports them, and only when one of their scores is requested.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from pipeline.errors import ScoreError
from pipeline.scoring.bss_eval import Signals

_PESQ_MODES = {8000: "nb", 16000: "wb"}

_LEAST_STOI_SECONDS = (29 * 128 + 256) / 10_000
"""STOI compares segments of 30 frames (256 samples, 128 apart) at 10 kHz; pystoi fails on less than a frame."""

_PACKAGES = {"stoi": "pystoi", "estoi": "pystoi", "pesq": "pesq"}


def require(metric: str, sample_rate: int) -> None:
    """Check that a metric can be computed here.

    Raises:
        ScoreError: its package is not installed, or it is not defined at this rate.
    """
    package = _PACKAGES.get(metric)
    if package and not find_spec(package):
        raise ScoreError(f"{metric} needs the package {package}: pip install 'tasnet-pipeline[perceptual]'")
    if metric == "pesq" and sample_rate not in _PESQ_MODES:
        raise ScoreError(f"pesq is defined at 8000 and 16000 Hz only, and this audio has {sample_rate} Hz")


def stoi(estimate: Signals, reference: Signals, *, sample_rate: int, extended: bool = False) -> float:
    """Short-time objective intelligibility, 0 to 1 (Taal et al. 2011; extended: Jensen & Taal 2016).

    Args:
        estimate: [time].
        reference: [time].
        sample_rate: Hz; pystoi resamples to 10 kHz itself.
        extended: ESTOI, which also accounts for modulated noise.

    Returns:
        The score; NaN with fewer than 30 frames (0.4 s) of speech.
    """
    if len(reference) < _LEAST_STOI_SECONDS * sample_rate:
        return float("nan")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = float(import_module("pystoi").stoi(reference, estimate, sample_rate, extended=extended))
    too_short = any("Not enough STFT frames" in str(warning.message) for warning in caught)
    return float("nan") if too_short else value


def pesq(estimate: Signals, reference: Signals, *, sample_rate: int) -> float:
    """Perceived quality, MOS-LQO 1 to 4.6: ITU-T P.862.1 at 8 kHz, P.862.2 (wide band) at 16 kHz.

    Args:
        estimate: [time].
        reference: [time].
        sample_rate: 8000 or 16000 Hz.

    Returns:
        The score; NaN where the algorithm finds no utterance, or less than a quarter of a second of it.
    """
    package: Any = import_module("pesq")
    on_error = package.PesqError.RETURN_VALUES
    value = float(package.pesq(sample_rate, reference, estimate, _PESQ_MODES[sample_rate], on_error=on_error))
    return value if value > 0 else float("nan")
