"""Datasets and utterances packed into shards, for the training to read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.audio.files import Encoding, dequantise, quantise, read_audio
from pipeline.audio.levels import LevelRule, loudness
from pipeline.compute.workers import chunked, map_parallel
from pipeline.corpora.manifests import is_noise
from pipeline.errors import AudioError, PlanError
from pipeline.mixtures.plans.build import ADAPTERS
from pipeline.mixtures.plans.planned import PlannedMixture, planned_mixtures
from pipeline.mixtures.renderers.base import MIXTURES_FILE, SILENT, Array, Inputs, Rendered, read_utterance
from pipeline.mixtures.shards import Signal, write_shard
from pipeline.recipe.schema import Mix

VERSION = 1
"""Raise it when the same mixtures or utterances would be packed as other samples or facts."""

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
        dataset_dir: the folder with ``mixtures.csv``.
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
        raise no_mixtures(split)
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


def pack_planned(
    plan: pd.DataFrame,
    manifest: pd.DataFrame,
    inputs: Inputs,
    split: str,
    path: Path,
    *,
    num_workers: int | None = None,
) -> None:
    """Pack the mixtures of a split straight from the plan, bit for bit as :func:`pack_mixtures` would from rendered files.

    Args:
        plan: see ``tables.PLAN``.
        manifest: see ``tables.MANIFEST``, with every utterance of the split.
        inputs: where the corpora are; the first of its rates, modes and types is packed.
        split: train, valid or test.
        path: of the shard.
        num_workers: processes.

    Raises:
        PlanError: the plan has no mixtures of the split, or does not belong to the manifest.
        AudioError: a file is missing, damaged or silent.
    """
    here = plan[plan["split"] == split]
    if here.empty:
        raise no_mixtures(split)
    inputs = replace(inputs, mix=inputs.mix.model_copy(update={"also": []}))
    mixtures = planned_mixtures(here, manifest, with_noise=inputs.mix.with_noise)
    chunks = map_parallel(
        partial(_render_planned, inputs),
        chunked(mixtures, _CHUNK, seconds=attrgetter("seconds")),
        num_workers=num_workers,
        description=f"pack {split}",
        size=len,
    )
    dtype = np.float32 if inputs.mix.encoding == "float32" else np.int16
    write_shard(path, _flat(chunks), sample_rate=inputs.mix.sample_rate, dtype=dtype)


def _render_planned(inputs: Inputs, mixtures: Sequence[PlannedMixture]) -> list[Signal]:
    renderer = ADAPTERS[inputs.kind].renderer(inputs)
    as_packed = dequantise if inputs.mix.encoding == "float32" else quantise
    return [_packed(renderer.render(mixture), mixture.mixture_id, as_packed) for mixture in mixtures]


def _packed(rendered: Rendered, mixture_id: str, as_packed: Callable[[Array], Array]) -> Signal:
    """The mixture and its sources as the table of mixtures names them."""
    row = rendered.rows[MIXTURES_FILE]
    samples = {file.path: as_packed(file.samples) for file in rendered.files}
    columns = ["mixture_path", *(f"source_{k}_path" for k in range(1, row["num_sources"] + 1))]
    return Signal(mixture_id, np.stack([samples[row[column]] for column in columns]))


def no_mixtures(split: str) -> PlanError:
    """The error of a split that nothing was planned or rendered for."""
    return PlanError(f"split {split}: has no mixtures to pack; add it to plan.num_mixtures, plan.splits and mix.splits")


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
    with_loudness: bool = False,
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
        with_loudness: also store each utterance's loudness [LUFS] as ``lufs``, which noise is levelled against.
        num_workers: processes.

    Raises:
        AudioError: a file is missing, damaged or silent.
    """
    here = packed_utterances(manifest, split, min_seconds)
    read = partial(_read_utterances, Path(corpus_root), mix.sample_rate, level, channel, with_loudness)
    _pack_files(here, read, path, mix.sample_rate, f"pack {split} utterances", num_workers)


def packed_utterances(manifest: pd.DataFrame, split: str, min_seconds: float) -> pd.DataFrame:
    """The utterances of a split that :func:`pack_utterances` packs: those that are long enough."""
    long_enough = manifest["num_samples"] >= min_seconds * manifest["sample_rate"]
    return manifest[(manifest["split"] == split) & long_enough & ~is_noise(manifest)]


def pack_noise(
    manifest: pd.DataFrame, noise_root: Path, split: str, mix: Mix, path: Path, *, num_workers: int | None = None
) -> None:
    """Pack the noise clips of a split, resampled, with their loudness [LUFS] as ``level_db`` and their peak.

    Args:
        manifest: of speech and noise; noise is what has no speaker.
        noise_root: what its paths are relative to.
        split: train, valid or test.
        mix: its sample rate.
        path: of the shard.
        num_workers: processes.

    Raises:
        PlanError: the split has no noise.
        AudioError: a file is missing, damaged or silent.
    """
    here = manifest[(manifest["split"] == split) & is_noise(manifest)]
    here = here[here["speed"] == 1] if "speed" in here else here  # dynamic mixing has speeds of its own
    if here.empty:
        raise PlanError(f"split {split}: there is no noise for it; add some or ask for mix.types = ['mix_clean'] alone")
    read = partial(_read_utterances, Path(noise_root), mix.sample_rate, "loudness", 0, False)
    _pack_files(here, read, path, mix.sample_rate, f"pack {split} noise", num_workers)


_Files = Sequence[tuple[str, str]]
"""Name and path of each."""


def _pack_files(
    files: pd.DataFrame,
    read: Callable[[_Files], list[Signal]],
    path: Path,
    sample_rate: int,
    description: str,
    num_workers: int | None,
) -> None:
    rows = list(files[["utterance_id", "path"]].itertuples(index=False, name=None))
    chunks = map_parallel(read, chunked(rows, _CHUNK), num_workers=num_workers, description=description, size=len)
    write_shard(path, _flat(chunks), sample_rate=sample_rate, dtype=np.float32)


def _read_utterances(
    root: Path, sample_rate: int, rule: LevelRule, channel: int | None, with_loudness: bool, rows: _Files
) -> list[Signal]:
    return [_read_utterance(name, root / path, sample_rate, rule, channel, with_loudness) for name, path in rows]


def _read_utterance(name: str, path: Path, sample_rate: int, rule: LevelRule, channel: int | None, with_loudness: bool) -> Signal:
    utterance = read_utterance(path, [sample_rate], rule, channel)
    samples = utterance.signals[sample_rate]
    facts = {"level_db": utterance.level, "peak": utterance.peak}
    if with_loudness:
        facts["lufs"] = loudness(samples, sample_rate)
        if not np.isfinite(facts["lufs"]):
            raise AudioError(f"{path}: {SILENT}")
    return Signal(name, samples[np.newaxis], facts)


def _flat(chunks: Iterable[Sequence[Signal]]) -> Iterator[Signal]:
    for chunk in chunks:
        yield from chunk
