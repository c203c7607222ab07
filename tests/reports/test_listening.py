"""Examples to listen to: which are chosen, how loud they are, and where their audio comes from."""

from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.reports import (
    listening,
)
from pipeline.reports.analysis import analyse
from pipeline.reports.clips import Clips
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


def test_axes_have_round_values() -> None:
    made = listening.Example(0, "Best", "m", 3.2, 8000, ())
    assert made.time_ticks == [(0.0, "0"), (31.25, "1"), (62.5, "2"), (93.75, "3")]
    assert made.frequency_ticks == [(0.0, "0"), (50.0, "2"), (100.0, "4")]
    assert [text for _, text in listening.Example(0, "Best", "m", 15.0, 48000, ()).time_ticks] == ["0", "5", "10", "15"]
    assert [text for _, text in listening.Example(0, "Best", "m", 0.25, 44100, ()).time_ticks] == ["0", "0.1", "0.2"]
    assert [text for _, text in listening.Example(0, "Best", "m", 1.0, 44100, ()).frequency_ticks] == ["0", "8", "16"]


def test_a_system_without_a_recording_is_named(scores: pd.DataFrame) -> None:
    def load(mixture_id: str) -> Clips:
        clips = load_clips(mixture_id)
        return dataclasses.replace(clips, estimates={"causal": clips.estimates["causal"]})

    example = listening.make_examples(analyse(scores, baseline="noncausal"), load, 1, max_bytes=10**7).shown[0]
    assert example.missing == ("noncausal", EVIL)
    assert [[clip.label for clip in row.clips] for row in example.rows[1:]] == [["Reference", "causal"]] * 2
    assert [clip.series for clip in example.rows[1].clips] == [0, 2]
