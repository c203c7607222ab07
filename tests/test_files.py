"""Names from outside: those that would leave their folder, or that some file system refuses, and those that are fine."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import TableError
from pipeline.files import name_fault, same_file_names
from pipeline.tables import MIXTURES, PLAN, Schema, check_table, read_table

FAULTS = [
    ("", "is empty"),
    ("..", "begins with a dot"),
    (".", "begins with a dot"),
    (".hidden", "begins with a dot"),
    ("../../../victim/mine", "has a slash"),
    ("/etc/passwd", "has a slash"),
    ("a/b", "has a slash"),
    ("a\\b", "has a slash"),
    ("C:evil", "has one of the characters"),
    ("what?", "has one of the characters"),
    ("a\0b", "cannot be printed"),
    ("a\nb", "cannot be printed"),
    ("a\x1bb", "cannot be printed"),
    ("a\udcff", "cannot be printed"),
    ("a\u202eb", "cannot be printed"),
    ("a ", "ends with a space"),
    (" a", "begins with a space"),
    ("a.", "ends with a space or a dot"),
    ("CON", "device"),
    ("nul.wav", "device"),
    ("Com1", "device"),
    ("x" * 201, "longer than 200 bytes"),
    ("ü" * 101, "longer than 200 bytes"),
]
FINE = [
    "40na010x_1.9857_01xo031a_-1.9857",
    "3536-8226-0026_1673-143397-0009",
    "011",
    "NA",
    "a b",
    "Zoë-1",
    "会议",
    "console",
    "-1",
    "x" * 200,
]


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_names_that_must_not_become_paths(name: str, fault: str) -> None:
    assert fault in (name_fault(name) or "")


@pytest.mark.parametrize("name", FINE)
def test_names_that_files_can_have(tmp_path: Path, name: str) -> None:
    assert name_fault(name) is None
    (tmp_path / f"{name}.wav").touch()
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.wav"]


def test_unicode_forms_of_one_name() -> None:
    composed, decomposed = "Zo\u00eb", "Zoe\u0308"
    assert same_file_names(["a", composed, "b", decomposed, composed]) == [(composed, decomposed)]
    assert same_file_names(["a", "A", "a"]) == []


@pytest.mark.parametrize("schema", [PLAN, MIXTURES])
@pytest.mark.parametrize("name", [name for name, _ in FAULTS if name.isprintable()])
def test_tables_name_the_file_and_the_row(tmp_path: Path, schema: Schema, name: str) -> None:
    table = pd.DataFrame({column: ["1", "1", "1"] for column in schema.required()}).assign(mixture_id=["a", "a", name])
    table.to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(TableError, match=r"table\.csv, row 3: mixture_id '"):
        read_table(tmp_path / "table.csv", schema)
    with pytest.raises(TableError, match=r"here, row 3: mixture_id '"):
        check_table(table, schema, origin="here")
