"""Quality over time from the start of a mixture: does a system need time to warm up?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.reports.analysis import Analysis
from pipeline.reports.clips import Clips, Loader, Samples, evenly_picked

FRAME_SECONDS = 0.5
MAX_FRAMES = 10
_QUIET_DB = -30.0
_FEWEST = 20


def improvement_over_time(analysis: Analysis, load: Loader | None) -> pd.DataFrame:
    """Median SI-SNRi of half-second frames by time from the start of the mixture: columns system, seconds, value, n.

    From at most 60 mixtures, evenly picked; frames in which the source is more than 30 dB below its mean power are left out,
    and so are times with fewer than 20 frames. Empty without audio.
    """
    picked = evenly_picked(analysis.means, load)
    found = [frame for name in picked if load is not None for frame in _frames_of(analysis, name, load(name))]
    table = pd.DataFrame(found, columns=["system", "seconds", "value"])
    medians = table.groupby(["system", "seconds"])["value"].agg(["median", "size"]).reset_index()
    medians.columns = pd.Index(["system", "seconds", "value", "n"])
    place = {system: k for k, system in enumerate(analysis.systems)}
    kept = medians[medians["n"] >= _FEWEST]
    return kept.sort_values(["system", "seconds"], key=lambda column: column.replace(place)).reset_index(drop=True)


def _frames_of(analysis: Analysis, mixture_id: str, clips: Clips) -> list[tuple[str, float, float]]:
    """(system, seconds at the frame's middle, SI-SNRi) of one mixture."""
    rows = analysis.run_scores[analysis.run_scores["mixture_id"] == mixture_id]
    length = round(FRAME_SECONDS * clips.sample_rate)
    system_of = {
        analysis.played_run(system): system for system in analysis.systems if analysis.played_run(system) in clips.estimates
    }
    sources = {f"s{k + 1}": k for k in range(len(clips.references))}
    found: list[tuple[str, float, float]] = []
    for row in rows[rows["system"].isin(list(system_of))].to_dict("records"):
        k = sources.get(row["source"])
        if k is None:
            continue
        reference, estimate = clips.references[k], clips.estimate_of(row["system"], k, row)
        improvement = frame_si_snr_db(estimate, reference, length) - frame_si_snr_db(clips.mixture, reference, length)
        found += [
            (system_of[row["system"]], (frame + 0.5) * FRAME_SECONDS, float(value))
            for frame, value in enumerate(improvement[:MAX_FRAMES])
            if np.isfinite(value)
        ]
    return found


def frame_si_snr_db(estimate: Samples, reference: Samples, length: int) -> npt.NDArray[np.float64]:
    """SI-SNR in dB of every whole frame of ``length`` samples; NaN where the reference is quiet or the value is not finite."""
    count = min(len(estimate), len(reference)) // length
    e, s = (x[: count * length].reshape(count, length) for x in (estimate, reference))
    e, s = e - e.mean(axis=1, keepdims=True), s - s.mean(axis=1, keepdims=True)
    power = np.square(s).mean(axis=1)
    quiet = power <= np.square(reference).mean() * 10 ** (_QUIET_DB / 10)
    with np.errstate(divide="ignore", invalid="ignore"):
        target = (e * s).sum(axis=1, keepdims=True) / np.square(s).sum(axis=1, keepdims=True) * s
        ratio = 10 * np.log10(np.square(target).sum(axis=1) / np.square(e - target).sum(axis=1))
    return np.where(quiet | ~np.isfinite(ratio), np.nan, ratio)
