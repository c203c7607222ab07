"""Headers: what libsndfile reads, and no file that was cut short passes for whole."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.audio.files import read_audio
from pipeline.audio.headers import AudioHeader, read_header
from pipeline.errors import AudioError

RATE = 16000
FORMATS = [
    (kind, subtype)
    for kind in ("FLAC", "WAV", "WAVEX", "RF64", "W64")
    for subtype in ("PCM_16", "PCM_24", "PCM_S8", "PCM_U8", "FLOAT")
    if soundfile.check_format(kind, subtype)
]


def noise_file(path: Path, kind: str, subtype: str, num_channels: int = 1) -> Path:
    """One second of noise."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, num_channels))
    soundfile.write(path, samples, RATE, format=kind, subtype=subtype)
    return path


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
@pytest.mark.parametrize("num_channels", [1, 2, 6])
def test_headers_are_what_libsndfile_reads(tmp_path: Path, kind: str, subtype: str, num_channels: int) -> None:
    path = tmp_path / f"x.{kind.lower()}"
    soundfile.write(path, np.zeros((123, num_channels)), 22050, format=kind, subtype=subtype)
    info = soundfile.info(path)
    expected = AudioHeader(info.samplerate, info.frames, info.channels, info.subtype)
    assert read_header(path) == read_header(path, check_end=True) == expected == AudioHeader(22050, 123, num_channels, subtype)


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("kept", [0.999, 0.5, 0.01])
@pytest.mark.parametrize(("kind", "subtype"), [(k, s) for k, s in FORMATS if k in ("WAV", "WAVEX", "RF64")])
def test_a_wav_cut_short_is_refused(tmp_path: Path, kind: str, subtype: str, kept: float, num_channels: int) -> None:
    path = noise_file(tmp_path / "x.wav", kind, subtype, num_channels)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    for read in (read_header, lambda path: read_audio(path, channel=0)):
        with pytest.raises(AudioError, match=r"x.wav: is cut short: [\d,]+ of the [\d,]+ bytes of samples are there"):
            read(path)


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.1])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_a_flac_cut_short_is_refused_where_its_end_is_checked(tmp_path: Path, subtype: str, kept: float) -> None:
    path = noise_file(tmp_path / "x.flac", "FLAC", subtype)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(AudioError, match=r"x.flac: is (cut short|damaged)"):
        read_header(path, check_end=True)


@pytest.mark.parametrize("claimed", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_written_to_a_pipe_is_as_long_as_its_file(tmp_path: Path, claimed: int) -> None:
    path = noise_file(tmp_path / "x.wav", "WAV", "PCM_16")
    content = bytearray(path.read_bytes())
    assert content[36:40] == b"data"
    content[40:44] = claimed.to_bytes(4, "little")
    path.write_bytes(content)
    info = soundfile.info(path)
    if info.frames:
        assert read_header(path).num_samples == info.frames


def test_chunks_before_and_after_the_samples(tmp_path: Path) -> None:
    path = noise_file(tmp_path / "x.wav", "WAV", "PCM_16")
    content = path.read_bytes()
    extra = b"LIST" + (3).to_bytes(4, "little") + b"abc\0"  # an odd size is padded
    for changed in (content[:36] + extra + content[36:], content + extra):
        path.write_bytes(changed)
        assert read_header(path) == AudioHeader(RATE, RATE, 1, "PCM_16")
        assert len(read_audio(path)[0]) == RATE
        path.write_bytes((content[:36] + extra + content[36:])[:-2])
        with pytest.raises(AudioError, match="cut short: 31,998 of the 32,000 bytes"):
            read_header(path)


@pytest.mark.parametrize("with_cover", [False, True])
def test_an_mp3_without_its_length_is_counted(tmp_path: Path, with_cover: bool) -> None:
    if not soundfile.check_format("MP3", "MPEG_LAYER_III"):
        pytest.skip("this libsndfile writes no mp3")
    path = tmp_path / "x.mp3"
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * RATE) * np.linspace(0, 1, 3 * RATE) ** 4
    soundfile.write(path, samples, RATE, subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.5)
    content = path.read_bytes()
    assert read_header(path).num_samples == len(samples)
    # The first frame holds nothing but the tag with the length.
    cover = b"ID3\x04\0\0" + bytes([0, 0, 2, 0]) + bytes(256) if with_cover else b""
    path.write_bytes(cover + content[content.index(b"\xff\xf3", 4) :])
    assert soundfile.info(path).frames > 2 * len(samples)  # what libsndfile guesses
    decoded, _ = read_audio(path)
    assert read_header(path).num_samples == len(decoded)
    assert abs(len(decoded) - len(samples)) < 3000


@pytest.mark.parametrize("num_bytes", range(0, 260, 13))
@pytest.mark.parametrize("suffix", ["flac", "wav"])
def test_hardly_anything_of_a_file(tmp_path: Path, suffix: str, num_bytes: int) -> None:
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 200), RATE)
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(AudioError):
        read_header(path, check_end=True)


def test_more_samples_than_a_file_can_hold_are_refused_before_any_are_read(tmp_path: Path) -> None:
    """A FLAC whose header claims 2³⁵ samples; one of an hour of silence, packed as tightly as can be, is read."""
    silent = tmp_path / "silent.flac"
    soundfile.write(silent, np.zeros(3600 * 8000, np.int16), 8000)
    assert read_header(silent).num_samples == 3600 * 8000
    content = bytearray(silent.read_bytes())
    content[21] |= 0x0F  # the upper 4 of the length's 36 bits
    (tmp_path / "huge.flac").write_bytes(content)
    with pytest.raises(AudioError, match=r"huge\.flac: says that it holds [\d,]+ samples, for which it is too small"):
        read_audio(tmp_path / "huge.flac")


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "a.wav"
    os.mkfifo(pipe)
    for read in (read_header, read_audio):
        with pytest.raises(AudioError, match=r"a\.wav: is a pipe"):
            read(pipe)


def test_a_wav_file_without_channels_is_refused(tmp_path: Path) -> None:
    path = noise_file(tmp_path / "a.wav", "WAV", "PCM_16")
    content = bytearray(path.read_bytes())
    content[22:24] = content[32:34] = b"\0\0"  # channels, and bytes of a frame
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.wav"):
        read_audio(path)


@pytest.mark.parametrize(("kind", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_a_compressed_file_that_was_cut_short_is_named(tmp_path: Path, kind: str, subtype: str) -> None:
    if kind not in soundfile.available_formats() or not soundfile.check_format(kind, subtype):
        pytest.skip("this libsndfile does not write it")
    path = tmp_path / f"x.{kind.lower()}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 8 * RATE), RATE, format=kind, subtype=subtype)
    whole = path.read_bytes()
    assert read_header(path).num_samples == 8 * RATE
    for share in (0.3, 0.5, 0.9, 1 - 1e-9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(AudioError, match="is cut short"):
            read_header(path)
        with pytest.raises(AudioError, match="is cut short"):
            read_audio(path)
