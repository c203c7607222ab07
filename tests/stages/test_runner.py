"""The runner, with stages of three lines."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from pipeline.errors import WorkError
from pipeline.stages import runner
from pipeline.stages.runner import Stage


def chain(work: Path, calls: list[str], *, size: int = 1, rate: float = 0.5) -> Stage:
    """Two stages, ``grow`` and then ``cut``, that note when they run."""

    def grow(folder: Path) -> None:
        calls.append("grow")
        (folder / "length").write_text(str(size))

    def cut(folder: Path) -> None:
        calls.append("cut")
        (folder / "half").write_text(str(rate * float((first.folder(work) / "length").read_text())))

    first = Stage("grow", 1, {"tree": {"size": size}}, grow)
    return Stage("cut", 1, {"tree": {"rate": rate}}, cut, needs=(first,))


def run(stage: Stage, work: Path) -> None:
    for each in runner.ordered([stage]):
        runner.run_stage(each, work)


def test_runs_once_and_in_order(tmp_path: Path) -> None:
    calls: list[str] = []
    stage = chain(tmp_path, calls)
    run(stage, tmp_path)
    run(stage, tmp_path)
    assert calls == ["grow", "cut"]
    assert (stage.folder(tmp_path) / "half").read_text() == "0.5"
    assert [s.state for s in runner.status([stage], tmp_path)] == ["done", "done"]


def test_only_what_depends_on_a_change_reruns(tmp_path: Path) -> None:
    calls: list[str] = []
    run(chain(tmp_path, calls), tmp_path)
    run(chain(tmp_path, calls, rate=0.25), tmp_path)
    assert calls == ["grow", "cut", "cut"]
    run(chain(tmp_path, calls, size=2), tmp_path)
    assert calls == ["grow", "cut", "cut", "grow", "cut"]
    run(chain(tmp_path, calls), tmp_path)
    assert len(calls) == 5, "an earlier result is found again"


def test_status_says_why(tmp_path: Path) -> None:
    stage = chain(tmp_path, [])
    assert [s.reasons for s in runner.status([stage], tmp_path)] == [("never run",), ("never run", "after grow")]
    run(stage, tmp_path)
    grow, cut = runner.status([chain(tmp_path, [], size=3)], tmp_path)
    assert (grow.state, grow.reasons) == ("new", ("tree.size: 1 → 3",))
    assert (cut.state, cut.reasons) == ("new", ("grow changed", "after grow"))


def test_fingerprint_does_not_depend_on_key_order_but_on_version() -> None:
    def nothing(folder: Path) -> None: ...

    assert Stage("a", 1, {"x": 1, "y": 2}, nothing).fingerprint == Stage("a", 1, {"y": 2, "x": 1}, nothing).fingerprint
    assert Stage("a", 1, {}, nothing).fingerprint != Stage("a", 2, {}, nothing).fingerprint


def test_a_stage_that_fails_is_not_done_and_is_continued(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "part").write_text("kept")
        raise RuntimeError("half way")

    stage = Stage("make", 1, {}, fail)
    with pytest.raises(RuntimeError):
        runner.run_stage(stage, tmp_path)
    assert [s.state for s in runner.status([stage], tmp_path)] == ["started"]
    seen: list[bool] = []
    again = Stage("make", 1, {}, lambda folder: seen.append((folder / "part").exists()))
    runner.run_stage(again, tmp_path)
    assert seen == [True]
    assert "half way" not in json.dumps(json.loads((again.folder(tmp_path) / runner.RECORD).read_text()))


def _die(folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _run_dying(work: Path) -> None:
    runner.run_stage(Stage("make", 1, {}, _die), work)


def test_killed_stage_releases_its_folder(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_run_dying, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    stage = Stage("make", 1, {}, lambda folder: None)
    assert [s.state for s in runner.status([stage], tmp_path)] == ["started"]
    runner.run_stage(stage, tmp_path)
    assert runner.is_done(stage, tmp_path)


def test_what_a_killed_run_was_just_writing_is_removed(tmp_path: Path) -> None:
    stage = Stage("make", 1, {}, lambda folder: None)
    left_over = stage.folder(tmp_path) / "deep" / ".scores.csv.4711.tmp"
    left_over.parent.mkdir(parents=True)
    left_over.write_text("half")
    (left_over.parent / "kept.csv").write_text("whole")
    runner.run_stage(stage, tmp_path)
    assert [path.name for path in left_over.parent.iterdir()] == ["kept.csv"]


def test_two_runs_of_one_stage_are_refused(tmp_path: Path) -> None:
    stage = Stage("make", 1, {}, lambda folder: None)

    def run_again(folder: Path) -> None:
        with pytest.raises(WorkError, match="another run"):
            runner.run_stage(stage, tmp_path)

    runner.run_stage(Stage("make", 1, {}, run_again), tmp_path)


def test_forget_makes_a_stage_run_again(tmp_path: Path) -> None:
    calls: list[str] = []
    stage = chain(tmp_path, calls)
    run(stage, tmp_path)
    runner.forget(stage, tmp_path)
    run(stage, tmp_path)
    assert calls == ["grow", "cut", "cut"]


def test_full_disk_is_one_line(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        raise OSError(28, "No space left on device", str(folder / "big.wav"))

    with pytest.raises(WorkError, match=r"big\.wav: cannot be written \(No space left on device\)"):
        runner.run_stage(Stage("mix", 1, {}, fill), tmp_path)


def test_work_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("")
    with pytest.raises(WorkError, match="--work"):
        runner.run_stage(Stage("mix", 1, {}, lambda folder: None), tmp_path / "work")
