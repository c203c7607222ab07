"""How well estimates match references: SI-SNR and BSS-Eval v3 (SDR, SIR, SAR), in float64 and without any epsilon.

What has no value says so, rather than hiding behind a small constant:

* a reference that is constant (silent) or holds NaN: NaN for every estimate;
* an estimate that holds NaN: NaN; one that is constant (silent): -inf;
* an estimate that is the reference itself, up to rounding (above 200 dB): +inf.

Estimates come first and references second. SI-SNR and SDR do not change with the level of either. Raise ``scoring.VERSION``
with every change that may change a number.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipeline.scoring.bss_eval import FILTER_LENGTH, Blocks, JointSpan, Signals, Span, project_plainly
from pipeline.scoring.permutations import Permutation, best_permutation
from pipeline.scoring.signals import as_signals

PERFECT_DB = 200.0
"""Above this a ratio is rounding of float64 (32-bit float audio ends at 150 dB) and counts as infinite."""

_CLEAR_PREFERENCE = 1e-10
"""Relative gap in energy above which an estimate's preferred reference is beyond rounding."""

Flags = npt.NDArray[np.bool_]


def si_snr(estimate: npt.ArrayLike, reference: npt.ArrayLike) -> Signals:
    """Scale-invariant signal-to-noise ratio in dB of every estimate against the reference at the same place.

    With both signals' means removed and a = <e, s> / |s|², 10 log10(|a s|² / |e - a s|²): Luo & Mesgarani 2019, eq. 13, without
    epsilon (Le Roux et al. 2019, eq. 5, on zero-mean signals).

    Args:
        estimate: [..., time].
        reference: [..., time], broadcast against the estimate.

    Returns:
        [...] dB; NaN, -inf and +inf as the module says.
    """
    return _of_each_pair(lambda one, other: pairwise_si_snr(one[None], other[None]).item(), estimate, reference)


def sdr(estimate: npt.ArrayLike, reference: npt.ArrayLike) -> Signals:
    """Signal-to-distortion ratio in dB of every estimate against the reference at the same place: BSS-Eval v3, 512 taps.

    10 log10(|P e|² / |e - P e|²), where P projects onto the reference delayed by 0 … 511 samples: Vincent et al. 2006, as
    ``mir_eval.separation.bss_eval_sources``. It needs no other reference; SIR and SAR do, see :class:`References`.

    Args:
        estimate: [..., time].
        reference: [..., time], broadcast against the estimate.

    Returns:
        [...] dB; NaN, -inf and +inf as the module says.
    """
    return _of_each_pair(lambda one, other: References(other[None]).project(one[None]).sdr_db(0, 0), estimate, reference)


def _of_each_pair(ratio: Callable[[Signals, Signals], float], estimate: npt.ArrayLike, reference: npt.ArrayLike) -> Signals:
    """``ratio(estimate, reference)`` in dB of signals at the same place, broadcast against each other."""
    estimates, references = np.broadcast_arrays(as_signals(estimate), as_signals(reference))
    ratios = [ratio(one, other) for one, other in zip(_rows(estimates), _rows(references), strict=True)]
    return np.reshape(ratios, estimates.shape[:-1])


def sa_sdr(estimates: npt.ArrayLike, references: npt.ArrayLike) -> float:
    """Source-aggregated SDR in dB: one ratio for all sources of a mixture, defined even if some of them are silent.

    10 log10(Σ_j |a s_j|² / Σ_j |e_j - a s_j|²) with one gain a for all: von Neumann et al. 2022, scale-invariant.

    Args:
        estimates: [source, time], in the order of the references.
        references: [source, time], not all of them zero.

    Returns:
        dB; NaN where anything is NaN or all references are zero, -inf for silent estimates, +inf for perfect ones.
    """
    estimate, reference = as_signals(estimates).ravel(), as_signals(references).ravel()
    if not (np.isfinite(estimate).all() and np.isfinite(reference).all() and reference.any()):
        return float("nan")
    estimate, reference = level(estimate), level(reference)
    target = estimate @ reference / (reference @ reference) * reference
    return float(_ratio_db(_energy(target), _energy(estimate - target))) if estimate.any() else -np.inf


def level_over_db(signal: Signals, other: Signals) -> float:
    """Power of a signal [time] relative to another that is not silent, means removed, in dB; -inf where it is silent."""
    with np.errstate(divide="ignore"):
        return float(10 * (np.log10(np.var(signal)) - np.log10(np.var(other))))


def pairwise_si_snr(estimates: Signals, references: Signals) -> Signals:
    """SI-SNR of every estimate [estimate, time] against every reference [reference, time]: [estimate, reference] dB."""
    scores = _unscored(estimates, references)
    kept = is_usable(estimates)
    if not kept.any():
        return scores
    centred = _centred(level(estimates[kept]))
    for column in np.flatnonzero(is_usable(references)):
        reference = _centred(level(references[column]))
        scale = np.array([one @ reference for one in centred]) / (reference @ reference)
        noise = centred - scale[:, None] * reference
        scores[kept, column] = _ratio_db(scale**2 * (reference @ reference), np.einsum("st,st->s", noise, noise))
    return scores


class References:
    """References of one mixture, prepared once for any number of estimates, systems and the mixture itself.

    Args:
        references: [reference, time]; silent ones and ones with NaN take no part.
    """

    def __init__(self, references: Signals) -> None:
        self.usable = is_usable(references)
        # One power of two for all: the pivots of the plain LU, and so its rounding, depend on the references' relative levels.
        self.signals = level(np.where(self.usable[:, None], references, 0.0).ravel()).reshape(references.shape)
        self.blocks = Blocks(references.shape[-1])
        self.spans = [Span(one, self.blocks) if use else None for one, use in zip(level(references), self.usable, strict=True)]

    @cached_property
    def joint(self) -> JointSpan:
        """The span of all usable references."""
        return JointSpan([span for span in self.spans if span])

    def project(self, signals: Signals) -> Projections:
        """Project signals [signal, time] onto what 512-tap filters make of each reference."""
        return Projections(self, signals)


class Projections:
    """Signals projected onto each reference: energies and filters of every pair, ratios on request.

    Args:
        references: the prepared references.
        signals: [signal, time]; silent ones and ones with NaN take no part.
    """

    def __init__(self, references: References, signals: Signals) -> None:
        self.references = references
        self.usable = is_usable(signals)
        self.signals = level(np.where(self.usable[:, None], signals, 0.0))
        self.blocks = references.blocks.cut(self.signals)
        self.spectra = references.blocks.spectra(self.blocks)
        self.unscored = _unscored(signals, references.signals)
        shape = self.unscored.shape
        self.filters = np.zeros((*shape, FILTER_LENGTH))
        self.energies = np.full(shape, np.nan)
        self.solved = np.ones(shape, dtype=bool)
        self._joints: dict[tuple[int, bool], Signals] = {}
        for column, span in enumerate(references.spans):
            if span:
                self._solve(column, span)

    def _solve(self, column: int, span: Span) -> None:
        """Filters of all signals for one reference, and the energy |P e|² of the filtered reference."""
        products = np.stack([span.correlate(spectra) for spectra in self.spectra])
        filters, self.solved[:, column] = span.inverse.solve(products)
        self.filters[:, column] = filters
        # c·d and c·Gc both are |P e|² to first order in the error of c; 2 c·d - c·Gc is so to second order.
        self.energies[:, column] = np.sum(filters * (2 * products - span.inverse.multiply(filters)), axis=-1)

    def ill_conditioned(self, signal: int, reference: int) -> bool:
        """Whether the filter of this pair had to be found by plain LU, as mir_eval does."""
        return not self.solved[signal, reference]

    @property
    def jointly_ill_conditioned(self) -> bool:
        """Whether SIR and SAR have to be found by plain LU, as mir_eval does, and are not to be relied on."""
        return bool(self.references.usable.any()) and self.references.joint.factor is None

    def sdr_db(self, signal: int, reference: int) -> float:
        """SDR of a signal against a reference."""
        if not self._scorable(signal, reference):
            return float(self.unscored[signal, reference])
        filtered, whole = self._filtered(signal, reference)
        return float(_ratio_db(_energy(filtered), _energy(whole - filtered)))

    def sir_sar_db(self, signal: int, reference: int) -> tuple[float, float]:
        """SIR and SAR of a signal against a reference: the other references are interference, what none explains is artefact.

        SIR = |P_j e|² / |P e - P_j e|² and SAR = |P e|² / |e - P e|², with P onto all references and P_j onto this one.
        """
        if not self._scorable(signal, reference):
            return float(self.unscored[signal, reference]), float(self.unscored[signal, reference])
        plainly = self.jointly_ill_conditioned or self.ill_conditioned(signal, reference)
        if plainly:
            target, whole = self._plainly(signal, reference), _with_tail(self.signals[signal])
        else:
            target, whole = self._filtered(signal, reference)
        joint = self._joint(signal, plainly=plainly)
        sir_db = _ratio_db(_energy(target), _energy(joint - target))
        return float(sir_db), float(_ratio_db(_energy(joint), _energy(whole - joint)))

    def sir_permutation(self, signals: slice) -> Permutation:
        """The assignment of some of the signals to the references with the highest mean SIR, as mir_eval chooses it.

        SIR_jm = a_jm / (p_m - a_jm), where a_jm = |P_j e_m|² and p_m = |P e_m|² depends on the estimate alone: each estimate
        ranks the references by a_jm. If every estimate prefers a different reference, that assignment is the best, and the
        joint projection (a system of 512 unknowns per reference) is not needed.
        """
        preferred = _preferred(self.energies[signals], self.solved[signals])
        if preferred is not None:
            return np.argsort(preferred)
        rows = range(len(self.signals))[signals]
        columns = range(len(self.references.signals))
        if len(columns) == 1:
            return best_permutation([[self.sdr_db(row, 0)] for row in rows])
        return best_permutation([[self.sir_sar_db(row, column)[0] for column in columns] for row in rows])

    def _scorable(self, signal: int, reference: int) -> bool:
        return bool(self.usable[signal] and self.references.usable[reference])

    def _filtered(self, signal: int, reference: int) -> tuple[Signals, Signals]:
        """The projection onto one reference, and the signal in the same layout: in blocks, or with 511 zeros at the end."""
        span = self.references.spans[reference]
        if span is None or self.ill_conditioned(signal, reference):
            return self._plainly(signal, reference), _with_tail(self.signals[signal])
        return span.filtered(self.filters[signal, reference]), self.blocks[signal]

    def _joint(self, signal: int, *, plainly: bool) -> Signals:
        """The projection of a signal onto all references, computed once and kept."""
        if (signal, plainly) not in self._joints:
            if plainly:
                joint = project_plainly(self.references.signals[self.references.usable], self.signals[signal])
            else:
                joint = self.references.joint.project(self.spectra[signal])
            self._joints[signal, plainly] = joint
        return self._joints[signal, plainly]

    def _plainly(self, signal: int, reference: int) -> Signals:
        return project_plainly(self.references.signals[[reference]], self.signals[signal])


def _preferred(energies: Signals, solved: Flags) -> Permutation | None:
    """The reference that each estimate prefers; None where two prefer the same one, or where rounding may have decided."""
    num_estimates, num_references = energies.shape
    if num_estimates != num_references or not np.isfinite(energies).all() or not solved.all():
        return None
    preferred = energies.argmax(axis=1)
    if len(set(preferred.tolist())) < num_references:
        return None
    best = energies.max(axis=1, keepdims=True)
    rivals = energies > (1 - _CLEAR_PREFERENCE) * best
    return preferred if rivals.sum() == num_references else None


def is_usable(signals: Signals) -> Flags:
    """Which of the signals [..., time] can be compared: finite, and not constant."""
    lowest, highest = signals.min(axis=-1, initial=np.inf), signals.max(axis=-1, initial=-np.inf)
    return np.asarray(np.isfinite(lowest) & np.isfinite(highest) & (lowest < highest))


def is_finite(signals: Signals) -> Flags:
    """Which of the signals [..., time] hold numbers only."""
    return np.asarray(np.isfinite(signals).all(axis=-1))


def level(signals: Signals) -> Signals:
    """Signals [..., time] scaled by powers of two to peaks between 0.5 and 1: exact, and no square under- or overflows."""
    peaks = np.abs(signals).max(axis=-1, keepdims=True, initial=0.0)
    exponents = np.maximum(np.frexp(peaks)[1], -1000)
    return np.asarray(signals * np.ldexp(1.0, -exponents))


def _unscored(estimates: Signals, references: Signals) -> Signals:
    """Scores of the pairs that cannot be computed: -inf for silent estimates, NaN otherwise: [estimate, reference]."""
    silent = is_finite(estimates) & ~is_usable(estimates)
    scores = np.where(silent[:, None] & is_usable(references)[None, :], -np.inf, np.nan)
    return np.asarray(scores)


def _ratio_db(signal_energy: Signals | float, noise_energy: Signals | float) -> Signals:
    """10 log10 of the ratio of two energies, +inf where only rounding is left of the noise."""
    with np.errstate(divide="ignore"):
        ratio = 10 * np.log10(np.divide(signal_energy, noise_energy))
    return np.asarray(np.where(ratio > PERFECT_DB, np.inf, ratio))


def _energy(signal: Signals) -> float:
    """Sum of squares of a signal, whole or in blocks."""
    return float(np.vdot(signal, signal))


def _rows(signals: Signals) -> Signals:
    return signals.reshape(-1, signals.shape[-1])


def _centred(signals: Signals) -> Signals:
    return np.asarray(signals - signals.mean(axis=-1, keepdims=True))


def _with_tail(signal: Signals) -> Signals:
    return np.pad(signal, (0, FILTER_LENGTH - 1))


# ------------------------------------------------------------------------------------------------------------ the oracle
def mir_eval_sources(
    estimates: Signals, references: Signals, *, compute_permutation: bool = False
) -> tuple[Signals, Signals, Signals, Permutation]:
    """SDR, SIR, SAR in dB and the permutation of mir_eval 0.8, the oracle of this module.

    Args:
        estimates: [source, time].
        references: [source, time], none of them all zero.
        compute_permutation: choose the assignment by mean SIR; otherwise estimate k belongs to reference k.
    """
    import mir_eval.separation  # gone in 0.9; scoring itself does without it

    with warnings.catch_warnings(), _singular_matrices_caught():
        warnings.simplefilter("ignore", FutureWarning)
        scores = mir_eval.separation.bss_eval_sources(references, estimates, compute_permutation=compute_permutation)
    sdr_db, sir_db, sar_db, permutation = scores
    return sdr_db, sir_db, sar_db, permutation


@contextmanager
def _singular_matrices_caught() -> Iterator[None]:
    """Let mir_eval 0.8 find ``np.linalg.linalg.LinAlgError``, a name that NumPy 2.4 no longer has."""
    if hasattr(np.linalg, "linalg"):
        yield
        return
    np.linalg.linalg = np.linalg  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del np.linalg.linalg  # type: ignore[attr-defined]
