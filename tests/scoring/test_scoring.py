"""Score tables: what a row holds; parallel, interrupted and repeated runs."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audio.files import read_audio, write_audio
from pipeline.compute.locks import locked
from pipeline.errors import ScoreError, WorkError
from pipeline.scoring import scoring
from pipeline.scoring.metrics import sdr, si_snr
from pipeline.scoring.mixture import Extra, Row, Settings
from pipeline.scoring.oracles import oracle
from pipeline.scoring.scoring import score, score_dataset, score_folders, score_tasks
from pipeline.scoring.tasks import Task, dataset_tasks, with_oracles
from pipeline.tables import SCORE_METRICS, SCORES, check_table
from tests.scoring.cases import RATE, separated, write_dataset
from tests.waiting import process, wait_until


# ---------------------------------------------------------------------------------------------------------------- arrays
def test_columns_come_in_the_promised_order() -> None:
    estimates, references, mixture = separated(0)
    scores = score(estimates, references, mixture=mixture, sample_rate=RATE)
    promised = ["source", "estimate", "si_snr_db", "si_snri_db", "sdr_db", "sdri_db", "status"]
    assert list(scores.columns[: len(promised)]) == promised
    check_table(scores.assign(system="a", mixture_id="m"), SCORES, origin="scores")


def test_every_metric_has_a_scale() -> None:
    """All of ``tables.SCORES`` that grows with quality, and all that can be requested."""
    requested = {column.name for column in SCORES.columns if column.name.removesuffix("_db") in get_args(Extra)}
    assert len(requested) == len(get_args(Extra))
    assert {metric.column for metric in SCORE_METRICS} == {"si_snr_db", "si_snri_db", "sdr_db", "sdri_db"} | requested
    assert all((metric.unit == "dB") == metric.column.endswith("_db") for metric in SCORE_METRICS)
    assert all(metric.lowest < metric.highest and metric.margin > 0 for metric in SCORE_METRICS)


def test_values_are_those_of_the_metrics() -> None:
    estimates, references, mixture = separated(1, num_sources=3)
    scores = score(estimates[[2, 0, 1]], references, mixture=mixture, sample_rate=RATE)
    assert scores["source"].tolist() == ["s1", "s2", "s3"]
    assert scores["estimate"].tolist() == [2, 3, 1]
    assert (scores["status"] == "ok").all()
    np.testing.assert_allclose(scores["si_snr_db"], si_snr(estimates, references), atol=1e-9)
    np.testing.assert_allclose(scores["sdr_db"], sdr(estimates, references), atol=1e-9)
    np.testing.assert_allclose(scores["si_snri_db"], scores["si_snr_db"] - si_snr(mixture, references), atol=1e-9)
    np.testing.assert_allclose(scores["sdri_db"], scores["sdr_db"] - sdr(mixture, references), atol=1e-9)


@given(
    seed=st.integers(0, 2**32 - 1),
    order=st.integers(1, 6).flatmap(lambda num_sources: st.permutations(range(num_sources))),
    exponents=st.lists(st.floats(-12, 12), min_size=6, max_size=6),
)
@settings(max_examples=20, deadline=None)
def test_order_and_level_of_estimates_do_not_matter(seed: int, order: list[int], exponents: list[float]) -> None:
    estimates, references, mixture = separated(seed, num_sources=len(order), num_samples=1500)
    scores = score(estimates, references, mixture=mixture, sample_rate=RATE)
    changed = (10.0 ** np.array(exponents)[: len(order), None] * estimates)[order]
    again = score(changed, references, mixture=mixture, sample_rate=RATE)
    values = ["si_snr_db", "si_snri_db", "sdr_db", "sdri_db"]
    np.testing.assert_allclose(again[values], scores[values], atol=1e-8)
    assert (again["estimate"] - 1).map(lambda place: order[place]).tolist() == (scores["estimate"] - 1).tolist()


def test_without_a_mixture_there_is_no_improvement() -> None:
    estimates, references, _ = separated(7)
    scores = score(estimates, references, mixture=None, sample_rate=RATE)
    assert scores[["si_snri_db", "sdri_db"]].isna().all(axis=None)
    assert (scores["status"] == "ok").all()


def test_more_estimates_than_references() -> None:
    estimates, references, mixture = separated(8)
    scores = score(np.stack([mixture * 0.1, *estimates]), references, mixture=mixture, sample_rate=RATE)
    assert scores["estimate"].tolist() == [2, 3]


@pytest.mark.parametrize(("estimates", "references"), [((1, 10), (2, 10)), ((10,), (1, 10)), ((0, 10), (0, 10))])
def test_shapes_that_do_not_fit(estimates: tuple[int, ...], references: tuple[int, ...]) -> None:
    with pytest.raises(ScoreError):
        score(np.ones(estimates), np.ones(references), mixture=None, sample_rate=RATE)


@pytest.mark.parametrize("shape", [(3000, 2), (65, 3000)])
def test_time_in_the_first_axis_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ScoreError, match=r"estimates: an array of shape .* give \[source, time\], for example estimates.T"):
        score(np.ones(shape), np.ones((2, 3000)), mixture=None, sample_rate=RATE)
    with pytest.raises(ScoreError, match="references"):
        score(np.ones((2, 3000)), np.ones(shape), mixture=None, sample_rate=RATE)


def test_what_is_no_array_of_samples_is_refused() -> None:
    estimates, references, mixture = separated(1)
    with pytest.raises(ScoreError, match="estimates: cannot be read as an array of samples"):
        score([[0.0, 1.0], [0.0]], references, mixture=mixture, sample_rate=RATE)
    with pytest.raises(ScoreError, match=r"mixture: expected one row of samples, \[time\]"):
        score(estimates, references, mixture=mixture[None], sample_rate=RATE)


def test_tensors_that_need_a_gradient() -> None:
    torch = pytest.importorskip("torch")
    estimates, references, mixture = separated(1)
    tensors = torch.tensor(estimates, requires_grad=True)
    expected = score(estimates, references, mixture=mixture, sample_rate=RATE)
    for given_estimates in (tensors, list(tensors)):
        scores = score(given_estimates, torch.tensor(references), mixture=torch.tensor(mixture), sample_rate=RATE)
        pd.testing.assert_frame_equal(scores, expected)
    assert si_snr(tensors, references) == pytest.approx(si_snr(estimates, references))
    assert score(tensors.to(torch.bfloat16), references, mixture=None, sample_rate=RATE)["status"].tolist() == ["ok"] * 2


# ----------------------------------------------------------------------------------------------------------------- files
def run(folder: Path, mixtures: pd.DataFrame, systems: str = "a", out: str = "scores.csv", num_workers: int = 1) -> pd.DataFrame:
    return score_dataset(
        mixtures, folder, {system: folder / system for system in systems}, out=folder / out, num_workers=num_workers
    )


def test_a_row_per_system_mixture_and_source(tmp_path: Path) -> None:
    scores = run(tmp_path, write_dataset(tmp_path), "ba")
    assert len(scores) == 2 * 6 * 2
    assert scores["system"].tolist() == ["b"] * 12 + ["a"] * 12
    assert scores["mixture_id"].tolist()[:4] == ["000", "000", "001", "001"]
    assert scores["speaker_id"].tolist()[:2] == ["011", "012"]
    assert (scores["status"] == "ok").all()
    assert not list(tmp_path.glob("*.journal"))


def test_workers_do_not_change_a_byte(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path)
    run(tmp_path, mixtures, "ab", out="one.csv", num_workers=1)
    run(tmp_path, mixtures, "ab", out="two.csv", num_workers=2)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_systems_do_not_change_each_others_rows(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path)
    together = run(tmp_path, mixtures, "ab", out="together.csv")
    alone = run(tmp_path, mixtures, "a", out="alone.csv")
    pd.testing.assert_frame_equal(together[together["system"] == "a"], alone, check_exact=True)


def test_odd_files_get_a_row_and_a_reason(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path)
    estimates = tmp_path / "a" / "s1"
    (estimates / "000.wav").unlink()
    (estimates / "001.wav").write_bytes(b"RIFF and then nothing that is audio")
    write_audio(estimates / "002.wav", separated(2)[0][0], 16000, "float32")
    write_audio(estimates / "003.wav", np.full(3000, np.nan), RATE, "float32")
    write_audio(tmp_path / "s1" / "004.wav", np.zeros(3000), RATE)
    (tmp_path / "mix" / "005.wav").unlink()
    scores = run(tmp_path, mixtures)
    first = scores[scores["source"] == "s1"]["status"].tolist()
    assert first == [
        "missing_estimate",
        "unreadable_estimate",
        "other_rate_estimate",
        "nan_estimate",
        "silent_reference",
        "missing_mixture",
    ]
    second = scores[scores["source"] == "s2"]
    assert second["status"].tolist() == ["ok"] * 5 + ["missing_mixture"]
    assert np.isfinite(second["sdr_db"]).all()
    assert scores[scores["source"] == "s1"]["sdr_db"].notna().tolist() == [False] * 5 + [True]


def test_a_mixture_without_any_file(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=2)
    for path in tmp_path.glob("**/001.wav"):
        path.unlink()
    scores = run(tmp_path, mixtures)
    assert scores["status"].tolist()[2:] == ["missing_reference;missing_estimate;missing_mixture"] * 2


def test_mistakes_that_end_a_run(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=1)
    with pytest.raises(ScoreError, match="no estimate of system 'c'"):
        run(tmp_path, mixtures, "c")
    with pytest.raises(ScoreError, match="000 occurs twice in the mixtures table"):
        run(tmp_path, pd.concat([mixtures, mixtures]))
    with pytest.raises(ScoreError, match="no mixtures"):
        run(tmp_path, mixtures.iloc[:0])


def test_a_table_that_cannot_be_written(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=1)
    (tmp_path / "file").touch()
    with pytest.raises(WorkError, match="cannot be written"):
        run(tmp_path, mixtures, out="file/scores.csv")


# ----------------------------------------------------------------------------------------------- interrupted and repeated
def tasnet_score(folder: Path, out: str, num_workers: int) -> AbstractContextManager[subprocess.Popen[str]]:
    """``tasnet score`` on the recordings of a folder."""
    command = [sys.executable, "-m", "pipeline", "score", "--estimates", "a", "--references", "."]
    command += ["--pattern", "references=s{source}/{mixture_id}", "-o", out, "-j", str(num_workers)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return process(command, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    """By the command itself, killed by the signal that nothing can catch; the rest is done by another number of workers."""
    write_dataset(tmp_path, num_mixtures=5)
    for number in range(5, 90):
        for name in ("mix", "s1", "s2", "a/s1", "a/s2"):
            os.link(tmp_path / name / f"00{number % 5}.wav", tmp_path / name / f"00{number}.wav")
    journal = tmp_path / "scores.csv.journal"

    def num_mixtures() -> int:
        return max(journal.read_text().count("\n") - 1, 0) if journal.is_file() else 0

    with tasnet_score(tmp_path, "scores.csv", 1) as running:
        wait_until(num_mixtures, running=running, seconds=200)
        running.kill()
    assert not (tmp_path / "scores.csv").exists()
    num_kept = 2 * num_mixtures()
    assert 0 < num_kept < 180
    with tasnet_score(tmp_path, "scores.csv", 2) as running:
        said = running.communicate(timeout=200)[1]
    assert f"scores.csv: {num_kept} of 180 rows were known, {180 - num_kept} are new" in said
    assert not journal.exists()
    folders = tmp_path / "a", tmp_path, tmp_path / "mix"
    patterns = {"references": "s{source}/{mixture_id}"}
    score_folders(*folders, system="a", patterns=patterns, out=tmp_path / "undisturbed.csv", num_workers=1)
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "undisturbed.csv").read_bytes()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Mixtures scored from now on rather than looked up, as ``mixture: systems``."""
    scored: list[str] = []
    compute = scoring._score_files

    def counting(task: Task, estimates: Mapping[str, Any], settings: Settings) -> dict[str, list[Row]]:
        scored.append(f"{task.mixture_id}: {' '.join(estimates)}")
        return compute(task, estimates, settings)

    monkeypatch.setattr(scoring, "_score_files", counting)
    return scored


def test_a_journal_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixtures = write_dataset(tmp_path)
    monkeypatch.setattr(scoring, "write_table", lambda *_: (_ for _ in ()).throw(WorkError("no room")))
    with pytest.raises(WorkError):
        run(tmp_path, mixtures)
    monkeypatch.undo()
    journal = tmp_path / "scores.csv.journal"
    journal.write_bytes(journal.read_bytes()[:-30])
    scored = counted(monkeypatch)
    run(tmp_path, mixtures)
    run(tmp_path, mixtures, out="undisturbed.csv")
    assert scored[0] == "005: a"
    assert len(scored) == 1 + 6
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "undisturbed.csv").read_bytes()


def test_a_journal_of_another_version_is_started_afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first such journals had no line for their identity, and lists of rows."""
    mixtures = write_dataset(tmp_path, num_mixtures=2)
    (tmp_path / "scores.csv.journal").write_text(json.dumps([{"mixture_id": "000", "digest": "a", "source": "s1"}]) + "\n")
    scored = counted(monkeypatch)
    assert len(run(tmp_path, mixtures)) == 4
    assert scored == ["000: a", "001: a"]


def test_a_table_that_lost_a_row_gets_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=3)
    run(tmp_path, mixtures)
    whole = (tmp_path / "scores.csv").read_bytes()
    lines = whole.splitlines(keepends=True)
    for edited in (lines[:3] + lines[4:], lines[:4] + lines[3:]):
        (tmp_path / "scores.csv").write_bytes(b"".join(edited))
        with monkeypatch.context() as patched:
            scored = counted(patched)
            run(tmp_path, mixtures)
        assert scored == ["001: a"]
        assert (tmp_path / "scores.csv").read_bytes() == whole


def test_only_what_is_missing_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixtures = write_dataset(tmp_path)
    run(tmp_path, mixtures, "a")
    scored = counted(monkeypatch)
    run(tmp_path, mixtures, "a")
    assert scored == []
    write_audio(tmp_path / "a" / "s1" / "003.wav", separated(99)[0][0], RATE, "float32")
    run(tmp_path, mixtures, "ab")
    assert scored == ["000: b", "001: b", "002: b", "003: a b", "004: b", "005: b"]
    run(tmp_path, mixtures, "ab", out="afresh.csv")
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "afresh.csv").read_bytes()


def test_rows_of_another_version_are_recomputed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=1)
    run(tmp_path, mixtures)
    monkeypatch.setattr(scoring, "VERSION", -1)
    scored = counted(monkeypatch)
    run(tmp_path, mixtures)
    assert scored == ["000: a"]


# ---------------------------------------------------------------------------------------------- systems added to a table
def test_another_system_joins_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=3)
    run(tmp_path, mixtures, "a")
    both = run(tmp_path, mixtures, "b")
    run(tmp_path, mixtures, "ab", out="together.csv")
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "together.csv").read_bytes()
    scored = counted(monkeypatch)
    again = run(tmp_path, mixtures, "a")
    assert scored == []
    pd.testing.assert_frame_equal(again, both)


def test_a_system_scored_again_replaces_its_rows_only(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=3)
    first = run(tmp_path, mixtures, "ab")
    scores = run(tmp_path, mixtures.iloc[:2], "a")
    assert len(scores[scores["system"] == "a"]) == 4
    pd.testing.assert_frame_equal(
        scores[scores["system"] == "b"].reset_index(drop=True), first[first["system"] == "b"].reset_index(drop=True)
    )


def test_metrics_of_one_system_are_empty_for_the_others(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=2)
    run(tmp_path, mixtures, "a")
    folders = {"b": tmp_path / "b"}
    scores = score_dataset(mixtures, tmp_path, folders, out=tmp_path / "scores.csv", num_workers=1, also=["sir"])
    assert scores.groupby("system")["sir_db"].count().to_dict() == {"a": 0, "b": 4}


@pytest.mark.parametrize("changed", ["s2", "mix"])
def test_systems_with_different_references_do_not_share_a_table(tmp_path: Path, changed: str) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=3)
    run(tmp_path, mixtures, "a")
    before = (tmp_path / "scores.csv").read_bytes()
    write_audio(tmp_path / changed / "001.wav", separated(99)[2], RATE)
    with pytest.raises(ScoreError, match="1 mixtures, for example 001, have other references or another mixture in the table"):
        run(tmp_path, mixtures, "b")
    assert (tmp_path / "scores.csv").read_bytes() == before
    assert len(run(tmp_path, mixtures, "ab")) == 12


def test_a_table_that_does_not_say_its_references_is_not_added_to(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=2)
    table = run(tmp_path, mixtures, "a").drop(columns="references_digest")
    table.to_csv(tmp_path / "scores.csv", index=False)
    with pytest.raises(ScoreError, match="does not say which references system 'a' was scored against"):
        run(tmp_path, mixtures, "b")
    assert len(run(tmp_path, mixtures, "a")) == 4


def test_two_at_once_do_not_lose_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=2)
    with locked(tmp_path / "scores.csv"):
        command = "from pipeline.compute import locks; import functools, sys; from pipeline.scoring import scoring\n"
        command += "scoring.locked = functools.partial(locks.locked, patience_seconds=0.1)\n"
        command += "from pipeline.cli.app import app; sys.argv = ['tasnet', *sys.argv[1:]]\n"
        command += "try:\n    app(sys.argv[1:], standalone_mode=False)\nexcept Exception as error:\n    sys.exit(str(error))"
        arguments = ["score", "--estimates", "a", "--references", ".", "--pattern", "references=s{source}/{mixture_id}"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with process([sys.executable, "-c", command, *arguments], cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as other:
            said = other.communicate(timeout=100)[1]
    assert "scores.csv.lock: held by another run" in said
    assert not (tmp_path / "scores.csv").exists()
    assert len(run(tmp_path, mixtures, "a")) == 4


# --------------------------------------------------------------------------------------------------------------- oracles
def test_oracles_in_place_of_systems(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=3)
    (tmp_path / "mix" / "002.wav").unlink()
    tasks = with_oracles(dataset_tasks(mixtures, tmp_path, {}))
    scores = score_tasks(tasks, out=tmp_path / "oracles.csv", num_workers=1)
    assert list(scores["system"].unique()) == ["oracle IRM", "oracle IBM", "oracle WFM"]
    found = scores[scores["mixture_id"] != "002"]
    assert (found["status"] == "ok").all()
    assert (found["si_snri_db"] > 0).all()
    assert set(scores[scores["mixture_id"] == "002"]["status"]) == {"missing_estimate;missing_mixture"}
    paths = [tmp_path / name / "000.wav" for name in ("mix", "s1", "s2")]
    mixture, *references = (read_audio(path)[0] for path in paths)
    estimates = oracle(mixture, np.stack(references), sample_rate=RATE, mask="binary")
    np.testing.assert_allclose(si_snr(estimates, np.stack(references)), scores["si_snr_db"][6:8], atol=1e-9)


def test_oracles_are_not_computed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=3)
    tasks = with_oracles(dataset_tasks(mixtures, tmp_path, {}))
    first = score_tasks(tasks, out=tmp_path / "oracles.csv", num_workers=1)
    scored = counted(monkeypatch)
    write_audio(tmp_path / "s2" / "001.wav", separated(99)[1][0], RATE)
    again = score_tasks(tasks, out=tmp_path / "oracles.csv", num_workers=1)
    assert scored == ["001: oracle IRM oracle IBM oracle WFM"]
    changed = first["mixture_id"] == "001"
    pd.testing.assert_frame_equal(again[~changed], first[~changed])
    assert (again[changed]["si_snr_db"] != first[changed]["si_snr_db"]).any()
