"""Tables on disk: their columns, and reading and writing them whole.

Identifiers are text and stay text (``011`` is not 11, ``NA`` is a name); numbers are written so that reading gives back the same
bits; a file appears under its name only when it is complete.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from pipeline.errors import TableError, first_line
from pipeline.files import name_fault, written_whole

Kind = Literal["text", "integer", "number", "flag"]


@dataclass(frozen=True)
class Column:
    """A column: its name (which says its unit), what it holds, and whether a table may lack it."""

    name: str
    kind: Kind
    meaning: str
    optional: bool = False
    names_files: bool = False
    """Whether files are named by its cells, which therefore must pass ``files.name_fault``."""
    synonyms: tuple[str, ...] = ()
    """What people call it instead: such a column would be taken for one that is not used."""


@dataclass(frozen=True)
class Schema:
    """The columns a kind of table has; others may stand beside them and are kept as text or numbers."""

    name: str
    columns: tuple[Column, ...]

    def kind_of(self, column: str) -> Kind | None:
        """The kind of a column, None for one the schema does not know."""
        return next((c.kind for c in self.columns if c.name == column), None)

    def required(self) -> list[str]:
        """Names of the columns that must be there."""
        return [c.name for c in self.columns if not c.optional]


@dataclass(frozen=True)
class Metric:
    """A metric of score tables: how it is called, what its numbers mean, and which differences matter."""

    column: str
    label: str
    unit: str
    """``dB``, or empty for a number without a unit."""
    lowest: float
    highest: float
    margin: float
    """Differences below this are ties."""


_NO_LIMIT = float("inf")

SCORE_METRICS = (
    Metric("si_snri_db", "SI-SNRi", "dB", -_NO_LIMIT, _NO_LIMIT, 0.1),
    Metric("sdri_db", "SDRi", "dB", -_NO_LIMIT, _NO_LIMIT, 0.1),
    Metric("si_snr_db", "SI-SNR", "dB", -_NO_LIMIT, _NO_LIMIT, 0.1),
    Metric("sdr_db", "SDR", "dB", -_NO_LIMIT, _NO_LIMIT, 0.1),
    Metric("sir_db", "SIR", "dB", -_NO_LIMIT, _NO_LIMIT, 0.1),
    Metric("sar_db", "SAR", "dB", -_NO_LIMIT, _NO_LIMIT, 0.1),
    Metric("sa_sdr_db", "SA-SDR", "dB", -_NO_LIMIT, _NO_LIMIT, 0.1),
    Metric("stoi", "STOI", "", -1.0, 1.0, 0.005),
    Metric("estoi", "ESTOI", "", -1.0, 1.0, 0.005),
    Metric("pesq", "PESQ", "", 1.0, 4.65, 0.05),
)
"""The metrics of ``scores.csv``, higher is better in all. STOI and ESTOI are correlations; PESQ is MOS-LQO of P.862.1 or .2."""


MANIFEST = Schema(
    "manifest",
    (
        Column("utterance_id", "text", "unique in the manifest"),
        Column("speaker_id", "text", "who speaks; empty for noise, ? where nobody knows"),
        Column("sex", "text", "F, M, or empty where unknown"),
        Column("split", "text", "train, valid or test"),
        Column("path", "text", "audio file, relative to the corpus, with forward slashes"),
        Column("sample_rate", "integer", "Hz"),
        Column("num_samples", "integer", "per channel"),
        Column("sha256", "text", "of the whole audio file; empty or absent where it was not read", optional=True),
        Column("speed", "number", "at which the file is played: LibriMix's sped-up noise; absent where all are 1", optional=True),
    ),
)

PLAN = Schema(
    "plan",
    (
        Column("mixture_id", "text", "unique within its split; the file name without its ending", names_files=True),
        Column("split", "text", "train, valid or test"),
        Column("source", "text", "s1, s2, …, or noise, or of finished mixtures mix: the mixture's own file"),
        Column("utterance_id", "text", "a row of the manifest"),
        Column(
            "level_rule",
            "text",
            "active (dB re unit active power), active_8k (the same, measured at 8 kHz), rms (dB re unit power), loudness (LUFS), "
            "gain (linear), wham (active; of noise: the first speaker's loudness over it in dB), finished (none is applied)",
        ),
        Column("level", "number", "what the rule applies"),
        Column("start_seconds", "number", "where the source begins in the mixture"),
        Column(
            "overlap", "number", "ratio by which speakers were made to overlap, of plans that let them begin late", optional=True
        ),
    ),
)

MIXTURES = Schema(
    "mixtures",
    (
        Column("mixture_id", "text", "as in the plan", names_files=True),
        Column("split", "text", "train, valid or test"),
        Column("sample_rate", "integer", "Hz"),
        Column("mode", "text", "min or max"),
        Column("num_samples", "integer", "of every file of this mixture"),
        Column("num_sources", "integer", "sources in this mixture"),
        Column("scale", "number", "linear gain of the peak rule, common to all files of the mixture"),
        Column("mixture_path", "text", "relative to the dataset"),
        Column("overlap", "number", "as in the plan", optional=True),
        Column(
            "residual_db",
            "number",
            "of finished mixtures: power of the mixture minus its sources, relative to the mixture; -120 where nothing is left",
            optional=True,
        ),
        # For k = 1 … num_sources: source_k_path, source_k_utterance_id, source_k_speaker_id, source_k_sex (text),
        # source_k_gain (number: linear, applied to the resampled utterance, peak rule included), and where the plan has an
        # overlap source_k_start_seconds (number).
    ),
)

SCORES = Schema(
    "scores",
    (
        Column("system", "text", "name of the system"),
        Column("mixture_id", "text", "as in the plan"),
        Column("source", "text", "s1, s2, …: the reference"),
        Column("estimate", "integer", "which estimate (1, 2, …) the permutation gave this reference"),
        Column("si_snr_db", "number", "of the estimate"),
        Column("si_snri_db", "number", "improvement over the mixture"),
        Column("sdr_db", "number", "of the estimate, BSS-Eval v3, 512 taps"),
        Column("sdri_db", "number", "improvement over the mixture"),
        Column("status", "text", "ok, or what was found, see below"),
        Column("permutation", "text", "si_snr or sir: what the assignment was chosen by"),
        Column("permutations_agree", "flag", "whether the other criterion chooses the same assignment"),
        Column("num_samples", "integer", "length scored"),
        Column("sample_rate", "integer", "Hz"),
        Column("speaker_id", "text", "of the reference", optional=True),
        Column("sex", "text", "of the reference", optional=True),
        Column("overlap", "number", "ratio by which the mixture's speakers overlap, where they begin late", optional=True),
        Column("input_si_snr_db", "number", "of the mixture against this reference"),
        Column("input_sdr_db", "number", "of the mixture against this reference"),
        Column("seconds", "number", "wall time of separating this mixture", optional=True),
        Column("sir_db", "number", "signal to interference, BSS-Eval v3", optional=True),
        Column("sar_db", "number", "signal to artefacts, BSS-Eval v3", optional=True),
        Column("sa_sdr_db", "number", "source-aggregated SDR, the same for all sources of a mixture", optional=True),
        Column("stoi", "number", "intelligibility, 0 to 1", optional=True),
        Column("estoi", "number", "extended intelligibility, 0 to 1", optional=True),
        Column("pesq", "number", "perceived quality, MOS-LQO", optional=True),
        Column(
            "silent_level_db",
            "number",
            "of a silent reference: level of its estimate relative to the mixture; -inf where that is silent too",
            optional=True,
        ),
        Column(
            "references_digest", "text", "of the references and the mixture: equal where systems can be compared", optional=True
        ),
        Column(
            "digest", "text", "of the audio scored and of how: rows with the same one need not be computed again", optional=True
        ),
    ),
)

HISTORY = Schema(
    "history",
    (
        Column("epoch", "integer", "from 1"),
        Column("step", "integer", "optimiser steps so far"),
        Column("train_loss_db", "number", "mean loss of the epoch's segments: negative SI-SNR, or what train.loss says"),
        Column("valid_loss_db", "number", "mean loss of the validation mixtures"),
        Column("valid_si_snri_db", "number", "mean SI-SNR improvement on the validation mixtures of several speakers"),
        Column("learning_rate", "number", "at the end of the epoch"),
        Column("gradient_norm", "number", "mean before clipping"),
        Column("segments_per_second", "number", "training only"),
        Column("seconds", "number", "training and validation of this epoch"),
        Column("warmup_seconds", "number", "of these, first steps, in which the network is compiled", optional=True),
        Column("skipped_steps", "integer", "steps whose gradients were not finite, so that they were skipped", optional=True),
        Column("peak_memory_gib", "number", "most memory held so far: of the CUDA device, else of the process", optional=True),
    ),
)


def write_table(table: pd.DataFrame, path: Path, schema: Schema) -> None:
    """Check a table against its schema and write it as CSV, whole or not at all."""
    check_table(table, schema, origin=str(path))
    ordered = table[_ordered(list(table.columns), schema)]
    with written_whole(path) as temporary:
        ordered.to_csv(temporary, index=False, lineterminator="\n", na_rep="")


@contextmanager
def table_writer(
    path: Path, columns: Sequence[str], schema: Schema | None = None
) -> Iterator[Callable[[Mapping[str, Any]], object]]:
    """Write a table row by row, so that it need not fit in memory: the bytes of :func:`write_table`, whole or not at all.

    Args:
        path: the final name.
        columns: all that rows may have; cells that a row lacks stay empty.
        schema: what the table must hold; without one it is another tool's.

    Yields:
        What takes the next row.

    Raises:
        TableError: columns of the schema are missing.
    """
    if schema is not None:
        _check_columns(columns, schema, origin=str(path))
        columns = _ordered(columns, schema)
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        yield writer.writerow


def _ordered(columns: Sequence[str], schema: Schema) -> list[str]:
    """The schema's columns first, the others after them."""
    return [c.name for c in schema.columns if c.name in columns] + [name for name in columns if schema.kind_of(name) is None]


def read_table(path: Path, schema: Schema) -> pd.DataFrame:
    """Read a CSV as its schema says; identifiers stay text.

    Raises:
        TableError: naming the file, and the columns that are missing, the values that do not fit, or the names no file can have.
    """
    raw = read_cells(path)
    _check_columns(list(raw.columns), schema, origin=str(path))
    _check_names(raw, schema, origin=str(path))
    for name in raw.columns:
        raw[name] = _typed(raw[name], schema.kind_of(name), path)
    return raw


def read_cells(path: Path) -> pd.DataFrame:
    """Read any CSV, every cell as the text it is.

    Raises:
        TableError: naming the file.
    """
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise TableError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise TableError(f"{path}: not a readable CSV file ({first_line(error)})") from error


def check_table(table: pd.DataFrame, schema: Schema, *, origin: str) -> None:
    """Raise TableError unless the table has every required column, no empty integer or flag, and names that files can have."""
    _check_columns([str(name) for name in table.columns], schema, origin=origin)
    for column in schema.columns:
        if column.name in table.columns and column.kind in ("integer", "flag") and table[column.name].isna().any():
            raise TableError(f"{origin}: column {column.name} has empty cells")
    _check_names(table, schema, origin=origin)


def _check_names(table: pd.DataFrame, schema: Schema, *, origin: str) -> None:
    for column in (column.name for column in schema.columns if column.names_files):
        firsts = table[column].reset_index(drop=True).drop_duplicates()
        for row, name in zip(firsts.index + 1, firsts, strict=True):
            if fault := name_fault(name):
                raise TableError(f"{origin}, row {row}: {column} {name!r} {fault}, so no file can be called so; rename it")


def _check_columns(columns: Sequence[str], schema: Schema, *, origin: str) -> None:
    for column in schema.columns:
        alike = {bare_name(name) for name in (column.name, *column.synonyms)}
        near = [name for name in columns if name != column.name and bare_name(name) in alike]
        if near and column.name not in columns:
            raise TableError(f"{origin}: the column {near[0]!r} must be called {column.name!r}; rename it")
    missing = [name for name in schema.required() if name not in columns]
    if missing:
        raise TableError(f"{origin}: a {schema.name} needs the columns {', '.join(missing)}; found {', '.join(columns)}")


def bare_name(name: str) -> str:
    """A column's name without what people write in different ways: case, blanks, hyphens, a plural."""
    return "".join(filter(str.isalnum, name)).casefold().removesuffix("s")


_TO: dict[Kind, Callable[[pd.Series], pd.Series]] = {
    "text": lambda values: values,
    "integer": lambda values: values.astype("int64"),
    "number": lambda values: values.replace("", "nan").astype("float64"),
    "flag": lambda values: values.map({"True": True, "False": False}).astype("bool"),
}


def _typed(values: pd.Series, kind: Kind | None, path: Path) -> pd.Series:
    """Convert text cells to the column's kind; an unknown column becomes numbers if all its cells are."""
    if kind is None:
        try:
            return _TO["number"](values) if len(values) and not str(values.name).endswith(("_id", "_path", "_sex")) else values
        except ValueError:
            return values
    if kind == "flag" and not values.isin(["True", "False"]).all():
        raise TableError(f"{path}: column {values.name} holds something other than True and False")
    try:
        return _TO[kind](values)
    except (ValueError, OverflowError) as error:
        raise TableError(f"{path}: column {values.name} holds something that is no {kind}: {error}") from error
