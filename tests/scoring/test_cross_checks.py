"""Tables compared with mir_eval: right ones pass, wrong ones are found."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.audio.files import write_audio
from pipeline.scoring import cross_checks
from pipeline.scoring.cross_checks import CrossCheck, check_path, cross_check, format_check, read_checks, write_check
from pipeline.scoring.mixture import Criterion, Row
from pipeline.scoring.scoring import score_tasks
from pipeline.scoring.tasks import Task, dataset_tasks
from tests.scoring.cases import RATE, separated, write_dataset


def scored(folder: Path, permutation: Criterion = "si_snr") -> tuple[pd.DataFrame, list[Task]]:
    mixtures = write_dataset(folder)
    tasks = dataset_tasks(mixtures, folder, {"a": folder / "a", "b": folder / "b"})
    return score_tasks(tasks, num_workers=1, permutation=permutation), tasks


@pytest.mark.parametrize("permutation", ["si_snr", "sir"])
def test_a_right_table(tmp_path: Path, permutation: Criterion) -> None:
    scores, tasks = scored(tmp_path, permutation=permutation)
    check = cross_check(scores, tasks, 5, num_workers=1)
    assert check.num_rows == 5
    assert check.permutations_equal
    assert check.largest_difference_db is not None
    assert check.largest_difference_db < 1e-6
    assert check.mir_eval.startswith("0.8")


@pytest.mark.parametrize("column", ["sdr_db", "input_sdr_db"])
def test_a_wrong_value_is_found(tmp_path: Path, column: str) -> None:
    scores, tasks = scored(tmp_path)
    scores[column] += 0.5
    assert cross_check(scores, tasks, 3, num_workers=1).largest_difference_db == pytest.approx(0.5)


def test_a_wrong_assignment_is_found(tmp_path: Path) -> None:
    scores, tasks = scored(tmp_path)
    swapped = scores.assign(estimate=3 - scores["estimate"])
    assert not cross_check(swapped, tasks, 3, num_workers=1).permutations_equal
    assert cross_check(swapped.assign(permutations_agree=False), tasks, 3, num_workers=1).permutations_equal
    assert not cross_check(scores.assign(permutations_agree=False), tasks, 3, num_workers=1).permutations_equal


def test_the_draw_is_random_and_repeatable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, tasks = scored(tmp_path)
    drawn: dict[int, list[tuple[str, str, str]]] = {}

    def noting(job: tuple[Row, Task, Sequence[int]]) -> tuple[float, bool]:
        drawn[seed].append((job[0]["system"], job[0]["mixture_id"], job[0]["source"]))
        return 0.0, True

    monkeypatch.setattr(cross_checks, "_compare", noting)
    for seed in range(40):
        drawn[seed] = []
        assert cross_check(scores, tasks, 6, seed=seed, num_workers=1).num_rows == len(set(drawn[seed])) == 6
    first, drawn[seed := 0] = drawn[0], []
    cross_check(scores, tasks, 6, seed=0, num_workers=1)
    assert drawn[0] == first
    assert len({row for rows in drawn.values() for row in rows}) == len(scores) == 24


def test_rows_that_mir_eval_cannot_compute(tmp_path: Path) -> None:
    """Silence and what is missing have no finite SDR and are not drawn; beside them mir_eval has no permutation."""
    scores, tasks = scored(tmp_path)
    write_audio(tmp_path / "a" / "s1" / "000.wav", np.zeros(3000), RATE, "float32")
    (tmp_path / "a" / "s2" / "001.wav").unlink()
    write_audio(tmp_path / "a" / "s1" / "002.wav", separated(2)[0][0][:-40], RATE, "float32")
    (tmp_path / "mix" / "003.wav").unlink()
    scores = score_tasks(tasks, num_workers=1)
    affected = scores[(scores["system"] == "a") & (scores["mixture_id"] < "004")]
    check = cross_check(affected, tasks, 1000, num_workers=1)
    assert check.num_rows == np.isfinite(affected["sdr_db"]).sum() == 6
    assert check.permutations_equal
    assert check.largest_difference_db is not None
    assert check.largest_difference_db < 1e-6


def test_checks_of_several_tables_are_one(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name / "scores.csv" for name in "abc")
    write_check(CrossCheck(10, 2e-13, True, "0.8.2"), a)
    write_check(CrossCheck(5, 3e-12, False, "0.8.2"), b)
    write_check(CrossCheck(0, None, True, "0.8.2"), c)
    assert check_path(a).name == "scores.verification.json"
    assert json.loads(check_path(c).read_text())["largest_difference_db"] is None
    assert read_checks([a, b, c]) == asdict(CrossCheck(15, 3e-12, False, "0.8.2"))
    assert read_checks([tmp_path / "none.csv"]) == {}


def test_a_check_in_one_line() -> None:
    assert "10 random rows" in format_check(CrossCheck(10, 2e-13, True, "0.8.2"))
    assert "2.0e-13 dB, same permutations" in format_check(CrossCheck(10, 2e-13, True, "0.8.2"))
    assert "DIFFERENT PERMUTATIONS" in format_check(CrossCheck(10, 2e-13, False, "0.8.2"))
    assert "there is nothing for mir_eval to recompute" in format_check(CrossCheck(0, None, True, "0.8.2"))
