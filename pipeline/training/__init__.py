"""Training: segments and batches, losses and optimisers, and the loop, which can be stopped and resumed at any step.

Stages read ``VERSION`` before any torch is needed, so the public names are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.training.loop import TrainingSets as TrainingSets
    from pipeline.training.loop import train as train
    from pipeline.training.losses import pairwise_si_snr as pairwise_si_snr
    from pipeline.training.losses import pit_loss as pit_loss
    from pipeline.training.segments import DynamicSegments as DynamicSegments
    from pipeline.training.segments import PackedMixtures as PackedMixtures
    from pipeline.training.segments import Segments as Segments
    from pipeline.training.segments import StaticSegments as StaticSegments

VERSION = 1
"""Raise it when the same settings and segments would train other weights."""

LAST, BEST = "last.safetensors", "best.safetensors"
"""What a training leaves in its folder: all that is needed to resume, and the weights of the best epoch."""

_HOME = {
    "DynamicSegments": "segments",
    "PackedMixtures": "segments",
    "Segments": "segments",
    "StaticSegments": "segments",
    "TrainingSets": "loop",
    "pairwise_si_snr": "losses",
    "pit_loss": "losses",
    "train": "loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
