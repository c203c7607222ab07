"""What the samples of a corpus's files say that no header does: whether they can be decoded, are silent, faint or off centre.

For most files the beginning is enough: it can be decoded, is loud and has no offset. Only the others are read to the end and
measured, so that looking takes well below a millisecond a file. ``whole=True`` decodes every sample of every file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.audio.files import read_audio
from pipeline.audio.levels import loudness
from pipeline.compute.workers import chunked, map_parallel
from pipeline.errors import AudioError

FAINT_LUFS = -60.0
"""Softer files are hardly speech: brought to the level of speech, they are amplified noise."""
OFFSET_LIMIT = 0.02
"""Of full scale; recordings without an offset have a mean well below."""
_LOUD = 10 ** (-45 / 20)  # root mean square of a block that is certainly not faint
_BLOCK = 8192
_LOOKS = (_BLOCK, 8 * _BLOCK)  # samples from the first on; speech often begins with a pause
_CHUNK = 256


@dataclass(frozen=True)
class Sound:
    """What the samples of one file say."""

    path: str
    """Relative to the corpus."""
    problem: str = ""
    """Why it cannot be decoded, with its name; empty where it can."""
    loudness_lufs: float = inf
    """Of the whole file, -inf where it is silent; inf where it is certainly loud enough and was not measured."""
    offset: float = 0.0
    """Mean of the samples, full scale at 1."""

    @property
    def is_silent(self) -> bool:
        """Whether it is nowhere louder than -70 LUFS, the absolute gate of ITU-R BS.1770."""
        return self.loudness_lufs == -inf

    @property
    def is_faint(self) -> bool:
        """Whether it is so soft that its own noise would be amplified to the level of speech."""
        return -inf < self.loudness_lufs < FAINT_LUFS

    @property
    def is_off_centre(self) -> bool:
        """Whether it has a constant offset (DC)."""
        return abs(self.offset) > OFFSET_LIMIT


def inspect_files(
    root: Path,
    paths: Sequence[str],
    *,
    channel: int | None,
    whole: bool = False,
    num_workers: int | None = None,
    description: str = "inspect",
) -> list[Sound]:
    """Look at the samples of many files, in parallel, in the order of ``paths``.

    Args:
        root: the corpus.
        paths: relative to it.
        channel: of files with several.
        whole: decode every sample; otherwise only as much as it takes to know that a file is neither faint nor off centre.
        num_workers: processes; by default one per core.
        description: names the progress bar; empty for none.
    """
    inspect = partial(_inspect_chunk, root, channel, whole)
    chunks = map_parallel(inspect, chunked(paths, _CHUNK), num_workers=num_workers, description=description, size=len)
    return [sound for chunk in chunks for sound in chunk]


def _inspect_chunk(root: Path, channel: int | None, whole: bool, paths: Sequence[str]) -> list[Sound]:
    return [inspect_file(root, path, channel=channel, whole=whole) for path in paths]


def inspect_file(root: Path, path: str, *, channel: int | None, whole: bool = False) -> Sound:
    """Look at the samples of one file: see :func:`inspect_files`."""
    try:
        looks = () if whole else _LOOKS
        if any(_is_sound(read_audio(root / path, channel=channel, stop=stop)[0]) for stop in looks):
            return Sound(path)
        samples, sample_rate = read_audio(root / path, channel=channel)
    except AudioError as error:
        return Sound(path, problem=str(error))
    return Sound(path, loudness_lufs=_loudness(samples, sample_rate), offset=float(samples.mean()))


def _is_sound(beginning: npt.NDArray[Any]) -> bool:
    """Whether the first samples show that a file is loud enough, and not off centre."""
    return bool(beginning.std() > _LOUD and abs(beginning.mean()) < OFFSET_LIMIT)


def _loudness(samples: npt.NDArray[Any], sample_rate: int) -> float:
    """LUFS [time] without a constant offset, which nobody hears; inf where a look is enough."""
    centred = samples - samples.mean()
    loud = any(piece.std() > _LOUD for piece in np.array_split(centred, max(len(centred) // _BLOCK, 1)))
    return inf if loud else loudness(centred, sample_rate)
