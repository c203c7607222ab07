"""Audio files: headers, samples in and out, and the 16-bit quantisers of the published datasets.

Samples are floating point with full scale at 1; the last axis is time. Files are written whole or not at all, and equal samples
give equal bytes.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile

from pipeline.errors import AudioError
from pipeline.files import write_quickly

Encoding = Literal["pcm16", "float32", "flac"]

FULL_SCALE = 2**15
_UNKNOWN_LENGTH = 2**63 - 1
_HEAD_BYTES = 16384  # hold what stands before the samples of nearly every file
_WAV_HEAD = struct.Struct("<4sI4s4sIHHIIHH4sI")


@dataclass(frozen=True)
class AudioHeader:
    """What a file says about itself without being decoded."""

    sample_rate: int
    """Hz."""
    num_samples: int
    """Per channel."""
    num_channels: int
    subtype: str = ""
    """The sample format in libsndfile's words: ``PCM_16``, ``FLOAT``, …"""


def read_header(path: str | Path) -> AudioHeader:
    """Read a file's header.

    Raises:
        AudioError: the file is missing, not audio that libsndfile reads, or empty.
    """
    path = Path(path)
    try:
        header = _common_header(path)
        if header is None:
            with soundfile.SoundFile(path) as file:
                header = _header_of(file)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(_why_unreadable(path, error)) from None
    _check_length(path, header)
    return header


def _common_header(path: Path) -> AudioHeader | None:
    """The header of the two kinds of files that corpora consist of, read in a tenth of libsndfile's time; None for all others."""
    with path.open("rb", buffering=0) as file:
        start = file.read(_HEAD_BYTES)
        if start.startswith(b"fLaC"):
            return _flac_header(start)
        return _wav_header(start, os.fstat(file.fileno()).st_size)


def _flac_header(start: bytes) -> AudioHeader | None:
    """What STREAMINFO says, the first block of a FLAC file: from bit 80 on rate (20 bits), channels, bits, length (36 bits)."""
    if not _holds_a_frame(start):
        return None
    facts = int.from_bytes(start[18:26], "big")
    rate, num_channels, bits, num_samples = facts >> 44, (facts >> 41 & 7) + 1, (facts >> 36 & 31) + 1, facts & (2**36 - 1)
    # Length 0 means that it is not known.
    return AudioHeader(rate, num_samples, num_channels, f"PCM_{bits}") if bits in (16, 24) and num_samples else None


def _holds_a_frame(start: bytes) -> bool:
    """Whether the blocks before the first frame are whole, STREAMINFO first, and something follows them."""
    position, is_last = 4, start[4:8] != b"\x00\x00\x00\x22"
    while not is_last and position + 4 <= len(start):
        is_last = start[position] >= 0x80
        position += 4 + int.from_bytes(start[position + 1 : position + 4], "big")
    return is_last and 42 < position < len(start)


def _wav_header(start: bytes, num_bytes: int) -> AudioHeader | None:
    """What a wav file of 16 bits says that has nothing but its format before its samples, and all of these."""
    if len(start) < _WAV_HEAD.size:
        return None
    riff, _, wave, fmt, fmt_size, tag, num_channels, rate, _, frame, bits, data, data_size = _WAV_HEAD.unpack_from(start)
    if (riff, wave, fmt, fmt_size, tag, bits, data) != (b"RIFF", b"WAVE", b"fmt ", 16, 1, 16, b"data"):
        return None
    whole = frame == 2 * num_channels and 0 < data_size <= num_bytes - _WAV_HEAD.size
    return AudioHeader(rate, data_size // frame, num_channels, "PCM_16") if whole else None


def read_audio(
    path: str | Path,
    *,
    channel: int | None = None,
    start: int = 0,
    stop: int | None = None,
    dtype: Literal["float64", "float32"] = "float64",
    finite_only: bool = True,
) -> tuple[npt.NDArray[Any], int]:
    """Decode one channel of a file.

    Args:
        path: any format libsndfile reads (wav, flac, ogg, mp3, uncompressed SPHERE, …).
        channel: which channel of several (0 is the first); without it only mono files are read.
        start: first sample; negative values are not allowed.
        stop: one past the last sample; beyond the end means the end.
        dtype: of the samples; 16-bit files lose nothing in either.
        finite_only: refuse NaN and infinite samples, rather than return them to somebody who looks for them.

    Returns:
        Samples [time] and the sample rate in Hz.

    Raises:
        AudioError: the file is missing, damaged or empty, holds NaN or infinite samples, or has several channels and none is
            chosen.
    """
    path = Path(path)
    try:
        with soundfile.SoundFile(path) as file:
            header = _header_of(file)
            _check_length(path, header)
            column = choose_channel(path, header, channel)
            expected = max((header.num_samples if stop is None else min(stop, header.num_samples)) - start, 0)
            if start:
                file.seek(min(start, header.num_samples))
            samples = file.read(expected, dtype=dtype, always_2d=True)[:, column]
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(_why_unreadable(path, error)) from None
    _check_samples(path, samples, expected, header, finite_only=finite_only)
    return samples, header.sample_rate


def choose_channel(path: Path, header: AudioHeader, channel: int | None) -> int:
    """The channel to read: the only one, or the one asked for.

    Raises:
        AudioError: several channels and none chosen, or no such channel.
    """
    if channel is None and header.num_channels > 1:
        raise AudioError(f"{path}: has {header.num_channels} channels; choose one with corpus.channel = 0 (the first)")
    if channel is not None and channel >= header.num_channels:
        raise AudioError(f"{path}: has {header.num_channels} channel(s), so corpus.channel = {channel} does not exist")
    return channel or 0


def _header_of(file: soundfile.SoundFile) -> AudioHeader:
    return AudioHeader(file.samplerate, file.frames, file.channels, file.subtype)


def _check_length(path: Path, header: AudioHeader) -> None:
    if header.num_samples == 0:
        raise AudioError(f"{path}: holds no samples; remove it or put the whole file in its place")
    if header.num_samples == _UNKNOWN_LENGTH:
        raise AudioError(f"{path}: does not say how long it is, as FLAC made from a stream; convert it anew")


def _check_samples(path: Path, samples: npt.NDArray[Any], expected: int, header: AudioHeader, *, finite_only: bool) -> None:
    if len(samples) < expected:
        raise AudioError(
            f"{path}: is cut short: {expected - len(samples)} of {header.num_samples} samples are missing; copy it anew"
        )
    # Integers are always numbers.
    if finite_only and not header.subtype.startswith("PCM") and not np.isfinite(samples).all():
        raise AudioError(f"{path}: holds samples that are no numbers (NaN or infinite); remove it or convert it anew")


def _why_unreadable(path: Path, error: Exception) -> str:
    """One line that names the file, the reason and the mend."""
    if not path.exists():
        return f"{path}: no such file"
    if isinstance(error, OSError):
        return f"{path}: cannot be read ({error.strerror or error})"
    if _is_shortened_sphere(path):
        return f"{path}: is a compressed (shorten) SPHERE file; convert it with `sph2pipe -p -f wav {path.name} {path.stem}.wav`"
    return f"{path}: is damaged or no audio file ({str(error).rstrip('.').split(': ')[-1]}); copy or convert it anew"


def _is_shortened_sphere(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(1024)
    return start.startswith(b"NIST_1A") and b"shorten" in start


def write_audio(path: str | Path, samples: npt.NDArray[Any], sample_rate: int, encoding: Encoding = "pcm16") -> int:
    """Write one mono file, whole or not at all; equal samples give equal bytes.

    Args:
        path: the final name; folders are made.
        samples: [time], full scale at 1; or int16, taken as it is.
        sample_rate: Hz.
        encoding: ``pcm16`` (16-bit wav), ``float32`` (32-bit float wav) or ``flac`` (16-bit).

    Returns:
        Its size in bytes.

    Raises:
        WorkError: the folder cannot be written, or the disk is full.
    """
    encoded = encode(samples, sample_rate, encoding)
    write_quickly(Path(path), encoded)
    return len(encoded)


def encode(samples: npt.NDArray[Any], sample_rate: int, encoding: Encoding = "pcm16") -> bytes:
    """The bytes of a mono file: see :func:`write_audio`."""
    if encoding == "float32":
        return _wav(dequantise(samples).astype("<f4", copy=False), sample_rate, format_tag=3, sample_bytes=4)
    quantised = quantise(samples)
    if encoding == "pcm16":
        return _wav(quantised.astype("<i2", copy=False), sample_rate, format_tag=1, sample_bytes=2)
    file = io.BytesIO()
    soundfile.write(file, quantised, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _wav(samples: npt.NDArray[Any], sample_rate: int, *, format_tag: int, sample_bytes: int) -> bytes:
    """A RIFF file around little-endian samples; libsndfile's own would carry a time stamp when the samples are floats."""
    payload = np.ascontiguousarray(samples).data
    chunks = struct.pack(
        "<4sIHHIIHH", b"fmt ", 16, format_tag, 1, sample_rate, sample_rate * sample_bytes, sample_bytes, 8 * sample_bytes
    )
    if format_tag == 3:
        chunks += struct.pack("<4sII", b"fact", 4, len(samples))
    chunks += struct.pack("<4sI", b"data", payload.nbytes)
    riff = struct.pack("<4sI4s", b"RIFF", 4 + len(chunks) + payload.nbytes, b"WAVE")
    return b"".join((riff, chunks, payload))


def quantise(samples: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """``int16(round(2^15 x))``, clipped at full scale, as MERL's script writes; int16 passes through."""
    if samples.dtype == np.int16:
        return samples
    scaled = np.rint(samples * samples.dtype.type(FULL_SCALE))
    quantised: npt.NDArray[np.int16] = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1, out=scaled).astype(np.int16)
    return quantised


def quantise_down(samples: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """What ``soundfile.write`` makes of floats: 32-bit integers, of which the upper half is kept, so it rounds down.

    LibriMix was written like this; mind that it moves every file by half a step.
    """
    scaled = samples * samples.dtype.type(2**31)
    np.rint(scaled, out=scaled)
    # 2^31 - 128 is the largest float32 that int32 holds; its upper half is the largest of all.
    np.clip(scaled, -(2**31), 2**31 - 128, out=scaled)
    quantised: npt.NDArray[np.int16] = (scaled.astype(np.int32) >> 16).astype(np.int16)
    return quantised


def dequantise(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Floats with full scale at 1: int16 becomes float32 exactly, floats pass through."""
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / np.float32(FULL_SCALE)
    return samples
