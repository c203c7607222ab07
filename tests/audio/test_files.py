"""Audio files: round trips, the quantiser, the resampler, and one line for every way a file can be wrong."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.audio.files import Encoding, encode, quantise, quantise_down, read_audio, write_audio
from pipeline.audio.headers import read_header
from pipeline.errors import AudioError, WorkError

RATE = 8000


@pytest.fixture
def tone() -> npt.NDArray[np.float64]:
    samples: npt.NDArray[np.float64] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    return samples


@pytest.mark.parametrize(
    ("encoding", "suffix", "step"), [("pcm16", "wav", 2**-16), ("flac", "flac", 2**-16), ("float32", "wav", 2**-25)]
)
def test_what_is_written_is_read(
    tmp_path: Path, tone: npt.NDArray[np.float64], encoding: Encoding, suffix: str, step: int
) -> None:
    path = tmp_path / f"deep/er/tone.{suffix}"
    write_audio(path, tone, RATE, encoding)
    samples, sample_rate = read_audio(path)
    assert sample_rate == RATE
    assert np.abs(samples - tone).max() <= step
    assert read_header(path).num_samples == len(tone)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@given(arrays(st.sampled_from([np.float32, np.float64]), st.integers(1, 200), elements=st.floats(-1.5, 1.5, width=32)))
def test_rounding_down_is_what_libsndfile_writes(samples: npt.NDArray[Any]) -> None:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype="PCM_16")
    assert encode(quantise_down(samples), RATE) == file.getvalue()


def test_rounding_down_at_the_steps_and_just_beside_them() -> None:
    steps = np.arange(-(2**15) - 3, 2**15 + 3) / 2**15
    for samples in (steps, np.nextafter(steps, 2), np.nextafter(steps, -2), steps + 2**-32, steps - 2**-32, steps - 2**-31):
        for typed in (samples, samples.astype(np.float32)):
            file = io.BytesIO()
            soundfile.write(file, typed, RATE, format="WAV", subtype="PCM_16")
            assert encode(quantise_down(typed), RATE) == file.getvalue()


@given(arrays(np.int16, st.integers(1, 50)))
def test_16_bit_samples_survive_every_detour(samples: npt.NDArray[Any]) -> None:
    assert np.array_equal(quantise(samples / 2**15), samples)
    assert np.array_equal(quantise((samples / 2**15).astype(np.float32)), samples)
    assert np.array_equal(quantise(samples), samples)


def test_quantiser_rounds_to_even_and_clips() -> None:
    assert quantise(np.array([0.5, 1.5, -0.5, 2.5]) / 2**15).tolist() == [0, 2, 0, 2]
    assert quantise(np.array([1.0, -1.0, 7.0, -7.0])).tolist() == [32767, -32768, 32767, -32768]


def test_same_samples_same_bytes_also_as_floats(tone: npt.NDArray[np.float64]) -> None:
    assert encode(tone, RATE, "float32") == encode(tone.astype(np.float32), RATE, "float32")


def test_a_part_of_a_file(tmp_path: Path, tone: npt.NDArray[np.float64]) -> None:
    write_audio(tmp_path / "tone.wav", tone, RATE)
    whole, _ = read_audio(tmp_path / "tone.wav")
    part, _ = read_audio(tmp_path / "tone.wav", start=100, stop=200)
    tail, _ = read_audio(tmp_path / "tone.wav", start=RATE - 10, stop=2 * RATE)
    assert np.array_equal(part, whole[100:200])
    assert np.array_equal(tail, whole[-10:])


def test_one_channel_of_two(tmp_path: Path, tone: npt.NDArray[np.float64]) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([tone, -tone], axis=1), RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"stereo.wav: has 2 channels; choose one with corpus.channel"):
        read_audio(path)
    left, right = (read_audio(path, channel=k)[0] for k in (0, 1))
    assert np.array_equal(left, -right)
    with pytest.raises(AudioError, match="channel = 2 does not exist"):
        read_audio(path, channel=2)


def _broken(folder: Path, kind: str) -> Path:
    """A damaged file of some kind."""
    tone = 0.5 * np.sin(np.arange(RATE) / 3)
    path = folder / f"{kind}.{'flac' if 'flac' in kind else 'wav'}"
    if kind == "missing":
        return path
    if kind == "nan":
        soundfile.write(path, np.where(np.arange(RATE) == 5, np.nan, tone), RATE, subtype="FLOAT")
    elif kind == "no samples":
        soundfile.write(path, tone[:0], RATE)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("no audio")
    elif kind == "shortened":
        path.write_bytes(b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n".ljust(1024) + bytes(100))
    elif kind == "streamed flac":
        soundfile.write(path, tone, RATE)
        content = bytearray(path.read_bytes())
        # The number of samples is the lower 36 bits of bytes 21 to 25.
        content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 0])
        path.write_bytes(content)
    elif kind == "truncated flac":
        soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, RATE), RATE)
        path.write_bytes(path.read_bytes()[:9000])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("nan", "not numbers"),
        ("no samples", "holds no samples"),
        ("empty", "damaged or not an audio file"),
        ("text", "damaged or not an audio file"),
        ("shortened", "sph2pipe"),
        ("streamed flac", "does not say how long"),
        ("truncated flac", "cut short|damaged"),
    ],
)
def test_every_damage_is_one_line_that_names_the_file(tmp_path: Path, kind: str, message: str) -> None:
    path = _broken(tmp_path, kind)
    with pytest.raises(AudioError, match=message) as caught:
        read_audio(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written(tmp_path: Path, tone: npt.NDArray[np.float64]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match="cannot be written"):
        write_audio(tmp_path / "file" / "tone.wav", tone, RATE)
