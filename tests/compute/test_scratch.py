"""Rows on disk come back, leave no file behind, and a disk that cannot be used is an error with its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.compute.scratch import Scratch, free_bytes
from pipeline.errors import WorkError


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), max_size=8))
@settings(max_examples=30, deadline=None)
def test_rows_are_those_last_written(tmp_path_factory: pytest.TempPathFactory, width: int, writes: list[tuple[int, int]]) -> None:
    expected, random = np.zeros((80, width), np.float32), np.random.default_rng(0)
    with Scratch(tmp_path_factory.getbasetemp(), width) as scratch:
        for start, count in writes:
            expected[start : start + count] = random.standard_normal((count, width))
            scratch.write(start, expected[start : start + count])
        np.testing.assert_array_equal(scratch.read(0, 80), expected)
        np.testing.assert_array_equal(scratch.read(7, 31), expected[7:31])
        assert scratch.read(5, 5).shape == (0, width)


def test_there_is_no_file_to_leave_behind(tmp_path: Path) -> None:
    with Scratch(tmp_path / "new", 3, np.float64) as scratch:
        scratch.write(2, np.ones((1, 3)))
        assert list((tmp_path / "new").iterdir()) == []
        assert scratch.read(0, 3).sum() == 3
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkError, match=r"file: no intermediate results can be kept there"):
        Scratch(tmp_path / "file", 1)


def test_a_full_disk_is_named() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Scratch(Path("/tmp"), 1) as scratch, Path("/dev/full").open("r+b", buffering=0) as full:
        scratch._file.close()
        scratch._file = full
        with pytest.raises(WorkError, match="No space left"):
            scratch.write(0, np.ones((1, 1)))


def test_free_room_of_a_folder_that_is_yet_to_be_made(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") > 0
