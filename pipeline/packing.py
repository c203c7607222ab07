"""Datasets and utterances packed into shards, for the training to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.audio import Encoding, quantise, read_audio
from pipeline.errors import PlanError
from pipeline.levels import LevelRule
from pipeline.mixing import Utterance
from pipeline.parallel import chunked, map_parallel
from pipeline.recipe import Mix
from pipeline.renderers.shared import read_voice
from pipeline.shards import Shard, Signal, write_shard

_CHUNK = 16


def pack_mixtures(
    dataset_dir: Path,
    mixtures: pd.DataFrame,
    split: str,
    path: Path,
    *,
    encoding: Encoding = "pcm16",
    num_workers: int | None = None,
) -> None:
    """Pack the rendered mixtures of a split into one shard: [1 + source, time], the mixture first.

    Args:
        dataset_dir: where ``mixtures.csv`` lies.
        mixtures: its table.
        split: train, valid or test.
        path: of the shard.
        encoding: of the files; the shard is int16, or float32 where they are.
        num_workers: processes that decode.

    Raises:
        PlanError: the split has no mixtures.
        AudioError: a file is missing or damaged.
    """
    here = mixtures[mixtures["split"] == split]
    if here.empty:
        raise PlanError(f"split {split}: has no mixtures to pack; add it to plan.num_mixtures")
    columns = ["mixture_path", *(f"source_{k}_path" for k in range(1, int(here["num_sources"].iloc[0]) + 1))]
    rows = list(here[["mixture_id", *columns]].itertuples(index=False, name=None))
    read = partial(_read_rendered, Path(dataset_dir), encoding == "float32")
    chunks = map_parallel(read, chunked(rows, _CHUNK), num_workers=num_workers, description=f"pack {split}", size=len)
    dtype = np.float32 if encoding == "float32" else np.int16
    write_shard(path, _flat(chunks), sample_rate=int(here["sample_rate"].iloc[0]), dtype=dtype)


def _read_rendered(dataset_dir: Path, as_float: bool, rows: Sequence[tuple[str, ...]]) -> list[Signal]:
    signals = []
    for name, *paths in rows:
        samples = np.stack([read_audio(dataset_dir / path)[0] for path in paths])
        signals.append(Signal(name, samples.astype(np.float32) if as_float else quantise(samples)))
    return signals


def pack_utterances(
    manifest: pd.DataFrame,
    corpus_root: Path,
    split: str,
    mix: Mix,
    path: Path,
    *,
    level: LevelRule,
    min_seconds: float = 0.0,
    channel: int | None = None,
    num_workers: int | None = None,
) -> None:
    """Pack the utterances of a split, resampled and measured: the bank that dynamic mixing draws from.

    Args:
        manifest: see ``tables.MANIFEST``.
        corpus_root: the folder its paths start from.
        split: train, valid or test.
        mix: the sample rate is taken from it.
        path: of the shard.
        level: the plan's level rule; every utterance's level and peak stand beside it.
        min_seconds: shorter utterances are left out.
        channel: of files with several.
        num_workers: processes.

    Raises:
        AudioError: a file is missing, damaged or silent.
    """
    long_enough = manifest["num_samples"] >= min_seconds * manifest["sample_rate"]
    # Whoever has no name is noise.
    here = manifest[(manifest["split"] == split) & long_enough & (manifest["speaker_id"] != "")]
    rows = list(here[["utterance_id", "path"]].itertuples(index=False, name=None))
    read = partial(_read_utterances, Path(corpus_root), mix.sample_rate, level, channel)
    chunks = map_parallel(read, chunked(rows, _CHUNK), num_workers=num_workers, description=f"pack {split} utterances", size=len)
    write_shard(path, _flat(chunks), sample_rate=mix.sample_rate, dtype=np.float32)


def _read_utterances(
    root: Path, sample_rate: int, rule: LevelRule, channel: int | None, rows: Sequence[tuple[str, str]]
) -> list[Signal]:
    voices = [(name, read_voice(root / path, [sample_rate], rule, channel)) for name, path in rows]
    return [
        Signal(name, voice.signals[sample_rate][np.newaxis], {"level_db": voice.level, "peak": voice.peak})
        for name, voice in voices
    ]


def _flat(chunks: Iterable[Sequence[Signal]]) -> Iterator[Signal]:
    for chunk in chunks:
        yield from chunk


class UtteranceBank:
    """The utterances of a packed bank, by id.

    Args:
        path: written by :func:`pack_utterances`.

    Raises:
        DatasetError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._shard = Shard(path)
        self._index = self._shard.index_of()
        self.sample_rate = self._shard.sample_rate

    def __contains__(self, utterance_id: str) -> bool:
        return utterance_id in self._index

    def utterance(self, utterance_id: str) -> Utterance:
        """One utterance, as the renderer would read it."""
        index = self._index[utterance_id]
        facts = self._shard.facts[index]
        return Utterance(self._shard.read(index)[0], facts["level_db"], facts["peak"])
