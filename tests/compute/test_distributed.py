"""Two processes that train together do what one does, to rounding; only the first one writes and speaks."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.compute import distributed
from pipeline.compute.distributed import Group, joined
from pipeline.compute.options import Options
from pipeline.training.loop import train
from pipeline.training.state import load_state
from tests.cli.commands import RECIPE, tasnet
from tests.nursery import IN_THE_NURSERY, nursery
from tests.training.trainings import SETS, system
from tests.voices import write_voices
from tests.waiting import PATIENCE_SECONDS, process, wait_until

pytestmark = IN_THE_NURSERY

ROOT = str(Path(__file__).parents[2])

# What torchrun does, without the seconds that importing takes in each of its processes; nobody ends one when the other fails.
IN_TWO = """
import os
os.environ |= {{"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "{port}"}}
ranks = []
for rank in ("0", "1"):
    ranks.append(os.fork())
    if ranks[-1] == 0:
        os.environ["RANK"] = os.environ["LOCAL_RANK"] = rank
        break
else:
    print("exit codes:", [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in ranks], flush=True)
    os._exit(0)
"""

TRAINING = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from pipeline.compute.options import Options
from pipeline.training.loop import train
from tests.training.trainings import SETS, system
train(system(batch_size=4), SETS, Path({folder!r}), seed=1, options=Options(device="cpu", compile="off", num_loaders=1))
sys.exit()
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def in_two(*arguments: str, cwd: Path, prelude: str = "") -> tuple[list[int], str]:
    """``tasnet`` in two processes, each of which runs the prelude first: their exit codes, and what both have said."""
    both = nursery().run(*arguments, cwd=cwd, prelude=IN_TWO.format(port=free_port()) + prelude)
    assert both.returncode == 0, both.stderr
    return json.loads(both.stdout.splitlines()[-1].removeprefix("exit codes: ")), both.stderr


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    one = train(system(batch_size=4), SETS, tmp_path / "one", seed=1, options=Options(compile="off"))
    codes, said = in_two(cwd=tmp_path, prelude=TRAINING.format(root=ROOT, folder=str(tmp_path / "two")))
    assert codes == [0, 0], said
    states = [load_state(tmp_path / name / "last.safetensors") for name in ("one", "two")]
    for name, weight in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], weight, rtol=1e-3, atol=1e-4)
    columns = ["train_loss_db", "valid_loss_db", "valid_si_snri_db", "gradient_norm"]
    two = states[1]["progress"]["history"]
    np.testing.assert_allclose([[row[c] for c in columns] for row in two], one[columns], rtol=1e-3)
    events = tmp_path / "two" / "events"
    assert not events.exists() or len(list(events.iterdir())) == 1


PATIENT = """
import datetime, sys, time, torch
from pipeline.compute import distributed
distributed._TO_MEET = datetime.timedelta(seconds=1)
with distributed.joined(torch.device("cpu")) as group:
    time.sleep(3 * group.first)
    assert group.all_reduce_max(1 + group.rank) == 2
sys.exit()
"""


@pytest.mark.slow
def test_the_others_wait_for_the_first_longer_than_for_meeting_it(tmp_path: Path) -> None:
    codes, said = in_two(cwd=tmp_path, prelude=PATIENT)
    assert codes == [0, 0], said


def test_one_process_is_a_group_of_one() -> None:
    with joined(torch.device("cpu")) as group:
        assert group == Group(0, 1)
        assert group.first
        assert list(range(5))[group.share] == [0, 1, 2, 3, 4]
        assert float(group.total(torch.ones(()))) == 1


def test_shares_are_disjoint_and_complete() -> None:
    shares = [list(range(7))[Group(rank, 3).share] for rank in range(3)]
    assert sorted(index for share in shares for index in share) == list(range(7))


# ------------------------------------------------------------------------------------------------------------- by torchrun
TASNET = ["--no-python", str(Path(sys.executable).with_name("tasnet"))]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
QUIET = os.environ | {"PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems, of which one mixes on the fly, and a little speech."""
    root = tmp_path_factory.mktemp("torchrun")
    recipe = RECIPE.replace("batch_size = 2", "batch_size = 3").replace("train = 6, valid = 2", "train = 9, valid = 3")
    (root / "scripts").mkdir()
    (root / "pipeline.py").write_text("raise SystemExit('the file in this folder was run, not the package')")
    (root / "tiny.toml").write_text(recipe + "train = { mixing = 'dynamic', epochs = 2 }\n")
    write_voices(root / "speech", takes=1)
    return root


def arguments(work: str) -> list[str]:
    return ["run", "tiny.toml", "--corpus", "folder=speech", "-j", "1", "--device", "cpu", "--work", work]


def torchrun(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    with process([*TORCHRUN, *words], cwd=cwd, env=QUIET, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        stdout, stderr = running.communicate(timeout=PATIENCE_SECONDS)
        return subprocess.CompletedProcess(words, running.returncode, stdout, stderr)


@pytest.fixture(scope="module")
def two(place: Path) -> subprocess.CompletedProcess[str]:
    """Two processes' run: an odd batch in micro-batches, so that they have different numbers of parts."""
    return torchrun(*TASNET, *arguments("two"), "train", "--micro-batch", "1", cwd=place)


@pytest.mark.slow
def test_a_recipe_run_by_two_processes_is_run_once_and_trained_by_both(
    place: Path, two: subprocess.CompletedProcess[str]
) -> None:
    assert two.returncode == 0, two.stderr
    tasnet(*arguments("one"), "train", cwd=place, check=True)
    assert two.stdout.count("train:causal: ") == two.stderr.count("train:causal: two") == two.stderr.count("mix: two") == 1
    for name in ("noncausal", "causal"):
        states = [load_state(next((place / work / "train").glob(f"{name}-*")) / "last.safetensors") for work in ("one", "two")]
        for key, weight in states[0]["model"].items():
            torch.testing.assert_close(states[1]["model"][key], weight, rtol=1e-2, atol=1e-3, msg=f"{name} {key}")
        one, other = ([[row["train_loss_db"], row["valid_loss_db"]] for row in s["progress"]["history"]] for s in states)
        np.testing.assert_allclose(other, one, rtol=5e-3)


SLOWLY = """
    import os, time
    from pipeline.cli import app
    from pipeline.training import loop
    original = loop.Training.step

    def step(self, *arguments):
        deadline = time.monotonic() + 200
        waits = os.environ["RANK"] == "0" and self.progress.epoch > 1
        while waits and not self.interruptions.stop and time.monotonic() < deadline:
            time.sleep(0.05)
        original(self, *arguments)

    loop.Training.step = step
    app.main()
"""
SIX_EPOCHS = ("train:noncausal", "--set", "train.epochs=6")


def state_of(place: Path, work: str) -> dict[str, Any]:
    """The progress of the only training there."""
    (path,) = (place / work / "train").glob("*/last.safetensors")
    progress: dict[str, Any] = load_state(path)["progress"]
    return progress


@pytest.fixture(scope="module")
def stopped(place: Path) -> str:
    """What a training of two processes says that is preempted.

    The first process waits for the signal before its first step of the second epoch; the other one runs into it anywhere.
    """
    (place / "scripts" / "slowly.py").write_text(textwrap.dedent(SLOWLY))
    command = [*TORCHRUN, "scripts/slowly.py", *arguments("stopped"), *SIX_EPOCHS]
    with process(command, cwd=place, env=QUIET, stderr=subprocess.PIPE) as child:
        wait_until(lambda: list((place / "stopped" / "train").glob("*/last.safetensors")), running=child)
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=PATIENCE_SECONDS)
    assert child.returncode != 0
    progress = state_of(place, "stopped")
    assert 0 < (progress["epoch"] - 1) * 3 + progress["step"] < 18
    return str(said)


@pytest.mark.slow
def test_preempted_together_they_continue_as_if_nothing_had_been(place: Path, stopped: str) -> None:
    assert "another process has ended" not in stopped, "both left after the same step"
    codes, said = in_two(*arguments("stopped"), *SIX_EPOCHS, cwd=place)
    assert codes == [0, 0], said
    assert len(state_of(place, "stopped")["history"]) == 6


@pytest.mark.slow
@pytest.mark.usefixtures("two")
def test_what_two_processes_have_done_is_not_done_again(place: Path) -> None:
    codes, said = in_two(*arguments("two"), "train", cwd=place)
    assert codes == [0, 0], said
    assert said.count("train:causal: done already") == 1


@pytest.mark.slow
def test_a_mistake_is_said_once(place: Path) -> None:
    wrong = torchrun(*TASNET, *arguments("wrong"), "--set", "train.batch_size=1", cwd=place)
    assert wrong.returncode != 0
    assert [line for line in wrong.stderr.splitlines() if line.startswith("tasnet: ")] == [
        "tasnet: train.batch_size = 1 is less than the 2 processes that share it"
    ]


STUMBLING = """
import os
from pipeline.training import loop
from pipeline.errors import DatasetError
original = loop.Training.step

def step(self, *arguments):
    if self.steps_done == 1 and os.environ["RANK"] == "{rank}":
        {act}
    original(self, *arguments)

loop.Training.step = step
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "act", "ends", "reason"),
    [(1, "raise DatasetError('file: is gone')", 2, "tasnet: file: is gone"), (0, "os.abort()", -signal.SIGABRT, None)],
)
def test_when_one_process_fails_all_end(place: Path, tmp_path: Path, rank: int, act: str, ends: int, reason: str | None) -> None:
    stumbling = STUMBLING.format(rank=rank, act=act)
    codes, said = in_two(*arguments(str(tmp_path / "work")), "train:noncausal", cwd=place, prelude=stumbling)
    assert codes[rank] == ends
    assert codes[1 - rank] == 2
    assert f"tasnet: rank {1 - rank} of 2: another process has ended; its message says why" in said
    assert said.count("file: is gone") == (reason is not None)
    assert reason is None or reason in said


# torchrun's agent keeps a store for all starts of its processes, here in a process of its own.
STARTED_TWICE = """
import os, signal
from torch.distributed import TCPStore
from pipeline.training import loop
original = loop.Training.step

def step(self, *arguments):
    if self.steps_done == 4 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, *arguments)

loop.Training.step = step
os.environ |= {{"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "{port}"}}
os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
agent = os.fork()
if agent == 0:
    store = TCPStore("127.0.0.1", {port}, is_master=True, wait_for_workers=False)
    signal.pause()
codes = []
for restart in ("0", "1"):
    os.environ["TORCHELASTIC_RESTART_COUNT"] = restart
    ranks = []
    for rank in ("0", "1"):
        ranks.append(os.fork())
        if ranks[-1] == 0:
            os.environ["RANK"] = os.environ["LOCAL_RANK"] = rank
            break
    else:
        codes += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in ranks]
        continue
    break
else:
    os.kill(agent, signal.SIGKILL)
    os.waitpid(agent, 0)
    print("exit codes:", codes, flush=True)
    os._exit(0)
"""


@pytest.mark.slow
def test_started_again_after_one_was_killed_they_end_with_the_weights_of_an_undisturbed_training(place: Path) -> None:
    given = ["train:noncausal", "--set", "train.epochs=3", "--checkpoint-steps", "2"]
    killed = nursery().run(*arguments("killed"), *given, cwd=place, prelude=STARTED_TWICE.format(port=free_port()))
    assert killed.stdout.splitlines()[-1] == f"exit codes: {[2, -signal.SIGKILL, 0, 0]}", killed.stderr
    assert killed.stderr.count("train:noncausal: killed") == 2, "how often it was begun"
    codes, said = in_two(*arguments("undisturbed"), *given, cwd=place)
    assert codes == [0, 0], said
    states = [load_state(next((place / work / "train").glob("*/last.safetensors"))) for work in ("killed", "undisturbed")]
    assert states[0]["model"].keys() == states[1]["model"].keys()
    for name, weight in states[0]["model"].items():
        assert torch.equal(weight, states[1]["model"][name]), name
    losses = [[(row["train_loss_db"], row["valid_loss_db"]) for row in state["progress"]["history"]] for state in states]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3


def test_torchs_shared_store_is_warned_of_where_processes_on_several_machines_may_start_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment = {
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "2",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_MAX_RESTARTS": "3",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    distributed._warn_of_old_addresses()
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in caplog.text
    caplog.clear()
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    distributed._warn_of_old_addresses()
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    distributed._warn_of_old_addresses()
    assert not caplog.text
