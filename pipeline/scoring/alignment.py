"""What a constant delay, a constant offset or a change of sign do to an estimate: found by correlation with the references.

SI-SNR ignores sign and offset but not delay; BSS-Eval's filter absorbs short delays, and an offset counts as distortion. A low
score may thus say nothing about the separation, which is why the statuses name what is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft

from pipeline.scoring.bss_eval import Signals
from pipeline.scoring.metrics import is_usable, level
from pipeline.scoring.recordings import Recording

LEAST_CORRELATION = 0.5
"""Below this an estimate resembles no reference enough to speak of its delay or sign."""

LEAST_GAIN_DB = 3.0
"""How much SI-SNR a shift must gain to count as a delay."""

OFFSET_LIMIT = 0.1
"""Largest difference of an estimate's mean from its reference's, in standard deviations: speech without an offset stays below."""

LEAST_SAMPLES = 1024
"""In shorter signals, chance correlates too well."""


@dataclass(frozen=True)
class Shift:
    """How an estimate lies to the reference that it resembles most."""

    delay: int = 0
    """Samples by which it is late; negative where it is early."""
    inverted: bool = False
    """Whether its sign is changed."""


class Correlator:
    """References to correlate estimates with, transformed once.

    Args:
        references: [reference, time]; silent ones and ones with NaN take no part.
    """

    def __init__(self, references: Signals) -> None:
        num_samples = references.shape[-1]
        usable = references[is_usable(references)] if num_samples >= LEAST_SAMPLES else references[:0]
        self.fft_length = int(fft.next_fast_len(max(2 * num_samples, 1), real=True))
        self.spectra = fft.rfft(_normalised(usable), self.fft_length).conj() if len(usable) else None

    def shift_of(self, estimate: Signals) -> Shift:
        """Delay and sign of an estimate [time] of the same length."""
        if self.spectra is None or not is_usable(estimate):
            return Shift()
        spectrum = fft.rfft(_normalised(estimate), self.fft_length)
        correlations = np.asarray(fft.irfft(spectrum * self.spectra, self.fft_length))
        reference, lag = np.unravel_index(np.abs(correlations).argmax(), correlations.shape)
        found, unshifted = correlations[reference, lag], correlations[reference, 0]
        if lag and _si_snr_db(found) < _si_snr_db(unshifted) + LEAST_GAIN_DB:
            lag, found = np.intp(0), unshifted
        if abs(found) < LEAST_CORRELATION:
            return Shift()
        delay = int(lag) if lag < self.fft_length // 2 else int(lag) - self.fft_length
        return Shift(delay, inverted=bool(found < 0))


def offset_of(estimate: Signals, reference: Signals) -> float:
    """The mean of an estimate above its reference's, each in its own standard deviations; 0 where too short or not comparable."""
    if len(estimate) < LEAST_SAMPLES or not (is_usable(estimate) and is_usable(reference)):
        return 0.0
    return abs(_relative_mean(estimate) - _relative_mean(reference))


def own_offset(signal: Signals) -> float:
    """The distance of a signal's mean from zero, in its standard deviations; 0 where it is too short or unusable."""
    return abs(_relative_mean(signal)) if len(signal) >= LEAST_SAMPLES and is_usable(signal) else 0.0


def align(estimates: Sequence[Recording], references: Sequence[Recording]) -> list[Recording]:
    """Estimates without delay and offset; ``changes`` says by how much each was moved.

    A late estimate loses its first samples, an early one gets zeros before them.
    """
    length = min((len(one.samples) for one in (*estimates, *references) if len(one.samples)), default=0)
    signals = [one.samples[:length] for one in references if len(one.samples)]
    if not signals or not length:
        return list(estimates)
    correlator = Correlator(np.stack(signals))
    return [_aligned(one, correlator.shift_of(one.samples[:length]).delay) for one in estimates]


def _aligned(estimate: Recording, delay: int) -> Recording:
    samples = estimate.samples
    if len(samples) < LEAST_SAMPLES or not np.isfinite(samples).all():
        return estimate
    if delay > 0:
        samples = samples[delay:]
    elif delay < 0:
        samples = np.pad(samples, (-delay, 0))
    changes = (f"aligned({-delay:+d})",) if delay else ()
    if is_usable(samples) and abs(_relative_mean(samples)) > OFFSET_LIMIT:
        samples, changes = samples - samples.mean(), (*changes, "centred")
    return replace(estimate, samples=samples, changes=(*estimate.changes, *changes)) if changes else estimate


def _normalised(signals: Signals) -> Signals:
    """Signals [..., time] without their means, of unit energy."""
    levelled = level(signals)
    centred = levelled - levelled.mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.linalg.norm(centred, axis=-1, keepdims=True))


def _si_snr_db(correlation: float) -> float:
    """SI-SNR of two signals with this correlation coefficient."""
    explained = min(correlation**2, 1 - 1e-12)
    return float(10 * np.log10(max(explained, 1e-12) / (1 - explained)))


def _relative_mean(signal: Signals) -> float:
    levelled = level(signal)
    return float(levelled.mean() / levelled.std())
