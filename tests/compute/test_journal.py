"""Journals: what was appended is found again, whatever a kill has cut off; tables row by row are the tables made at once."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.compute.journal import Journal, drop_records, read_records
from pipeline.errors import DatasetError, TableError, WorkError
from pipeline.tables import MANIFEST, Column, Schema, table_writer, write_table

RECORDS = [{"name": f"é{number}", "split": "test", "facts": [number, "line\nbreak"]} for number in range(5)]


def journal_at(path: Path, identity: str = "one") -> Journal:
    return Journal(path, identity, ("split", "name"))


def filled(path: Path) -> Journal:
    journal = journal_at(path)
    journal.resume()
    journal.append(map(journal.entry, RECORDS[:2]))
    journal.append(map(journal.entry, RECORDS[2:]))
    return journal


def test_records_are_found_again_and_reordered(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal")
    assert ("test", "é3") in journal
    assert ("test", "é9") not in journal
    assert list(journal.records()) == list(read_records(tmp_path / "journal")) == RECORDS
    for order in ([3, 1, 4, 0, 2], [0, 1, 2, 3, 4]):
        journal.reorder(("test", f"é{number}") for number in order)
        assert list(journal.records()) == [RECORDS[number] for number in order]


def test_a_journal_cut_anywhere_is_resumed_with_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    filled(path)
    whole = path.read_bytes()
    ends = [position + 1 for position, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(0, len(whole) + 1, 5):
        path.write_bytes(whole[:length])
        journal = journal_at(path)
        journal.resume(lambda record: record["name"] != "é1")
        lines = sum(end <= length for end in ends)
        kept = [record for record in RECORDS[: max(lines - 1, 0)] if record["name"] != "é1"]
        assert list(read_records(path)) == kept
        journal.append([journal.entry(RECORDS[1])])
        journal.reorder(("test", record["name"]) for record in [RECORDS[1], *kept])
        assert list(read_records(path)) == [RECORDS[1], *kept]


def test_a_journal_of_other_work_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    filled(path)
    before = path.read_bytes()
    assert not journal_at(path).is_foreign()
    assert journal_at(path, "two").is_foreign()
    with pytest.raises(WorkError, match="belongs to other work"):
        journal_at(path, "two").resume()
    assert path.read_bytes() == before
    with pytest.raises(DatasetError, match="no such file"):
        read_records(tmp_path / "none")


def test_a_journal_that_was_removed_starts_again(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal")
    journal.remove()
    journal.remove()
    assert not journal.is_foreign()
    again = journal_at(tmp_path / "journal", "two")
    again.resume()
    assert list(again.records()) == []


def test_records_are_dropped_and_the_rest_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    filled(path)
    lines = path.read_bytes().splitlines()
    drop_records(path, lambda record: record["name"] in ("é0", "é4"))
    assert path.read_bytes().splitlines() == [lines[0], *lines[2:5]]
    assert json.loads(lines[0]) == {"identity": "one"}


SCHEMA = Schema("test table", (Column("b", "text", ""), Column("a", "number", ""), Column("z", "text", "", optional=True)))
CELLS = {
    "a": st.floats(allow_nan=False),
    "b": st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])).filter(bool),
    "n": st.integers(-(2**53), 2**53),
    "flag": st.booleans(),
}


@settings(max_examples=40)
@given(st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=5))
def test_tables_written_row_by_row_are_those_written_at_once(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    write_table(pd.DataFrame(rows, columns=list(CELLS)), folder / "at-once.csv", SCHEMA)
    with table_writer(folder / "by-row.csv", list(CELLS), SCHEMA) as write_row:
        for row in rows:
            write_row(row)
    assert (folder / "by-row.csv").read_bytes() == (folder / "at-once.csv").read_bytes()


def test_cells_may_be_missing_and_columns_may_not(tmp_path: Path) -> None:
    with table_writer(tmp_path / "t.csv", ["x", "y"]) as write_row:
        write_row({"x": 1, "y": 2.5})
        write_row({"x": 3})
    assert (tmp_path / "t.csv").read_text() == "x,y\n1,2.5\n3,\n"
    with pytest.raises(TableError, match="needs the columns"), table_writer(tmp_path / "no.csv", ["x"], MANIFEST):
        pass
    assert not (tmp_path / "no.csv").exists()
