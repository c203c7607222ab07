"""The command line in tests: a tiny recipe, and ``tasnet`` as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.nursery import nursery
from tests.waiting import PATIENCE_SECONDS

RECIPE = """
name = "tiny"
[corpus]
kind = "folder"
valid_share = 0.25
test_share = 0.25
[plan]
kind = "random"
num_mixtures = { train = 6, valid = 2, test = 3 }
min_seconds = 1.0
[model]
num_filters = 16
bottleneck_channels = 8
skip_channels = 8
hidden_channels = 16
blocks_per_repeat = 2
num_repeats = 1
[train]
segment_seconds = 0.5
batch_size = 2
epochs = 1
[score]
verify = 2
[systems.noncausal]
[systems.causal]
causal = true
"""


def tasnet(*arguments: object, cwd: Path, check: bool = False) -> subprocess.CompletedProcess[str]:
    """In a process of its own, forked from one that has imported everything."""
    result = nursery().run(*arguments, cwd=cwd)
    assert not check or result.returncode == 0, f"{' '.join(map(str, arguments))}: {result.returncode}; {result.stderr}"
    return result


def python_m_pipeline(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """As a user starts it, from nothing; it must succeed."""
    command = [sys.executable, "-P", "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS)
