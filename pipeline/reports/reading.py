"""Score tables from any tool: our own, and those that other toolkits write.

The smallest table that can be reported has a column that names the mixture and one of SI-SNR, SI-SNRi, SDR or SDRi. Other common
names for these are recognised. What a table does not say stays unknown.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.errors import TableError
from pipeline.reports.matching import check_mixtures
from pipeline.reports.means import METRICS, WHOLE_MIXTURE
from pipeline.reports.other_formats import read_other
from pipeline.tables import SCORE_METRICS, SCORES, read_cells, read_table

logger = logging.getLogger(__name__)

_NAMES = {
    "mixture_id": ("mixture", "snt_id", "utt", "utt_id", "utterance_id", "key", "id", "name", "mix_path", "mixture_path"),
    "system": ("model", "method"),
    "source": ("source_index", "src", "spk", "speaker_index"),
    "si_snri_db": ("si_snri", "si_snr_i", "si_snr_imp", "si_sdri", "si_sdr_i", "si_sdr_imp", "sisnri", "sisdri"),
    "si_snr_db": ("si_snr", "si_sdr", "sisnr", "sisdr"),
    "sdri_db": ("sdri", "sdr_i", "sdr_imp"),
    "sdr_db": ("sdr",),
    "sir_db": ("sir",),
    "sar_db": ("sar",),
    "input_si_snr_db": ("input_si_snr", "input_si_sdr"),
    "input_sdr_db": ("input_sdr",),
}
MOST_DB = 1000
"""No ratio of energies that floating-point samples have is larger."""
_IMPROVEMENTS = (("si_snri_db", "si_snr_db", "input_si_snr_db"), ("sdri_db", "sdr_db", "input_sdr_db"))
_AVERAGES = ("avg", "average", "mean")
_GENERIC_NAMES = ("scores", "all_metrics", "test_results", "results", "metrics", "scoring")


def read_scores(paths: Sequence[Path], *, repeats: bool = False) -> pd.DataFrame:
    """Score tables as one table, with the columns of ``tables.SCORES``.

    A table that lacks some of those columns is taken to be another tool's: a system without a name is called after its file (or
    the file's folder, if the file has a generic name such as ``scores.csv``), a row without a source is a mean over its mixture,
    improvements are computed if the input's values are known, and a row of averages is skipped.

    Args:
        paths: CSV files, or what ``other_formats`` reads of ESPnet, museval and VERSA.
        repeats: the tables are training runs of the same systems: a system that is in several is called ``NAME@1``,
            ``NAME@2``, … in their order.

    Raises:
        TableError: a file cannot be read, has no column for the mixture or for any metric, has a row twice, or
            shares no mixture with the other files.
    """
    tables = [_read_one(path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if table.empty:
            raise TableError(f"{path}: has the names of columns and no rows; score again")
        _check_ranges(table, path)
    check_mixtures({str(path): table for path, table in zip(paths, tables, strict=True)})
    if repeats:
        tables = _numbered(tables)
    scores = pd.concat(tables, ignore_index=True)
    repeated = scores.duplicated(["system", "mixture_id", "source"])
    if repeated.any():
        row = scores[repeated].iloc[0]
        files = ", ".join(map(str, paths))
        fix = "give the rows a column source (s1, s2, …)" if len(paths) == 1 else "rename a system, or give --repeats"
        scored = row["mixture_id"] if row["source"] == WHOLE_MIXTURE else f"{row['mixture_id']} {row['source']}"
        raise TableError(f"{files}: system {row['system']!r} scores {scored} twice; {fix}")
    return scores


def _read_one(path: Path) -> pd.DataFrame:
    if (other := read_other(path)) is not None:
        return _completed(_renamed(other, path), path)
    raw = read_cells(path)
    return read_table(path, SCORES) if set(SCORES.required()) <= set(raw.columns) else _completed(_renamed(raw, path), path)


def _renamed(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with its columns renamed to ours."""
    given = {_plain(str(name)): name for name in reversed(list(table.columns))}
    names = {
        given[other]: ours
        for ours, others in _NAMES.items()
        for other in [next((other for other in (ours, *others) if other in given), None)]
        if other is not None
    }
    table = table.rename(columns=names)
    found = ", ".join(map(str, table.columns))
    if "mixture_id" not in table:
        raise TableError(f"{path}: no column names the mixture; call it mixture_id (found {found})")
    if not set(METRICS) & set(table.columns):
        raise TableError(f"{path}: no column holds a score; it needs at least one of {', '.join(METRICS)} (found {found})")
    return table


def _plain(name: str) -> str:
    """A column's name as ``_NAMES`` has it: ``si_snri`` of ``SI-SNRi [dB]``."""
    return re.sub(r"[\s-]+", "_", re.sub(r"[(\[]db[)\]]", "", name.lower()).strip())


def _completed(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with every column of the schema, typed; NaN or empty text for what is unknown."""
    averages = table["mixture_id"].str.lower().isin(_AVERAGES)
    if averages.any():
        logger.info("%s: skipping the row of averages", path)
    table = table[~averages].reset_index(drop=True)
    made = pd.DataFrame({"mixture_id": table["mixture_id"].map(_stem)})
    made["system"] = (
        table["system"] if "system" in table else path.parent.resolve().name if path.stem in _GENERIC_NAMES else path.stem
    )
    made["source"] = _sources(table["source"]) if "source" in table else WHOLE_MIXTURE
    for column in SCORES.columns:
        if column.kind in ("number", "integer") and (column.name in table or not column.optional):
            made[column.name] = _numbers(table, column.name, path)
        elif column.kind == "text" and column.name not in made and column.name in table:
            made[column.name] = table[column.name]
    return _derived(made)


def _derived(made: pd.DataFrame) -> pd.DataFrame:
    """Of a metric's value, its input's and the improvement the one that is not given; and statuses."""
    for improvement, output, given in _IMPROVEMENTS:
        made[improvement] = made[improvement].fillna(made[output] - made[given])
        made[given] = made[given].fillna(made[output] - made[improvement])
        made[output] = made[output].fillna(made[given] + made[improvement])
    scored = np.isfinite(made[list(METRICS)]).any(axis=1)
    if "status" not in made:
        made["status"] = np.where(scored, "ok", "no_value")
    return made.assign(permutation=made.get("permutation", ""), permutations_agree=True)


def _numbers(table: pd.DataFrame, name: str, path: Path) -> pd.Series:
    if name not in table:
        return pd.Series(np.nan, index=table.index)
    try:
        return table[name].str.strip().replace({"": "nan", "None": "nan"}).astype("float64")
    except ValueError as error:
        raise TableError(f"{path}: column {name} has a value that is not a number: {error}") from error


def _check_ranges(table: pd.DataFrame, path: Path) -> None:
    """Raise a TableError for values far beyond a metric's range, which would make every mean of them meaningless."""
    for metric in SCORE_METRICS:
        if metric.column in table:
            slack = (metric.highest - metric.lowest) / 2
            lowest, highest = (-MOST_DB, MOST_DB) if metric.unit else (metric.lowest - slack, metric.highest + slack)
            beyond = np.isfinite(table[metric.column]) & ~table[metric.column].between(lowest, highest)
            if beyond.any():
                row = table[beyond].iloc[0]
                limits = f"{metric.lowest:g} to {metric.highest:g}" if not metric.unit else f"up to {MOST_DB:g} dB"
                raise TableError(
                    f"{path}: {metric.column} of {row['mixture_id']} is {row[metric.column]:g}, and {metric.label} is {limits}; "
                    "correct the value or its unit"
                )


def _stem(mixture: str) -> str:
    """A mixture's id from a path; other names stay as they are, since they may contain dots."""
    return Path(mixture).stem if "/" in mixture or mixture.endswith((".wav", ".flac")) else mixture


def _sources(names: pd.Series) -> pd.Series:
    """``s1`` for 1, or for 0 in a table that counts from 0; other names stay as they are."""
    if not names.str.fullmatch(r"\d{1,1000}").all():
        return names
    numbers = [int(name) for name in names]
    first = int(0 in numbers)
    return pd.Series([f"s{number + first}" for number in numbers], index=names.index, dtype="str")


def _numbered(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The tables with their number appended to the name of every system that is in several of them."""
    count = pd.Series([name for table in tables for name in table["system"].unique()]).value_counts()
    return [
        table.assign(system=table["system"].where(table["system"].map(count) < 2, table["system"] + f"@{k}"))
        for k, table in enumerate(tables, 1)
    ]
