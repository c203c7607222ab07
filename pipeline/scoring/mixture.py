"""The scores of one mixture: a row per system and source, whatever state its recordings are in.

One permutation serves all metrics. The mixture is every source's baseline: improvements are differences from its scores. What
cannot be scored gets NaN (or -inf, where the estimate is silent) and a reason in ``status``:

    ok
    missing_*, unreadable_*, multichannel_*, other_rate_*, empty_*, nan_*, silent_*     of the reference, estimate or mixture
    too_short_estimate     it ends before half of its reference: a failure, since a system must not choose what is scored
    length_mismatch(n)     the estimate is n samples longer (or, negative, shorter); what both have is scored
    shortened(n)           another recording ends n samples earlier (n is negative); what all have is scored
    clipped                the estimate stays at full scale for three samples or more
    delayed(n)             the estimate is n samples late (or, negative, early) against the reference that it resembles most
    inverted               the estimate has the opposite sign of that reference
    dc_offset              the estimate's mean is further from zero than the reference's; it counts as distortion in the SDR
    reference_offset       the reference's own mean is far from zero
    resampled(n)           a recording was converted from n Hz, as asked for
    aligned(n), centred    the estimate was moved by n samples, or its mean removed, as asked for
    perfect                the estimate is the reference, up to its level
    identical              the estimate is the reference, sample by sample
    shorter_than_filter    fewer than 512 samples: the SDR's filter explains almost anything
    ill_conditioned        delayed references are nearly dependent: scored by mir_eval's arithmetic; SIR and SAR are unreliable
    no_*                   a metric on request has no value, for example no_pesq

Several reasons are joined by semicolons. All but those of the first line leave numbers like any other. An estimate of a silent
reference is scored by its level relative to the mixture: ``silent_level_db``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from typing import Any, Literal, cast, get_args

import numpy as np

from pipeline.errors import ScoreError
from pipeline.scoring import perceptual
from pipeline.scoring.alignment import OFFSET_LIMIT, Correlator, Shift, align, offset_of, own_offset
from pipeline.scoring.bss_eval import FILTER_LENGTH, Signals
from pipeline.scoring.metrics import References, is_finite, is_usable, level, level_over_db, pairwise_si_snr, sa_sdr
from pipeline.scoring.permutations import best_permutation
from pipeline.scoring.recordings import NO_SAMPLES, Recording, long_enough

Criterion = Literal["si_snr", "sir"]
"""What assigns estimates to references: the highest mean SI-SNR, or the highest mean SIR as mir_eval does."""

Extra = Literal["sir", "sar", "sa_sdr", "stoi", "estoi", "pesq"]
"""Metrics on request."""

Row = dict[str, Any]

_FULL_SCALE = 1 - 2.0**-15

STATUSES = (
    *("missing_*", "unreadable_*", "multichannel_*", "other_rate_*", "empty_*", "nan_*", "silent_*"),
    *(
        "too_short_estimate",
        "length_mismatch(n)",
        "shortened(n)",
        "clipped",
        "delayed(n)",
        "inverted",
        "dc_offset",
        "reference_offset",
    ),
    *("resampled(n)", "aligned(n)", "centred", "perfect", "identical"),
    *("shorter_than_filter", "ill_conditioned", "no_*"),
)
"""Every reason that a status may give; ``*`` stands for the recording or the metric, ``n`` for a number."""

_PERCEPTUAL: dict[Extra, Callable[..., float]] = {
    "stoi": perceptual.stoi,
    "estoi": partial(perceptual.stoi, extended=True),
    "pesq": perceptual.pesq,
}


@dataclass(frozen=True)
class Settings:
    """What decides the scores of given recordings."""

    permutation: Criterion = "si_snr"
    also: tuple[Extra, ...] = ()
    """Further metrics, each with a column of its own."""
    channel: int | None = None
    """Which channel of recordings with several is scored (0 is the first); without it they are not scored."""
    resample: bool = False
    """Whether recordings at another rate than the reference's are converted; otherwise they are not scored."""
    align: bool = False
    """Whether a constant delay and offset of the estimates are removed."""

    @staticmethod
    def of(
        permutation: str,
        also: Collection[str],
        sample_rate: int,
        *,
        channel: int | None = None,
        resample: bool = False,
        align: bool = False,
    ) -> Settings:
        """Checked settings; the order of the metrics does not matter.

        Raises:
            ScoreError: a criterion or metric does not exist, or a metric cannot be computed here or at this rate (Hz).
        """
        criteria, extras = get_args(Criterion), get_args(Extra)
        if permutation not in criteria:
            raise ScoreError(f"permutation {permutation!r}: choose {' or '.join(criteria)}")
        for metric in also:
            if metric not in extras:
                raise ScoreError(f"metric {metric!r}: choose among {', '.join(extras)}; SI-SNR and SDR are always computed")
            perceptual.require(metric, sample_rate)
        chosen = tuple(extra for extra in extras if extra in also)
        return Settings(cast(Criterion, permutation), chosen, channel, resample, align)


def score_mixture(
    estimates: Mapping[str, Sequence[Recording]],
    references: Sequence[Recording],
    mixture: Recording | None,
    *,
    sample_rate: int,
    settings: Settings,
) -> dict[str, list[Row]]:
    """Score the estimates of several systems on one mixture; what depends on the references alone is computed once.

    Args:
        estimates: by system.
        references: one per source.
        mixture: the baseline, if there is one.
        sample_rate: Hz, of all recordings.
        settings: the criterion of assignment, and further metrics.

    Returns:
        For every system a row per reference.
    """
    mixture = mixture or Recording(NO_SAMPLES, "absent")
    longest = max((len(one.samples) for one in references), default=0)
    estimates = {system: [long_enough(one, longest) for one in recordings] for system, recordings in estimates.items()}
    if settings.align:
        estimates = {system: align(recordings, references) for system, recordings in estimates.items()}

    def common_length(system: str) -> int:
        return _common_length([*estimates[system], *references, mixture])

    rows: dict[str, list[Row]] = {}
    for length, group in groupby(sorted(estimates, key=common_length), key=common_length):
        systems = list(group)
        estimated = [one for system in systems for one in estimates[system]]
        comparison = Comparison([*estimated, mixture], references, length, sample_rate)
        first = 0
        for system in systems:
            stop = first + len(estimates[system])
            rows[system] = comparison.rows(range(first, stop), settings)
            first = stop
    return rows


class Comparison:
    """Recordings, the mixture last, against references, over the samples that all of them have.

    Args:
        recordings: estimates of one or more systems, then the mixture.
        references: one per source.
        length: samples to compare.
        sample_rate: Hz.
    """

    def __init__(self, recordings: Sequence[Recording], references: Sequence[Recording], length: int, sample_rate: int) -> None:
        self.recordings, self.references = recordings, references
        self.length, self.sample_rate = length, sample_rate
        self.signals, self.reference_signals = _cut(recordings, length), _cut(references, length)
        self.si_snr_db = pairwise_si_snr(self.signals, self.reference_signals)
        self.projections = References(self.reference_signals).project(self.signals)
        self.conditions = [_condition(*pair) for pair in zip(recordings, self.signals, strict=True)]
        self.reference_conditions = [_condition(*pair) for pair in zip(references, self.reference_signals, strict=True)]
        self._shifts: dict[int, Shift] = {}

    @cached_property
    def correlator(self) -> Correlator:
        """The references, for delays and signs."""
        return Correlator(self.reference_signals)

    def shift_of(self, estimate: int) -> Shift:
        """Delay and sign of an estimate, computed once for all references."""
        if estimate not in self._shifts:
            self._shifts[estimate] = self.correlator.shift_of(self.signals[estimate])
        return self._shifts[estimate]

    @cached_property
    def inputs(self) -> list[Row]:
        """The mixture's scores against every reference, the same for all systems."""
        mixture = len(self.recordings) - 1
        return [self._pair(mixture, reference) for reference in range(len(self.references))]

    def rows(self, estimates: range, settings: Settings) -> list[Row]:
        """A row per reference for the estimates of one system."""
        part = slice(estimates.start, estimates.stop)
        permutations = {"si_snr": best_permutation(self.si_snr_db[part]), "sir": self.projections.sir_permutation(part)}
        chosen = permutations[settings.permutation]
        common: Row = {
            "permutation": settings.permutation,
            "permutations_agree": bool(np.array_equal(permutations["si_snr"], permutations["sir"])),
            "num_samples": self.length,
        }
        if "sa_sdr" in settings.also:
            common["sa_sdr_db"] = sa_sdr(self.signals[part][chosen], self.reference_signals)
        return [
            {"source": f"s{reference + 1}", "estimate": estimate + 1}
            | self._scored(estimates[estimate], reference, settings.also, common)
            | self._silent_level(estimates[estimate], reference)
            for reference, estimate in enumerate(chosen.tolist())
        ]

    def _scored(self, estimate: int, reference: int, also: Collection[Extra], common: Row) -> Row:
        """All of a row but the names of its recordings."""
        extras = self._extras(estimate, reference, also)
        reasons = list(self._reasons(estimate, reference, also))
        if not (self.conditions[estimate] or self.reference_conditions[reference]):
            requested = {name: value for name, value in (common | extras).items() if name.removesuffix("_db") in also}
            reasons += [f"no_{name.removesuffix('_db')}" for name, value in requested.items() if np.isnan(value)]
        return self._scores(estimate, reference, ";".join(reasons) or "ok") | common | extras

    def _scores(self, estimate: int, reference: int, status: str) -> Row:
        """Scores of a pair and of the mixture, the improvements, and the status."""
        scores, inputs = self._pair(estimate, reference), self.inputs[reference]
        return {
            "si_snr_db": scores["si_snr_db"],
            "si_snri_db": scores["si_snr_db"] - inputs["si_snr_db"],
            "sdr_db": scores["sdr_db"],
            "sdri_db": scores["sdr_db"] - inputs["sdr_db"],
            "status": status,
            "input_si_snr_db": inputs["si_snr_db"],
            "input_sdr_db": inputs["sdr_db"],
        }

    def _pair(self, signal: int, reference: int) -> Row:
        """SI-SNR and SDR of a signal against a reference; where the first is infinite so is the second, up to rounding."""
        si_snr_db = float(self.si_snr_db[signal, reference])
        sdr_db = np.inf if si_snr_db == np.inf else self.projections.sdr_db(signal, reference)
        return {"si_snr_db": si_snr_db, "sdr_db": sdr_db}

    def _silent_level(self, estimate: int, reference: int) -> Row:
        """Where a reference is silent: how loud its estimate is relative to the mixture, dB; nothing of other pairs."""
        is_measurable = self.conditions[estimate] in ("", "silent") and not self.conditions[-1]
        if self.reference_conditions[reference] != "silent" or not is_measurable:
            return {}
        return {"silent_level_db": level_over_db(self.signals[estimate], self.signals[-1])}

    def _extras(self, estimate: int, reference: int, also: Collection[Extra]) -> Row:
        """Scores on request; NaN where the pair cannot be compared."""
        row: Row = {}
        if "sir" in also or "sar" in also:
            parts = dict(zip(("sir_db", "sar_db"), self.projections.sir_sar_db(estimate, reference), strict=True))
            row |= {column: value for column, value in parts.items() if column.removesuffix("_db") in also}
        comparable = not (self.conditions[estimate] or self.reference_conditions[reference])
        for name, metric in _PERCEPTUAL.items():
            if name in also:
                pair = level(self.signals[estimate]), level(self.reference_signals[reference])
                row[name] = metric(*pair, sample_rate=self.sample_rate) if comparable else np.nan
        return row

    def _reasons(self, estimate: int, reference: int, also: Collection[Extra]) -> Iterator[str]:
        """The status of a pair, piece by piece, the worst first."""
        yield from _named(self.reference_conditions[reference], "reference")
        yield from _named(self.conditions[estimate], "estimate")
        yield from _named(self.conditions[-1], "mixture")
        yield from self._length_reasons(estimate, reference)
        if is_clipped(self.recordings[estimate].samples):
            yield "clipped"
        yield from self._alignment_reasons(estimate, reference)
        if self.si_snr_db[estimate, reference] == np.inf:
            yield "perfect"
            if np.array_equal(self.recordings[estimate].samples, self.references[reference].samples):
                yield "identical"
        if 0 < self.length < FILTER_LENGTH:
            yield "shorter_than_filter"
        joint = ("sir" in also or "sar" in also) and self.projections.jointly_ill_conditioned
        if joint or self.projections.ill_conditioned(estimate, reference):
            yield "ill_conditioned"

    def _alignment_reasons(self, estimate: int, reference: int) -> Iterator[str]:
        """Whether the estimate is moved, inverted or off centre, and what was done to the recordings."""
        shift = self.shift_of(estimate)
        if shift.delay:
            yield f"delayed({shift.delay:+d})"
        if shift.inverted:
            yield "inverted"
        if offset_of(self.signals[estimate], self.reference_signals[reference]) > OFFSET_LIMIT:
            yield "dc_offset"
        if own_offset(self.reference_signals[reference]) > OFFSET_LIMIT:
            yield "reference_offset"
        compared = (self.recordings[estimate], self.references[reference], self.recordings[-1])
        yield from dict.fromkeys(change for one in compared for change in one.changes)

    def _length_reasons(self, estimate: int, reference: int) -> Iterator[str]:
        """Whether the recordings of a pair differ in length, or are cut because another recording is shorter."""
        actual, expected = len(self.recordings[estimate].samples), len(self.references[reference].samples)
        if not (actual and expected):
            return
        if actual != expected:
            yield f"length_mismatch({actual - expected:+d})"
        if self.length < min(actual, expected):
            yield f"shortened({self.length - min(actual, expected):+d})"


def _named(condition: str, signal: str) -> list[str]:
    return [f"{condition}_{signal}"] if condition not in ("", "absent") else []


def _condition(recording: Recording, samples: Signals) -> str:
    """Why a recording cannot be scored: its problem, ``empty``, ``nan`` or ``silent``; an empty text where it can."""
    if recording.problem:
        return recording.problem
    if not len(recording.samples):
        return "empty"
    if not is_finite(samples):
        return "nan"
    return "" if is_usable(samples) else "silent"


def is_clipped(samples: Signals) -> bool:
    """Whether a recording stays at full scale for three samples in a row or more."""
    if not len(samples) or np.abs(samples).max() < _FULL_SCALE:
        return False
    at_full_scale = np.abs(samples) >= _FULL_SCALE
    flat = at_full_scale[1:] & (samples[1:] == samples[:-1])
    return bool((flat[1:] & flat[:-1]).any())


def _common_length(recordings: Sequence[Recording]) -> int:
    """Samples that all recordings have, not counting those that have none at all."""
    return min((len(one.samples) for one in recordings if len(one.samples)), default=0)


def _cut(recordings: Sequence[Recording], length: int) -> Signals:
    """[recording, time]; NaN where there are no samples."""
    return np.stack([one.samples[:length] if len(one.samples) else np.full(length, np.nan) for one in recordings])
