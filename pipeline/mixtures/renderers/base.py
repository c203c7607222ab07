"""What all renderers share: their inputs and outputs, the cache of utterances, the rows of the tables of mixtures."""

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
SILENT = "is silent, so no gain gives it a level; remove it, or, if it is speech, leave it out with --set corpus.skip=silent"
CACHE_BYTES = 128 * 2**20

Array = npt.NDArray[Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """What rendering and packing read, and what they make of it."""

    kind: str
    """Of the plan: a key of ``plans.build.ADAPTERS``, which names the renderer."""
    corpus_root: Path
    """What the manifest's paths start from."""
    noise_root: Path | None
    """What the paths of noise start from; None for clean mixtures."""
    channel: int | None
    """Of speech files with several; None where there is but one."""
    mix: Mix
    """Rates, modes, types and sample format."""


@dataclass(frozen=True)
class AudioFile:
    """Samples as they are stored, and where."""

    path: str
    """Relative to the dataset; absolute where it is a finished file outside of its corpus."""
    samples: Array
    """[time], int16 or float32."""
    sample_rate: int
    is_there: bool = False
    """Whether somebody else's file holds the samples already, which is used where it is."""


@dataclass(frozen=True)
class Rendered:
    """All that one mixture writes."""

    files: list[AudioFile] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    """A row for each table, by the table's path relative to the dataset."""


class Renderer(Protocol):
    """Makes the files of one mixture after another."""

    def __init__(self, inputs: Inputs) -> None:
        """Open nothing yet."""

    def render(self, mixture: PlannedMixture) -> Rendered:
        """Every variant of one mixture.

        Raises:
            AudioError: an utterance is damaged or silent.
        """


# ------------------------------------------------------------------------------------------------------------ utterances
@dataclass(frozen=True)
class CachedUtterance:
    """An utterance at every sample rate asked for."""

    signals: Mapping[int, Array]
    """[time], by sample rate in Hz."""
    level: float = 0.0
    """dB, LUFS or power, as the renderer measures it."""
    peak: float = 0.0
    """Largest absolute sample, at the rate the level was measured at."""

    @property
    def num_bytes(self) -> int:
        """Memory it takes."""
        return sum(signal.nbytes for signal in self.signals.values())


class UtteranceCache:
    """The utterances used last, as many as fit into a fixed share of memory, and the levels of all."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._utterances: OrderedDict[str, CachedUtterance] = OrderedDict()
        self._levels: dict[str, float] = {}
        self._max_bytes = max_bytes
        self._num_bytes = 0

    def get(
        self,
        path: str,
        read: Callable[[float | None], CachedUtterance],
        suffices: Callable[[CachedUtterance], bool] = lambda utterance: True,
    ) -> CachedUtterance:
        """The utterance of a path.

        Args:
            path: of the file; what it is found by.
            read: reads the utterance if it is not in the cache; its argument is the level, if that is known already.
            suffices: whether one from the cache will do; if not, it is read again.
        """
        if path in self._utterances and not suffices(self._utterances[path]):
            self._num_bytes -= self._utterances.pop(path).num_bytes
        if path not in self._utterances:
            self._utterances[path] = read(self._levels.get(path))
            self._levels[path] = self._utterances[path].level
            self._num_bytes += self._utterances[path].num_bytes
        self._utterances.move_to_end(path)
        while self._num_bytes > self._max_bytes and len(self._utterances) > 1:
            self._num_bytes -= self._utterances.popitem(last=False)[1].num_bytes
        return self._utterances[path]


def cached_utterance(cache: UtteranceCache, path: str, rule: LevelRule, inputs: Inputs) -> CachedUtterance:
    """An utterance at every rate of the recipe, from the cache or read by :func:`read_utterance`."""
    rates = [variant.sample_rate for variant in inputs.mix.variants]
    return cache.get(path, partial(read_utterance, inputs.corpus_root / path, rates, rule, inputs.channel))


def read_utterance(
    path: Path, sample_rates: Iterable[int], rule: LevelRule, channel: int | None, known_level: float | None = None
) -> CachedUtterance:
    """Read an utterance: resampled in double precision, kept as float32, its level measured over the whole of it.

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
    return CachedUtterance(signals, level, peak=float(np.abs(measured).max()))


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


def file_ending(mix: Mix) -> str:
    """What the names of audio files end with."""
    return ".flac" if mix.encoding == "flac" else ".wav"
