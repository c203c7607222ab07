"""The plan stage: what it leaves beside the plan for other tools, and what it compares before anything is mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.audio.files import read_audio
from pipeline.audio.levels import active_level
from pipeline.audio.resampling import resample
from pipeline.compute.options import Options
from pipeline.errors import AudioError
from pipeline.mixtures.plans import librimix_lists, wsj0mix
from pipeline.recipe.reading import parse_recipe
from pipeline.recipe.schema import LibriMixPlan, Wsj0MixPlan
from pipeline.stages.run import Run
from pipeline.stages.run import run as run_recipe
from pipeline.tables import MANIFEST, read_table
from tests.voices import voice, write_voices

COUNTS = {"train": 2, "valid": 1, "test": 1}


def _run(tmp_path: Path, plan: dict[str, Any], corpus: str = "folder", **named: Path) -> Run:
    recipe = parse_recipe({"name": "x", "corpus": {"kind": corpus}, "plan": plan, "systems": {"a": {}}, "mix": {"mode": "max"}})
    return run_recipe(recipe, ["plan"], options=Options(work=tmp_path / "work", named_corpora=named, num_workers=1))


def _files(plan: pd.DataFrame, manifest: pd.DataFrame) -> list[tuple[str, str, str, float]]:
    """Which files are mixed at which levels; lists call utterances by the last part of their paths only."""
    path_of = dict(zip(manifest["utterance_id"], manifest["path"], strict=True))
    return [(row.split, row.source, path_of[row.utterance_id], row.level) for row in plan.itertuples()]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_voices(tmp_path_factory.mktemp("voices"), speakers=8, takes=1)


def test_drawn_lists_lie_beside_the_plan_in_merls_format(speech: Path, tmp_path: Path) -> None:
    plan = {"kind": "wsj0mix", "lists": "drawn", "num_mixtures": COUNTS}
    run = _run(tmp_path, plan, folder=speech)
    again, utterances = wsj0mix.read_lists(run.folders["plan"], Wsj0MixPlan(kind="wsj0mix"))
    assert _files(again, utterances) == _files(run.plan, run.manifest)
    limited = _run(tmp_path, plan | {"limit_hours": 2 / 3600}, folder=speech)
    assert limited.plan["split"].value_counts().to_dict() == {"train": 2, "valid": 2, "test": 2}


def test_drawn_lists_lie_beside_the_plan_in_librimixs_format(speech: Path, tmp_path: Path) -> None:
    plan = {"kind": "librimix", "lists": "drawn", "num_mixtures": {**COUNTS, "train": 1}, "min_seconds": 1.0}
    run = _run(tmp_path, plan, folder=speech)
    names = sorted(path.name for path in run.folders["plan"].glob("libri*.csv"))
    assert names == [f"libri2mix_{split}{ending}.csv" for split in ("dev", "test", "train") for ending in ("", "_info")]
    settings = LibriMixPlan(kind="librimix")
    subsets = {"train": ["train"], "valid": ["dev"], "test": ["test"]}
    again, utterances, _ = librimix_lists.read_lists(run.folders["plan"], settings, subsets.__getitem__)
    assert list(again["mixture_id"]) == list(run.plan["mixture_id"])
    assert _files(again, utterances) == _files(run.plan, run.manifest)


def test_partial_overlap_has_no_published_format(speech: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, {"kind": "wsj0mix", "lists": "drawn", "num_mixtures": COUNTS, "overlap": [0.5]}, folder=speech)
    assert not list(run.folders["plan"].glob("mix_*"))
    assert (run.plan.groupby("mixture_id")["start_seconds"].max() > 0).all()


@pytest.mark.parametrize("off_db", [0.2, 3.0])
def test_speech_is_compared_with_the_published_levels_where_they_lie_beside_the_lists(tmp_path: Path, off_db: float) -> None:
    levels = {}
    for number, folder in enumerate(("si_tr_s/01a", "si_tr_s/02b", "si_dt_05/03c", "si_et_05/04d")):
        path = tmp_path / "wsj0" / folder / f"u{number}.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, voice(number, 0), 16000)
        levels[path.stem] = active_level(resample(read_audio(path)[0], 16000, 8000), 8000).power
    lists = tmp_path / "lists"
    (lists / "activlev").mkdir(parents=True)
    for name in ("tr", "cv", "tt"):
        (lists / f"mix_2_spk_{name}.txt").write_text("wsj0/si_tr_s/01a/u0.wav 1 wsj0/si_tr_s/02b/u1.wav -1 \n")
    published = {**levels, "u1": levels["u1"] * 10 ** (off_db / 10)}
    (lists / "activlev/activlev_si_tr_s.txt").write_text("".join(f"{name} {power!r}\n" for name, power in published.items()))

    def run() -> Run:
        return _run(tmp_path, {"kind": "wsj0mix"}, "wsj0", wsj0=tmp_path / "wsj0", wsj0mix=lists)

    if off_db < 0.3:
        assert np.isfinite(run().plan["level"]).all()
        return
    with pytest.raises(AudioError, match=r"u1\.wav: its active level is -3\.0 dB from the published level"):
        run()
    assert not list((tmp_path / "work").rglob("plan.csv"))


@pytest.mark.parametrize("kind", ["librimix", "wham"])
def test_noise_of_any_length_and_name(speech: Path, tmp_path: Path, kind: str) -> None:
    """Clips of a few samples, two formats of one name, and one that is called like an utterance."""
    noise = tmp_path / "noise"
    generator = np.random.default_rng(0)
    for name, num_samples in (("spk00-00-0.wav", 50), ("twice.wav", 700), ("twice.flac", 9000), ("x/twice.wav", 40000)):
        (noise / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(noise / name, generator.uniform(-0.1, 0.1, num_samples), 16000)
    plan = {"kind": kind, "num_mixtures": COUNTS, "min_seconds": 1.0}
    recipe = parse_recipe(
        {"name": "x", "corpus": {"kind": "folder"}, "mix": {"types": ["mix_both"]}, "systems": {"a": {}}}
        | {"plan": plan | ({"lists": "drawn"} if kind == "librimix" else {})}
    )
    named = {"folder": speech, "wham_noise": noise}
    run = run_recipe(recipe, ["mix"], options=Options(work=tmp_path / "work", named_corpora=named, num_workers=1))
    manifest = read_table(run.folders["plan"] / "manifest.csv", MANIFEST)
    clips = manifest[manifest["speaker_id"] == ""]
    assert sorted(clips["utterance_id"]) == ["noise-spk00-00-0", "twice.flac", "twice.wav", "x-twice"]
    assert "spk00-00-0" in set(manifest["utterance_id"])
    assert manifest["utterance_id"].is_unique
    assert run.mixtures["split"].value_counts().to_dict() == COUNTS
    for path in run.mixtures["noise_path"]:
        assert read_audio(run.folders["mix"] / path)[0].any()


@pytest.mark.parametrize("kind", ["random", "wsj0mix", "librimix"])
def test_a_corpus_of_two_speakers_makes_a_test_set(tmp_path: Path, kind: str) -> None:
    small = write_voices(tmp_path / "small", speakers=2, takes=2)
    plan: dict[str, Any] = {"kind": kind, "num_mixtures": {"test": 1}, "min_seconds": 1.0}
    if kind != "random":
        plan |= {"lists": "drawn", "splits": ["test"]}
    run = _run(tmp_path, plan, folder=small)
    assert set(run.plan["split"]) == {"test"}
    assert list(run.plan["source"]) == ["s1", "s2"]
