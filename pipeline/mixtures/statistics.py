"""What a rendered dataset is made of, as tables: hours, speakers, sex pairs, levels, lengths and reuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.audio.files import read_audio
from pipeline.compute.workers import chunked, map_parallel
from pipeline.recipe.schema import SPLITS

MIXTURES_PER_CHUNK = 32
SNR_BIN_DB = 1.0
AMPLIFIED_DB = 45.0
"""Speech that needs more than this is below -60 dB of full scale, as faint as the noise of a recording."""
LENGTH_BIN_SECONDS = 1.0


@dataclass(frozen=True)
class DatasetStatistics:
    """Tables about a dataset, each with a column ``split``.

    Attributes:
        overview: mixtures, hours, speakers, utterances, shortest, mean and longest seconds.
        sex_pairs: how many mixtures of each combination (``F-M``; ``?`` where unknown).
        reuse: how many utterances are used how often.
        overlaps: how many mixtures overlap by each of the plan's ratios.
        lengths: histogram of the mixtures' lengths, ``from_seconds``.
        snr: histogram of every source's level against all else in its mixture, ``from_db``.
        level_difference: histogram of the loudest source's level over the softest's, ``from_db``.
    """

    overview: pd.DataFrame
    sex_pairs: pd.DataFrame
    reuse: pd.DataFrame
    overlaps: pd.DataFrame
    lengths: pd.DataFrame
    snr: pd.DataFrame
    level_difference: pd.DataFrame

    @property
    def charts(self) -> dict[str, pd.DataFrame]:
        """What ``figures.dataset_png`` draws, by the label of its axis."""
        return {
            "length, seconds": self.lengths,
            "level of a source over all else in the mixture, dB": self.snr,
            "sexes": self.sex_pairs,
            "times an utterance is used": self.reuse,
        }


def dataset_statistics(mixtures: pd.DataFrame, dataset_dir: Path, *, num_workers: int | None = None) -> DatasetStatistics:
    """Count and measure a dataset.

    Args:
        mixtures: a table of ``tables.MIXTURES``.
        dataset_dir: with the audio, which is read once for the levels.
        num_workers: processes reading it.

    Raises:
        AudioError: a file is missing or damaged.
    """
    sources = source_rows(mixtures)
    measured = measure_levels(mixtures, dataset_dir, num_workers=num_workers)
    seconds = mixtures.assign(seconds=mixtures["num_samples"] / mixtures["sample_rate"])
    return DatasetStatistics(
        overview=_overview(seconds, sources),
        sex_pairs=_sex_pairs(sources),
        reuse=_reuse(sources),
        overlaps=_counts(mixtures.assign(overlap=mixtures.get("overlap", 1.0)), "overlap", "num_mixtures"),
        lengths=_histogram(seconds, "seconds", LENGTH_BIN_SECONDS).rename(columns={"from": "from_seconds"}),
        snr=_histogram(measured, "snr_db", SNR_BIN_DB).rename(columns={"from": "from_db"}),
        level_difference=_histogram(_level_differences(measured), "level_db", SNR_BIN_DB).rename(columns={"from": "from_db"}),
    )


def source_rows(mixtures: pd.DataFrame) -> pd.DataFrame:
    """A row per source: ``split, mixture_id, source, path, utterance_id, speaker_id, sex``."""
    parts = []
    for number in range(1, int(mixtures["num_sources"].max()) + 1):
        here = mixtures[mixtures["num_sources"] >= number]
        names = {f"source_{number}_{name}": name for name in ("path", "utterance_id", "speaker_id", "sex")}
        part = here[["split", "mixture_id", *names]].rename(columns=names)
        parts.append(part.assign(source=f"s{number}"))
    return pd.concat(parts, ignore_index=True)


def amplified(mixtures: pd.DataFrame, limit_db: float = AMPLIFIED_DB) -> list[tuple[str, str, float]]:
    """Sources that were amplified so much that what sounds is the noise of the recording: mixture, source and gain in dB."""
    found = []
    for number in range(1, int(mixtures["num_sources"].max()) + 1 if len(mixtures) else 1):
        with np.errstate(divide="ignore"):  # silent sources have a gain of zero
            gains_db = 20 * np.log10(mixtures[f"source_{number}_gain"].to_numpy("float64"))
        pairs = zip(mixtures["mixture_id"], gains_db.tolist(), strict=True)
        found += [(str(mixture_id), f"s{number}", gain_db) for mixture_id, gain_db in pairs if gain_db > limit_db]
    return sorted(found)


def measure_levels(mixtures: pd.DataFrame, dataset_dir: Path, *, num_workers: int | None = None) -> pd.DataFrame:
    """A row per source: ``split, mixture_id, source``, ``level_db`` (RMS re full scale), ``snr_db`` (re the rest)."""
    chunks = chunked(mixtures.to_dict("records"), MIXTURES_PER_CHUNK)
    measured = map_parallel(
        partial(_measure_chunk, dataset_dir), chunks, num_workers=num_workers, description="measure", size=len
    )
    return pd.DataFrame([row for chunk in measured for row in chunk])


def _measure_chunk(dataset_dir: Path, rows: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    return [measured for row in rows for measured in _measure(dataset_dir, row)]


def _measure(dataset_dir: Path, row: dict[str, object]) -> list[dict[str, object]]:
    mixture, _ = read_audio(dataset_dir / str(row["mixture_path"]))
    who = {"split": row["split"], "mixture_id": row["mixture_id"]}
    measured = []
    for number in range(1, int(str(row["num_sources"])) + 1):
        source, _ = read_audio(dataset_dir / str(row[f"source_{number}_path"]))
        level_db = _power_db(float(np.mean(source**2)))
        snr_db = level_db - _power_db(float(np.mean((mixture - source) ** 2)))
        measured.append({**who, "source": f"s{number}", "level_db": level_db, "snr_db": snr_db})
    return measured


def _power_db(power: float) -> float:
    """dB, with silence at the level of the rounding of 16-bit samples."""
    return 10 * float(np.log10(max(power, 2.0**-30 / 12)))


def _overview(mixtures: pd.DataFrame, sources: pd.DataFrame) -> pd.DataFrame:
    by_split = mixtures.groupby("split", sort=False)["seconds"]
    table = pd.DataFrame(
        {
            "num_mixtures": by_split.size(),
            "hours": by_split.sum() / 3600,
            "num_speakers": sources.groupby("split")["speaker_id"].agg(lambda names: len(set(names) - {""})),
            "num_utterances": sources.groupby("split")["utterance_id"].nunique(),
            "min_seconds": by_split.min(),
            "mean_seconds": by_split.mean(),
            "max_seconds": by_split.max(),
        }
    )
    return _in_order(table.rename_axis("split").reset_index())


def _sex_pairs(sources: pd.DataFrame) -> pd.DataFrame:
    known = sources.assign(sex=sources["sex"].replace("", "?"))
    combinations = known.groupby(["split", "mixture_id"])["sex"].agg(lambda sexes: "-".join(sorted(sexes)))
    return _counts(combinations.rename("sexes").reset_index(), "sexes", "num_mixtures")


def _reuse(sources: pd.DataFrame) -> pd.DataFrame:
    times = sources.groupby(["split", "utterance_id"]).size().rename("times_used").reset_index()
    return _counts(times, "times_used", "num_utterances")


def _level_differences(measured: pd.DataFrame) -> pd.DataFrame:
    levels = measured.groupby(["split", "mixture_id"])["level_db"]
    return (levels.max() - levels.min()).reset_index()


def _histogram(table: pd.DataFrame, column: str, width: float) -> pd.DataFrame:
    """Counts per split in bins of a width, by the bins' lower edges."""
    return _counts(table.assign(**{"from": np.floor(table[column] / width) * width}), "from", "count")


def _counts(table: pd.DataFrame, column: str, name: str) -> pd.DataFrame:
    return _in_order(table.groupby(["split", column]).size().rename(name).reset_index())


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Splits in their usual order, the rest as it was."""
    order = table["split"].map({split: number for number, split in enumerate(SPLITS)})
    return table.iloc[np.argsort(order.to_numpy(), kind="stable")].reset_index(drop=True)
