"""Damaged files are read, or refused in a line that names them; a longer search is ``make fuzz``."""

import re
from pathlib import Path
from random import Random

import pytest

from pipeline.errors import TasnetError
from tests.fuzzing.mutations import MUTATIONS
from tests.fuzzing.readers import READERS, ROOT, Reader
from tests.fuzzing.trying import try_one

pytestmark = pytest.mark.filterwarnings("ignore")
SEEDS = 12


@pytest.mark.parametrize("reader", READERS, ids=[reader.name for reader in READERS])
def test_a_good_file_is_read(reader: Reader, tmp_path: Path) -> None:
    """Or the damaged ones would show nothing."""
    reader.make(tmp_path / reader.file_name)
    reader.read(tmp_path / reader.file_name)


@pytest.mark.parametrize("reader", READERS, ids=[reader.name for reader in READERS])
def test_a_damaged_file_is_read_or_refused_in_a_line_that_names_it(reader: Reader, tmp_path: Path) -> None:
    outcomes = [try_one(reader, seed, tmp_path / "file") for seed in range(SEEDS)]
    assert [outcome for outcome in outcomes if outcome.fault] == []


def refuse_without_a_name(path: Path) -> None:
    raise TasnetError("something is wrong with a file somewhere")


def make_text(path: Path) -> None:
    path.write_text("content", encoding="utf-8")


def test_negative_controls_are_noticed(tmp_path: Path) -> None:
    """A traceback, and a message without the file's name."""
    crashing = Reader("crashing", "a.txt", make_text, lambda path: {}[path.read_bytes()])
    silent = Reader("silent", "a.txt", make_text, refuse_without_a_name)
    assert "KeyError" in try_one(crashing, 0, tmp_path / "file").fault
    assert "does not name the file" in try_one(silent, 0, tmp_path / "file").fault


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_every_mutation_changes_something(mutation: object, tmp_path: Path) -> None:
    content = b"mixture_ID,path\na,1\nb,2\n" * 3
    assert callable(mutation)
    assert any(mutation(content, Random(seed)) != content for seed in range(10))


def test_json_from_outside_has_one_door() -> None:
    """``json.loads`` itself recurses without end in what is nested without end."""
    users = [path for path in (ROOT / "pipeline").rglob("*.py") if re.search(r"\bjson\.loads?\(", path.read_text("utf-8"))]
    assert [path.name for path in users] == ["files.py"]
