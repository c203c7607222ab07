"""LibriMix drawn anew: the published rules hold, and the published format is written and read back."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.audio.files import read_audio
from pipeline.audio.levels import loudness
from pipeline.audio.mixing import PEAK, extended
from pipeline.errors import AudioError, PlanError
from pipeline.mixtures.plans import librimix_lists
from pipeline.mixtures.plans.librimix_drawn import Reading, combine, draw_lists
from pipeline.mixtures.plans.published import listed_manifest
from pipeline.recipe.schema import LibriMixPlan
from tests.mixtures.small_corpus import Audio
from tests.voices import voice

RATE = 16000
COLUMNS = ["utterance_id", "speaker_id", "sex", "split", "path", "sample_rate", "num_samples"]


def _manifest(num_speakers: int = 6, num_utterances: int = 5, split: str = "train", seconds: float = 4.0) -> pd.DataFrame:
    rows = [
        (f"{split}-{s}-{u}", f"{split}{s}", "F", split, f"{s}/{u}.wav", RATE, int(RATE * (seconds + u / 10)))
        for s in range(num_speakers)
        for u in range(num_utterances)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _noises(lengths: Sequence[int], split: str = "train") -> pd.DataFrame:
    return pd.DataFrame([(f"n{k}", "", "", split, f"n{k}.wav", RATE, n) for k, n in enumerate(lengths)], columns=COLUMNS)


def _plan(num_mixtures: int, split: str = "train", **settings: Any) -> LibriMixPlan:
    return LibriMixPlan(kind="librimix", lists="drawn", splits=[split], num_mixtures={split: num_mixtures}, **settings)


# ------------------------------------------------------------------------------------------------------------------ deals
@pytest.mark.parametrize("num_sources", [2, 3])
@pytest.mark.parametrize("split", ["train", "test"])
def test_speakers_differ_and_combinations_are_unique(num_sources: int, split: str) -> None:
    drawn = combine(_manifest(split=split), _plan(8, split, num_sources=num_sources), split=split, seed=0)
    assert len(drawn) == 8
    assert all(len({file.speaker_id for file in each.sources}) == num_sources for each in drawn)
    assert len({frozenset(file.utterance_id for file in each.sources) for each in drawn}) == 8


def test_training_uses_every_utterance_at_most_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pipeline"):
        drawn = combine(_manifest(), _plan(1000), split="train", seed=0)
    used = [file.utterance_id for each in drawn for file in each.sources]
    assert len(used) == len(set(used))
    assert 13 <= len(drawn) <= 15
    assert "every utterance once gives" in caplog.text


def test_the_listing_order_does_not_matter_but_the_seed_does() -> None:
    manifest, plan = _manifest(split="test"), _plan(30, "test")
    drawn = combine(manifest, plan, split="test", seed=1)
    assert combine(manifest.sample(frac=1, random_state=3), plan, split="test", seed=1) == drawn
    assert combine(manifest, plan, split="test", seed=2) != drawn


def test_noise_lasts_as_long_as_the_speech_while_there_is_such_noise() -> None:
    lengths = [RATE * 5] * 10 + [RATE * 2] * 30
    drawn = combine(_manifest(split="test"), _plan(10, "test"), split="test", seed=0, noises=_noises(lengths, "test"))
    assert all(each.noise.seconds >= max(file.seconds for file in each.sources) for each in drawn)
    assert len({each.noise.utterance_id for each in drawn}) == 10


@pytest.mark.parametrize(
    ("manifest", "noises", "message"),
    [
        (_manifest(num_speakers=1, split="test"), None, "there are 1"),
        (_manifest(num_speakers=2, num_utterances=1, split="test"), None, "make only 1 mixtures"),
        (_manifest(split="test"), _noises([RATE], "train"), "there is no noise"),
    ],
)
def test_what_cannot_be_drawn_is_said(manifest: pd.DataFrame, noises: pd.DataFrame | None, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        combine(manifest, _plan(20, "test"), split="test", seed=0, noises=noises)


# ------------------------------------------------------------------------------------------------------------------ gains
@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Audio:
    """Files of speech and of short noise: (root, manifest, noises)."""
    root = tmp_path_factory.mktemp("librimix")
    manifest = _manifest(num_speakers=4, num_utterances=2, split="valid", seconds=1.0)
    noises = _noises([RATE // 2 + 4000, RATE * 3], "valid")
    for number, row in enumerate(manifest.itertuples()):
        (root / row.path).parent.mkdir(exist_ok=True)
        soundfile.write(root / row.path, voice(number, 0, seconds=row.num_samples / RATE), RATE)
    generator = np.random.default_rng(0)
    for row in noises.itertuples():
        soundfile.write(root / row.path, generator.normal(0, 0.1, row.num_samples), RATE)
    return root, manifest, noises


def _drawn(audio: Audio, **settings: Any) -> pd.DataFrame:
    root, manifest, noises = audio
    plan = _plan(6, "valid", min_seconds=0.4, **settings)
    return draw_lists(manifest, plan, Reading(root, root, None, seed=5), noises=noises, num_workers=1)


def test_loudness_and_peak_follow_the_published_rules(audio: Audio) -> None:
    root, manifest, noises = audio
    path_of = pd.concat([manifest, noises]).set_index("utterance_id")["path"]
    for _, rows in _drawn(audio).groupby("mixture_id", sort=False):
        signals = [read_audio(root / path_of[u])[0] for u in rows["utterance_id"]]
        length = max(map(len, signals[:-1]))
        signals[-1] = extended(signals[-1], length, RATE)
        levelled = [x * gain for x, gain in zip(signals, rows["level"], strict=True)]
        peak = np.abs(sum(np.pad(x, (0, length - len(x))) for x in levelled)).max()
        assert peak <= PEAK * (1 + 1e-5)
        if peak < PEAK * 0.999:
            measured = [loudness(x, RATE) for x in levelled]
            assert all(
                -33.001 <= lufs <= -24.999 or np.abs(x).max() > 0.89
                for lufs, x in zip(measured, levelled, strict=True)
                if x is not levelled[-1]
            )
            assert -38.001 <= measured[-1] <= -29.999


def test_workers_do_not_matter_and_noise_may_be_absent(audio: Audio) -> None:
    root, manifest, noises = audio
    plan, reading = _plan(6, "valid", min_seconds=0.4), Reading(root, root, None, seed=5)
    assert draw_lists(manifest, plan, reading, noises=noises, num_workers=2).equals(_drawn(audio))
    clean = draw_lists(manifest, plan, Reading(root, None, None, seed=5), num_workers=1)
    assert set(clean["source"]) == {"s1", "s2"}
    assert len(draw_lists(manifest, _plan(6, "valid", min_seconds=0.4, limit=2), reading, num_workers=1)) == 4


def test_the_published_format_is_written_and_read_back(audio: Audio, tmp_path: Path) -> None:
    root, manifest, noises = audio
    plan = _drawn(audio)
    written = librimix_lists.write_lists(plan, pd.concat([manifest, noises]), tmp_path)
    assert [path.name for path in written] == ["libri2mix_dev.csv", "libri2mix_dev_info.csv"]
    assert list(pd.read_csv(written[0]).columns) == [
        *("mixture_ID", "source_1_path", "source_1_gain", "source_2_path", "source_2_gain", "noise_path", "noise_gain")
    ]
    info = pd.read_csv(written[1])
    assert list(info.columns) == ["mixture_ID", "speaker_1_ID", "speaker_1_sex", "speaker_2_ID", "speaker_2_sex"]
    settings = LibriMixPlan(kind="librimix", splits=["valid"])
    again, speech, noise = librimix_lists.read_lists(tmp_path, settings, lambda split: ["dev"])
    assert list(again["level"]) == list(plan["level"])
    assert list(again["mixture_id"]) == list(plan["mixture_id"])
    assert len(listed_manifest(speech, root, num_workers=1)) == len(speech)
    assert set(noise["path"]) <= set(noises["path"])


def test_silence_is_named(audio: Audio, tmp_path: Path) -> None:
    _, manifest, _ = audio
    for row in manifest.itertuples():
        (tmp_path / row.path).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / row.path, np.zeros(RATE), RATE)
    with pytest.raises(AudioError, match="is silent"):
        draw_lists(manifest, _plan(1, "valid", min_seconds=0.4), Reading(tmp_path, None, None, seed=0), num_workers=1)
