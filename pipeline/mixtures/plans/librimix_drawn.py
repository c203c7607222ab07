"""New LibriMix mixtures of any corpus, by the rules that the published metadata were made by.

Utterances are drawn without replacement, in one round for training and in as many as needed for the other splits; loudness is
U(-33, -25) LUFS for speech and U(-38, -30) for noise; where the sum would exceed 0.9, all gains of a mixture are lowered alike.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.audio.files import read_audio
from pipeline.audio.levels import loudness
from pipeline.audio.mixing import PEAK, Signal, Utterance, extended, fit_lengths, mix_at_levels, source_gain
from pipeline.audio.resampling import resample
from pipeline.compute.workers import chunked, map_parallel
from pipeline.errors import AudioError, PlanError
from pipeline.mixtures.dynamic import SpeechCuts, uniform
from pipeline.mixtures.plans.drawn import LOUDNESS_LUFS, safe_name, unique_id
from pipeline.mixtures.plans.librimix_lists import RULE
from pipeline.mixtures.plans.overlap import begin_order, begin_times, ratio_for
from pipeline.mixtures.plans.planned import NOISE
from pipeline.mixtures.renderers.base import SILENT
from pipeline.recipe.schema import LibriMixPlan
from pipeline.tables import PLAN

FOLDERS = {"train": "train", "valid": "dev", "test": "test"}
"""What the published tree's folders are called, where no LibriSpeech subset names them."""
NOISE_LUFS = (-38.0, -30.0)
_CHUNK = 16
_MAX_ROUNDS = 200

logger = logging.getLogger("pipeline")


@dataclass(frozen=True)
class File:
    """A file to mix: a row of a manifest."""

    utterance_id: str
    speaker_id: str
    path: str
    sample_rate: int
    num_samples: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.num_samples / self.sample_rate


@dataclass(frozen=True)
class Combination:
    """Files that will be mixed."""

    mixture_id: str
    split: str
    sources: tuple[File, ...]
    begins_seconds: tuple[float, ...]
    """When each source begins."""
    overlap: float
    noise: File | None = None

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return max(begin + file.seconds for begin, file in zip(self.begins_seconds, self.sources, strict=True))


@dataclass(frozen=True)
class Reading:
    """Where the files are, and the seed of their levels."""

    corpus_root: Path
    noise_root: Path | None
    channel: int | None
    seed: int


def draw_lists(
    manifest: pd.DataFrame,
    plan: LibriMixPlan,
    reading: Reading,
    *,
    noises: pd.DataFrame | None = None,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """Draw combinations, measure every file in them, and compute the gains they are mixed at.

    Args:
        manifest: of the speech, see ``tables.MANIFEST``.
        plan: number of sources and mixtures, splits, limit, shortest utterance.
        reading: where the files are.
        noises: of the noise, with the same columns; without it all mixtures are clean.
        num_workers: processes.

    Returns:
        A plan of linear gains (``tables.PLAN`` and ``subset``), as ``librimix.read_lists`` would read of published metadata.

    Raises:
        PlanError: a split has fewer speakers than a mixture needs, or no noise.
        AudioError: a file is damaged or silent.
    """
    combinations = [
        combination
        for split in plan.splits
        for combination in combine(manifest, plan, split=split, seed=reading.seed, noises=noises)[: plan.limit]
    ]
    gains_of = partial(_all_gains, reading)
    chunks = map_parallel(
        gains_of, chunked(combinations, _CHUNK), num_workers=num_workers, description="measure loudness", size=len
    )
    outcomes = [each for chunk in chunks for each in chunk]
    if findings := sorted({str(outcome) for outcome in outcomes if isinstance(outcome, AudioError)}):
        raise AudioError("\n".join(findings))
    gains = [outcome for outcome in outcomes if not isinstance(outcome, AudioError)]
    rows = [row for pair in zip(combinations, gains, strict=True) for row in _plan_rows(*pair)]
    return pd.DataFrame(rows, columns=[*PLAN.required(), *(["overlap"] if plan.is_partial else []), "subset"])


# -------------------------------------------------------------------------------------------------------- who meets whom
def combine(
    manifest: pd.DataFrame, plan: LibriMixPlan, *, split: str, seed: int, noises: pd.DataFrame | None = None
) -> list[Combination]:
    """Draw the combinations of one split: speakers differ within each, and no two have the same utterances.

    For training every utterance is used at most once, so there may be fewer than the plan asks for, as in LibriMix; a log line
    says so.

    Raises:
        PlanError: the split has fewer speakers than a mixture needs, or fewer combinations than the plan asks for, or noise is
            given but none for the split.
    """
    speech = _files(manifest, split, plan.min_seconds)
    if len({file.speaker_id for file in speech}) < plan.num_sources:
        raise PlanError(
            f"split {split}: mixtures of {plan.num_sources} speakers need that many with an utterance of at least "
            f"{plan.min_seconds:g} s; there are {len({file.speaker_id for file in speech})}"
        )
    asked = plan.num_mixtures[split]  # type: ignore[index]  # a plain str from plan.splits
    groups = _groups(speech, plan.num_sources, asked, split=split, seed=seed)
    if len(groups) < asked and split != "train":
        raise PlanError(f"split {split}: its {len(speech)} utterances make only {len(groups)} mixtures; lower plan.num_mixtures")
    if len(groups) < asked:
        logger.info("split train: using every utterance once gives %d mixtures instead of %d", len(groups), asked)
    combinations = _named(groups, plan.overlap, split=split, seed=seed)
    return _with_noises(combinations, noises, split=split, seed=seed) if noises is not None else combinations


def _named(groups: Sequence[tuple[File, ...]], ratios: Sequence[float], *, split: str, seed: int) -> list[Combination]:
    """Name the groups, and say when each of their sources begins."""
    taken: set[str] = set()
    combinations = []
    for index, group in enumerate(groups):
        name = unique_id(safe_name("_".join(file.utterance_id for file in group)), taken)
        ratio = ratio_for(ratios, index)
        begins = begin_times([file.seconds for file in group], ratio, begin_order(len(group), f"{seed}/{split}/{name}/order"))
        combinations.append(Combination(name, split, group, begins, ratio))
    return combinations


def _files(manifest: pd.DataFrame, split: str, min_seconds: float) -> list[File]:
    """The files of a split that are long enough, sorted."""
    here = manifest[(manifest["split"] == split) & (manifest["num_samples"] >= min_seconds * manifest["sample_rate"])]
    columns = ["utterance_id", "speaker_id", "path", "sample_rate", "num_samples"]
    return [File(*row) for row in here.sort_values("utterance_id")[columns].itertuples(index=False, name=None)]


def _groups(speech: Sequence[File], size: int, number: int, *, split: str, seed: int) -> list[tuple[File, ...]]:
    """Groups of different speakers, drawn round by round; one round for training."""
    groups: dict[frozenset[str], tuple[File, ...]] = {}
    for round_number in range(1 if split == "train" else _MAX_ROUNDS):
        order = list(speech)
        random.Random(f"{seed}/{split}/{round_number}/deal").shuffle(order)
        for group in _one_round(order, size):
            groups.setdefault(frozenset(file.utterance_id for file in group), group)
        if len(groups) >= number:
            break
    return list(groups.values())[:number]


def _one_round(order: Sequence[File], size: int) -> list[tuple[File, ...]]:
    """Each file joins the first open group without its speaker, or opens a new one."""
    whole: list[tuple[File, ...]] = []
    open_groups: list[list[File]] = []
    for file in order:
        home = next((group for group in open_groups if all(other.speaker_id != file.speaker_id for other in group)), None)
        if home is None:
            open_groups.append([file])
            continue
        home.append(file)
        if len(home) == size:
            whole.append(tuple(home))
            open_groups.remove(home)
    return whole


def _with_noises(combinations: Sequence[Combination], noises: pd.DataFrame, *, split: str, seed: int) -> list[Combination]:
    """Add a noise to each, as long as the combination if possible; every noise is used once before any is used again."""
    stock = _files(noises, split, 0.0)
    if not stock:
        raise PlanError(f"split {split}: there is no noise for it; add some or ask for mix.types = ['mix_clean'] alone")
    noisy: list[Combination] = []
    left: list[File] = []
    for number, one in enumerate(combinations):
        left = left or _shuffled(stock, f"{seed}/{split}/{number}/noise")
        noise = next((file for file in left if file.seconds >= one.seconds), None) or max(left, key=lambda file: file.seconds)
        left.remove(noise)
        noisy.append(replace(one, noise=noise))
    return noisy


def _shuffled(files: Sequence[File], key: str) -> list[File]:
    order = list(files)
    random.Random(key).shuffle(order)
    return order


# ----------------------------------------------------------------------------------------------------------------- gains
def _all_gains(reading: Reading, combinations: Sequence[Combination]) -> list[list[float] | AudioError]:
    """The gains of each combination, or what is wrong with a file of it: all such files are named at once."""
    outcomes: list[list[float] | AudioError] = []
    for combination in combinations:
        try:
            outcomes.append(gains_of(combination, reading))
        except AudioError as error:
            outcomes.append(error)
    return outcomes


def gains_of(combination: Combination, reading: Reading) -> list[float]:
    """Compute the linear gain of every source, and of the noise if there is any, for the files as they are.

    Raises:
        AudioError: a file is damaged or silent.
    """
    keyed = random.Random(f"{reading.seed}/{combination.split}/{combination.mixture_id}/loudness")
    signals = _signals(combination, reading)
    ranges = [LOUDNESS_LUFS] * len(combination.sources) + [NOISE_LUFS] * (combination.noise is not None)
    targets = [uniform(limits, keyed) for limits in ranges]
    gains = [_gain(samples, rate, target, path) for (samples, rate, path), target in zip(signals, targets, strict=True)]
    common_rate = combination.sources[0].sample_rate
    levelled = [gain * resample(samples, rate, common_rate) for gain, (samples, rate, _) in zip(gains, signals, strict=True)]
    starts = [round(begin * common_rate) for begin in combination.begins_seconds] + [0] * (
        len(levelled) - len(combination.sources)
    )
    peak = float(np.abs(fit_lengths(levelled, "max", starts).sum(axis=0)).max())
    return [gain * min(1.0, PEAK / peak) for gain in gains]


def _signals(combination: Combination, reading: Reading) -> list[tuple[npt.NDArray[Any], int, Path]]:
    """Samples, sample rate and path of every component; noise as long as all the speech."""
    paths = [reading.corpus_root / file.path for file in combination.sources]
    signals = [(*read_audio(path, channel=reading.channel, dtype="float32"), path) for path in paths]
    if combination.noise is not None and reading.noise_root is not None:
        length = round(combination.seconds * combination.noise.sample_rate)
        path = reading.noise_root / combination.noise.path
        noise, rate = read_audio(path, channel=0, stop=length, dtype="float32")
        signals.append((extended(noise, length, rate), rate, path))
    return signals


def _gain(samples: npt.NDArray[Any], sample_rate: int, target_lufs: float, path: Path) -> float:
    measured = loudness(samples, sample_rate)
    if not np.isfinite(measured):
        raise AudioError(f"{path}: {SILENT}")
    return source_gain("loudness", target_lufs, measured, float(np.abs(samples).max()))


def _plan_rows(combination: Combination, gains: Sequence[float]) -> list[dict[str, Any]]:
    names = [f"s{number}" for number in range(1, len(combination.sources) + 1)]
    files = [*combination.sources, *([combination.noise] if combination.noise is not None else [])]
    return [
        {
            "mixture_id": combination.mixture_id,
            "split": combination.split,
            "source": name,
            "utterance_id": file.utterance_id,
            "level_rule": RULE,
            "level": gain,
            "start_seconds": begin,
            "overlap": combination.overlap,
            "subset": FOLDERS[combination.split],
        }
        for name, file, gain, begin in zip([*names, NOISE], files, gains, [*combination.begins_seconds, 0.0], strict=False)
    ]


# ------------------------------------------------------------------------------------------------------------ on the fly
def as_another_source(speech: SpeechCuts, noise: Utterance, keyed: random.Random) -> tuple[Signal, Signal]:
    """Mix on the fly: noise at U(-38, -30) LUFS, scaled together with the speech where the sum exceeds 0.9."""
    levels = [*speech.levels_db, uniform(NOISE_LUFS, keyed)]
    utterances, starts = [*speech.utterances, noise], [*speech.starts, 0]
    mixed = mix_at_levels(utterances, levels, rule=speech.rule, mode=speech.mode, starts=starts)
    return mixed.sources[:-1], mixed.sources[-1]
