"""Recordings to be scored, read whatever state they are in: a problem becomes part of their scores instead of an error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.audio.files import read_audio
from pipeline.audio.headers import read_header
from pipeline.audio.resampling import resample
from pipeline.errors import AudioError
from pipeline.scoring.bss_eval import Signals

NO_SAMPLES = np.zeros(0)
MISSING, UNREADABLE, MULTICHANNEL, OTHER_RATE = "missing", "unreadable", "multichannel", "other_rate"
TOO_SHORT = "too_short"
"""Why there are no samples; a status gives it with whose recording it is, as in ``unreadable_estimate``."""


def names_problem(status: str, *problems: str) -> bool:
    """Whether a status of ``scores.csv`` names any of these problems, of whichever recording."""
    return any(f"{problem}_" in status for problem in problems)


@dataclass(frozen=True)
class Recording:
    """A recording as it was found: its samples, or why there are none."""

    samples: Signals
    """[time]; empty where there is a problem."""
    problem: str = ""
    """One of those above; ``absent`` for a mixture that nobody expects."""
    reason: str = ""
    """The problem in a sentence."""
    changes: tuple[str, ...] = ()
    """What was done to the samples, as it appears in ``status``."""


def read_recording(path: Path, sample_rate: int, *, channel: int | None = None, convert_rate: bool = False) -> Recording:
    """Read a recording; a problem becomes part of its scores instead of an error.

    Args:
        path: of the file.
        sample_rate: Hz that it must have.
        channel: which channel of files with several (0 is the first); without it they are not scored.
        convert_rate: resample recordings at another rate; otherwise they are not scored.
    """
    if not path.is_file():
        return Recording(NO_SAMPLES, MISSING, "no such file")
    try:
        num_channels = read_header(path).num_channels
        if num_channels > 1 and channel is None:
            return Recording(NO_SAMPLES, MULTICHANNEL, f"has {num_channels} channels; choose one with --channel 0 (the first)")
        samples, actual_rate = read_audio(path, channel=channel if num_channels > 1 else None, finite_only=False)
    except AudioError as error:
        return Recording(NO_SAMPLES, UNREADABLE, str(error).removeprefix(f"{path}: "))
    if actual_rate == sample_rate:
        return Recording(samples)
    if convert_rate and actual_rate and sample_rate:
        return Recording(resample(samples, actual_rate, sample_rate), changes=(f"resampled({actual_rate})",))
    reason = f"is at {actual_rate} Hz and its reference at {sample_rate} Hz; --resample converts it"
    return Recording(NO_SAMPLES, OTHER_RATE, reason)


def long_enough(estimate: Recording, num_samples: int) -> Recording:
    """An estimate as it is, or without samples where it ends before half of its reference: it is scored over what both have, and
    a system must not choose that part."""
    if 0 < len(estimate.samples) < num_samples / 2:
        return Recording(NO_SAMPLES, TOO_SHORT, f"has {len(estimate.samples):,} of {num_samples:,} samples")
    return estimate
