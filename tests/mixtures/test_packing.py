"""What training reads: packed straight from the plan it is what the rendered files hold, and noisy plans train on noise."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.compute.options import Options
from pipeline.errors import PlanError, RecipeError
from pipeline.mixtures import packing
from pipeline.mixtures.shards import Shard
from pipeline.models.checkpoints import load_model
from pipeline.recipe.reading import parse_recipe
from pipeline.recipe.schema import Recipe
from pipeline.stages import graph
from pipeline.stages.data import SHARD
from pipeline.stages.run import Run
from pipeline.stages.run import run as run_recipe
from pipeline.tables import MANIFEST, MIXTURES, read_table
from pipeline.training.segments import PackedMixtures
from tests.cli.commands import RECIPE
from tests.voices import write_voices

PLANS: dict[str, dict[str, Any]] = {
    "random": {"plan": {"kind": "random", "level": "loudness"}},
    "wsj0mix": {"plan": {"kind": "wsj0mix", "lists": "drawn"}, "mix": {"mode": "max"}},
    "librimix": {"plan": {"kind": "librimix", "lists": "drawn"}, "mix": {"types": ["mix_both", "mix_clean"]}},
    "wham": {"plan": {"kind": "wham"}, "mix": {"types": ["mix_both", "mix_clean"], "encoding": "float32"}},
    "one speaker in noise": {"plan": {"kind": "wham"}, "mix": {"types": ["mix_single", "mix_both"]}},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little speech and a little noise."""
    root = tmp_path_factory.mktemp("packing")
    write_voices(root / "speech", speakers=12, takes=1, seconds=1.2)
    (root / "noise").mkdir()
    for number in range(6):
        samples = 0.1 * np.random.default_rng(number).normal(size=20000 + 1000 * number).clip(-3, 3)
        soundfile.write(root / "noise" / f"n{number}.wav", samples, 16000)
    return root


def options(place: Path, work: Path) -> Options:
    named = {"folder": place / "speech", "wham_noise": place / "noise"}
    return Options(work=work, named_corpora=named, num_workers=1, device="cpu", compile="off")


def recipe(kind: str = "random", **changes: Any) -> Recipe:
    raw = tomllib.loads(RECIPE)
    del raw["systems"]["causal"]
    for changed in (PLANS[kind], changes):
        raw |= {table: {**raw.get(table, {}), **values} for table, values in changed.items()}
    raw["plan"]["num_mixtures"] = {"train": 6, "valid": 2, "test": 3} | changes.get("plan", {}).get("num_mixtures", {})
    return parse_recipe(raw)


def run(given: Recipe, place: Path, work: Path, *names: str) -> Run:
    return run_recipe(given, names, options=options(place, work))


@pytest.mark.parametrize("kind", PLANS)
def test_packed_from_the_plan_it_is_what_the_files_hold(place: Path, tmp_path: Path, kind: str) -> None:
    """Also beside another variant, whose files are not what systems are trained on."""
    given = recipe(kind)
    given = parse_recipe(
        {**given.model_dump(mode="json", exclude_none=True), "systems": {"one": {}}}
        | {"mix": {**given.mix.model_dump(mode="json"), "also": [{"sample_rate": 16000, "mode": "max"}]}}
    )
    finished = run(given, place, tmp_path, "mix", "pack:valid")
    dataset, packed = finished.folders["mix"], finished.folders["pack:valid"] / SHARD
    encoding = given.mix.encoding
    packing.pack_mixtures(dataset, finished.mixtures, "valid", tmp_path / "files.shard", encoding=encoding, num_workers=1)
    assert packed.read_bytes() == (tmp_path / "files.shard").read_bytes()
    assert len(PackedMixtures(Shard(packed))) == 2


@pytest.mark.parametrize("kind", PLANS)
def test_dynamic_mixing_trains_with_nothing_rendered(place: Path, tmp_path: Path, kind: str) -> None:
    finished = run(recipe(kind, train={"mixing": "dynamic"}), place, tmp_path, "train")
    assert not (tmp_path / "mix").exists()
    assert load_model(finished.models["noncausal"]).num_sources == (1 if kind == "one speaker in noise" else 2)
    history = pd.read_csv(finished.folders["train:noncausal"] / "history.csv")
    planned = finished.plan[finished.plan["split"] == "train"]["mixture_id"].nunique()
    assert history["step"].tolist() == [planned // 2], "an epoch is as long as the plan's train split"


def test_published_lists_train_on_new_mixtures_of_their_training_utterances(tmp_path: Path) -> None:
    speech = write_voices(tmp_path / "wsj0" / "si_tr_s", speakers=6, takes=1, seconds=1.0)
    (tmp_path / "lists").mkdir()
    for split, numbers in {"tr": range(4), "cv": range(2, 6), "tt": range(4)}.items():
        pairs = zip(*[iter(f"wsj0/si_tr_s/spk{k:02d}/{k:02d}-0.flac" for k in numbers)] * 2, strict=True)
        lines = "".join(f"{one} 1.5 {other} -1.5 \n" for one, other in pairs)
        (tmp_path / "lists" / f"mix_2_spk_{split}.txt").write_text(lines)
    raw = tomllib.loads(RECIPE) | {"corpus": {"kind": "wsj0"}, "plan": {"kind": "wsj0mix"}}
    raw["train"] |= {"mixing": "dynamic", "segments_per_epoch": 8}
    named = {"wsj0": speech.parent, "wsj0mix": tmp_path / "lists"}
    given = Options(work=tmp_path / "work", named_corpora=named, num_workers=1, device="cpu", compile="off")
    finished = run_recipe(parse_recipe(raw), ["train:noncausal"], options=given)
    bank = Shard(next((tmp_path / "work" / "pack").glob("utterances-*")) / SHARD)
    assert sorted(bank.names) == ["00-0", "01-0", "02-0", "03-0"]
    assert len(finished.plan) == 12
    assert not (tmp_path / "work" / "mix").exists()


def test_noise_is_packed_where_it_is_trained_on(place: Path) -> None:
    def packed(kind: str, **mix: Any) -> set[str]:
        given = recipe(kind, train={"mixing": "dynamic"}, **({"mix": mix} if mix else {}))
        return {stage.label for stage in graph.build_stages(given, options(place, Path("nowhere"))) if stage.name == "pack"}

    assert packed("wham") == {"valid", "utterances", "noise"}
    assert packed("librimix", types=["mix_clean", "mix_both"]) == {"valid", "utterances"}
    assert packed("wsj0mix") == {"valid", "utterances"}


def test_a_bank_of_noise_holds_the_clips_of_its_split(place: Path, tmp_path: Path) -> None:
    finished = run(recipe("wham"), place, tmp_path, "plan")
    manifest = read_table(finished.folders["plan"] / "manifest.csv", MANIFEST)
    given = recipe("wham").mix
    packing.pack_noise(manifest, place / "noise", "train", given, tmp_path / "noise.shard", num_workers=1)
    shard = Shard(tmp_path / "noise.shard")
    clips = manifest[(manifest["speaker_id"] == "") & (manifest["split"] == "train")]
    assert sorted(shard.names) == sorted(clips["utterance_id"])
    assert all(np.isfinite(facts["level_db"]) for facts in shard.facts)
    with pytest.raises(PlanError, match="there is no noise"):
        packing.pack_noise(manifest[manifest["speaker_id"] != ""], place / "noise", "train", given, tmp_path / "none.shard")


def test_only_the_splits_asked_for_are_rendered(place: Path, tmp_path: Path) -> None:
    given = recipe(mix={"splits": ["test"]}, train={"mixing": "dynamic"})
    mixtures = read_table(run(given, place, tmp_path, "mix").folders["mix"] / "mixtures.csv", MIXTURES)
    assert mixtures["split"].tolist() == ["test"] * 3
    with pytest.raises(PlanError, match=r"mix\.splits = \['valid'\]: the plan has mixtures of \['test'\] only"):
        only_test = parse_recipe(
            {**recipe(mix={"splits": ["valid"]}).model_dump(mode="json", exclude_none=True), "systems": {"one": {}}}
            | {"plan": {"kind": "random", "num_mixtures": {"test": 2}, "min_seconds": 1.0}}
        )
        run(only_test, place, tmp_path, "mix")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mix": {"splits": ["test"]}}, r"systems\.noncausal: static mixing needs rendered training mixtures.*mix\.splits"),
        (
            {"num_mixtures": {"valid": 2}},
            r"systems\.noncausal: static mixing needs .*the plan's splits",
        ),
        ({"num_mixtures": {"train": 2}}, "training needs validation mixtures"),
        ({"num_mixtures": {"valid": 2}, "train": {"mixing": "dynamic"}}, r"set train\.segments_per_epoch"),
    ],
)
def test_what_training_lacks_is_said_before_anything_runs(
    place: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    raw = tomllib.loads(RECIPE)
    del raw["systems"]["causal"]
    if "num_mixtures" in changes:
        raw["plan"]["num_mixtures"] = changes.pop("num_mixtures")
    given = parse_recipe(raw | {table: {**raw.get(table, {}), **values} for table, values in changes.items()})
    with pytest.raises(RecipeError, match=said):
        run(given, place, tmp_path, "train")
    assert not any(tmp_path.iterdir())
    run(given, place, tmp_path, "plan")
