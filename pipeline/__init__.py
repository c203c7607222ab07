"""Speech-separation mixtures, Conv-TasNet training and comparison reports, from one recipe.

    import pipeline

    recipe = pipeline.load_recipe("recipes/demo.toml")
    run = pipeline.run(recipe)                                                # skips what is done
    run.scores.groupby("system")[["si_snri_db", "sdri_db"]].mean()

    model = pipeline.load_model(run.models["causal"])
    estimates = pipeline.separate(model, mixture, sample_rate=8000)           # [source, time]
    pipeline.score(estimates, references, mixture=mixture, sample_rate=8000)  # DataFrame, dB

Names are resolved when first used: tables do not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.audio import read_audio, resample, write_audio
    from pipeline.checkpoints import load_model, save_model
    from pipeline.errors import TasnetError
    from pipeline.levels import active_level, loudness
    from pipeline.losses import pairwise_si_snr, pit_loss
    from pipeline.metrics import sdr, si_snr
    from pipeline.mixing import mix
    from pipeline.models import build_model, describe_model, look_ahead
    from pipeline.recipe import Recipe, load_recipe, parse_recipe
    from pipeline.reports import write_report
    from pipeline.scoring import score
    from pipeline.separation import separate
    from pipeline.stages import Options, Run, run

_HOME = {
    "Options": "stages",
    "Recipe": "recipe",
    "Run": "stages",
    "TasnetError": "errors",
    "active_level": "levels",
    "build_model": "models",
    "describe_model": "models",
    "load_model": "checkpoints",
    "load_recipe": "recipe",
    "look_ahead": "models",
    "loudness": "levels",
    "mix": "mixing",
    "pairwise_si_snr": "losses",
    "parse_recipe": "recipe",
    "pit_loss": "losses",
    "read_audio": "audio",
    "resample": "audio",
    "run": "stages",
    "save_model": "checkpoints",
    "score": "scoring",
    "sdr": "metrics",
    "separate": "separation",
    "si_snr": "metrics",
    "write_audio": "audio",
    "write_report": "reports",
}

__all__ = [
    "Options",
    "Recipe",
    "Run",
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
    "write_audio",
    "write_report",
]
__version__ = version("tasnet-pipeline")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(import_module(f"pipeline.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
