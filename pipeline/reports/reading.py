"""Score tables from anywhere: our own, and those that other tools leave behind.

The smallest table that can be reported has a column that names the mixture and one of SI-SNR, SI-SNRi, SDR or SDRi; common other
names of these are understood. What a table does not say stays unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.errors import TableError
from pipeline.reports.statistics import METRICS
from pipeline.tables import SCORES, read_table

log = logging.getLogger(__name__)

_NAMES = {
    "mixture_id": ("mixture", "snt_id", "utt_id", "utterance_id", "key", "id", "name", "mix_path", "mixture_path"),
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
_IMPROVEMENTS = (("si_snri_db", "si_snr_db", "input_si_snr_db"), ("sdri_db", "sdr_db", "input_sdr_db"))
_AVERAGES = ("avg", "average", "mean")
_ANYBODYS = ("scores", "all_metrics", "test_results", "results", "metrics")


def read_scores(paths: Sequence[Path], *, repeats: bool = False) -> pd.DataFrame:
    """Score tables below each other, with the columns of ``tables.SCORES``.

    A table that lacks some of those columns is taken as another tool's: a system without a name is called like its file (or the
    file's folder, where the file is called ``scores.csv`` or the like), a row without a source is its mixture's only one,
    improvements are computed where the input's values are there, and a row of averages is left out.

    Args:
        paths: CSV files.
        repeats: the tables hold other trainings of the same systems: a system that is in several is called ``NAME@1``,
            ``NAME@2``, … in their order.

    Raises:
        TableError: naming the file: it cannot be read, names no mixture or no metric, or holds a row twice.
    """
    tables = [_read_one(path) for path in paths]
    if repeats:
        tables = _numbered(tables)
    scores = pd.concat(tables, ignore_index=True)
    repeated = scores.duplicated(["system", "mixture_id", "source"])
    if repeated.any():
        row = scores[repeated].iloc[0]
        files = ", ".join(map(str, paths))
        mend = "give the rows a column source (s1, s2, …)" if len(paths) == 1 else "rename a system, or give --repeats"
        raise TableError(f"{files}: system {row['system']!r} scores {row['mixture_id']} {row['source']} twice; {mend}")
    return scores


def _read_one(path: Path) -> pd.DataFrame:
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8", nrows=0)
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise TableError(f"{path}: not a readable CSV file ({error})") from error
    if set(SCORES.required()) <= set(raw.columns):
        return read_table(path, SCORES)
    return _completed(_renamed(pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8"), path), path)


def _renamed(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with our names for its columns, where it has none of ours."""
    given = {str(name).strip().lower().replace("-", "_"): name for name in reversed(list(table.columns))}
    names = {
        given[other]: ours
        for ours, others in _NAMES.items()
        for other in [next((other for other in (ours, *others) if other in given), None)]
        if other is not None
    }
    table = table.rename(columns=names)
    found = ", ".join(map(str, table.columns))
    if "mixture_id" not in table:
        raise TableError(f"{path}: no column says which mixture a row is about; call it mixture_id (found {found})")
    if not set(METRICS) & set(table.columns):
        raise TableError(f"{path}: no column holds a score; there must be one of {', '.join(METRICS)} (found {found})")
    return table


def _completed(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with every column of the schema, typed; what is not said is NaN, or empty text."""
    averages = table["mixture_id"].str.lower().isin(_AVERAGES)
    if averages.any():
        log.info("%s: the row of averages is left out", path)
    table = table[~averages].reset_index(drop=True)
    made = pd.DataFrame({"mixture_id": table["mixture_id"].map(_stem)})
    made["system"] = table["system"] if "system" in table else path.parent.resolve().name if path.stem in _ANYBODYS else path.stem
    made["source"] = table["source"].map(_source) if "source" in table else "s1"
    for column in SCORES.columns:
        if column.kind in ("number", "integer") and (column.name in table or not column.optional):
            made[column.name] = _numbers(table, column.name, path)
        elif column.kind == "text" and column.name not in made and column.name in table:
            made[column.name] = table[column.name]
    return _derived(made)


def _derived(made: pd.DataFrame) -> pd.DataFrame:
    """Improvements and statuses from what is there; ways of assigning estimates are unknown."""
    for improvement, output, given in _IMPROVEMENTS:
        made[improvement] = made[improvement].fillna(made[output] - made[given])
        made[given] = made[given].fillna(made[output] - made[improvement])
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
        raise TableError(f"{path}: column {name} holds something that is no number: {error}") from error


def _stem(mixture: str) -> str:
    """A mixture's id from a path; other names stay as they are, for they may hold dots."""
    return Path(mixture).stem if "/" in mixture or mixture.endswith((".wav", ".flac")) else mixture


def _source(name: str) -> str:
    """``s1`` for 1, and for any other name itself."""
    return f"s{name}" if name.isdigit() else name


def _numbered(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The tables with their number behind the name of every system that several of them hold."""
    count = pd.Series([name for table in tables for name in table["system"].unique()]).value_counts()
    return [
        table.assign(system=table["system"].where(table["system"].map(count) < 2, table["system"] + f"@{k}"))
        for k, table in enumerate(tables, 1)
    ]
