"""Anybody's recordings separated: files and folders of any names, rates and channels, each by itself.

A recording that cannot be separated does not stop the others: what is wrong with it comes back in its place.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from pipeline.audio.files import read_audio, write_audio
from pipeline.audio.headers import AudioHeader, read_header
from pipeline.audio.resampling import resampled_length
from pipeline.compute.progress import Advance, progress_bar
from pipeline.errors import AudioError
from pipeline.models import Network
from pipeline.separation.long_files import Limits, LongFile, Method, choose_method, separate_long, why
from pipeline.separation.offline import Estimates, separate
from pipeline.separation.records import Records, facts_of, model_digest
from pipeline.separation.resampling import RESAMPLER, resample
from pipeline.separation.streaming import stream

logger = logging.getLogger(__name__)

ENDINGS = frozenset((".wav", ".flac", ".ogg", ".mp3", ".wv1", ".sph", ".aiff", ".aif", ".au", ".opus"))
"""Of the files that are looked for in folders; files that are named may have any ending."""
SHORT_SECONDS = 60.0
"""A single recording of no more needs no progress bar."""
Channel = int | Literal["each"] | None
"""Of recordings with several channels: which one (0 is the first), each by itself, or none of them."""
ROUNDING = 1e-6
"""Seconds: sums of parts may fall short of a whole number by so much."""


@dataclass(frozen=True)
class Separated:
    """What came of one recording."""

    recording: Path
    estimates: tuple[Path, ...] = ()
    problem: str = ""
    """Why there are no estimates, with the recording's name; empty where there are."""
    method: Method | None = None
    """How it was separated; see :mod:`pipeline.separation.long_files`."""


def separate_files(
    model: Network,
    inputs: Sequence[Path],
    out: Path,
    *,
    channel: Channel = None,
    convert_rate: bool = False,
    limits: Limits | None = None,
    forget_seconds: float | None = None,
    scratch: Path | None = None,
    description: str = "",
) -> Iterator[Separated]:
    """Separate recordings into ``out/NAME_s1.wav``, ``out/NAME_s2.wav``, …, 32-bit float wav at the recording's own rate.

    Recordings of any length: those whose activations exceed ``limits.max_memory_gb`` go through in blocks. How each was separated
    is written to ``out/separated.jsonl``; a recording that was separated in the same way before is not separated again.

    Args:
        model: a trained network.
        inputs: files, and folders whose audio files are separated, those of their subfolders included.
        out: folder of the estimates; what lies in it is never an input.
        channel: of recordings with several (0 is the first), or ``each``, for ``out/NAME_ch0_s1.wav``, …; without it they are
            not separated.
        convert_rate: resample recordings to the model's rate, and their estimates back; otherwise those at other rates are not
            separated.
        limits: of memory and disk.
        forget_seconds: stream every recording, and let cumulative norms forget; see
            :func:`pipeline.separation.streaming.stream`.
        scratch: folder for the intermediate results of long recordings, by default ``out``; they are gone when it is done.
        description: names the progress bar, which counts seconds of audio; empty for none.

    Yields:
        What came of every recording, in order, once it is written.

    Raises:
        AudioError: a folder holds no audio.
        ModelError: ``forget_seconds`` is given and the network has nothing to forget, or is not causal.
        WorkError: the estimates cannot be written.
    """
    names = name_recordings(inputs, out)
    taken = {name.casefold(): path for path, name in names.items()}
    separator = _Separator(model, out, taken, channel, convert_rate, limits or Limits(), forget_seconds, scratch or out)
    yield from _in_order(separator, names, description)


def _in_order(separator: _Separator, names: Mapping[Path, str], description: str) -> Iterator[Separated]:
    """Separate one recording after another, under a bar of seconds."""
    headers = {path: _header(path) for path in names}
    total = sum(map(_seconds, headers.values()))
    is_shown = len(names) > 1 or total > SHORT_SECONDS
    with progress_bar(description if is_shown else "", math.floor(total + ROUNDING)) as advance:
        progress = _Progress(advance)
        for path, name in names.items():
            with progress.part(_seconds(headers[path])) as share_done:
                done = separator.separate(path, headers[path], name, share_done)
            yield done


def _header(path: Path) -> AudioHeader | AudioError:
    try:
        return read_header(path, check_end=True)
    except AudioError as error:
        return error


def _seconds(header: AudioHeader | AudioError) -> float:
    return 0.0 if isinstance(header, AudioError) else header.num_samples / header.sample_rate


class _Progress:
    """Advances a bar of whole steps by parts of them."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._done, self._shown = 0.0, 0

    @contextmanager
    def part(self, steps: float) -> Iterator[Callable[[float], None]]:
        """A part of the work; yields what takes the shares of it that are done, and by the end all of it is."""
        start = self._done
        yield lambda share: self._to(self._done + share * steps)
        self._to(start + steps)

    def _to(self, done: float) -> None:
        self._done = done
        steps = max(0, math.floor(done + ROUNDING) - self._shown)
        self._shown += steps
        self._advance(steps)


@dataclass
class _Separator:
    """One recording after another, with the same options."""

    model: Network
    out: Path
    taken: Mapping[str, Path]
    """The recordings by their names in lower case."""
    channel: Channel
    convert_rate: bool
    limits: Limits
    forget_seconds: float | None
    scratch: Path

    def __post_init__(self) -> None:
        if self.forget_seconds is not None:
            stream(self.model, forget_seconds=self.forget_seconds)  # says what keeps it from that
            logger.info("all are streamed, with cumulative statistics that fall to 1/e after %g s", self.forget_seconds)
        self.digest = model_digest(self.model)
        self.records = Records(self.out)

    def separate(self, path: Path, header: AudioHeader | AudioError, name: str, advance: Callable[[float], None]) -> Separated:
        """All that is asked for of one recording; ``advance`` takes the shares of it that have been done."""
        try:
            planned = self._planned(path, header, name)
            estimates: list[Path] = []
            for long, part in planned:
                estimates += self._separate_part(long, part, lambda share: advance(share / len(planned)))
        except AudioError as error:
            return Separated(path, problem=str(error))
        return Separated(path, tuple(estimates), method=planned[0][0].method)

    def _separate_part(self, long: LongFile, name: str, advance: Callable[[float], None]) -> tuple[Path, ...]:
        """One channel of a recording, unless that was done before; returns where its estimates are."""
        targets = tuple(self.out / f"{name}_s{k}.wav" for k in range(1, self.model.num_sources + 1))
        record = facts_of(long.path, name, targets, self.out) | self._how(long)
        if record not in self.records:
            started = time.monotonic()
            self._write(long, targets, advance)
            self.records.add(record, time.monotonic() - started)
        return targets

    def _planned(self, path: Path, header: AudioHeader | AudioError, name: str) -> list[tuple[LongFile, str]]:
        """What to read of a recording, how to separate it, and what its estimates are called; a part for every channel."""
        if isinstance(header, AudioError):
            raise header
        rate = self.model.sample_rate
        if header.num_channels > 1 and self.channel is None:
            choose = "choose one with --channel 0 (the first), or --channel each"
            raise AudioError(f"{path}: has {header.num_channels} channels; {choose}")
        if header.sample_rate != rate and not self.convert_rate:
            raise AudioError(
                f"{path}: is at {header.sample_rate} Hz and the model at {rate} Hz; --resample converts it, and the "
                "estimates back"
            )
        num_samples = resampled_length(header.num_samples, header.sample_rate, rate)
        method = choose_method(self.model, num_samples, self.limits, self.scratch, self.forget_seconds)
        return [
            (LongFile(path, header, channel, method, num_samples, self.scratch, self.limits, self.forget_seconds), part)
            for channel, part in self._channels(path, header, name)
        ]

    def _channels(self, path: Path, header: AudioHeader, name: str) -> list[tuple[int | None, str]]:
        """The channels to separate, and what the estimates of each are called."""
        if header.num_channels == 1:
            return [(None, name)]
        if self.channel != "each":
            return [(self.channel, name)]
        parts: list[tuple[int | None, str]] = [(channel, f"{name}_ch{channel}") for channel in range(header.num_channels)]
        for channel, part in parts:
            if other := self.taken.get(part.casefold()):
                raise AudioError(f"{path}: the estimates of channel {channel} would be called like those of {other}; rename one")
        return parts

    def _how(self, long: LongFile) -> dict[str, Any]:
        converted = {} if long.header.sample_rate == self.model.sample_rate else {"resampler": RESAMPLER}
        return converted | {
            "model": self.digest,
            "method": long.method,
            "forget_seconds": self.forget_seconds,
            "channel": long.channel,
            "num_samples": long.header.num_samples,
            "sample_rate": long.header.sample_rate,
        }

    def _write(self, long: LongFile, targets: Sequence[Path], advance: Callable[[float], None]) -> None:
        if long.method != "whole":
            if long.forget_seconds is None:
                logger.info(why(self.model, long))
            separate_long(self.model, long, targets, advance)
            return
        for target, estimate in zip(targets, _estimates(self.model, long), strict=True):
            write_audio(target, estimate, long.header.sample_rate, encoding="float32")


def _estimates(model: Network, recording: LongFile) -> Estimates:
    """Estimates [source, time] as long as the recording and at its rate."""
    samples, rate = read_audio(recording.path, channel=recording.channel, dtype="float32")
    device = next(model.parameters()).device
    mixture = resample(torch.from_numpy(samples).to(device), rate, model.sample_rate)
    try:
        estimates = separate(model, mixture.cpu().numpy(), sample_rate=model.sample_rate)
    except AudioError as error:
        raise AudioError(f"{recording.path}: {error}") from None
    converted: Estimates = resample(torch.from_numpy(estimates).to(device), model.sample_rate, rate).cpu().numpy()
    return converted[:, : len(samples)]


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
        and (path.is_file() or (path.is_symlink() and not path.exists()))  # a broken link is named, not passed over
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
