"""Speech-separation mixtures, Conv-TasNet training and comparison reports, from one recipe.

    import pipeline

    recipe = pipeline.load_recipe("demo")
    run = pipeline.run(recipe)                                                # skips what is done
    run.scores.groupby("system")[["si_snri_db", "sdri_db"]].mean()

    model = pipeline.load_model(run.models["causal"])
    estimates = pipeline.separate(model, mixture, sample_rate=8000)           # [source, time]
    pipeline.score(estimates, references, mixture=mixture, sample_rate=8000)  # DataFrame, dB

Names are resolved when first used: tables do not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from pipeline.audio.files import read_audio, write_audio
    from pipeline.audio.levels import active_level, loudness
    from pipeline.audio.mixing import mix
    from pipeline.audio.resampling import resample
    from pipeline.compute.options import Options
    from pipeline.errors import TasnetError
    from pipeline.models import build_model, describe_model, look_ahead
    from pipeline.models.checkpoints import load_model, save_model
    from pipeline.recipe.reading import load_recipe, parse_recipe
    from pipeline.recipe.schema import Recipe
    from pipeline.reports import write_report
    from pipeline.scoring.metrics import sdr, si_snr
    from pipeline.scoring.scoring import score
    from pipeline.separation.offline import separate
    from pipeline.separation.streaming import Stream, stream
    from pipeline.stages.run import Run, run
    from pipeline.training.losses import pairwise_si_snr, pit_loss

_HOME = {
    "Options": "compute.options",
    "Recipe": "recipe.schema",
    "Run": "stages.run",
    "Stream": "separation.streaming",
    "TasnetError": "errors",
    "active_level": "audio.levels",
    "build_model": "models",
    "describe_model": "models",
    "load_model": "models.checkpoints",
    "load_recipe": "recipe.reading",
    "look_ahead": "models",
    "loudness": "audio.levels",
    "mix": "audio.mixing",
    "pairwise_si_snr": "training.losses",
    "parse_recipe": "recipe.reading",
    "pit_loss": "training.losses",
    "read_audio": "audio.files",
    "resample": "audio.resampling",
    "run": "stages.run",
    "save_model": "models.checkpoints",
    "score": "scoring.scoring",
    "sdr": "scoring.metrics",
    "separate": "separation.offline",
    "si_snr": "scoring.metrics",
    "stream": "separation.streaming",
    "write_audio": "audio.files",
    "write_report": "reports",
}

__all__ = [
    "Options",
    "Recipe",
    "Run",
    "Stream",
    "TasnetError",
    "active_level",
    "build_model",
    "describe_model",
    "load_model",
    "load_recipe",
    "look_ahead",
    "loudness",
    "mix",
    "pairwise_si_snr",
    "parse_recipe",
    "pit_loss",
    "read_audio",
    "resample",
    "run",
    "save_model",
    "score",
    "sdr",
    "separate",
    "si_snr",
    "stream",
    "write_audio",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("pipeline.compute.version").package_version()
    if name not in _HOME:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(import_module(f"pipeline.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
