"""The runner, with stages of three lines."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pipeline.compute.locks import locked
from pipeline.errors import WorkError
from pipeline.stages import runner
from pipeline.stages.runner import Stage


def make(run: Callable[[Path], None] = lambda folder: None, *, name: str = "make", version: int = 1) -> Stage:
    """A stage without settings."""
    return Stage(name, {"making": version}, {}, run)


def chain(work: Path, calls: list[str], *, size: int = 1, rate: float = 0.5) -> Stage:
    """Two stages, ``grow`` and then ``cut:half``, that note when they run."""

    def grow(folder: Path) -> None:
        calls.append("grow")
        (folder / "length").write_text(str(size))

    def cut(folder: Path) -> None:
        calls.append("cut")
        (folder / "half").write_text(str(rate * float((first.folder(work) / "length").read_text())))

    first = Stage("grow", {"growing": 1}, {"tree": {"size": size}}, grow)
    return Stage("cut", {"cutting": 1}, {"tree": {"rate": rate}}, cut, needs=(first,), label="half")


def run(stage: Stage, work: Path) -> None:
    for each in runner.ordered([stage]):
        runner.run_stage(each, work)


def states(stage: Stage, work: Path) -> list[str]:
    return [found.state for found in runner.status([stage], work)]


# -------------------------------------------------------------------------------------------------------------- running
def test_stages_run_once_and_in_order(tmp_path: Path) -> None:
    calls: list[str] = []
    stage = chain(tmp_path, calls)
    run(stage, tmp_path)
    run(stage, tmp_path)
    assert calls == ["grow", "cut"]
    assert (stage.folder(tmp_path) / "half").read_text() == "0.5"
    assert states(stage, tmp_path) == ["done", "done"]


def test_only_what_depends_on_a_change_reruns(tmp_path: Path) -> None:
    calls: list[str] = []
    run(chain(tmp_path, calls), tmp_path)
    run(chain(tmp_path, calls, rate=0.25), tmp_path)
    assert calls == ["grow", "cut", "cut"]
    run(chain(tmp_path, calls, size=2), tmp_path)
    assert calls == ["grow", "cut", "cut", "grow", "cut"]
    run(chain(tmp_path, calls), tmp_path)
    assert len(calls) == 5, "an earlier result is found again"


def test_a_stage_that_fails_is_not_done_and_resumes(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "part").write_text("kept")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        runner.run_stage(make(fail), tmp_path)
    assert states(make(), tmp_path) == ["started"]
    seen: list[bool] = []
    again = make(lambda folder: seen.append((folder / "part").exists()))
    runner.run_stage(again, tmp_path)
    assert seen == [True]
    assert "half way" not in json.dumps(json.loads((again.folder(tmp_path) / runner.RECORD).read_text()))


def _die(folder: Path) -> None:
    (folder / "part").write_text("kept")
    os.kill(os.getpid(), signal.SIGKILL)


def _run_dying(work: Path) -> None:
    runner.run_stage(make(_die), work)


def run_killed(work: Path) -> None:
    """Run ``make()`` in a process that is killed in the middle of it."""
    process = multiprocessing.get_context("spawn").Process(target=_run_dying, args=(work,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def test_a_killed_stage_releases_its_folder(tmp_path: Path) -> None:
    run_killed(tmp_path)
    assert states(make(), tmp_path) == ["started"]
    runner.run_stage(make(), tmp_path)
    assert runner.is_done(make(), tmp_path)


def test_what_a_killed_run_was_just_writing_is_removed(tmp_path: Path) -> None:
    left_over = make().folder(tmp_path) / "deep" / ".scores.csv.4711.tmp"
    left_over.parent.mkdir(parents=True)
    left_over.write_text("half")
    (left_over.parent / "kept.csv").write_text("whole")
    runner.run_stage(make(), tmp_path)
    assert [path.name for path in left_over.parent.iterdir()] == ["kept.csv"]


def test_two_runs_of_one_stage_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "locked", partial(locked, patience_seconds=0.1))

    def run_again(folder: Path) -> None:
        with pytest.raises(WorkError, match="another run"):
            runner.run_stage(make(), tmp_path)

    runner.run_stage(make(run_again), tmp_path)


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        raise OSError(28, "No space left on device", str(folder / "big.wav"))

    with pytest.raises(WorkError, match=r"big\.wav: cannot be written \(No space left on device\)"):
        runner.run_stage(make(fill), tmp_path)


def test_a_work_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("")
    with pytest.raises(WorkError, match="--work"):
        runner.run_stage(make(), tmp_path / "work")


# ------------------------------------------------------------------------------------------------ status and fingerprints
def test_status_says_why(tmp_path: Path) -> None:
    stage = chain(tmp_path, [])
    assert [s.reasons for s in runner.status([stage], tmp_path)] == [("never run",), ("never run", "after grow")]
    run(stage, tmp_path)
    grow, cut = runner.status([chain(tmp_path, [], size=3)], tmp_path)
    assert (grow.state, grow.reasons) == ("new", ("tree.size: 1 → 3",))
    assert (cut.stage.id, cut.state, cut.reasons) == ("cut:half", "new", ("grow changed", "after grow"))


def test_status_names_the_code_that_has_changed(tmp_path: Path) -> None:
    runner.run_stage(make(), tmp_path)
    [found] = runner.status([make(version=2)], tmp_path)
    assert (found.state, found.reasons) == ("new", ("versions.making: 1 → 2",))


def test_status_compares_a_stage_with_its_own_past_only(tmp_path: Path) -> None:
    def train(system: str, rate: float) -> Stage:
        return Stage("train", {"code": 1}, {"rate": rate}, lambda folder: None, label=system)

    runner.run_stage(train("causal", 0.1), tmp_path)
    found = runner.status([train("causal", 0.2), train("noncausal", 0.2)], tmp_path)
    assert [each.reasons for each in found] == [("rate: 0.1 → 0.2",), ("never run",)]


def test_fingerprints_depend_on_versions_and_labels_but_not_on_the_order_of_keys() -> None:
    def stage(settings: dict[str, int], version: int = 1, label: str = "") -> Stage:
        return Stage("a", {"code": version}, settings, lambda folder: None, label=label)

    first = stage({"x": 1, "y": 2})
    assert first.fingerprint == stage({"y": 2, "x": 1}).fingerprint
    others = [stage({"x": 1, "y": 2}, version=2), stage({"x": 1, "y": 2}, label="b"), stage({"x": 1})]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 4


# --------------------------------------------------------------------------------------------------------- running again
def counting(counts: list[int]) -> Stage:
    """``make()``, which writes the number of its run and notes whether anything of an earlier run is in its folder."""

    def count(folder: Path) -> None:
        counts.append(sum(path.name not in (runner.STARTED, runner.LOG) for path in folder.iterdir()))
        (folder / "output").write_text(str(len(counts)))

    return make(count)


def left_beside(work: Path) -> list[str]:
    """Names beside the stage's folder that are neither it nor a lock."""
    folder = make().folder(work)
    return sorted(path.name for path in folder.parent.iterdir() if path != folder and not path.name.endswith(".lock"))


def test_a_stage_set_aside_runs_again_from_the_start(tmp_path: Path) -> None:
    counts: list[int] = []
    stage = counting(counts)
    for _ in range(3):
        runner.set_aside(stage, tmp_path)
        assert states(stage, tmp_path) == ["new"]
        runner.run_stage(stage, tmp_path)
    assert counts == [0, 0, 0]
    assert (stage.folder(tmp_path) / "output").read_text() == "3"
    assert left_beside(tmp_path) == []


def test_the_old_output_is_kept_until_the_new_one_is_whole(tmp_path: Path) -> None:
    runner.run_stage(counting([]), tmp_path)
    old = tmp_path / "make" / f".{make().folder(tmp_path).name}.old"
    runner.set_aside(make(), tmp_path)
    [found] = runner.status([make()], tmp_path)
    assert found.reasons == (f"forced; the previous output stays in {old} until the new one is whole",)

    def look(folder: Path) -> None:
        assert (old / "output").read_text() == "1"
        assert (old / runner.RECORD).is_file()

    runner.run_stage(make(look), tmp_path)
    assert not old.exists()


@pytest.mark.parametrize("forced_again", [False, True], ids=["same-command", "forced-again"])
def test_a_forced_run_that_is_killed_ends_well_with_the_next_command(tmp_path: Path, forced_again: bool) -> None:
    runner.run_stage(counting([]), tmp_path)
    for _ in range(2):
        runner.set_aside(make(), tmp_path)
        run_killed(tmp_path)
        assert states(make(), tmp_path) == ["started"]
        [old] = [name for name in left_beside(tmp_path) if name.endswith(runner.OLD)]
        assert (tmp_path / "make" / old / "output").read_text() == "1", "the finished output outlives every kill"
    if forced_again:
        runner.set_aside(make(), tmp_path)
    seen: list[bool] = []
    runner.run_stage(make(lambda folder: seen.append((folder / "part").exists())), tmp_path)
    assert seen == [not forced_again], "without force it resumes, with force it starts again"
    assert runner.is_done(make(), tmp_path)
    assert left_beside(tmp_path) == []


def test_a_kill_while_leftovers_are_removed_leaves_none_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner.run_stage(make(), tmp_path)
    runner.set_aside(make(), tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            runner.run_stage(make(), tmp_path)
    assert runner.is_done(make(), tmp_path)
    assert left_beside(tmp_path)
    runner.run_stage(make(lambda folder: pytest.fail("it is done")), tmp_path)
    assert left_beside(tmp_path) == []


def test_an_unfinished_stage_that_is_set_aside_is_never_resumed_in_part(tmp_path: Path) -> None:
    counts: list[int] = []
    for _ in range(3):
        run_killed(tmp_path)
        runner.set_aside(make(), tmp_path)
    runner.run_stage(counting(counts), tmp_path)
    assert counts == [0]
    assert left_beside(tmp_path) == []


@pytest.mark.parametrize("is_finished", [True, False], ids=["finished", "unfinished"])
def test_files_that_somebody_else_put_into_a_stages_folder_outlive_every_forced_run(tmp_path: Path, is_finished: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder = make().folder(tmp_path)
    if is_finished:
        runner.run_stage(counting([]), tmp_path)
    else:
        run_killed(tmp_path)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "mine.wav").write_text("precious")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / ".output.123.tmp").touch()
    for _ in range(2):
        runner.set_aside(counting([]), tmp_path)
        run_killed(tmp_path)
        runner.set_aside(counting([]), tmp_path)
    runner.run_stage(counting([]), tmp_path)
    assert (folder / "deep" / "er" / "mine.wav").read_text() == "precious"
    assert (folder / "link").readlink() == tmp_path / "elsewhere"
    assert (folder / "output").read_text() == "1"
    assert not (folder / ".output.123.tmp").exists()
    assert left_beside(tmp_path) == []


def test_a_stages_own_files_of_varying_names_are_not_kept(tmp_path: Path) -> None:
    stage = replace(make(lambda folder: (folder / "events").mkdir()), varying=("events/*",))
    runner.run_stage(stage, tmp_path)
    (stage.folder(tmp_path) / "events" / "of 12:30").touch()
    runner.set_aside(stage, tmp_path)
    runner.run_stage(stage, tmp_path)
    assert list((stage.folder(tmp_path) / "events").iterdir()) == []


def _interrupted(path: Path) -> None:
    raise KeyboardInterrupt
