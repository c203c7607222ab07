"""Projection of signals onto everything that 512-tap filters can make of references: the linear algebra of BSS-Eval v3.

The span of a reference s holds Σ_τ c(τ) s(t - τ), 0 ≤ τ < 512, with s zero-padded at the end so that nothing is lost. The
projection of an estimate e onto it has the filter c that solves the normal equations G c = d, where

    G[a, b] = Σ_t s(t - a) s(t - b) = r(a - b)        symmetric Toeplitz
    d[a]    = Σ_t e(t) s(t - a)

Three ideas make this fast without losing a digit:

* Signals are cut into blocks of a few thousand samples. A reference's blocks carry the 511 samples before them, so one set of
  spectra serves both the correlations (summed over blocks, one short inverse FFT) and the filtering (overlap-save).
* G is Toeplitz: one Levinson recursion gives the first column of its inverse, and with that column the Gohberg-Semencul formula
  multiplies any number of vectors by the inverse, with short FFTs. A step of iterative refinement removes the rounding.
* The projection is subtracted from the estimate sample by sample before anything is squared, so 100 dB are as exact as 10.

The residual of G c = d is checked. Where it is too large (references low-passed, or nearly equal), the projection is repeated by
plain LU with the arithmetic of mir_eval 0.8, so that even there the numbers are those of the published tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy
from scipy import fft, linalg

Signals = npt.NDArray[np.float64]
Spectra = npt.NDArray[np.complex128]

FILTER_LENGTH = 512
"""Taps: BSS-Eval's convention at every sample rate."""

RESIDUAL_LIMIT = 1e-11
"""Largest relative residual of the normal equations that counts as solved; speech leaves 1e-15."""

CONDITION_LIMIT = 1e-10
"""Smallest reciprocal condition number of a joint Gram matrix: below it SIR and SAR depend on the order of operations."""

_BLOCK_LENGTH = 3600
"""Approximate samples per block: the spectra of a block stay in a core's cache."""


class Blocks:
    """How signals of ``num_samples``, and filtered ones of 511 more, are cut into blocks of equal length."""

    def __init__(self, num_samples: int) -> None:
        length = num_samples + FILTER_LENGTH - 1
        self.num_samples = num_samples
        self.count = -(-length // _BLOCK_LENGTH)
        self.length = -(-length // self.count)
        self.fft_length = int(fft.next_fast_len(self.length + FILTER_LENGTH - 1, real=True))

    def cut(self, signals: Signals) -> Signals:
        """[..., time] → [..., block, sample], zero-padded at the end."""
        padding = self.count * self.length - self.num_samples
        padded = np.pad(signals, [(0, 0)] * (signals.ndim - 1) + [(0, padding)])
        return padded.reshape(*signals.shape[:-1], self.count, self.length)

    def cut_with_past(self, signals: Signals) -> Signals:
        """[..., time] → [..., block, past + sample]: every block preceded by the 511 samples before it."""
        past = FILTER_LENGTH - 1
        padding = self.count * self.length - self.num_samples
        padded = np.pad(signals, [(0, 0)] * (signals.ndim - 1) + [(past, padding)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.length + past, axis=-1)
        return windows[..., :: self.length, :]

    def spectra(self, blocks: Signals) -> Spectra:
        """[..., block, sample] → [..., block, frequency]."""
        return np.asarray(fft.rfft(blocks, self.fft_length))

    def correlate(self, spectra: Spectra, past_spectra: Spectra) -> Signals:
        """Σ_t e(t) s(t - τ) for 0 ≤ τ < 512, from the [block, frequency] spectra of e and of s with its past."""
        summed = (spectra.conj() * past_spectra).sum(axis=0)
        return np.asarray(fft.irfft(summed, self.fft_length))[FILTER_LENGTH - 1 :: -1]

    def filtered(self, taps: Signals, past_spectra: Spectra) -> Signals:
        """Σ_τ c(τ) s(t - τ) as [block, sample], from the spectra of s with its past."""
        product = fft.rfft(taps, self.fft_length) * past_spectra
        past = FILTER_LENGTH - 1
        return np.asarray(fft.irfft(product, self.fft_length))[:, past : past + self.length]


class Span:
    """A reference, prepared once for every signal that will be projected onto its filtered versions.

    Args:
        reference: [time], finite, not all zero, with a peak around 1.
        blocks: how it is cut.
    """

    def __init__(self, reference: Signals, blocks: Blocks) -> None:
        self.blocks = blocks
        self.spectra = blocks.spectra(blocks.cut(reference))
        self.past_spectra = blocks.spectra(blocks.cut_with_past(reference))
        self.inverse = ToeplitzInverse(self.correlate(self.spectra))

    def correlate(self, spectra: Spectra) -> Signals:
        """Σ_t e(t) s(t - τ) for 0 ≤ τ < 512, from the spectra [block, frequency] of e."""
        return self.blocks.correlate(spectra, self.past_spectra)

    def filtered(self, taps: Signals) -> Signals:
        """The reference through a filter: [block, sample]."""
        return self.blocks.filtered(taps, self.past_spectra)


class JointSpan:
    """The span of several references at once: one Cholesky factor for every signal projected onto it."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self.gram = self._gram()
        self.factor = self._factor()

    def _gram(self) -> Signals:
        """Inner products of all delayed references [reference * tap, reference * tap]; every block of it is Toeplitz."""
        correlations = [[column.correlate(row.spectra) for column in self.spans] for row in self.spans]
        indices = range(len(self.spans))
        return np.block([[linalg.toeplitz(correlations[j][i], correlations[i][j]) for j in indices] for i in indices])

    def _factor(self) -> Signals | None:
        """The lower Cholesky factor; None where the matrix is so nearly singular that SIR and SAR are not well defined."""
        try:
            factor: Signals = linalg.cho_factor(self.gram, lower=True)[0]
        except linalg.LinAlgError:
            return None
        reciprocal_condition, _ = linalg.lapack.dpocon(factor, np.linalg.norm(self.gram, 1), uplo="L")
        return factor if reciprocal_condition > CONDITION_LIMIT else None

    def project(self, spectra: Spectra) -> Signals:
        """The projection [block, sample] of a signal with spectra [block, frequency]; needs a factor."""
        assert self.factor is not None
        products = np.concatenate([span.correlate(spectra) for span in self.spans])
        filters = linalg.cho_solve((self.factor, True), products).reshape(len(self.spans), FILTER_LENGTH)
        return np.asarray(sum(span.filtered(taps) for span, taps in zip(self.spans, filters, strict=True)))


class ToeplitzInverse:
    """The inverse of a symmetric positive definite Toeplitz matrix, by the Gohberg-Semencul formula.

    With x the first column of the inverse and y = (0, x_{n-1}, …, x_1), the inverse is (L(x) L(x)ᵀ - L(y) L(y)ᵀ) / x_0, where
    L(v) is lower triangular Toeplitz with first column v, so that L(v) and L(v)ᵀ are a convolution and a correlation.

    Args:
        first_column: [tap] of the matrix.
    """

    def __init__(self, first_column: Signals) -> None:
        self.length = len(first_column)
        self.matrix_spectrum = fft.rfft(np.concatenate([first_column, [0.0], first_column[:0:-1]])).real
        self.spectra = self._spectra_of_inverse(first_column)

    def _spectra_of_inverse(self, first_column: Signals) -> Spectra | None:
        """Spectra of x and of y, divided by the root of x_0; None where the recursion breaks down."""
        unit = np.zeros(self.length)
        unit[0] = 1.0
        try:
            x = linalg.solve_toeplitz((first_column, first_column), unit)
        except linalg.LinAlgError:
            return None
        if not (np.isfinite(x).all() and x[0] > 0):
            return None
        y = np.concatenate([[0.0], x[:0:-1]])
        return np.asarray(fft.rfft(np.stack([x, y]) / np.sqrt(x[0]), 2 * self.length))

    def solve(self, right_sides: Signals) -> tuple[Signals, npt.NDArray[np.bool_]]:
        """Solutions [..., tap] for right sides [..., tap], zero where they do not hold, and whether each one holds: [...]."""
        if self.spectra is None:
            return np.zeros_like(right_sides), np.zeros(right_sides.shape[:-1], dtype=bool)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows does not hold
            rough = self._apply_inverse(right_sides)
            solutions = rough + self._apply_inverse(right_sides - self.multiply(rough))
            residuals = np.linalg.norm(right_sides - self.multiply(solutions), axis=-1)
        solved = residuals <= RESIDUAL_LIMIT * np.linalg.norm(right_sides, axis=-1)
        return np.where(solved[..., None], solutions, 0.0), solved

    def multiply(self, vectors: Signals) -> Signals:
        """The matrix times vectors [..., tap]."""
        product = fft.irfft(self.matrix_spectrum * fft.rfft(vectors, 2 * self.length))
        return np.asarray(product)[..., : self.length]

    def _apply_inverse(self, vectors: Signals) -> Signals:
        assert self.spectra is not None
        size = 2 * self.length
        correlated = fft.irfft(self.spectra.conj() * fft.rfft(vectors, size)[..., None, :])[..., : self.length]
        convolved = self.spectra * fft.rfft(correlated, size)
        return np.asarray(fft.irfft(convolved[..., 0, :] - convolved[..., 1, :]))[..., : self.length]


def project_plainly(references: Signals, estimate: Signals) -> Signals:
    """The projection [time + 511] of an estimate [time] by mir_eval's own arithmetic: slow, for ill-conditioned references.

    Complex FFTs of a power of two, LU of the whole Gram matrix (least squares where that is singular), full-length filtering.
    Where the Gram matrix is singular to working precision the result depends on every rounding, so the order of operations is
    that of mir_eval 0.8 (``separation._project``); only the exception is caught by the name that NumPy ≥ 2.4 still has.

    Args:
        references: [reference, time].
        estimate: [time].
    """
    num_references, num_samples = references.shape
    length = num_samples + FILTER_LENGTH - 1
    size = int(2 ** np.ceil(np.log2(length)))
    padded = np.pad(references, ((0, 0), (0, FILTER_LENGTH - 1)))
    spectra = fft.fft(padded, size)
    gram = _plain_gram(spectra)
    estimate_spectrum = fft.fft(estimate, size)
    products = np.concatenate([_negative_lags(fft.ifft(spectrum * estimate_spectrum.conj()).real) for spectrum in spectra])
    try:
        taps = np.linalg.solve(gram, products)
    except np.linalg.LinAlgError:
        taps = np.linalg.lstsq(gram, products, rcond=None)[0]
    projection = np.zeros(length)
    for filter_taps, reference in zip(taps.reshape(num_references, FILTER_LENGTH), padded, strict=True):
        projection += scipy.signal.fftconvolve(filter_taps, reference)[:length]
    return projection


def _plain_gram(spectra: Spectra) -> Signals:
    """The Gram matrix from complex spectra [reference, frequency], the lower blocks computed, the upper ones transposed."""
    num_references = len(spectra)
    gram = np.zeros((num_references, FILTER_LENGTH, num_references, FILTER_LENGTH))
    for row in range(num_references):
        for column in range(row + 1):
            correlation = fft.ifft(spectra[row] * spectra[column].conj()).real
            block = linalg.toeplitz(_negative_lags(correlation), correlation[:FILTER_LENGTH])
            gram[row, :, column, :] = block
            gram[column, :, row, :] = block.T
    return gram.reshape(num_references * FILTER_LENGTH, -1)


def _negative_lags(correlation: Signals) -> Signals:
    """Lags 0, -1, …, -511 of a circular correlation [lag]."""
    return np.concatenate([correlation[:1], correlation[:-FILTER_LENGTH:-1]])
