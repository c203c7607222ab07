"""Oracle masks: closed forms, and where they stand on speech."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.scoring.metrics import si_snr
from pipeline.scoring.oracles import Mask, oracle
from tests.separations import Speech

MASKS: tuple[Mask, ...] = ("ratio", "binary", "wiener")


@pytest.mark.parametrize("mask", MASKS)
@given(seed=st.integers(0, 2**32 - 1), num_sources=st.integers(1, 4), num_samples=st.integers(1, 3000))
@settings(max_examples=15, deadline=None)
def test_estimates_sum_to_the_mixture(mask: Mask, seed: int, num_sources: int, num_samples: int) -> None:
    random = np.random.default_rng(seed)
    references = random.standard_normal((num_sources, num_samples))
    mixture = references.sum(0)
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


@pytest.mark.parametrize("mask", MASKS)
def test_noise_is_masked_too(mask: Mask) -> None:
    """A mask that knew the speech alone would let all of the noise through."""
    time = np.arange(8000) / 8000
    references = np.stack([np.sin(2 * np.pi * 500 * time), np.sin(2 * np.pi * 1500 * time)])
    noise = 3 * np.sin(2 * np.pi * 3000 * time)
    estimates = oracle(references.sum(0) + noise, references, sample_rate=8000, mask=mask)
    assert (si_snr(estimates[:, 400:-400], references[:, 400:-400]) > 40).all()
