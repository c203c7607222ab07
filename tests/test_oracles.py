"""Oracle masks: closed forms, and where they stand on speech."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics import si_snr
from pipeline.oracles import Mask, oracle, write_oracles
from pipeline.scoring import score_dataset
from tests.separations import Speech
from tests.test_scoring import write_dataset

MASKS: tuple[Mask, ...] = ("ratio", "binary", "wiener")


@pytest.mark.parametrize("mask", MASKS)
@given(seed=st.integers(0, 2**32 - 1), num_sources=st.integers(1, 4), num_samples=st.integers(1, 3000))
@settings(max_examples=15, deadline=None)
def test_estimates_sum_to_the_mixture(mask: Mask, seed: int, num_sources: int, num_samples: int) -> None:
    random = np.random.default_rng(seed)
    references = random.standard_normal((num_sources, num_samples))
    mixture = references.sum(0) + 0.1 * random.standard_normal(num_samples)
    estimates = oracle(mixture, references, sample_rate=8000, mask=mask)
    assert estimates.shape == references.shape
    np.testing.assert_allclose(estimates.sum(0), mixture, atol=1e-9)


@pytest.mark.parametrize("mask", MASKS)
def test_sources_apart_in_frequency_come_out_whole(mask: Mask) -> None:
    time = np.arange(8000) / 8000
    references = np.stack([np.sin(2 * np.pi * 500 * time), np.sin(2 * np.pi * 2500 * time)])
    estimates = oracle(references.sum(0), references, sample_rate=8000, mask=mask)
    assert (si_snr(estimates[:, 400:-400], references[:, 400:-400]) > 40).all()


def test_a_silent_source_gets_nothing() -> None:
    mixture = np.random.default_rng(0).standard_normal(4000)
    for mask in MASKS:
        estimates = oracle(mixture, np.stack([np.zeros(4000), mixture]), sample_rate=8000, mask=mask)
        np.testing.assert_allclose(estimates, [np.zeros(4000), mixture], atol=1e-9)


def test_silence_everywhere_is_shared() -> None:
    assert not oracle(np.zeros(1000), np.zeros((2, 1000)), sample_rate=8000).any()


def test_masks_reach_on_speech_what_the_literature_says(corpora: Path) -> None:
    """12.2, 13.0 and 13.4 dB on WSJ0-2mix (Luo & Mesgarani 2019, Table V); other speech lies within two dB, in the same order."""
    speech = Speech(corpora, 0)
    improvements = {mask: [] for mask in MASKS}
    for _ in range(12):
        references = speech.utterances(2, 24000)
        references /= references.std(axis=1, keepdims=True)
        mixture = references.sum(0)
        for mask in MASKS:
            estimates = oracle(mixture, references, sample_rate=8000, mask=mask)
            improvements[mask].append(np.mean(si_snr(estimates, references) - si_snr(mixture, references)))
    ratio, binary, wiener = (np.mean(improvements[mask]) for mask in MASKS)
    assert ratio < binary < wiener
    assert 10 < ratio < 15


def test_oracles_are_scored_like_systems(tmp_path: Path) -> None:
    mixtures = write_dataset(tmp_path, num_mixtures=2)
    folders = write_oracles(mixtures, tmp_path, tmp_path / "oracles", masks=["ratio", "binary"], num_workers=1)
    assert list(folders) == ["oracle-ratio", "oracle-binary"]
    scores = score_dataset(mixtures, tmp_path, folders, out=tmp_path / "scores.csv", num_workers=1)
    assert (scores["status"] == "ok").all()
    assert (scores["si_snri_db"] > 0).all()
