"""Examples to listen to: which are chosen, how loud they are, and where their audio comes from."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline import reports
from pipeline.audio import files
from pipeline.reports import (
    listening,
)
from pipeline.reports.analysis import analyse
from tests.report_cases import make_scores, spoil
from tests.reports.clips import EVIL, load_clips


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    made = make_scores({"noncausal": 8.0, "causal": 6.5, EVIL: 7.9}, num_mixtures=40)
    made.loc[made["system"] == "noncausal", "estimate"] = 3 - made["estimate"]
    return spoil(made, {0: "silent_estimate", 8: "nan_in_estimate", 14: "length_mismatch(3)"})


def test_examples_are_chosen_by_rule() -> None:
    means = pd.DataFrame({"a": [5.0, 1.0, 3.0, 9.0, 4.0, np.nan], "b": [5.0, 0.0, 8.0, 9.0, 4.0, 99.0]}, index=list("uvwxyz"))
    chosen = listening.choose_examples(means, 5)
    assert chosen[:4] == [("Best", "x"), ("Median", "u"), ("Worst", "v"), ("Largest disagreement", "w")]
    assert chosen[4] == ("Random", "y")
    assert listening.choose_examples(means, 99) == chosen
    assert listening.choose_examples(means, 2) == chosen[:2]
    assert listening.choose_examples(means.iloc[:0], 5) == []


def test_clips_share_one_gain_and_follow_the_permutation(scores: pd.DataFrame) -> None:
    analysis = analyse(scores, baseline="noncausal")
    made = listening.make_examples(analysis, load_clips, 1, max_bytes=10**7)
    examples = made.shown
    assert (made.num_left_out, made.cut_to_seconds) == (0, None)
    clips = load_clips(examples[0].mixture_id)
    rows = [[decode(clip.flac) for clip in row.clips] for row in examples[0].rows]
    assert [clip.label for clip in examples[0].rows[1].clips] == ["Reference", "noncausal", "causal", EVIL]
    assert [clip.series for clip in examples[0].rows[1].clips] == [0, 1, 2, 3]
    gain = rows[0][0] @ clips.mixture / (clips.mixture @ clips.mixture)
    np.testing.assert_allclose(rows[1][0], gain * clips.references[0], atol=1e-4)
    np.testing.assert_allclose(rows[1][1], gain * clips.estimates["noncausal"][1], atol=1e-4)  # swapped by the scores
    np.testing.assert_allclose(rows[2][2], gain * clips.estimates["causal"][1], atol=1e-4)
    assert max(np.abs(samples).max() for row in rows for samples in row) == pytest.approx(listening.PEAK, abs=1e-3)


def decode(flac: str) -> np.ndarray:
    samples, sample_rate = soundfile.read(io.BytesIO(base64.b64decode(flac)))
    assert sample_rate == 8000
    return np.asarray(samples)


def test_clips_are_read_from_a_dataset(tmp_path: Path) -> None:
    clips = load_clips("0003")
    folders = {"data": tmp_path / "data", "causal": tmp_path / "causal"}
    for name, samples in (("mix", clips.mixture), ("s1", clips.references[0]), ("s2", clips.references[1])):
        files.write_audio(folders["data"] / name / "0003.wav", samples, 8000, "float32")
    for name, samples in zip(("s1", "s2"), clips.estimates["causal"], strict=True):
        files.write_audio(folders["causal"] / name / "0003.wav", samples, 8000, "float32")
    mixtures = pd.DataFrame(
        {"mixture_id": ["0003"], "num_sources": [2], "mixture_path": ["mix/0003.wav"]}
        | {"source_1_path": ["s1/0003.wav"], "source_2_path": ["s2/0003.wav"]}
    )
    found = reports.clip_loader(folders["data"], mixtures, {"causal": folders["causal"]})("0003")
    np.testing.assert_allclose(found.mixture, clips.mixture, atol=1e-7)
    np.testing.assert_allclose(found.references, clips.references, atol=1e-7)
    np.testing.assert_allclose(found.estimates["causal"], clips.estimates["causal"], atol=1e-7)
