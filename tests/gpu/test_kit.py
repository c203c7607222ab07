"""The GPU kit at toy size on a CPU: every part runs for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def rows_of(part: str, out: Path) -> list[dict[str, Any]]:
    """Run one part of the kit; returns what it found."""
    command = [sys.executable, "-m", "tests.gpu.kit", "--device", "cpu", "--small", "--out", out, "--parts", part]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*command, "--seconds", str(PATIENCE_SECONDS)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS + 30,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + (out / "log.txt").read_text(encoding="utf-8")[-4000:]
    assert f"## {part}" in (out / "summary.md").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = json.loads((out / f"{part}.json").read_text(encoding="utf-8"))
    return rows


@pytest.mark.parametrize("part", ["versions", "tests"])
def test_the_machine_is_described_and_the_gpu_tests_are_found(part: str, tmp_path: Path) -> None:
    assert rows_of(part, tmp_path)


def test_every_contender_is_timed_and_ours_profiled(tmp_path: Path) -> None:
    rows = rows_of("bench", tmp_path)
    around = {row["around"]: row for row in rows if "around" in row}
    rows = [row for row in rows if "contender" in row]
    assert len(around) == 9
    assert around["validation"]["mixtures_per_second"] > 0
    assert around["deviation of estimates"]["of_the_peak"] < 1e-5
    assert around["mixing by the device alone"]["deviation"] < 2e-6
    assert {row["contender"] for row in rows} == {"ours-graphs", "torchaudio-bfloat16", "asteroid-like"}
    assert all(row["segments_per_second"] > 0 for row in rows)
    assert "aten::" in (tmp_path / "ours-graphs-cLN-2.profile.txt").read_text(encoding="utf-8")


def test_the_device_agrees_with_float64_and_a_killed_training_has_the_same_bits(tmp_path: Path) -> None:
    rows = rows_of("checks", tmp_path)
    assert all(row["gradients_error"] < 1e-5 for row in rows if row.get("arithmetic") == "float32")
    resumed = [row for row in rows if "same_bits_after_a_kill" in row]
    assert [(row["same_bits_twice"], row["same_bits_after_a_kill"]) for row in resumed] == [(True, True)]


def test_a_recipe_is_trained_and_its_weights_are_sent_in_parts(tmp_path: Path) -> None:
    rows = rows_of("train", tmp_path)
    assert int(rows[0]["epoch"]) == 2
    assert (tmp_path / "noncausal.part.0").stat().st_size > 1000
