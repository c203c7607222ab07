"""Voice-like test signals and folders of them: harmonics of a speaker's pitch with syllables, no third-party audio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile


def voice(speaker: int, take: int, *, seconds: float = 2.0, sample_rate: int = 16000) -> npt.NDArray[np.float64]:
    """[time], peak 0.5: a pitch of 90 Hz and up by speaker, syllables by take."""
    random = np.random.default_rng([speaker, take])
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    pitch = 90 * 1.12**speaker * (1 + 0.05 * np.sin(2 * np.pi * random.uniform(0.5, 2) * time + random.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    harmonics = np.arange(1, 16)[:, None]
    weights = np.exp(-(((harmonics * pitch.mean() - random.uniform(400, 1200)) / 700) ** 2)) + 0.1 / harmonics
    syllables = np.clip(np.sin(2 * np.pi * random.uniform(2, 4) * time + random.uniform(0, 6)) + 0.4, 0, None)
    samples = (weights * np.sin(harmonics * phase)).sum(0) * syllables + 0.003 * random.standard_normal(len(time))
    return 0.5 * samples / np.abs(samples).max()


def write_voices(folder: Path, *, speakers: int = 9, takes: int = 2, seconds: float = 2.0, sample_rate: int = 16000) -> Path:
    """``folder/spk03/1.flac`` and so on; every take a little longer than the one before."""
    for speaker in range(speakers):
        home = folder / f"spk{speaker:02d}"
        home.mkdir(parents=True)
        for take in range(takes):
            samples = voice(speaker, take, seconds=seconds + 0.1 * take, sample_rate=sample_rate)
            soundfile.write(home / f"{speaker:02d}-{take}.flac", samples, sample_rate)
    return folder
