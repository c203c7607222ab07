"""Two processes that train together do what one does, to rounding; only the first one writes."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.checkpoints import load_state
from pipeline.processes import Group, joined
from pipeline.training import Options, train
from tests.test_training import SETS, system

SCRIPT = """
    from pathlib import Path
    from pipeline import training
    from tests.test_training import SETS, Options, system, train
    options = Options(device="cpu", compile="off", num_workers=1, description="", micro_batch={micro_batch})
    train(system(batch_size=4), SETS, Path({folder!r}), seed=1, options=options)
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def trained_by_two(folder: Path, micro_batch: int | None) -> None:
    script = textwrap.dedent(SCRIPT).format(folder=str(folder), micro_batch=micro_batch)
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    common["PYTHONPATH"] = str(Path(__file__).parent.parent)
    children = [
        subprocess.Popen([sys.executable, "-c", script], env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    assert [child.wait(600) for child in children] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch", [None, 1])
def test_two_processes_train_as_one(tmp_path: Path, micro_batch: int | None) -> None:
    one = train(system(batch_size=4), SETS, tmp_path / "one", seed=1, options=Options(compile="off", description=""))
    trained_by_two(tmp_path / "two", micro_batch)
    states = [load_state(tmp_path / name / "last.pt") for name in ("one", "two")]
    for name, weight in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], weight, rtol=1e-3, atol=1e-4)
    columns = ["train_loss_db", "valid_loss_db", "valid_si_snri_db", "gradient_norm"]
    two = states[1]["progress"]["history"]
    np.testing.assert_allclose([[row[c] for c in columns] for row in two], one[columns], rtol=1e-3)
    events = tmp_path / "two" / "events"
    assert not events.exists() or len(list(events.iterdir())) == 1


def test_one_process_is_a_group_of_one() -> None:
    with joined(torch.device("cpu")) as group:
        assert group == Group(0, 1)
        assert group.first
        assert list(range(5))[group.share] == [0, 1, 2, 3, 4]
        assert float(group.total(torch.ones(()))) == 1


def test_shares_are_disjoint_and_complete() -> None:
    shares = [list(range(7))[Group(rank, 3).share] for rank in range(3)]
    assert sorted(index for share in shares for index in share) == list(range(7))
