"""Work on a dask cluster: the same bytes as in one process, whatever dies; the runs of a killed scheduler continue."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import distributed
import pytest
import torch
from dask import config as dask_config

from pipeline.compute.cluster import connected_cluster, on_cluster
from pipeline.compute.journal import Journal
from pipeline.compute.options import Options
from pipeline.compute.workers import chunked, map_parallel
from pipeline.errors import UsageError, WorkError
from pipeline.mixtures.statistics import measure_levels
from pipeline.mixtures.verification import verify
from pipeline.models.checkpoints import save_model
from pipeline.recipe.reading import load_recipe
from pipeline.scoring import dataset_tasks, score_tasks
from pipeline.separation.offline import separate_dataset
from pipeline.stages.run import Run, run
from tests.cli.commands import RECIPE
from tests.compute.dask_processes import ROOT, Processes, dask_processes, is_alive, kill, process_id
from tests.mixtures.small_corpus import digests
from tests.networks import network
from tests.nursery import IN_THE_NURSERY, nursery
from tests.voices import write_voices
from tests.waiting import wait_until

pytestmark = [IN_THE_NURSERY, pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")]

NUM_MIXTURES = 60


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with dask_processes(tmp_path_factory.mktemp("dask") / "log.txt") as processes:
        yield processes


@pytest.fixture
def cluster(dask: Processes) -> Iterator[str]:
    with on_cluster(dask.address):
        yield dask.address


# -------------------------------------------------------------------------------------------------------------- the door
def test_results_come_in_the_order_of_the_arguments(cluster: str) -> None:
    assert list(map_parallel(abs, range(-50, 0), num_workers=1)) == list(range(50, 0, -1))
    assert list(map_parallel(abs, [])) == []


def _process(folder: Path, number: int) -> int:
    (folder / str(number)).touch()
    if number >= 20:
        raise WorkError(f"{number} fails")
    return os.getpid()


def test_workers_do_everything_and_an_error_comes_after_the_results_before_it(
    cluster: str, dask: Processes, tmp_path: Path
) -> None:
    done: list[int] = []
    with pytest.raises(WorkError, match="20 fails"):
        for result in map_parallel(partial(_process, tmp_path), range(1000), num_workers=1):
            done.append(result)  # noqa: PERF402 - one by one, as they come
    assert len(done) == 20
    assert set(done) <= set(dask.workers)
    assert len(list(tmp_path.iterdir())) < 100


def _raises(number: int) -> None:
    raise ZeroDivisionError(f"of {number}")


def test_an_unexpected_error_keeps_its_type_and_its_traceback(cluster: str) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(map_parallel(_raises, range(4)))
    assert "_raises" in "".join(traceback.format_exception(caught.value))


def test_only_a_few_calls_are_worked_ahead_of_a_slow_caller(cluster: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    results = map_parallel(partial(_touch, tmp_path / "there"), range(1000))
    for _ in range(3):
        next(results)
        time.sleep(0.1)
    assert len(list((tmp_path / "there").iterdir())) < 40
    results.close()  # type: ignore[attr-defined]
    assert list(map_parallel(abs, range(-3, 0))) == [3, 2, 1]


def _touch(folder: Path, number: int) -> None:
    (folder / str(number)).touch()


def test_relative_paths_mean_the_same_files_on_a_worker(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers were started in another folder."""
    monkeypatch.chdir(tmp_path)
    list(map_parallel(partial(_touch, Path()), range(3)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]


def test_a_folder_that_a_worker_does_not_have_is_named(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "cwd", lambda: Path("/nowhere/at/all"))
    with pytest.raises(
        WorkError, match=r"has no folder /nowhere/at/all .*; give the command in a folder that all machines share"
    ):
        list(map_parallel(abs, [1]))


def test_a_worker_of_another_version_is_refused(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.compute.cluster.package_version", lambda: "99")
    with pytest.raises(WorkError, match=r"has tasnet-pipeline .* instead of 99"):
        list(map_parallel(abs, [1]))


@pytest.mark.parametrize("name", ["", "local:0", "local:x", "slurm:", "host:8786", "tcp://host", "tcp://:1 2", "kubernetes"])
def test_what_is_no_cluster_is_refused(name: str) -> None:
    with (
        pytest.raises(UsageError, match=r"write it as tcp://HOST:PORT, local, local:WORKERS, slurm or slurm:JOBS"),
        on_cluster(name),
    ):
        pass


def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.compute.cluster.find_spec", lambda name: None)
    with (
        pytest.raises(UsageError, match=r"needs the package distributed: pip install 'tasnet-pipeline\[cluster\]'"),
        on_cluster("local"),
    ):
        pass


def test_no_scheduler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.compute.cluster.CONNECT_SECONDS", 0.2)
    said = r"no scheduler answers there \(.*\); start one with `dask scheduler`$"
    with pytest.raises(WorkError, match=said) as caught, on_cluster("tcp://127.0.0.1:9"):
        pass
    assert "\n" not in str(caught.value)
    assert connected_cluster() is None


def test_pieces_are_as_long_in_seconds_whatever_their_number() -> None:
    lengths = [1.0] * 40 + [10.0] * 4
    pieces = chunked(lengths, 8, seconds=float)
    assert [length for piece in pieces for length in piece] == lengths
    assert max(map(sum, pieces)) <= 8 * sum(lengths) / len(lengths) + max(lengths)
    assert max(map(len, pieces)) > 8
    assert chunked([0.0, 0.0], 8, seconds=float) == [[0.0, 0.0]]
    assert chunked([], 8, seconds=float) == []


# ------------------------------------------------------------------------------------------------------------ the stages
@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, speech, a network, and what one process makes of them in ``one``."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "tiny.toml").write_text(RECIPE.replace("train = 6", f"train = {NUM_MIXTURES}"))
    write_voices(folder / "speech", speakers=12)
    save_model(network(torch.float32), folder / "model.safetensors")
    made = make(folder, "one", num_workers=1)
    evaluate(folder, "one", made)
    return folder


def make(place: Path, work: str, **options: Any) -> Run:
    """The stages from speech to packed mixtures."""
    given = Options(work=place / work, named_corpora={"folder": place / "speech"}, **options)
    return run(load_recipe(place / "tiny.toml"), ["mix", "pack"], options=given)


def evaluate(place: Path, work: str, made: Run) -> None:
    """Estimates, their scores, and statistics."""
    model = network(torch.float32)
    dataset, estimates = made.folders["mix"], place / work / "separate"
    test = made.mixtures[made.mixtures["split"] == "test"]
    separate_dataset(model, made.mixtures, dataset, estimates, model_file=place / "model.safetensors")
    score_tasks(dataset_tasks(test, dataset, {"some": estimates}), out=place / work / "scores" / "scores.csv", num_workers=1)
    measure_levels(made.mixtures, dataset, num_workers=1).to_csv(place / work / "levels.csv")


def tree(work: Path) -> dict[str, str]:
    """Digests of all that must not depend on what worked where; separating takes its time, and says so."""
    dated = ("log.txt", "stage.json", "timing.csv")
    return {path: digest for path, digest in digests(work).items() if Path(path).name not in dated and not path.endswith(".lock")}


def killing_after(appended: int, pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill a process once so many batches have been recorded."""
    original, calls = Journal.append, []

    def append(journal: Journal, entries: Any) -> None:
        original(journal, entries)
        calls.append(1)
        if len(calls) == appended:
            kill(pid)

    monkeypatch.setattr(Journal, "append", append)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The names of all tasks, and the bytes that each is sent as."""
    tasks: list[tuple[str, int]] = []
    original: Callable[..., Any] = distributed.Client.submit

    def submit(client: Any, function: Any, argument: Any, *, key: str) -> Any:
        tasks.append((key, len(cloudpickle.dumps((function, argument)))))
        return original(client, function, argument, key=key)

    monkeypatch.setattr(distributed.Client, "submit", submit)
    return tasks


def test_two_processes_make_the_same_bytes(place: Path) -> None:
    evaluate(place, "two", make(place, "two", num_workers=2))
    assert tree(place / "two") == tree(place / "one")


def test_a_cluster_that_loses_a_worker_midway_makes_the_same_bytes(
    place: Path, dask: Processes, sent: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    killing_after(2, dask.workers[0], monkeypatch)
    made = make(place, "many", cluster=dask.address)
    with on_cluster(dask.address):
        evaluate(place, "many", made)
        assert verify(made.folders["mix"]) == []
    assert not is_alive(dask.workers[0])
    assert tree(place / "many") == tree(place / "one")
    names = {distributed.utils.key_split(key) for key, _ in sent}
    assert names >= {"scan", "check inputs", "mix", "pack train", "pack valid", "separate", "score", "measure", "verify"}
    assert max(size for _, size in sent) < 32_000, "only what a task needs is sent"


def test_when_the_scheduler_dies_the_same_command_continues(
    place: Path, dask: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        killing_after(2, dask.scheduler, patched)
        with pytest.raises(
            WorkError, match="the scheduler is gone; once there is one again, the same command continues"
        ) as caught:
            make(place, "headless", cluster=dask.address)
    assert "\n" not in str(caught.value)
    (journal,) = (place / "headless" / "mix").glob("*/journal.jsonl")
    num_done = len(journal.read_text().splitlines()) - 1
    assert 0 < num_done < NUM_MIXTURES
    written = {path: path.stat().st_mtime_ns for path in journal.parent.rglob("*.wav")}
    made = make(place, "headless", num_workers=1)
    assert sum(path.stat().st_mtime_ns == before for path, before in written.items()) >= 3 * num_done
    evaluate(place, "headless", made)
    assert tree(place / "headless") == tree(place / "one")


# ------------------------------------------------------------------------------------------------------ on this machine
SLOWLY = """
import time
from pipeline.compute.journal import Journal
original = Journal.append

def append(self, entries):
    original(self, entries)
    time.sleep(200)

Journal.append = append
"""


def test_ctrl_c_leaves_no_processes(place: Path) -> None:
    """Those of ``--cluster local:2`` are in the same group, and the keyboard interrupts them all."""
    arguments = ["run", "tiny.toml", "mix", "--corpus", "folder=speech", "--work", "interrupted", "--cluster", "local:2"]
    leader = nursery().start(*arguments, cwd=place, prelude=SLOWLY)
    wait_until(lambda: list((place / "interrupted").rglob("*.wav")) or nursery().has_ended(), seen=lambda: nursery().stderr)
    members = [pid for pid in _group(leader) if pid != leader]
    assert len(members) >= 2, nursery().stderr
    nursery().send(signal.SIGINT)
    assert nursery().ended() == 130
    assert nursery().stderr.splitlines()[-1] == "tasnet: stopped; the same command continues"
    assert "Traceback" not in nursery().stderr
    wait_until(lambda: not any(map(is_alive, members)), seen=lambda: [pid for pid in members if is_alive(pid)])


def _group(leader: int) -> list[int]:
    """The processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found += [int(path.parent.name)] if int(fields[2]) == leader else []
    return found


# ------------------------------------------------------------------------------------------------------------- on SLURM
SBATCH = """#!/usr/bin/env bash
cp "$1" {folder}/job.sh
setsid bash {folder}/job.sh < /dev/null > {folder}/log.txt 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/usr/bin/env bash
echo "$@" >> {folder}/cancelled.txt
kill -- -"$1"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What there is of SLURM: a command that starts a job, and one that ends it."""
    for name, script in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(script.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.slow
def test_slurm_jobs_come_for_the_work_and_are_cancelled_after_it(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ROOT)
    job = {"cores": 1, "memory": "1GB", "interface": "lo", "worker-extra-args": ["--no-dashboard"]}
    with dask_config.set({"jobqueue.slurm": job}), on_cluster("slurm:1"):
        workers = set(map_parallel(process_id, range(8)))
        assert os.getpid() not in workers
    assert "#SBATCH --cpus-per-task=1" in (slurm / "job.sh").read_text()
    assert len((slurm / "cancelled.txt").read_text().splitlines()) == 1
    wait_until(lambda: not any(map(is_alive, workers)))


def test_slurm_without_the_size_of_a_job_is_one_line() -> None:
    with (
        pytest.raises(
            UsageError, match=r"jobqueue.yaml how many cores and how much memory a job has, as shown in docs/cluster.md"
        ),
        on_cluster("slurm"),
    ):
        pass
