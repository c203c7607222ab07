"""Noisy mixtures: noise at its level, one scale for all, clean types without noise, plans that depend on the seed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.audio.files import read_audio
from pipeline.audio.levels import loudness
from pipeline.errors import PlanError
from pipeline.mixtures.plans.wham import draw_lists
from pipeline.mixtures.rendering import check_inputs, render
from pipeline.recipe.schema import Mix, Variant, WhamPlan
from pipeline.tables import PLAN, check_table
from tests.mixtures.small_corpus import Audio, inputs_of
from tests.voices import voice

RATE = 16000
COLUMNS = ["utterance_id", "speaker_id", "sex", "split", "path", "sample_rate", "num_samples"]
TYPES = ["mix_both", "mix_clean", "mix_single"]


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Audio:
    """Speech of four speakers and three noises, one of them short: (root, manifest, noises)."""
    root = tmp_path_factory.mktemp("wham")
    speech = [(f"u{k}", f"s{k}", "", "test", f"u{k}.wav", RATE, int(RATE * (1 + k / 8))) for k in range(4)]
    noises = [(f"n{k}", "", "", "test", f"n{k}.wav", RATE, length) for k, length in enumerate((12000, 40000, 60000))]
    for number, (_, _, _, _, path, _, length) in enumerate(speech):
        soundfile.write(root / path, voice(number, 0, seconds=length / RATE), RATE)
    generator = np.random.default_rng(0)
    for _, _, _, _, path, _, length in noises:
        soundfile.write(root / path, 0.1 * generator.normal(size=length).clip(-3, 3), RATE)
    return root, pd.DataFrame(speech, columns=COLUMNS), pd.DataFrame(noises, columns=COLUMNS)


def _plan(number: int = 6) -> WhamPlan:
    return WhamPlan(kind="wham", num_mixtures={"test": number})


def test_a_plan_has_a_noise_for_every_mixture_at_a_level_within_the_range(audio: Audio) -> None:
    _, manifest, noises = audio
    plan = draw_lists(manifest, _plan(), seed=0, noises=noises)
    check_table(plan, PLAN, origin="plan")
    noise = plan[plan["source"] == "noise"]
    assert list(noise["mixture_id"]) == list(plan[plan["source"] == "s1"]["mixture_id"])
    assert noise["level"].between(-3, 6).all()
    assert (noise["start_seconds"] <= 0).all()
    assert noise["utterance_id"].value_counts().tolist() == [2, 2, 2]
    assert draw_lists(manifest.iloc[::-1], _plan(), seed=0, noises=noises.iloc[::-1]).equals(plan)
    with pytest.raises(PlanError, match="there is no noise"):
        draw_lists(manifest, _plan(), seed=0, noises=noises.assign(split="train"))


def test_levels_sums_and_peaks(audio: Audio, tmp_path: Path) -> None:
    root, manifest, noises = audio
    plan = draw_lists(manifest, _plan(), seed=0, noises=noises)
    both = pd.concat([manifest, noises], ignore_index=True)
    mix = Mix(types=TYPES, mode="max", encoding="float32", also=[Variant(sample_rate=16000, mode="min")])
    check_inputs(plan, both, inputs_of("wham", root, mix, noise_root=root), num_workers=1)
    mixtures = render(plan, both, inputs_of("wham", root, mix, noise_root=root), tmp_path, num_workers=1)
    for row in mixtures.to_dict("records"):
        top, name = f"{tmp_path}/wav8k/max/tt", f"{row['mixture_id']}.wav"
        signals = {part: read_audio(f"{top}/{part}/{name}")[0] for part in ("s1", "s2", "noise", *TYPES)}
        assert np.allclose(signals["mix_both"], signals["s1"] + signals["s2"] + signals["noise"], atol=1e-6)
        assert np.allclose(signals["mix_clean"], signals["s1"] + signals["s2"], atol=1e-6)
        assert np.allclose(signals["mix_single"], signals["s1"] + signals["noise"], atol=1e-6)
        assert max(np.abs(samples).max() for samples in signals.values()) <= 0.95 * (1 + 1e-6)
        planned = plan[(plan["mixture_id"] == row["mixture_id"]) & (plan["source"] == "noise")]["level"].iloc[0]
        length = -(-int(manifest.set_index("utterance_id").loc[row["source_1_utterance_id"], "num_samples"]) // 2)
        speech = loudness(signals["s1"][:length], 8000)
        assert speech - loudness(signals["noise"], 8000) == pytest.approx(planned, abs=0.1)
    assert len(list((tmp_path / "wav16k/min/tt/noise").iterdir())) == 6


def test_clean_mixtures_alone_need_no_noise(audio: Audio, tmp_path: Path) -> None:
    root, manifest, noises = audio
    plan = draw_lists(manifest, _plan(2), seed=0, noises=noises)
    render(plan, manifest, inputs_of("wham", root), tmp_path, num_workers=1)
    assert sorted(path.name for path in (tmp_path / "wav8k/min/tt").iterdir()) == ["mix_clean", "s1", "s2"]
