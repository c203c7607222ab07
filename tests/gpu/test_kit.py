"""The GPU kit at toy size on a CPU: every part runs for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_part_runs_at_toy_size(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.gpu.kit", "--device", "cpu", "--small", "--out", tmp_path, "--seconds", "560"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=580, check=False)
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert ended.returncode == 0, ended.stdout + log[-4000:]
    parts = {
        part: json.loads((tmp_path / f"{part}.json").read_text()) for part in ("versions", "tests", "bench", "checks", "train")
    }
    assert {row["contender"] for row in parts["bench"]} == {"ours-graphs", "ours-eager", "torchaudio-bfloat16", "asteroid-like"}
    assert all(row["segments_per_second"] > 0 for row in parts["bench"])
    assert all(row["gradients_error"] < 1e-5 for row in parts["checks"] if row.get("arithmetic") == "float32")
    resumed = [row for row in parts["checks"] if "same_bits_after_a_kill" in row]
    assert [(row["same_bits_twice"], row["same_bits_after_a_kill"]) for row in resumed] == [(True, True)]
    assert "aten::" in (tmp_path / "ours-graphs-gLN-2.profile.txt").read_text(encoding="utf-8")
    assert int(parts["train"][0]["epoch"]) == 2
    assert (tmp_path / "best.part.0").stat().st_size > 1000
    assert "## bench" in (tmp_path / "summary.md").read_text(encoding="utf-8")
