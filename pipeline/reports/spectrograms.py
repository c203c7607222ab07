"""Spectrograms as small pictures."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

DEPTH_DB = 65
"""From the brightest to the darkest colour."""

_COLOURS = "magma"


def colour_scale() -> str:
    """The colours of spectrograms from dark to bright, as stops of a CSS gradient."""
    import matplotlib as mpl  # heavy, and needed by few commands

    return ", ".join(mpl.colors.to_hex(mpl.colormaps[_COLOURS](k / 8)) for k in range(9))


def spectrogram_webp(samples: npt.NDArray[np.float64], sample_rate: int, *, full_scale_db: float | None = None) -> bytes:
    """A small spectrogram as WebP: 32-ms windows, ``DEPTH_DB`` deep.

    Args:
        samples: ``[time]``.
        sample_rate: Hz.
        full_scale_db: power that is drawn brightest; pass the same value for pictures that will be compared.
    """
    power = power_spectrogram_db(samples, sample_rate)
    top = power.max() if full_scale_db is None else full_scale_db
    shade = np.clip((power - top + DEPTH_DB) / DEPTH_DB, 0, 1)
    import matplotlib as mpl  # heavy, and needed by few commands

    colours = np.round(mpl.colormaps[_COLOURS](shade[::-1])[..., :3] * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, format="WEBP", quality=45, method=6)
    return file.getvalue()


def power_spectrogram_db(samples: npt.NDArray[np.float64], sample_rate: int, *, num_frames: int = 200) -> npt.NDArray[np.float64]:
    """Power in dB ``[frequency, frame]`` of Hann windows of 32 ms, at most ``num_frames`` of them."""
    length = max(16, round(0.032 * sample_rate))
    hop = max(length // 4, -(-max(len(samples) - length, 1) // num_frames))
    padded = np.pad(samples, (0, max(0, length - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop]
    spectrum = np.fft.rfft(frames * np.hanning(length), axis=-1)
    return 10 * np.log10(np.square(np.abs(spectrum)).T + 1e-12)
