"""Partial overlap: neighbours sound together for the share they should, in plans, in every kind of rendering, and in training."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio.files import read_audio
from pipeline.errors import PlanError, RecipeError
from pipeline.mixtures.footprint import footprint
from pipeline.mixtures.packing import pack_utterances
from pipeline.mixtures.plans import librimix_drawn, wham, wsj0mix
from pipeline.mixtures.plans.drawn import MixtureSampler, draw_plan
from pipeline.mixtures.plans.overlap import begin_order, begin_times, with_overlap
from pipeline.mixtures.rendering import render
from pipeline.mixtures.shards import Shard
from pipeline.mixtures.verification import verify
from pipeline.recipe.reading import parse_recipe
from pipeline.recipe.schema import LibriMixPlan, Mix, MixType, RandomPlan, Variant, WhamPlan, Wsj0MixPlan
from pipeline.scoring.scoring import score_dataset
from pipeline.tables import MIXTURES, PLAN, check_table, read_table
from pipeline.training.segments import DynamicSegments
from tests.mixtures.small_corpus import Audio, inputs_of
from tests.voices import voice

RATE = 16000
RATIOS = [0.0, 0.2, 0.6, 1.0]
SEVERAL = {"num_mixtures": {"test": 4}, "min_seconds": 0.4, "num_sources": 3, "overlap": RATIOS}
COLUMNS = ["utterance_id", "speaker_id", "sex", "split", "path", "sample_rate", "num_samples"]
NOISY = ["mix_both", "mix_clean", "mix_single"]

durations = st.lists(st.floats(0.4, 30), min_size=2, max_size=5)


# ------------------------------------------------------------------------------------------------------------------ times
@given(durations, st.floats(0, 0.999), st.integers(0, 100))
def test_neighbours_sound_together_for_their_share_of_the_shorter(seconds: list[float], ratio: float, key: int) -> None:
    order = begin_order(len(seconds), str(key))
    begins = begin_times(seconds, ratio, order)
    assert begins[order[0]] == 0
    for before, after in pairwise(order):
        end = begins[before] + seconds[before]
        together = min(end, begins[after] + seconds[after]) - begins[after]
        wanted = ratio * min(seconds[before], seconds[after])
        assert wanted - 0.001 - 1e-8 <= together <= wanted + 1e-8
        assert begins[after] * 1000 == pytest.approx(round(begins[after] * 1000), abs=1e-6)


@given(durations)
def test_full_overlap_begins_with_the_mixture_and_none_when_the_last_has_ended(seconds: list[float]) -> None:
    order = range(len(seconds))
    assert begin_times(seconds, 1, order) == (0.0,) * len(seconds)
    begins = begin_times(seconds, 0, order)
    assert begins[-1] == pytest.approx(sum(seconds[:-1]), abs=0.001 * len(seconds))


def test_any_speaker_may_begin() -> None:
    orders = {tuple(begin_order(3, str(key))) for key in range(100)}
    assert len(orders) == 6


# ------------------------------------------------------------------------------------------------------------------ plans
@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Audio:
    """Speech of four speakers and three noises: (root, manifest of speech, manifest of noise)."""
    root = tmp_path_factory.mktemp("speech")
    speech = [(f"u{k}", f"s{k}", "", "test", f"u{k}.wav", RATE, RATE // 2 + 1501 * k) for k in range(4)]
    noises = [(f"n{k}", "", "", "test", f"n{k}.wav", RATE, length) for k, length in enumerate((12000, 40000, 60000))]
    generator = np.random.default_rng(0)
    for number, (_, _, _, _, path, _, length) in enumerate(speech):
        # The hiss is there from the first sample to the last.
        hiss = 0.01 * generator.choice([-1, 1], length)
        soundfile.write(root / path, 0.5 * voice(number, 0, seconds=length / RATE) + hiss, RATE)
    for _, _, _, _, path, _, length in noises:
        soundfile.write(root / path, 0.1 * generator.normal(size=length).clip(-3, 3), RATE)
    return root, pd.DataFrame(speech, columns=COLUMNS), pd.DataFrame(noises, columns=COLUMNS)


def _drawn(kind: str, audio: Audio) -> tuple[pd.DataFrame, pd.DataFrame, list[MixType]]:
    """A plan of a kind, the manifest of all it names, and the types it can be rendered with."""
    root, manifest, noises = audio
    both = pd.concat([manifest, noises], ignore_index=True)
    if kind == "wham":
        return wham.draw_lists(manifest, WhamPlan(kind="wham", **SEVERAL), seed=0, noises=noises), both, NOISY
    if kind == "wsj0mix":
        return wsj0mix.draw_lists(manifest, Wsj0MixPlan(kind=kind, lists="drawn", **SEVERAL), seed=0), manifest, ["mix_clean"]
    if kind == "librimix":
        settings = LibriMixPlan(kind=kind, lists="drawn", splits=["test"], **SEVERAL)
        reading = librimix_drawn.Reading(root, root, None, 0)
        return librimix_drawn.draw_lists(manifest, settings, reading, noises=noises, num_workers=1), both, NOISY
    return draw_plan(manifest, RandomPlan(kind="random", level=kind, **SEVERAL), seed=0), manifest, ["mix_clean"]


def test_ratios_take_turns_and_full_overlap_changes_nothing(audio: Audio) -> None:
    _, manifest, _ = audio
    settings = {**SEVERAL, "num_mixtures": {"test": 10}}
    plan = draw_plan(manifest, RandomPlan(kind="random", **settings), seed=0)
    check_table(plan, PLAN, origin="plan")
    assert list(plan["overlap"][::3]) == (RATIOS * 3)[:10]
    full = draw_plan(manifest, RandomPlan(kind="random", **{**settings, "overlap": [1.0]}), seed=0)
    assert list(full.columns) == PLAN.required()
    assert full.equals(plan.drop(columns="overlap").assign(start_seconds=0.0))
    assert with_overlap(full, manifest, [1.0], seed=0) is full


def test_wrong_overlap_is_refused_at_load() -> None:
    plan = {"kind": "random", "overlap": [0.5]}
    raw = {"name": "x", "corpus": {"kind": "folder"}, "plan": plan, "systems": {"a": {}}}
    with pytest.raises(RecipeError, match=r"use mix\.mode = 'max'"):
        parse_recipe(raw)
    with pytest.raises(RecipeError, match=r"use mix\.mode = 'max'"):
        parse_recipe(raw | {"mix": {"mode": "max", "also": [{"sample_rate": 8000, "mode": "min"}]}})
    assert parse_recipe(raw | {"mix": {"mode": "max"}}).plan.overlap == [0.5]
    for wrong, said in (([], "at least one value"), ([0.5, 0.5], "must not repeat"), ([1.5], "less than or equal to 1")):
        with pytest.raises(RecipeError, match=said):
            parse_recipe(raw | {"mix": {"mode": "max"}, "plan": plan | {"overlap": wrong}})
    with pytest.raises(RecipeError, match="needs lists = 'drawn'"):
        parse_recipe(raw | {"corpus": {"kind": "wsj0"}, "plan": {"kind": "wsj0mix", "overlap": [0.5]}, "mix": {"mode": "max"}})


# -------------------------------------------------------------------------------------------------------------- rendering
@pytest.mark.parametrize("kind", ["active", "loudness", "wsj0mix", "librimix", "wham"])
def test_every_source_sounds_from_its_start_to_its_end(audio: Audio, tmp_path: Path, kind: str) -> None:
    root, _, _ = audio
    plan, manifest, types = _drawn(kind, audio)
    noise_root = root if len(types) > 1 else None
    mix = Mix(mode="max", types=types, encoding="float32", also=[Variant(sample_rate=RATE, mode="max")])
    mixtures = render(
        plan,
        manifest,
        inputs_of("random" if kind in ("active", "loudness") else kind, root, mix, noise_root=noise_root),
        tmp_path,
        num_workers=1,
    )
    lengths = manifest.set_index("utterance_id")["num_samples"]
    assert list(mixtures["overlap"]) == RATIOS
    for row in mixtures.to_dict("records"):
        sources = [read_audio(tmp_path / row[f"source_{k}_path"])[0] for k in (1, 2, 3)]
        starts = [round(8000 * row[f"source_{k}_start_seconds"]) for k in (1, 2, 3)]
        ends = [start + -(-int(lengths[row[f"source_{k}_utterance_id"]]) // 2) for k, start in enumerate(starts, 1)]
        for source, start, end in zip(sources, starts, ends, strict=True):
            sounding = np.flatnonzero(source)
            assert (sounding[0], sounding[-1] + 1) == (start, end)
            assert len(source) == max(ends) == row["num_samples"]
        assert (max(starts) == 0) == (row["overlap"] == 1)
        mixture, _ = read_audio(tmp_path / row["mixture_path"])
        noise = read_audio(tmp_path / row["noise_path"])[0] if noise_root else 0
        assert np.allclose(mixture, sum(sources) + noise, atol=1e-6)
        assert noise_root is None or np.flatnonzero(noise)[-1] > max(ends) - 10
    assert verify(tmp_path, num_workers=1) == []
    written = [path.stat().st_size for path in tmp_path.rglob("*.wav")]
    counted = footprint(plan, manifest, mix)
    assert (counted.num_files, counted.num_bytes) == (len(written), sum(written))
    assert counted.seconds == mixtures["num_samples"].sum() / 8000


@pytest.mark.parametrize(("speech_rate", "noise_rate"), [(16000, 44100), (22050, 48000)])
def test_the_footprint_is_exact_at_any_rates(audio: Audio, tmp_path: Path, speech_rate: int, noise_rate: int) -> None:
    root, speech, noises = (tmp_path, *(table.copy() for table in audio[1:]))
    for table, rate in ((speech, speech_rate), (noises, noise_rate)):
        table["sample_rate"], table["num_samples"] = rate, table["num_samples"] + rate // 2 + 7
        for path, length in zip(table["path"], table["num_samples"], strict=True):
            soundfile.write(root / path, voice(length % 7, 0, seconds=length / rate, sample_rate=rate), rate)
    plan, manifest, types = _drawn("librimix", (root, speech, noises))
    also = [Variant(sample_rate=rate, mode="max") for rate in (RATE, 11025)]
    render(
        plan,
        manifest,
        inputs_of("librimix", root, Mix(mode="max", types=types, also=also), noise_root=root),
        tmp_path / "out",
        num_workers=1,
    )
    written = [path.stat().st_size for path in (tmp_path / "out").rglob("*.wav")]
    counted = footprint(plan, manifest, Mix(mode="max", types=types, also=also))
    assert (counted.num_files, counted.num_bytes) == (len(written), sum(written))


def test_gains_of_librimix_are_of_sources_as_they_are_placed(audio: Audio, tmp_path: Path) -> None:
    _, manifest, _ = audio
    samples = 0.01 * np.random.default_rng(0).normal(size=RATE)
    samples[5000] = 0.9
    soundfile.write(tmp_path / "spike.wav", samples, RATE)
    settings = {**SEVERAL, "num_mixtures": {"test": 1}, "num_sources": 2}
    peaks = {}
    for ratio in (0.0, 1.0):
        plan = LibriMixPlan(kind="librimix", lists="drawn", splits=["test"], **{**settings, "overlap": [ratio]})
        reading = librimix_drawn.Reading(tmp_path, None, None, 0)
        drawn = librimix_drawn.draw_lists(manifest.assign(path="spike.wav"), plan, reading, num_workers=1)
        peaks[ratio] = drawn["level"].sum() * 0.9
    # The same peak twice adds up where both begin together, and only there.
    assert peaks[1.0] == pytest.approx(0.9, abs=1e-3)
    assert peaks[0.0] > 1


def test_mode_min_is_refused_where_speech_begins_late(audio: Audio, tmp_path: Path) -> None:
    root, _, _ = audio
    plan, manifest, _ = _drawn("active", audio)
    with pytest.raises(PlanError, match="use 'max'"):
        render(plan, manifest, inputs_of("random", root), tmp_path, num_workers=1)
    with pytest.raises(PlanError, match="before its mixture"):
        render(plan.assign(start_seconds=-1.0), manifest, inputs_of("random", root, Mix(mode="max")), tmp_path, num_workers=1)


def test_scores_say_the_overlap(audio: Audio, tmp_path: Path) -> None:
    root, _, _ = audio
    plan, manifest, _ = _drawn("active", audio)
    render(plan, manifest, inputs_of("random", root, Mix(mode="max")), tmp_path, num_workers=1)
    mixtures = read_table(tmp_path / "mixtures.csv", MIXTURES)
    estimates = shutil.copytree(tmp_path / "3speakers/wav8k/max/tt", tmp_path / "estimates")
    scores = score_dataset(mixtures, tmp_path, {"oracle": estimates}, out=tmp_path / "scores.csv", num_workers=1)
    assert list(scores["overlap"]) == [ratio for ratio in RATIOS for _ in range(3)]
    assert set(scores["status"]) == {"perfect;identical"}


# --------------------------------------------------------------------------------------------------------------- training
def test_training_segments_follow_the_plan(audio: Audio, tmp_path: Path) -> None:
    root, manifest, _ = audio
    pack_utterances(manifest, root, "test", Mix(), tmp_path / "bank.shard", level="active", num_workers=1)
    settings = {**SEVERAL, "num_sources": 2}

    def segments(ratios: list[float]) -> DynamicSegments:
        plan = RandomPlan(kind="random", **{**settings, "overlap": ratios})
        sampler = MixtureSampler(manifest, plan, split="test", seed=0)
        return DynamicSegments(Shard(tmp_path / "bank.shard"), sampler, mode="max", num_samples=3000, num_segments=1)

    found = set()
    for index in range(60):
        segment = segments(RATIOS).segment(1, index)
        spans = [np.flatnonzero(source) for source in segment.sources]
        begins, ends = [span[0] for span in spans], [span[-1] + 1 for span in spans]
        together = min(ends) - max(begins)
        assert segment.mixture.shape == (3000,)
        assert max(ends) == pytest.approx(3000, abs=10)
        found.add((round(together / min(len(span) for span in spans), 1), int(np.argmin(begins))))
    # Half of a segment each, and either may begin; full overlap begins together.
    assert {ratio for ratio, _ in found} == set(RATIOS)
    assert {first for ratio, first in found if ratio == 0.2} == {0, 1}
    alike = RandomPlan(kind="random", num_sources=2, min_seconds=0.4, num_mixtures={"test": 1})
    sampler = MixtureSampler(manifest, alike, split="test", seed=0)
    assert sampler.draw(1, 0).levels_db == segments([0.0]).sampler.draw(1, 0).levels_db
