"""Finished mixtures are trained on, separated and scored where they are; nothing of them is copied or changed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.audio.files import read_audio
from pipeline.compute.options import Options
from pipeline.errors import CorpusError
from pipeline.mixtures.interchange import export_dataset
from pipeline.mixtures.rendering import JOURNAL_FILE
from pipeline.mixtures.shards import Shard
from pipeline.mixtures.verification import repair, verify
from pipeline.recipe.reading import parse_recipe
from pipeline.recipe.schema import Recipe
from pipeline.stages import graph, preflight, runner
from pipeline.stages.data import SHARD
from pipeline.stages.run import Run, run
from tests.cli.commands import RECIPE
from tests.finished_mixtures import write_lists, write_mixtures
from tests.mixtures.small_corpus import digests
from tests.voices import write_voices

AUDIO = (".wav", ".flac")


def recipe(corpus: Mapping[str, Any] | None = None, **tables: Any) -> Recipe:
    """One tiny system on finished mixtures."""
    raw = {name: table for name, table in tomllib.loads(RECIPE).items() if name not in ("plan", "systems")}
    raw |= {"corpus": {"kind": "mixtures", **(corpus or {})}, "systems": {"tiny": {}}, "report": {"num_examples": 1}}
    return parse_recipe(raw | tables)


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(work=tmp_path / "work", named_corpora={"mixtures": tmp_path / "mixtures"}, num_workers=1, device="cpu")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_mixtures(tmp_path / "mixtures")


def stages(given: Recipe, options: Options) -> dict[str, runner.Stage]:
    return {stage.id: stage for stage in graph.build_stages(given, options)}


def would_run(given: Recipe, options: Options) -> list[str]:
    return [
        found.stage.id for found in runner.status(list(stages(given, options).values()), options.work) if found.state != "done"
    ]


# --------------------------------------------------------------------------------------------- from training to the report
def lay_out(layout: str, root: Path) -> dict[str, Any]:
    """Write mixtures in a layout, and say what the recipe must say of it."""
    if layout == "pairs":
        write_mixtures(root, ("noisy", "clean"))
        return {"sources": ["clean"]}
    if layout == "three":
        write_mixtures(root, ("mix_both", "s1", "s2", "s3"), folders={"train": "tr", "valid": "cv", "test": "tt"})
        return {"sources": ["s1", "s2", "s3"]}
    write_mixtures(root)
    if layout == "tree":
        return {}
    if layout == "patterns":
        return {"mixture": "{split}/mix/{id}.wav", "sources": ["{split}/s1/{id}.wav", "{split}/s2/{id}.wav"]}
    asteroid = {"mixture_path": "mix", "source_1_path": "s1", "source_2_path": "s2"}
    if layout == "asteroid":
        return {"lists": write_lists(root, asteroid, top=f"{root}/", id_column="mixture_ID")}
    return {"lists": write_lists(root, {"mix_wav": "mix", "s1_wav": "s1", "s2_wav": "s2"}, top="$data_root/", id_column="ID")}


# Patterns are found as folders are, and both kinds of lists by one reader: the tests of plans compare what is found in them.
@pytest.mark.parametrize("layout", ["pairs", "three", "patterns", "speechbrain"])
def test_every_layout_is_trained_on_separated_and_scored(layout: str, tmp_path: Path, options: Options) -> None:
    given = recipe(lay_out(layout, tmp_path / "mixtures"))
    before = digests(tmp_path / "mixtures")
    finished = run(given, ["score"], options=options)
    assert sorted(set(finished.scores["mixture_id"])) == ["m6", "m7"]
    assert len(finished.scores) == 2 * given.num_outputs
    assert np.isfinite(finished.scores["si_snri_db"]).all()
    assert digests(tmp_path / "mixtures") == before
    assert not [path for path in finished.folders["mix"].rglob("*") if path.suffix in AUDIO]
    assert would_run(given, options) == ["oracles", "report"]
    assert verify(finished.folders["mix"], num_workers=1) == []


def test_pairs_are_scored_against_what_their_noise_leaves(tmp_path: Path, options: Options) -> None:
    write_mixtures(tmp_path / "mixtures", ("noisy", "clean"))
    finished = run(recipe({"sources": ["clean"]}), options=options)
    for row in finished.scores.itertuples():
        noisy, clean = (read_audio(tmp_path / "mixtures/test" / name / f"{row.mixture_id}.wav")[0] for name in ("noisy", "clean"))
        noisy, clean = noisy - noisy.mean(), clean - clean.mean()
        target = (noisy @ clean) / (clean @ clean) * clean
        expected = 10 * np.log10((target @ target) / np.square(noisy - target).sum())
        assert row.input_si_snr_db == pytest.approx(expected, abs=1e-6)
    assert finished.report.exists()
    residuals = finished.mixtures.set_index("mixture_id")["residual_db"]
    assert (residuals > -40).all()


def test_float_files_are_packed_as_they_are(tmp_path: Path, options: Options) -> None:
    root = write_mixtures(tmp_path / "mixtures", subtype="FLOAT")
    finished = run(recipe(mix={"encoding": "float32"}), ["pack"], options=options)
    for split, first in (("train", "m0"), ("valid", "m4")):
        shard = Shard(finished.folders[f"pack:{split}"] / SHARD)
        packed = shard.read(shard.index_of()[first])
        expected = [soundfile.read(root / split / name / f"{first}.wav", dtype="float32")[0] for name in ("mix", "s1", "s2")]
        np.testing.assert_array_equal(packed, expected)
    assert verify(finished.folders["mix"], num_workers=1) == []


@pytest.mark.parametrize("to", ["asteroid-csv", "speechbrain"])
def test_our_own_lists_read_back_to_the_same_training_set(to: str, tmp_path: Path, options: Options) -> None:
    speech = write_voices(tmp_path / "speech", speakers=9, takes=1, seconds=1.2)
    drawn = parse_recipe(tomllib.loads(RECIPE))
    made = run(drawn, ["pack"], options=replace(options, named_corpora={"folder": speech}))
    export_dataset(made.mixtures, made.folders["mix"], made.folders["mix"] / "lists", to=to)
    lists = {split: f"lists/{split}.csv" for split in ("train", "valid", "test")}
    if to == "asteroid-csv":
        lists = {split: f"lists/{split}/mixture_{split}_mix_clean.csv" for split in lists}
    mine = replace(options, work=tmp_path / "mine", named_corpora={"mixtures": made.folders["mix"]})
    read = run(recipe({"lists": lists}), ["pack"], options=mine)
    for split in ("train", "valid"):
        first, second = (Shard(each.folders[f"pack:{split}"] / SHARD) for each in (made, read))
        places = second.index_of()
        assert sorted(places) == sorted(first.names)
        for index, name in enumerate(first.names):
            np.testing.assert_array_equal(first.read(index), second.read(places[name]))


# ------------------------------------------------------------------------------------------------ identity and resumption
def test_a_corpus_that_moves_is_the_same(root: Path, options: Options, tmp_path: Path) -> None:
    given = recipe()
    finished = run(given, ["score"], options=options)
    root.rename(tmp_path / "moved")
    moved = replace(options, named_corpora={"mixtures": tmp_path / "moved"})
    assert would_run(given, moved) == ["oracles", "report"]
    again = run(given, ["score"], options=moved, force=["separate"])
    pd.testing.assert_frame_equal(again.scores, finished.scores)


def test_a_file_that_changes_after_the_run_makes_another_dataset(root: Path, options: Options) -> None:
    given = recipe()
    run(given, ["pack"], options=options)
    assert not {"plan", "mix", "pack:train"} & set(would_run(given, options))
    samples, rate = read_audio(root / "train/mix/m0.wav")
    soundfile.write(root / "train/mix/m0.wav", 0.5 * samples, rate)
    assert {"plan", "mix", "pack:train"} <= set(would_run(given, options))


@pytest.mark.parametrize("late", ["mix", "pack:valid", "pack:train"])
def test_a_file_that_changes_between_two_stages_stops_the_later_one(late: str, root: Path, options: Options) -> None:
    found = stages(recipe(), options)
    needed = runner.ordered([found[late]])
    for stage in needed[:-1]:
        runner.run_stage(stage, options.work)
    split = late.removeprefix("pack:").replace("mix", "test")
    path = next((root / split / "mix").iterdir())
    samples, rate = read_audio(path)
    soundfile.write(path, 0.5 * samples, rate)
    with pytest.raises(CorpusError, match=rf"files have changed since the mixtures were planned \({split}/mix/{path.name}\)"):
        runner.run_stage(found[late], options.work)


def test_an_interrupted_stage_resumes_to_the_same_tables(root: Path, options: Options) -> None:
    mix = stages(recipe(), options)["mix"]
    for stage in runner.ordered([mix]):
        runner.run_stage(stage, options.work)
    folder = mix.folder(options.work)
    whole = digests(folder)
    lines = (folder / JOURNAL_FILE).read_bytes().splitlines(keepends=True)
    (folder / JOURNAL_FILE).write_bytes(b"".join(lines[:4]) + lines[4][:50])
    for name in ("mixtures.csv", "files.csv", runner.RECORD):
        (folder / name).unlink()
    runner.run_stage(mix, options.work)
    resumed = digests(folder)
    for name in ("mixtures.csv", "files.csv", JOURNAL_FILE):
        assert resumed[name] == whole[name]


def test_damage_is_found_and_left_to_its_owner(root: Path, options: Options) -> None:
    finished: Run = run(recipe(), ["mix"], options=options)
    folder = finished.folders["mix"]
    path = root / "test/s2/m6.wav"
    path.write_bytes(path.read_bytes()[:-100])
    findings = verify(folder, num_workers=1)
    assert [finding.path for finding in findings] == ["corpus/test/s2/m6.wav"]
    assert "cut short" in findings[0].problem
    journal = (folder / JOURNAL_FILE).read_bytes()
    assert repair(folder, findings, lambda: pytest.fail("there is nothing to make")) == findings
    assert (folder / JOURNAL_FILE).read_bytes() == journal


# ------------------------------------------------------------------------------------------------------------- the check
@pytest.fixture
def instant_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.training.benchmark.gemm_gflops_per_second", lambda device, precision: 1.0)


@pytest.mark.usefixtures("instant_benchmark")
def test_a_check_says_what_is_there_and_writes_nothing(root: Path, options: Options) -> None:
    text = "\n".join(preflight.findings(recipe(), options))
    assert "training  tiny: " in text
    assert " 4 segments, about a minute on cpu" in text
    assert "corpus    train: 12 files, 0.00 h" in text
    assert "mixtures  8 mixtures, 0.00 h, which are used where they are" in text
    assert "disk      packed for training, 0.00 GB; " in text
    assert "sums      of those looked at, all 8 mixtures are the sum of their sources" in text
    assert not options.work.exists()


@pytest.mark.usefixtures("instant_benchmark")
def test_a_check_measures_what_sources_do_not_explain(tmp_path: Path, options: Options) -> None:
    write_mixtures(tmp_path / "mixtures", ("noisy", "clean"))
    lines = list(preflight.findings(recipe({"sources": ["clean"]}), options, decode=True))
    (sums,) = [line for line in lines if line.startswith("sums")]
    assert sums.startswith("sums      8 of 8 mixtures are not the sum of their sources: what is left (noise, reverberation")


@pytest.mark.usefixtures("instant_benchmark")
def test_a_check_finds_what_the_run_would_stop_at(root: Path, options: Options) -> None:
    samples, _ = read_audio(root / "test/s2/m6.wav")
    soundfile.write(root / "test/s2/m6.wav", samples[:-1], 8000)
    soundfile.write(root / "train/s1/m0.wav", samples, 16000)
    with pytest.raises(CorpusError) as caught:
        list(preflight.findings(recipe(), options))
    assert [line.removeprefix(f"{root}: ").partition(" (")[0] for line in str(caught.value).splitlines()] == [
        "1 of 24 files are sampled at 16000 Hz",
        "1 of 8 mixtures differ in length from their sources",
    ]
    found = stages(recipe(), options)
    runner.run_stage(found["plan"], options.work)
    with pytest.raises(CorpusError) as again:
        runner.run_stage(found["mix"], options.work)
    assert str(again.value) == str(caught.value)


@pytest.mark.usefixtures("instant_benchmark")
def test_silent_sources_are_warned_of_and_no_obstacle(root: Path, options: Options) -> None:
    soundfile.write(root / "test/s2/m6.wav", np.zeros(4800), 8000)
    assert "1 files are silent (test/s2/m6.wav)" in "\n".join(preflight.findings(recipe(), options))
