"""Intelligibility and perceived quality, where their packages are installed."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ScoreError
from pipeline.scoring.scoring import score
from pipeline.tables import SCORE_METRICS
from tests.scoring.cases import RATE, separated
from tests.separations import Speech, with_interference


def test_intelligibility_and_quality(corpora: Path) -> None:
    pytest.importorskip("pystoi")
    pytest.importorskip("pesq")
    speech = Speech(corpora, 1)
    references = speech.utterances(2, 24000)
    estimates = with_interference(references, speech.random, 15.0, 20.0)
    noisy = with_interference(references, speech.random, 0.0, 0.0)
    also = ["stoi", "estoi", "pesq"]
    better, worse = (
        score(each, references, mixture=references.sum(0), sample_rate=RATE, also=also)[also].to_numpy()
        for each in (estimates, noisy)
    )
    assert (better > worse).all()
    for column, metric in enumerate(also):
        scale = next(found for found in SCORE_METRICS if found.column == metric)
        assert ((scale.lowest <= worse[:, column]) & (better[:, column] <= scale.highest)).all()
    silent = score(np.stack([estimates[0], np.zeros(24000)]), references, mixture=None, sample_rate=RATE, also=also)
    assert silent[also].isna().to_numpy().tolist() == [[False] * 3, [True] * 3]


def test_quality_of_next_to_nothing_is_no_crash() -> None:
    pytest.importorskip("pystoi")
    pytest.importorskip("pesq")
    for num_samples in (2, 100, 1500, 3000):
        estimates, references, mixture = separated(12, num_samples=num_samples)
        scores = score(estimates, references, mixture=mixture, sample_rate=RATE, also=["stoi", "estoi", "pesq"])
        assert scores[["stoi", "estoi"]].isna().all(axis=None)


def test_intelligibility_does_not_depend_on_the_level() -> None:
    pytest.importorskip("pystoi")
    estimates, references, mixture = separated(13, num_samples=8000)
    loud, quiet = (
        score(gain * estimates, references, mixture=mixture, sample_rate=RATE, also=["stoi", "estoi"]) for gain in (1, 1e-12)
    )
    np.testing.assert_allclose(quiet[["stoi", "estoi"]], loud[["stoi", "estoi"]], rtol=1e-9)
    assert (loud["stoi"] > 0.5).all()


def test_metrics_that_cannot_be_computed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    estimates, references, mixture = separated(11)
    monkeypatch.setattr("pipeline.scoring.perceptual.find_spec", lambda _: None)
    with pytest.raises(ScoreError, match="pip install"):
        score(estimates, references, mixture=mixture, sample_rate=RATE, also=["stoi"])
    monkeypatch.undo()
    pytest.importorskip("pesq")
    with pytest.raises(ScoreError, match="8000 and 16000"):
        score(estimates, references, mixture=mixture, sample_rate=44100, also=["pesq"])
