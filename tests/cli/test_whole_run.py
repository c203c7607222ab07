"""The whole way through the real command: once, again, changed, and killed at every kind of place."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import safe_open

import pipeline
from pipeline.models.checkpoints import METADATA
from tests.cli.commands import RECIPE, python_m_pipeline, tasnet
from tests.nursery import IN_THE_NURSERY, nursery
from tests.voices import write_voices
from tests.waiting import wait_until

pytestmark = IN_THE_NURSERY

RUN = ("run", "tiny.toml", "--corpus", "folder=speech", "--device", "cpu", "-j", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "tiny.toml").write_text(RECIPE.replace("train = 6", "train = 60").replace("epochs = 1", "epochs = 3"))
    write_voices(folder / "speech")
    return folder


@pytest.fixture(scope="module")
def finished(place: Path) -> subprocess.CompletedProcess[str]:
    """An undisturbed run in ``work``."""
    return python_m_pipeline(*RUN, cwd=place)


def contents(folder: Path) -> dict[str, str]:
    """What must not depend on interruptions: digests of plans, mixtures, models and scores, by path below the work folder."""
    kinds = (
        "scan/*/manifest.csv",
        "plan/*/plan.csv",
        "mix/*/**/*.wav",
        "mix/*/*.csv",
        "train/*/best.safetensors",
        "score/*/scores*",
        "oracles/*/scores.csv",
    )
    paths = sorted(path for kind in kinds for path in folder.glob(kind))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_a_run_ends_with_a_comparison_and_a_report(place: Path, finished: subprocess.CompletedProcess[str]) -> None:
    assert "noncausal" in finished.stdout
    report = place / finished.stdout.splitlines()[-1].removeprefix("Report: ")
    assert report.name == "report.html"
    page = report.read_text()
    assert "causal" in page
    assert "oracle IRM" in page
    assert "mir_eval 0.8" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (report.parent / "report.md").is_file()
    assert (report.parent / "summary.csv").is_file()


def test_what_the_systems_cost_and_see_is_measured(place: Path, finished: subprocess.CompletedProcess[str]) -> None:
    facts = {
        name: json.loads(next((place / "work").glob(f"separate/{name}-*/facts.json")).read_text())
        for name in ("causal", "noncausal")
    }
    assert (facts["causal"]["look_ahead_samples"], facts["noncausal"]["look_ahead_samples"]) == (15, None)
    assert facts["causal"]["causality_deviation"] < 1e-12 < facts["noncausal"]["causality_deviation"]
    for found in facts.values():
        assert found["cpu_real_time_factor"] == found["real_time_factor"] > 0
        assert found["device"] == "cpu"
        assert "thread" in found["cpu"]


def test_its_models_are_laid_out_for_a_hub(place: Path, finished: subprocess.CompletedProcess[str]) -> None:
    chosen = ("--corpus", "folder=speech", "--licence", "cc-by-4.0", "--onnx")
    printed = tasnet("publish", "tiny.toml", "hub", *chosen, cwd=place, check=True).stdout.splitlines()
    assert printed == [
        str(path.relative_to(place)) for name in ("noncausal", "causal") for path in _laid_out(place / "hub" / name)
    ]
    assert {path for path in (place / "hub").rglob("*") if path.is_file()} == {place / path for path in printed}
    card = (place / "hub" / "causal" / "README.md").read_text(encoding="utf-8")
    assert card.startswith('---\nlicense: "cc-by-4.0"\nlibrary_name: "tasnet-pipeline"\n')
    assert "look-ahead: 15 samples" in card
    trained = next((place / "work").glob("train/causal-*/best.safetensors"))
    published = pipeline.load_model(place / "hub" / "causal" / "model.safetensors").state_dict()
    assert all(torch.equal(published[name], tensor) for name, tensor in pipeline.load_model(trained).state_dict().items())
    with safe_open(place / "hub" / "causal" / "model.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()[METADATA])["card"] == card
    assert json.loads((place / "hub" / "causal" / "config.json").read_text())["sample_rate"] == 8000


def _laid_out(folder: Path) -> list[Path]:
    names = ["model.safetensors", "config.json", "README.md", "offline.onnx"]
    return [folder / name for name in [*names, *(["step.onnx"] if folder.name == "causal" else [])]]


def test_what_is_not_finished_is_not_published(place: Path, finished: subprocess.CompletedProcess[str]) -> None:
    for arguments, message in ((("--set", "seed=7"), "this run is not finished"), (("--system", "none"), "has no such system")):
        result = tasnet("publish", "tiny.toml", "nowhere", "--corpus", "folder=speech", *arguments, cwd=place)
        assert (result.returncode, result.stderr.count("\n"), message in result.stderr) == (2, 1, True)
    assert not (place / "nowhere").exists()


def test_a_second_run_does_nothing(place: Path, finished: subprocess.CompletedProcess[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (place / "work").rglob("*") if path.is_file()}
    again = tasnet(*RUN, cwd=place, check=True)
    assert {path: path.stat().st_mtime_ns for path in (place / "work").rglob("*") if path.is_file()} == before
    assert again.stdout == finished.stdout
    states = tasnet("status", "tiny.toml", "--corpus", "folder=speech", cwd=place, check=True).stdout.splitlines()[1:]
    assert all(" done " in line for line in states)


def test_a_forced_stage_runs_again_and_leaves_nothing_beside_it(place: Path, finished: subprocess.CompletedProcess[str]) -> None:
    def times(pattern: str) -> list[int]:
        return [path.stat().st_mtime_ns for path in sorted((place / "work").glob(pattern))]

    scores, reports = times("score/*/stage.json"), times("report/*/stage.json")
    again = tasnet(*RUN, "--force", "report", cwd=place, check=True)
    assert again.stdout == finished.stdout
    assert times("score/*/stage.json") == scores
    assert times("report/*/stage.json") > reports
    assert not list((place / "work" / "report").glob(".*.old"))


def test_status_says_why_and_only_that_reruns(place: Path, finished: subprocess.CompletedProcess[str]) -> None:
    change = ("--set", "systems.causal.train.epochs=2")
    status = tasnet("status", "tiny.toml", "--corpus", "folder=speech", *change, cwd=place, check=True).stdout
    lines = {line.split("  ")[0]: line for line in status.splitlines()}
    assert "train.epochs: 3 → 2" in lines["train:causal"]
    assert " done " in lines["train:noncausal"]
    assert "would run" in lines["report"]
    plan = tasnet(*RUN, "-n", *change, cwd=place, check=True).stdout.splitlines()
    run = {line.removeprefix("would run ").split(": ")[0] for line in plan if line.startswith("would run")}
    assert run == {"train:causal", "separate:causal", "score:causal", "report"}


def test_python_gives_the_same_run(
    place: Path, finished: subprocess.CompletedProcess[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    recipe = pipeline.load_recipe("tiny.toml")
    run = pipeline.run(recipe, options=pipeline.Options(named_corpora={"folder": Path("speech")}))
    means = run.scores.groupby("system")[["si_snr_db", "sdr_db"]].mean()
    assert set(means.index) == {"causal", "noncausal"}
    assert len(run.scores) == 2 * 3 * 2
    assert set(run.mixtures["split"]) == {"train", "valid", "test"}
    row = run.mixtures[run.mixtures["split"] == "test"].iloc[0]
    model = pipeline.load_model(run.models["causal"])
    mixture, rate = pipeline.read_audio(run.folders["mix"] / row["mixture_path"])
    estimates = pipeline.separate(model, mixture, sample_rate=rate)
    references = [pipeline.read_audio(run.folders["mix"] / row[f"source_{k}_path"])[0] for k in (1, 2)]
    scores = pipeline.score(estimates, references, mixture=mixture, sample_rate=rate)
    kept = run.scores[(run.scores["system"] == "causal") & (run.scores["mixture_id"] == row["mixture_id"])]
    pd.testing.assert_series_equal(
        scores["si_snri_db"], kept["si_snri_db"].reset_index(drop=True), check_names=False, rtol=0, atol=1e-4
    )


def test_other_commands_work_on_what_a_run_leaves(place: Path, finished: subprocess.CompletedProcess[str]) -> None:
    model = next((place / "work").glob("train/causal-*/best.safetensors"))
    tree = next((place / "work").glob("mix/*/2speakers/wav8k/min/tt"))
    mixture = min(tree.glob("mix/*.wav"))
    paths = tasnet("separate", model, mixture, "-o", "separated", cwd=place, check=True).stdout.splitlines()
    assert [Path(path).name for path in paths] == [f"{mixture.stem}_s1.wav", f"{mixture.stem}_s2.wav"]
    estimates = next((place / "work").glob("separate/causal-*"))
    said = tasnet(
        *("score", "--estimates", f"causal={estimates}", "--references", tree),
        *("--verify", 3, "-o", "mine.csv"),
        cwd=place,
        check=True,
    )
    assert "causal" in said.stdout
    assert "3 random rows recomputed by mir_eval" in said.stdout
    ours = pd.read_csv(next((place / "work").glob("score/causal-*/scores.csv")))
    mine = (
        pd.read_csv(place / "mine.csv").set_index(["mixture_id", "source"]).loc[ours[["mixture_id", "source"]].agg(tuple, axis=1)]
    )
    assert (mine["si_snri_db"].to_numpy() == ours["si_snri_db"].to_numpy()).all()
    tasnet("report", "mine.csv", "-o", "page", cwd=place, check=True)
    assert (place / "page" / "report.html").is_file()
    assert tasnet("compare", "mine.csv", "mine.csv", "--fail-if", "si_snri_db < -0.1", cwd=place).returncode == 0


def killed_when(place: Path, work: Path, ready: Callable[[], bool]) -> bool:
    """Start a run in ``work`` and kill it, with its workers, once ``ready``; false if it ended before."""
    running = nursery()
    running.start(*RUN, "--work", work, cwd=place)
    wait_until(lambda: running.has_ended() or ready(), seen=lambda: sorted(work.glob("*/*")))
    if not running.has_ended():
        running.send(signal.SIGKILL)
    return running.ended() == -signal.SIGKILL


def some(work: Path, pattern: str) -> Callable[[], bool]:
    return lambda: any(work.glob(pattern))


def test_a_run_killed_anywhere_ends_the_same(place: Path, finished: subprocess.CompletedProcess[str], tmp_path: Path) -> None:
    places = {
        "mix": "mix/*/**/tr/mix/*.wav",
        "train": "train/noncausal-*/last.safetensors",
        "later training": "train/causal-*/last.safetensors",
        "separate": "separate/causal-*/s1/*.wav",
        "score": "score/noncausal-*/started.json",
    }
    killed = [name for name, pattern in places.items() if killed_when(place, tmp_path, some(tmp_path, pattern))]
    assert {"mix", "train", "later training"} <= set(killed)
    assert not list(tmp_path.glob("report/*/stage.json"))
    tasnet(*RUN, "--work", tmp_path, cwd=place, check=True)
    assert contents(tmp_path) == contents(place / "work")
    assert not list(tmp_path.rglob("*.tmp"))
