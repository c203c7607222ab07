"""What all renderers share: their inputs and outputs, the memory of utterances, the rows of the tables of mixtures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.audio.files import read_audio
from pipeline.audio.levels import LevelRule, level_db
from pipeline.audio.resampling import resample
from pipeline.errors import AudioError
from pipeline.mixtures.plans.planned import PlannedMixture, PlannedSource
from pipeline.recipe.schema import Mix, Variant

MIXTURES_FILE = "mixtures.csv"
SILENT = "is silent, so no gain brings it to a level; remove it from the corpus"
CACHE_BYTES = 128 * 2**20

Array = npt.NDArray[Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """Where a rendering reads from, and what it shall make."""

    corpus_root: Path
    noise_root: Path | None
    channel: int | None
    mix: Mix


@dataclass(frozen=True)
class AudioFile:
    """Samples as they are stored, and the place they go to."""

    path: str
    """Relative to the dataset."""
    samples: Array
    """[time], int16 or float32."""
    sample_rate: int


@dataclass(frozen=True)
class Rendered:
    """All that one mixture leaves behind."""

    files: list[AudioFile] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    """A row for each table, by the table's path relative to the dataset."""


class Renderer(Protocol):
    """Makes the files of one mixture after another."""

    def render(self, mixture: PlannedMixture) -> Rendered:
        """Every variant of one mixture.

        Raises:
            AudioError: an utterance is damaged or silent.
        """


# ---------------------------------------------------------------------------------------------------------------- voices
@dataclass(frozen=True)
class Voice:
    """An utterance at every sample rate asked for."""

    signals: Mapping[int, Array]
    """[time], by sample rate in Hz."""
    level: float = 0.0
    """dB, LUFS or power, as the renderer measures it."""
    peak: float = 0.0

    @property
    def num_bytes(self) -> int:
        """Memory it takes."""
        return sum(signal.nbytes for signal in self.signals.values())


class Voices:
    """Remembers the voices used last, as many as fit into a fixed share of memory, and the levels of all."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._voices: OrderedDict[str, Voice] = OrderedDict()
        self._levels: dict[str, float] = {}
        self._max_bytes = max_bytes
        self._num_bytes = 0

    def get(
        self, path: str, make: Callable[[float | None], Voice], suffices: Callable[[Voice], bool] = lambda voice: True
    ) -> Voice:
        """The voice of a path; if it is not remembered, or does not suffice, it is made, from the level if that is known."""
        if path in self._voices and not suffices(self._voices[path]):
            self._num_bytes -= self._voices.pop(path).num_bytes
        if path not in self._voices:
            self._voices[path] = make(self._levels.get(path))
            self._levels[path] = self._voices[path].level
            self._num_bytes += self._voices[path].num_bytes
        self._voices.move_to_end(path)
        while self._num_bytes > self._max_bytes and len(self._voices) > 1:
            self._num_bytes -= self._voices.popitem(last=False)[1].num_bytes
        return self._voices[path]


def voice_of(voices: Voices, path: str, rule: LevelRule, inputs: Inputs) -> Voice:
    """A voice as drawn mixtures use it, at every rate of the recipe: remembered, or read by :func:`read_voice`."""
    rates = [variant.sample_rate for variant in inputs.mix.variants]
    return voices.get(path, partial(read_voice, inputs.corpus_root / path, rates, rule, inputs.channel))


def read_voice(
    path: Path, sample_rates: Iterable[int], rule: LevelRule, channel: int | None, known_level: float | None = None
) -> Voice:
    """An utterance as drawn mixtures use it: resampled in double precision, kept as float32, measured over the whole of it.

    Args:
        path: of the file.
        sample_rates: Hz; the level is measured at the first of them.
        rule: how to measure.
        channel: of files with several.
        known_level: spares measuring it again.

    Raises:
        AudioError: the file cannot be decoded, or is silent.
    """
    samples, own_rate = read_audio(path, channel=channel)
    signals = {rate: resample(samples, own_rate, rate).astype(np.float32) for rate in dict.fromkeys(sample_rates)}
    rate, measured = next(iter(signals.items()))
    level = level_db(measured, rate, rule) if known_level is None else known_level
    if not np.isfinite(level):
        raise AudioError(f"{path}: {SILENT}")
    return Voice(signals, level, peak=float(np.abs(measured).max()))


# ---------------------------------------------------------------------------------------------------------------- tables
def table_of(variant: Variant, mix: Mix) -> str:
    """``mixtures.csv`` for what systems are trained on, ``mixtures-wav16k-max.csv`` for a further variant."""
    return MIXTURES_FILE if variant == mix.variants[0] else f"mixtures-{variant.name.replace('/', '-')}.csv"


def mixture_cells(mixture: PlannedMixture, variant: Variant, *, num_samples: int, scale: float, path: str) -> Row:
    """A mixture's own cells in a table of mixtures: see ``tables.MIXTURES``."""
    overlap = {} if mixture.overlap is None else {"overlap": mixture.overlap}
    return {
        "mixture_id": mixture.mixture_id,
        "split": mixture.split,
        "sample_rate": variant.sample_rate,
        "mode": variant.mode,
        "num_samples": num_samples,
        "num_sources": len(mixture.sources),
        "scale": scale,
        "mixture_path": path,
        **overlap,
    }


def source_cells(mixture: PlannedMixture, source: PlannedSource, path: str, gain: float) -> Row:
    """A source's cells in a table of mixtures."""
    prefix = f"source_{source.name.removeprefix('s')}"
    start = {} if mixture.overlap is None else {f"{prefix}_start_seconds": source.start_seconds}
    return {
        f"{prefix}_path": path,
        f"{prefix}_utterance_id": source.utterance_id,
        f"{prefix}_speaker_id": source.speaker_id,
        f"{prefix}_sex": source.sex,
        f"{prefix}_gain": gain,
        **start,
    }


def suffix(mix: Mix) -> str:
    """The file names' ending."""
    return ".flac" if mix.encoding == "flac" else ".wav"
