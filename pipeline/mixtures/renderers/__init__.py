"""From one planned mixture to its files: how each kind of plan reads, levels and mixes.

A renderer lives in one process and remembers utterances, so that what many mixtures use is decoded, resampled and measured once;
the samples of a mixture depend on nothing but the plan and the corpus.
"""

from __future__ import annotations

from pipeline.errors import PlanError
from pipeline.mixtures.renderers.base import Inputs, Renderer
from pipeline.mixtures.renderers.librimix import LibriMixRenderer
from pipeline.mixtures.renderers.wham import WhamRenderer
from pipeline.mixtures.renderers.wsj0mix import DrawnRenderer, Wsj0MixRenderer


def renderer_of(rule: str, inputs: Inputs) -> Renderer:
    """The renderer of plans with a level rule (see ``tables.PLAN``).

    Raises:
        PlanError: no such rule.
    """
    if rule == "gain":
        return LibriMixRenderer(inputs)
    if rule == "active_8k":
        return Wsj0MixRenderer(inputs)
    if rule == "wham":
        return WhamRenderer(inputs)
    if rule in ("active", "loudness", "rms"):
        return DrawnRenderer(inputs)
    raise PlanError(f"level_rule {rule!r} is none of active, active_8k, rms, loudness, gain and wham")
