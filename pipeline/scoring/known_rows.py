"""Rows of a score table that need not be computed: those of an earlier or interrupted run, and those of other systems."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from pipeline.compute.journal import Journal
from pipeline.errors import ScoreError
from pipeline.scoring.mixture import Row
from pipeline.scoring.recordings import UNREADABLE, names_problem
from pipeline.tables import SCORES, read_table

KnownRows = Mapping[str, list[Row]]
"""Rows of one mixture by digest."""


def resumed_journal(out: Path, version: int) -> Journal:
    """The journal beside a table: a record for every mixture and system. One of another version is started afresh."""
    journal = Journal(out.with_name(f"{out.name}.journal"), f"scores {version}", ("mixture_id", "digest"))
    if journal.is_foreign():
        journal.remove()
    journal.resume()
    return journal


def read_existing(out: Path) -> pd.DataFrame:
    """The table as it is; without rows where there is none."""
    return read_table(out, SCORES) if out.is_file() else pd.DataFrame(columns=SCORES.required())


def known_rows(table: pd.DataFrame, journal: Journal) -> dict[str, dict[str, list[Row]]]:
    """Rows by mixture and digest: those of the table and those of the journal. A file that could not be read is tried again."""
    known: dict[str, dict[str, list[Row]]] = {}
    for row in table.to_dict("records") if "digest" in table else ():
        if names_problem(row["status"], UNREADABLE):
            continue
        rows = known.setdefault(row["mixture_id"], {}).setdefault(row["digest"], [])
        rows.append({str(name): value for name, value in row.items()})
    for record in journal.records():
        if any(names_problem(row["status"], UNREADABLE) for row in record["rows"]):
            continue
        known.setdefault(record["mixture_id"], {})[record["digest"]] = record["rows"]
    return known


def with_others(rows: Sequence[Row], systems: Collection[str], existing: pd.DataFrame) -> pd.DataFrame:
    """Rows by system, each system's in the order given, together with the existing rows of other systems.

    Systems keep their places in an existing table that holds others too; new ones come last.

    Args:
        rows: of ``systems``; they replace what the table holds of these.
        systems: in their order.
        existing: the table so far.

    Raises:
        ScoreError: another system was scored against other references or another mixture of the same name.
    """
    new = pd.DataFrame(rows)
    others = existing[~existing["system"].isin(list(systems))]
    if others.empty:
        order = list(systems)
    else:
        _check_references(others, new)
        order = list(dict.fromkeys([*existing["system"], *systems]))
    parts = [table[table["system"] == system] for system in order for table in (others, new)]
    filled = [part.dropna(axis="columns", how="all") for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True).reindex(columns=list(dict.fromkeys([*new.columns, *others.columns])))


def check_existing(existing: pd.DataFrame, systems: Collection[str], out: Path) -> None:
    """Raise ScoreError if systems cannot be added to a table because it does not say what others were scored against."""
    others = existing[~existing["system"].isin(list(systems))]
    unknown = others if "references_digest" not in others else others[others["references_digest"] == ""]
    if len(unknown):
        name = unknown["system"].iloc[0]
        raise ScoreError(
            f"{out}: does not say which references system {name!r} was scored against; score it again with the others, or choose "
            "another table with --out"
        )


def _check_references(others: pd.DataFrame, new: pd.DataFrame) -> None:
    """Raise ScoreError where two systems would stand side by side that were scored against different recordings."""
    columns = ["mixture_id", "references_digest"]
    pairs = others.drop_duplicates(columns).merge(new[columns].drop_duplicates(), on="mixture_id", suffixes=("", "_new"))
    different = pairs[pairs["references_digest"] != pairs["references_digest_new"]]
    if len(different):
        row = different.iloc[0]
        raise ScoreError(
            f"{len(different)} mixtures, for example {row['mixture_id']}, have other references or another mixture in the table, "
            f"where system {row['system']!r} was scored; score all systems together, or choose another table with --out"
        )
