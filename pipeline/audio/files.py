"""Audio files: samples in and out, and the 16-bit quantisers of the published datasets.

Samples are floating point with full scale at 1; the last axis is time. Files are written whole or not at all, and equal samples
give equal bytes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile

from pipeline.audio.headers import AudioHeader, check_length, check_whole, header_of, why_unreadable
from pipeline.errors import AudioError
from pipeline.files import write_quickly, written_whole

Encoding = Literal["pcm16", "float32", "flac"]

FULL_SCALE = 2**15
BLOCK_SAMPLES = 2**18
"""Of long files, to read at once."""
MAX_RIFF_BYTES = 2**32 - 2**10
"""Of samples; the sizes in a wav file have 32 bits."""


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
        finite_only: refuse NaN and infinite samples; False returns them, to whoever counts them.

    Returns:
        Samples [time] and the sample rate in Hz.

    Raises:
        AudioError: the file is missing, damaged or empty, holds NaN or infinite samples, or has several channels and none is
            chosen.
    """
    samples, header = _read(Path(path), channel, start, stop, dtype, finite_only=finite_only)
    return samples, header.sample_rate


def _read(
    path: Path, channel: int | None, start: int, stop: int | None, dtype: Literal["float64", "float32"], *, finite_only: bool
) -> tuple[npt.NDArray[Any], AudioHeader]:
    with _opened(path, channel, soundfile.SoundFile) as (file, header, column):
        expected = max((header.num_samples if stop is None else min(stop, header.num_samples)) - start, 0)
        if start:
            file.seek(min(start, header.num_samples))
        samples = file.read(expected, dtype=dtype, always_2d=True)[:, column]
    _check_samples(path, samples, expected, header, finite_only=finite_only)
    return samples, header


def read_blocks(path: str | Path, *, channel: int | None = None) -> Iterator[npt.NDArray[np.float64]]:
    """Decode one channel of a file as :func:`read_audio` does, in blocks ``[time]`` of at most ``BLOCK_SAMPLES``.

    Raises:
        AudioError: as :func:`read_audio`; that the end is missing shows only there.
    """
    path = Path(path)
    with _opened(path, channel, _ReadForwards) as (file, header, column):
        for start in range(0, header.num_samples, BLOCK_SAMPLES):
            expected = min(BLOCK_SAMPLES, header.num_samples - start)
            samples = file.read(expected, dtype="float64", always_2d=True)[:, column]
            _check_samples(path, samples, expected, header, finite_only=True)
            yield samples


@contextmanager
def _opened(
    path: Path, channel: int | None, kind: type[soundfile.SoundFile]
) -> Iterator[tuple[soundfile.SoundFile, AudioHeader, int]]:
    """A file that is whole, as far as its header says; and the column of its samples to read.

    Raises:
        AudioError: it is not, or reading it fails.
    """
    try:
        plain = check_whole(path)
        with kind(path) as file:
            header = header_of(file)
            if plain and plain.num_samples != header.num_samples:
                # Where libsndfile meets a disk's fault within a header, it takes the file for a shorter one.
                raise AudioError(f"{path}: could not be read whole; try again, and look at the disk if it stays so")
            check_length(path, header)
            yield file, header, choose_channel(path, header, channel)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(why_unreadable(path, error)) from None


class _ReadForwards(soundfile.SoundFile):  # type: ignore[misc]
    """A file whose blocks follow each other.

    After every block, soundfile moves to where the file stands already, if it can move; an mp3's decoder then forgets the frames
    before, and the next some hundred samples are wrong.
    """

    def seekable(self) -> bool:
        return False


def read_stored(path: str | Path) -> tuple[npt.NDArray[Any], int]:
    """Decode a mono file to samples [time] as it stores them: int16 of 16-bit files, float32 of all others; and its rate in Hz.

    Raises:
        AudioError: as :func:`read_audio`.
    """
    samples, header = _read(Path(path), None, 0, None, "float64", finite_only=True)
    return (quantise(samples) if header.subtype == "PCM_16" else samples.astype(np.float32)), header.sample_rate


def choose_channel(path: Path, header: AudioHeader, channel: int | None) -> int:
    """The channel to read: the only one, or the one asked for.

    Raises:
        AudioError: several channels and none chosen, or no such channel.
    """
    if channel is None and header.num_channels > 1:
        raise AudioError(f"{path}: has {header.num_channels} channels; choose one with corpus.channel = 0 (the first)")
    if channel is not None and channel >= header.num_channels:
        raise AudioError(f"{path}: has {header.num_channels} channel(s), so there is no channel {channel} (0 is the first)")
    return channel or 0


def _check_samples(path: Path, samples: npt.NDArray[Any], expected: int, header: AudioHeader, *, finite_only: bool) -> None:
    if len(samples) < expected:
        raise AudioError(
            f"{path}: is cut short: {expected - len(samples):,} of {header.num_samples:,} samples are missing; copy it again"
        )
    if finite_only and not header.subtype.startswith("PCM") and not np.isfinite(samples).all():
        raise AudioError(f"{path}: holds samples that are not numbers (NaN or infinite); remove it or convert it again")


def write_audio(path: str | Path, samples: npt.NDArray[Any], sample_rate: int, encoding: Encoding = "pcm16") -> int:
    """Write one mono file, whole or not at all; equal samples give equal bytes.

    Args:
        path: the final name; its folder is created.
        samples: [time], full scale at 1; or int16, written unchanged.
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


def write_blocks(path: str | Path, blocks: Iterable[npt.NDArray[Any]], num_samples: int, sample_rate: int) -> None:
    """Write what :func:`write_audio` does as ``float32``, while the samples are computed.

    Args:
        path: the final name; its folder is created.
        blocks: each [time].
        num_samples: in all blocks together.
        sample_rate: Hz.

    Raises:
        WorkError: the folder cannot be written, or the disk is full.
    """
    written = 0
    with written_whole(Path(path)) as temporary, temporary.open("wb") as file:
        file.write(_wav_header(num_samples, sample_rate, format_tag=3, sample_bytes=4))
        for block in blocks:
            file.write(np.ascontiguousarray(block, "<f4").data)
            written += len(block)
        if written != num_samples:
            raise ValueError(f"{path}: {written:,} samples came and {num_samples:,} were announced")


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
    """A RIFF file around little-endian samples; libsndfile would add a time stamp to floats."""
    header = _wav_header(len(samples), sample_rate, format_tag=format_tag, sample_bytes=sample_bytes)
    return header + np.ascontiguousarray(samples).data


def _wav_header(num_samples: int, sample_rate: int, *, format_tag: int, sample_bytes: int) -> bytes:
    """What comes before the samples of a mono file; beyond 4 GiB it is an RF64 file (EBU Tech 3306)."""
    num_bytes = num_samples * sample_bytes
    chunks = struct.pack(
        "<4sIHHIIHH", b"fmt ", 16, format_tag, 1, sample_rate, sample_rate * sample_bytes, sample_bytes, 8 * sample_bytes
    )
    is_wide = num_bytes > MAX_RIFF_BYTES
    if format_tag == 3:
        chunks += struct.pack("<4sII", b"fact", 4, min(num_samples, 2**32 - 1))
    if is_wide:
        riff_bytes = 4 + 36 + len(chunks) + 8 + num_bytes
        chunks = struct.pack("<4sIQQQI", b"ds64", 28, riff_bytes, num_bytes, num_samples, 0) + chunks
    chunks += struct.pack("<4sI", b"data", 2**32 - 1 if is_wide else num_bytes)
    size = 2**32 - 1 if is_wide else 4 + len(chunks) + num_bytes
    return struct.pack("<4sI4s", b"RF64" if is_wide else b"RIFF", size, b"WAVE") + chunks


def quantise(samples: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """``int16(round(2^15 x))``, clipped at full scale, as MERL's script writes; int16 passes through."""
    if samples.dtype == np.int16:
        return samples
    scaled = np.rint(samples * samples.dtype.type(FULL_SCALE))
    quantised: npt.NDArray[np.int16] = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1, out=scaled).astype(np.int16)
    return quantised


def quantise_down(samples: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """What ``soundfile.write`` makes of floats: 32-bit integers, of which it keeps the upper half, so it rounds down.

    LibriMix was written this way; it shifts every file by half a step.
    """
    scaled = samples * samples.dtype.type(2**31)
    np.rint(scaled, out=scaled)
    # 2^31 - 128 is the largest float32 that fits into int32; its upper half is full scale.
    np.clip(scaled, -(2**31), 2**31 - 128, out=scaled)
    quantised: npt.NDArray[np.int16] = (scaled.astype(np.int32) >> 16).astype(np.int16)
    return quantised


def dequantise(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Floats with full scale at 1: int16 becomes float32 exactly, floats pass through."""
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / np.float32(FULL_SCALE)
    return samples
