"""The audio of mixtures, from a dataset or from anybody's folders, for whatever plays or measures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy

from pipeline.audio import files
from pipeline.errors import AudioError

Samples: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Clips:
    """The audio of one mixture.

    Attributes:
        sample_rate: Hz.
        mixture: ``[time]``.
        references: ``[source, time]``.
        estimates: by system, ``[estimate, time]`` in the order the system gave them; without those that cannot be played.
    """

    sample_rate: int
    mixture: Samples
    references: Samples
    estimates: Mapping[str, Samples]

    def estimate_of(self, system: str, k: int, row: Mapping[Any, Any]) -> Samples:
        """What a system made of the k-th reference: as its score says, or the one that is most like it if that is not said."""
        estimates = self.estimates[system]
        stated = row.get("estimate", np.nan)
        place = int(stated) - 1 if 1 <= stated <= len(estimates) else _most_alike(self.references, estimates)[k]
        found: Samples = estimates[place]
        return found


def _most_alike(references: Samples, estimates: Samples) -> list[int]:
    """For every reference the estimate assigned to it, so that the sum of squared correlations is largest."""
    norms = np.linalg.norm(references, axis=1)[:, None] * np.linalg.norm(estimates, axis=1)[None]
    correlations = np.square(references @ estimates.T / np.maximum(norms, 1e-12))
    places, chosen = scipy.optimize.linear_sum_assignment(correlations, maximize=True)
    found = dict(zip(places.tolist(), chosen.tolist(), strict=True))
    return [found.get(k, min(k, len(estimates) - 1)) for k in range(len(references))]


Loader: TypeAlias = Callable[[str], Clips]
"""Gives a mixture's audio by its id."""


@dataclass(frozen=True)
class ClipFiles:
    """Where the audio of one mixture lies: its own file, one per source, and by system one per estimate."""

    mixture: Path
    references: tuple[Path, ...]
    estimates: Mapping[str, tuple[Path, ...]]


@dataclass(frozen=True)
class FileLoader:
    """A Loader that reads files; it knows which mixtures it has.

    Recordings are cut, or continued with silence, to the length of their mixture. A system of which a recording is missing,
    damaged, at another sample rate or has several channels is left out of that mixture's clips.
    """

    files: Mapping[str, ClipFiles]

    def __call__(self, mixture_id: str) -> Clips:
        """Read a mixture's audio.

        Raises:
            AudioError: the mixture or a reference cannot be read.
        """
        found = self.files[mixture_id]
        mixture, sample_rate = files.read_audio(found.mixture)
        references = np.stack([_at_length(files.read_audio(path)[0], len(mixture)) for path in found.references])
        estimates = {name: _usable(paths, sample_rate, len(mixture)) for name, paths in found.estimates.items()}
        return Clips(sample_rate, mixture, references, {name: samples for name, samples in estimates.items() if len(samples)})


def _usable(paths: tuple[Path, ...], sample_rate: int, length: int) -> Samples:
    """The recordings ``[estimate, time]``; no row if any of them cannot be played beside the mixture."""
    try:
        found = [files.read_audio(path) for path in paths]
    except AudioError:
        return np.empty((0, length))
    same = all(rate == sample_rate for _, rate in found)
    return np.stack([_at_length(samples, length) for samples, _ in found]) if found and same else np.empty((0, length))


def _at_length(samples: Samples, length: int) -> Samples:
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def clip_loader(dataset_dir: Path, mixtures: pd.DataFrame, estimates: Mapping[str, Path]) -> FileLoader:
    """Loads the audio of a dataset's mixtures.

    Args:
        dataset_dir: the folder that paths in ``mixtures`` are relative to.
        mixtures: rows of ``tables.MIXTURES``, mixture ids unique.
        estimates: by system, the folder that holds ``s1/MIXTURE_ID.wav``, ``s2/…``.
    """
    return FileLoader({str(row["mixture_id"]): _files_of(row, dataset_dir, estimates) for row in mixtures.to_dict("records")})


def _files_of(row: Mapping[Any, Any], dataset_dir: Path, estimates: Mapping[str, Path]) -> ClipFiles:
    numbers = range(1, int(row["num_sources"]) + 1)
    references = tuple(dataset_dir / str(row[f"source_{number}_path"]) for number in numbers)
    made = {
        system: tuple(folder / f"s{number}" / f"{row['mixture_id']}.wav" for number in numbers)
        for system, folder in estimates.items()
    }
    return ClipFiles(dataset_dir / str(row["mixture_path"]), references, made)


# ---------------------------------------------------------------------------------------------------------------- choice
MAX_MIXTURES = 60
"""At most this many are read for figures that need the audio of the whole test set."""


def with_audio(means: pd.DataFrame, load: Loader | None) -> pd.DataFrame:
    """The rows of mixtures that every system has a score for and that can be played."""
    valid = means.dropna()
    if load is None:
        return valid.iloc[:0]
    return valid[valid.index.isin(list(load.files))] if isinstance(load, FileLoader) else valid


def evenly_picked(means: pd.DataFrame, load: Loader | None) -> list[str]:
    """At most 60 of the mixtures of ``with_audio``, evenly picked in the order of their ids."""
    valid = with_audio(means, load).index
    if not len(valid):
        return []
    return [str(valid[place]) for place in sorted(set(np.linspace(0, len(valid) - 1, MAX_MIXTURES).astype(int)))]
