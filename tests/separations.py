"""Sets of references and estimates that scoring is tried on: built from real speech, or reproducible without any."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from pipeline.audio.files import read_audio
from pipeline.audio.resampling import resample

Samples = NDArray[np.float64]


class Speech:
    """Utterances of the speech folder at 8 kHz, drawn with a seed.

    Args:
        corpora: the folder that holds ``speech/SPEAKER/UTTERANCE.flac``.
        seed: of the draw.
    """

    def __init__(self, corpora: Path, seed: int) -> None:
        self.speakers = sorted(path for path in (corpora / "speech").iterdir() if path.is_dir())
        self.random = np.random.default_rng(seed)

    def utterances(self, count: int, num_samples: int) -> Samples:
        """[speaker, time]: from as many different speakers, cut or repeated to length."""
        chosen = self.random.choice(len(self.speakers), count, replace=False)
        return np.stack([np.resize(self._utterance(self.speakers[index]), num_samples) for index in chosen])

    def _utterance(self, speaker: Path) -> Samples:
        files = sorted(speaker.glob("*.flac"))
        samples, sample_rate = read_audio(files[self.random.integers(len(files))])
        return resample(samples, sample_rate, 8000)


def with_interference(references: Samples, random: np.random.Generator, sir_db: float, snr_db: float) -> Samples:
    """Every reference, the sum of the others at ``-sir_db`` and white noise at ``-snr_db``."""
    power = references.std(axis=1, keepdims=True)
    others = references.sum(0) - references
    others = others * power / np.maximum(others.std(axis=1, keepdims=True), 1e-12)
    noise = random.standard_normal(references.shape) * power
    return references + 10 ** (-sir_db / 20) * others + 10 ** (-snr_db / 20) * noise


def plain(references: Samples, random: np.random.Generator) -> Samples:
    """What separation usually leaves, from bad to excellent."""
    return with_interference(references, random, random.uniform(-5, 40), random.uniform(0, 40))


def coloured(references: Samples, random: np.random.Generator) -> Samples:
    """Through a room of twenty taps."""
    taps = random.standard_normal(20) * np.exp(-np.arange(20) / 4)
    return signal.lfilter(taps, 1.0, plain(references, random), axis=1)


def swapped(references: Samples, random: np.random.Generator) -> Samples:
    """In another order."""
    return np.roll(plain(references, random), 1, axis=0)


def same_talker(references: Samples, random: np.random.Generator) -> Samples:
    """Every output follows the first talker."""
    first = np.repeat(references[:1], len(references), axis=0)
    return with_interference(first + 0.2 * references, random, 20.0, 15.0)


def the_mixture(references: Samples, random: np.random.Generator) -> Samples:
    """Nothing was separated."""
    return np.repeat(references.sum(0, keepdims=True), len(references), axis=0)


def quiet(references: Samples, random: np.random.Generator) -> Samples:
    """80 dB too low."""
    return 1e-4 * plain(references, random)


def offset(references: Samples, random: np.random.Generator) -> Samples:
    """With a constant added."""
    return plain(references, random) + 0.5


REALISTIC: tuple[Callable[[Samples, np.random.Generator], Samples], ...] = (
    plain,
    coloured,
    swapped,
    same_talker,
    the_mixture,
    quiet,
    offset,
)


def realistic_set(corpora: Path, number: int, num_samples: int) -> tuple[Samples, Samples]:
    """Estimates and references of real speech: every seventh of a kind, every tenth of three sources instead of two."""
    speech = Speech(corpora, number)
    references = speech.utterances(3 if number % 10 == 9 else 2, num_samples)
    return REALISTIC[number % len(REALISTIC)](references, speech.random), references


def low_passed(references: Samples) -> Samples:
    """Speech through an eighth-order Butterworth filter at 500 Hz: singular to working precision."""
    return signal.sosfilt(signal.butter(8, 500, fs=8000, output="sos"), references, axis=1)


def brick_wall(references: Samples) -> Samples:
    """Nothing at all above 1 kHz."""
    spectra = np.fft.rfft(references, axis=1)
    spectra[:, spectra.shape[1] // 4 :] = 0
    return np.fft.irfft(spectra, references.shape[1], axis=1)


def nearly_equal(references: Samples) -> Samples:
    """The second reference is the first one, but for -80 dB."""
    changed = references.copy()
    changed[1] = references[0] + 1e-4 * references[1]
    return changed


def bursts(references: Samples) -> Samples:
    """50 ms of sound, then nothing."""
    short = np.zeros_like(references)
    short[:, 1000:1400] = references[:, 4000:4400]
    return short + 1e-3 * np.eye(len(references), references.shape[1], 1000)


def impulses(references: Samples) -> Samples:
    """A single sample each."""
    return np.eye(len(references), references.shape[1], 700)


ILL_CONDITIONED: tuple[Callable[[Samples], Samples], ...] = (low_passed, brick_wall, nearly_equal, bursts, impulses)


def ill_conditioned_set(
    corpora: Path, seed: int, spoil: Callable[[Samples], Samples], num_samples: int
) -> tuple[Samples, Samples]:
    """Estimates and references, these spoilt in one of the ways above."""
    speech = Speech(corpora, seed)
    references = spoil(speech.utterances(2, num_samples))
    return with_interference(references, speech.random, 10.0, 20.0), references


def chirps(num_sources: int, num_samples: int) -> tuple[Samples, Samples]:
    """References and estimates that any machine makes alike: gliding tones, and noise of a linear congruential generator."""
    time = np.arange(num_samples) / num_samples
    tones = [
        np.sin(2 * np.pi * (40 * (k + 1) * time + 90 * (k + 2) * time**2)) * (1 + 0.5 * np.sin(2 * np.pi * (3 + k) * time))
        for k in range(num_sources)
    ]
    noises = [congruential_noise(num_samples, seed) for seed in range(2 * num_sources)]
    references = np.stack([tone + 0.1 * noise for tone, noise in zip(tones, noises[:num_sources], strict=True)])
    others = references.sum(0) - references
    delayed = np.stack([signal.lfilter([0.9, 0.0, 0.3, -0.1], 1.0, one) for one in references])
    return references, delayed[::-1] + 0.2 * others[::-1] + 0.05 * np.stack(noises[num_sources:])


def congruential_noise(num_samples: int, seed: int) -> Samples:
    """Uniform noise in [-1, 1) by x ← 1664525 x + 1013904223 mod 2³²."""
    state, states = seed, []
    for _ in range(num_samples):
        state = (1664525 * state + 1013904223) % 2**32
        states.append(state)
    return np.array(states) / 2**31 - 1
