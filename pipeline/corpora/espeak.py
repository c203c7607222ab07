"""eSpeak NG, a small rule-based speech synthesiser, as a pure function of voice and text.

The library keeps state between utterances (the phase of the voice's flutter, random numbers of its noise source), even when it is
terminated and initialised again. So every utterance gets a freshly loaded copy, which takes half a millisecond: the samples of a
sentence then depend on nothing but the arguments. Terms: GPL-3.0 for the program, not for what it says; it comes with the
package espeakng-loader, which the extra ``demo`` installs.
"""

from __future__ import annotations

import _ctypes
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import CorpusError

try:
    import espeakng_loader
except ImportError:
    espeakng_loader = None

SAMPLE_RATE = 22050

# Values of speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_POS_CHARACTER = 1
_CHARS_UTF8 = 1

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """How to speak: an accent with a variant, and the parameters eSpeak lets one set."""

    name: str
    """``ACCENT+VARIANT`` such as ``en-us+f3``."""
    pitch: int
    """0 to 99; 50 is the variant's own."""
    pitch_range: int
    """0 (monotone) to 100; 50 is the variant's own."""
    words_per_minute: int
    volume: int = 60
    """0 to 200; the loudest variants reach full scale at 100."""


def speak(text: str, voice: Voice) -> npt.NDArray[np.int16]:
    """Synthesise a sentence.

    Returns:
        int16 [time] at 22,050 Hz; equal arguments give equal samples.

    Raises:
        CorpusError: eSpeak NG is not installed, does not load, or has no such voice.
    """
    chunks: list[bytes] = []

    def collect(samples: ctypes._Pointer[ctypes.c_short], num_samples: int, _events: int) -> int:
        if samples and num_samples > 0:
            chunks.append(ctypes.string_at(samples, 2 * num_samples))
        return 0

    callback = _Callback(collect)  # named here so that it outlives the calls below
    with _fresh_library() as library:
        library.espeak_SetSynthCallback(callback)
        _set_voice(library, voice)
        encoded = text.encode() + b"\0"
        library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded)), 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
        library.espeak_Synchronize()
    return np.frombuffer(b"".join(chunks), dtype=np.int16)


def _set_voice(library: ctypes.CDLL, voice: Voice) -> None:
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise CorpusError(f"eSpeak NG has no voice {voice.name}; reinstall it with pip install 'tasnet-pipeline[demo]'")
    settings = {_RATE: voice.words_per_minute, _VOLUME: voice.volume, _PITCH: voice.pitch, _RANGE: voice.pitch_range}
    for parameter, value in settings.items():
        library.espeak_SetParameter(parameter, value, 0)


@contextmanager
def _fresh_library() -> Iterator[ctypes.CDLL]:
    """A copy of the library with all its state as in the file, unloaded at the end."""
    if espeakng_loader is None:
        raise CorpusError("the synthetic corpus needs eSpeak NG: pip install 'tasnet-pipeline[demo]'")
    try:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        data_path = espeakng_loader.get_data_path().encode()
    except (OSError, RuntimeError) as error:
        raise CorpusError(f"eSpeak NG does not load ({error}); reinstall it with pip install 'tasnet-pipeline[demo]'") from error
    try:
        rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data_path, _INITIALIZE_DONT_EXIT)
        if rate != SAMPLE_RATE:
            raise CorpusError(f"eSpeak NG does not start (code {rate}); reinstall it with pip install 'tasnet-pipeline[demo]'")
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        yield library
        library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)
