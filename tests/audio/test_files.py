"""Audio files: round trips, the quantiser, the resampler, and one line for every way a file can be wrong."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.audio import files
from pipeline.audio.files import (
    Encoding,
    encode,
    quantise,
    quantise_down,
    read_audio,
    read_blocks,
    write_audio,
    write_blocks,
)
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
    with pytest.raises(AudioError, match=r"there is no channel 2 .0 is the first"):
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


# ---------------------------------------------------------------------------------------------------------------- blocks
@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_a_file_in_blocks(tmp_path: Path, tone: npt.NDArray[np.float64], ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder of an mp3 forgets the frames before where it is told to move, even to where it is."""
    monkeypatch.setattr(files, "BLOCK_SAMPLES", 1000)
    soundfile.write(tmp_path / f"tone.{ending}", np.stack([0 * tone, tone], axis=1), 8000)
    blocks = list(read_blocks(tmp_path / f"tone.{ending}", channel=1))
    assert {len(block) for block in blocks[:-1]} == {1000}
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(tmp_path / f"tone.{ending}", channel=1)[0])


@pytest.mark.parametrize("kind", ["missing", "cut short wav", "not a number"])
def test_damage_shows_in_blocks_too(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.wav"
    if kind != "missing":
        write_audio(path, np.full(100, np.nan if kind == "not a number" else 0.1), 8000, encoding="float32")
    if kind == "cut short wav":
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(AudioError, match=r"a\.wav: (no such file|is cut short|holds samples)"):
        list(read_blocks(path))


def test_blocks_make_the_same_bytes_as_the_whole(tmp_path: Path, tone: npt.NDArray[np.float64]) -> None:
    write_audio(tmp_path / "whole.wav", tone, 8000, encoding="float32")
    write_blocks(tmp_path / "blocks.wav", iter(np.array_split(tone, 7)), len(tone), 8000)
    assert (tmp_path / "blocks.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


def test_nothing_half_written_appears_under_the_name(tmp_path: Path) -> None:
    def interrupted() -> Iterator[npt.NDArray[np.float64]]:
        yield np.zeros(10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_blocks(tmp_path / "a.wav", interrupted(), 20, 8000)
    with pytest.raises(ValueError, match="10 samples came and 20 were announced"):
        write_blocks(tmp_path / "a.wav", [np.zeros(10)], 20, 8000)
    assert list(tmp_path.iterdir()) == []


def test_a_file_too_long_for_a_wav_header_is_an_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every file of more than 4 GiB, here from 1,000 bytes on."""
    monkeypatch.setattr(files, "MAX_RIFF_BYTES", 1000)
    samples = np.random.default_rng(0).standard_normal(251).astype(np.float32)
    for count in (250, 251):
        write_blocks(tmp_path / "a.wav", [samples[:count]], count, 8000)
        assert (tmp_path / "a.wav").read_bytes()[:4] == (b"RIFF" if count == 250 else b"RF64")
        assert read_header(tmp_path / "a.wav").num_samples == count
        np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", dtype="float32")[0], samples[:count])
    assert len((tmp_path / "a.wav").read_bytes()) == int.from_bytes((tmp_path / "a.wav").read_bytes()[20:28], "little") + 8


def test_the_header_of_six_gigabytes() -> None:
    header = files._wav_header(1_500_000_000, 48000, format_tag=3, sample_bytes=4)
    assert header[:8] == b"RF64\xff\xff\xff\xff"
    assert int.from_bytes(header[28:36], "little") == 6_000_000_000
