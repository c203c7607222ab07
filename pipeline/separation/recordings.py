"""Anybody's recordings separated: files and folders of any names, rates and channels, each by itself.

A recording that cannot be separated does not stop the others: what is wrong with it comes back in its place.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.audio.files import read_audio, write_audio
from pipeline.audio.headers import read_header
from pipeline.audio.resampling import resample
from pipeline.compute.progress import progress_bar
from pipeline.errors import AudioError
from pipeline.models import Network
from pipeline.separation.offline import Estimates, separate

ENDINGS = frozenset((".wav", ".flac", ".ogg", ".mp3", ".wv1", ".sph", ".aiff", ".aif", ".au", ".opus"))
"""Of the files that are looked for in folders; files that are named may have any ending."""


@dataclass(frozen=True)
class Separated:
    """What came of one recording."""

    recording: Path
    estimates: tuple[Path, ...] = ()
    problem: str = ""
    """Why there are no estimates, with the recording's name; empty where there are."""


def separate_files(
    model: Network,
    inputs: Sequence[Path],
    out: Path,
    *,
    channel: int | None = None,
    convert_rate: bool = False,
    description: str = "",
) -> Iterator[Separated]:
    """Separate recordings into ``out/NAME_s1.wav``, ``out/NAME_s2.wav``, …, 32-bit float wav at the recording's own rate.

    Args:
        model: a trained network.
        inputs: files, and folders whose audio files are separated, those of their subfolders included.
        out: folder of the estimates; what lies in it is never an input.
        channel: of recordings with several (0 is the first); without it they are not separated.
        convert_rate: resample recordings to the model's rate, and their estimates back; otherwise those at other rates are not
            separated.
        description: names the progress bar; empty for none.

    Yields:
        What came of every recording, in order, once it is written.

    Raises:
        AudioError: a folder holds no audio.
        WorkError: the estimates cannot be written.
    """
    names = name_recordings(inputs, out)
    with progress_bar(description if len(names) > 1 else "", len(names)) as advance:
        for path, name in names.items():
            try:
                estimates, sample_rate = _separate(model, path, channel, convert_rate)
            except AudioError as error:
                yield Separated(path, problem=str(error))
            else:
                targets = tuple(out / f"{name}_s{k}.wav" for k in range(1, len(estimates) + 1))
                for target, estimate in zip(targets, estimates, strict=True):
                    write_audio(target, estimate, sample_rate, encoding="float32")
                yield Separated(path, targets)
            advance(1)


def _separate(model: Network, path: Path, channel: int | None, convert_rate: bool) -> tuple[Estimates, int]:
    """Estimates [source, time] as long as the recording and at its rate in Hz."""
    header = read_header(path, check_end=True)
    if header.num_channels > 1 and channel is None:
        raise AudioError(f"{path}: has {header.num_channels} channels; choose one with --channel 0 (the first)")
    if header.sample_rate != model.sample_rate and not convert_rate:
        raise AudioError(
            f"{path}: is at {header.sample_rate} Hz and the model at {model.sample_rate} Hz; --resample converts it, and the "
            "estimates back"
        )
    samples, rate = read_audio(path, channel=channel if header.num_channels > 1 else None)
    try:
        estimates = separate(model, resample(samples, rate, model.sample_rate), sample_rate=model.sample_rate)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from None
    if rate != model.sample_rate:
        estimates = np.stack([resample(estimate, model.sample_rate, rate) for estimate in estimates])
    return estimates[:, : len(samples)], rate


# ----------------------------------------------------------------------------------------------------------------- names
def name_recordings(inputs: Sequence[Path], out: Path) -> dict[Path, str]:
    """Every recording once, and what its estimates are called, ``/`` for subfolders.

    A file has its own name without the ending, one found in a folder its path from that folder on. Where two would be called
    alike, both get the folders that tell them apart, and where these do not, the ending.

    Args:
        inputs: files and folders.
        out: folder of the estimates; what lies in it is left out.

    Raises:
        AudioError: a folder holds no audio.
    """
    short: dict[Path, str] = {}
    for given in inputs:
        found = _recordings_in(given, out) if given.is_dir() else [given]
        for path in found:
            inside = path.relative_to(given) if given.is_dir() else Path(path.name)
            short.setdefault(path, inside.with_suffix("").as_posix())
    whole = _without_common_folder(list(short))
    endings = {path: f"{name}-{path.suffix.removeprefix('.')}" for path, name in whole.items()}
    return _distinct(_distinct(short, whole), endings)


def _recordings_in(folder: Path, out: Path) -> list[Path]:
    estimates = out.resolve()
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in ENDINGS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
        and estimates not in path.resolve().parents
    ]
    if not found:
        raise AudioError(f"{folder}: holds no audio files ({', '.join(sorted(ENDINGS))})")
    return found


def _without_common_folder(paths: Sequence[Path]) -> dict[Path, str]:
    """The paths, without their endings, from the folder on that all of them share."""
    parents = [os.path.dirname(os.path.abspath(path)) for path in paths]  # noqa: PTH100, PTH120 - links stay as they are
    top = os.path.commonpath(parents) if parents else ""
    return {path: Path(os.path.relpath(path, top)).with_suffix("").as_posix() for path in paths}


def _distinct(names: Mapping[Path, str], longer: Mapping[Path, str]) -> dict[Path, str]:
    """The names; of those that several paths share, in any case of the letters, the longer ones."""
    counts = Counter(name.casefold() for name in names.values())
    return {path: name if counts[name.casefold()] == 1 else longer[path] for path, name in names.items()}
