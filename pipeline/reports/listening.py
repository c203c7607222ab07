"""Examples to listen to: chosen by rule, the same for every system, at one gain per mixture."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from pipeline.audio import files
from pipeline.reports import formatting, spectrograms
from pipeline.reports.analysis import Analysis
from pipeline.reports.clips import Clips, Loader, Samples, with_audio

PEAK = 0.5
"""Of the loudest clip of a mixture: 6 dB below full scale is loud enough, and costs one bit less per sample."""
MAX_SECONDS = 15.0
MIN_SECONDS = 3.0
"""Clips are never cut shorter than this to keep the page small; examples are left out instead."""


# -------------------------------------------------------------------------------------------------------------- the rule
def choose_examples(means: pd.DataFrame, num_examples: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """(rule, mixture_id) of the examples: best, median, worst, largest disagreement, then random ones.

    Best and worst are by the mean over the systems. No mixture is chosen twice, and only ones that every system has a score for.
    """
    valid = means.dropna()
    ranking = valid.mean(axis=1).sort_values(kind="stable").index
    spread = (valid.max(axis=1) - valid.min(axis=1)).sort_values(ascending=False, kind="stable").index
    shuffled = np.random.default_rng(seed).permutation(np.array(valid.index, dtype=object))
    rules = [("Best", ranking[::-1]), ("Median", ranking[len(ranking) // 2 :]), ("Worst", ranking)]
    rules += [("Largest disagreement", spread)] if means.shape[1] > 1 else []
    rules += [("Random", pd.Index(shuffled))] * num_examples
    chosen: dict[str, str] = {}
    for rule, candidates in rules[:num_examples]:
        mixture_id = next((str(candidate) for candidate in candidates if str(candidate) not in chosen), None)
        if mixture_id is not None:
            chosen[mixture_id] = rule
    return [(rule, mixture_id) for mixture_id, rule in chosen.items()]


# ---------------------------------------------------------------------------------------------------------- on the page
_MARKUP_BYTES = 1400  # around each clip, axes and names of usual length included


@dataclass(frozen=True)
class Clip:
    """One picture and sound of an example; ``series`` is the system's number, 0 for mixture and references."""

    number: int
    label: str
    value: str
    series: int
    webp: str
    flac: str


@dataclass(frozen=True)
class Row:
    """Clips that belong side by side: the mixture, or one source by every system; ``source`` counts from 1, 0 is the mixture."""

    source: int
    legend: str
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Example:
    """A mixture to listen to."""

    number: int
    rule: str
    mixture_id: str
    seconds: float
    sample_rate: int
    rows: tuple[Row, ...]
    missing: tuple[str, ...] = ()
    """Systems without a recording that can be played."""

    @property
    def time_ticks(self) -> list[tuple[float, str]]:
        """Marks on the time axis: place in percent, and seconds."""
        return _ticks(self.seconds, (0.1, 0.2, 0.5, 1.0, 2.0, 5.0), most=4)

    @property
    def frequency_ticks(self) -> list[tuple[float, str]]:
        """Marks on the frequency axis: place in percent, and kHz."""
        return _ticks(self.sample_rate / 2000, (1.0, 2.0, 4.0, 8.0, 16.0), most=2)

    @property
    def num_columns(self) -> int:
        """Clips in the widest row."""
        return max(len(row.clips) for row in self.rows)

    @property
    def num_bytes(self) -> int:
        """How much of the page it takes."""
        return sum(len(clip.webp) + len(clip.flac) + _MARKUP_BYTES for row in self.rows for clip in row.clips)


def _ticks(end: float, steps: Sequence[float], *, most: int) -> list[tuple[float, str]]:
    """Round values from 0 to ``end`` with their place in percent: 0, and up to ``most`` more."""
    step = next((step for step in steps if end / step < most + 1), steps[-1])
    return [(round(100 * k * step / end, 2), f"{k * step:g}") for k in range(int(end / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Examples:
    """The examples of a page.

    Attributes:
        shown: in the order of the rules.
        num_playable: mixtures that could have been chosen.
        num_left_out: how many were chosen but left out to keep the page small.
        cut_to_seconds: length of the longest clips if they were cut.
    """

    shown: tuple[Example, ...]
    num_playable: int = 0
    num_left_out: int = 0
    cut_to_seconds: float | None = None


def make_examples(analysis: Analysis, load: Loader, num_examples: int, *, max_bytes: int) -> Examples:
    """The examples, in at most ``max_bytes``: long clips are cut first, and then examples left out."""
    playable = with_audio(analysis.means, load)
    chosen = choose_examples(playable, num_examples, seed=analysis.seed)
    made = [_example(analysis, number, *choice, load(choice[1]), MAX_SECONDS) for number, choice in enumerate(chosen)]
    seconds = _seconds_that_fit(made, max_bytes)
    if seconds < MAX_SECONDS:
        made = [_example(analysis, number, *choice, load(choice[1]), seconds) for number, choice in enumerate(chosen)]
    sizes = np.cumsum([example.num_bytes for example in made])
    shown = tuple(made[: int((sizes <= max_bytes).sum())])
    is_cut = any(example.seconds >= seconds for example in shown)
    return Examples(shown, len(playable), len(chosen) - len(shown), seconds if is_cut else None)


def _seconds_that_fit(made: Sequence[Example], max_bytes: int) -> float:
    """How long clips may be, assuming their size is proportional to their length; slightly less to be safe."""
    for seconds in np.arange(MAX_SECONDS, MIN_SECONDS, -0.25):
        if sum(example.num_bytes * min(1.0, 1.04 * seconds / example.seconds) for example in made) <= max_bytes:
            return float(seconds)
    return MIN_SECONDS


def _example(analysis: Analysis, number: int, rule: str, mixture_id: str, clips: Clips, max_seconds: float) -> Example:
    clips = _at_common_gain(clips, max_seconds)
    top = spectrograms.power_spectrogram_db(clips.mixture, clips.sample_rate).max()
    rows: list[Row] = []
    count = 0
    for source, (legend, entries) in enumerate(_sounds(analysis, mixture_id, clips)):
        made = []
        for label, value, place, samples in entries:
            webp = base64.b64encode(spectrograms.spectrogram_webp(samples, clips.sample_rate, full_scale_db=top)).decode()
            flac = base64.b64encode(files.encode(samples, clips.sample_rate, "flac")).decode()
            made.append(Clip(count, label, value, place, webp, flac))
            count += 1
        rows.append(Row(source, legend, tuple(made)))
    seconds = len(clips.mixture) / clips.sample_rate
    missing = tuple(name for name in analysis.systems if analysis.played_run(name) not in clips.estimates)
    return Example(number, rule, mixture_id, round(seconds, 3), clips.sample_rate, tuple(rows), missing)


_Sound: TypeAlias = tuple[str, str, int, Samples]


def _sounds(analysis: Analysis, mixture_id: str, clips: Clips) -> list[tuple[str, list[_Sound]]]:
    """(legend, sounds) of every row; a sound is its label, printed score, the system's number, and samples."""
    mine = analysis.run_scores[analysis.run_scores["mixture_id"] == mixture_id]
    found = {(row["system"], row["source"]): row for row in mine.to_dict("records")}
    rows: list[tuple[str, list[_Sound]]] = [("Mixture", [("Mixture", "", 0, clips.mixture)])]
    for k, reference in enumerate(clips.references):
        sounds: list[_Sound] = [("Reference", "", 0, reference)]
        for place, run in enumerate(map(analysis.played_run, analysis.systems), 1):
            if run in clips.estimates:
                row = found.get((run, f"s{k + 1}"), {})
                value = formatting.signed(row.get(analysis.metric), 1)
                sounds.append((run, f"{value} dB" if row else "", place, clips.estimate_of(run, k, row)))
        rows.append((_legend(k, found.get((analysis.played_run(analysis.baseline), f"s{k + 1}"), {})), sounds))
    return rows


def _legend(k: int, row: Mapping[Any, Any]) -> str:
    known = [str(row[name]) for name in ("speaker_id", "sex") if isinstance(row.get(name), str) and row[name]]
    return f"Speaker {k + 1}" + (f": {', '.join(known)}" if known else "")


def _at_common_gain(clips: Clips, max_seconds: float) -> Clips:
    """All clips of a mixture, scaled by one gain so that the loudest peaks at ``PEAK``, and cut to the maximum length."""
    stop = int(max_seconds * clips.sample_rate)
    every = [clips.mixture, *clips.references, *(e for estimates in clips.estimates.values() for e in estimates)]
    peak = max(float(np.abs(samples[:stop]).max()) for samples in every)
    gain = PEAK / peak if peak > 0 else 1.0
    estimates = {system: gain * samples[:, :stop] for system, samples in clips.estimates.items()}
    return Clips(clips.sample_rate, gain * clips.mixture[:stop], gain * clips.references[:, :stop], estimates)
