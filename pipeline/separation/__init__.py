"""Separation: a trained network applied to one signal, to files, to a whole dataset, or live.

Stages read ``VERSION`` before any torch is needed, so the public names are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.separation.long_files import Limits as Limits
    from pipeline.separation.offline import cpu_real_time_factor as cpu_real_time_factor
    from pipeline.separation.offline import real_time_factor as real_time_factor
    from pipeline.separation.offline import separate as separate
    from pipeline.separation.offline import separate_dataset as separate_dataset
    from pipeline.separation.recordings import Separated as Separated
    from pipeline.separation.recordings import separate_files as separate_files
    from pipeline.separation.streaming import Stream as Stream
    from pipeline.separation.streaming import stream as stream

VERSION = 1
"""Raise it when the same model would give other estimates or facts."""

_HOME = {
    **dict.fromkeys(("cpu_real_time_factor", "real_time_factor", "separate", "separate_dataset"), "offline"),
    "Limits": "long_files",
    **dict.fromkeys(("Separated", "separate_files"), "recordings"),
    **dict.fromkeys(("Stream", "stream"), "streaming"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
