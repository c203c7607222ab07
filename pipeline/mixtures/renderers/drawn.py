"""Mixtures of any corpus in the tree of WSJ0-2mix: levels measured at the mixtures' own rate, single precision throughout."""

from __future__ import annotations

from typing import cast

from pipeline.audio.levels import LevelRule
from pipeline.audio.mixing import Utterance, mix_at_levels
from pipeline.mixtures.plans.planned import PlannedMixture
from pipeline.mixtures.renderers.base import Inputs, Rendered, UtteranceCache, cached_utterance
from pipeline.mixtures.renderers.wsj0mix import add_files


class DrawnRenderer:
    """Renders plans whose level rule is one of ``audio.levels``."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._cache = UtteranceCache()

    def render(self, mixture: PlannedMixture) -> Rendered:
        """Every variant of one mixture."""
        rule = cast(LevelRule, mixture.rule)  # one of the adapter's level_rules
        sources = [cached_utterance(self._cache, source.path, rule, self._inputs) for source in mixture.sources]
        levels = [source.level for source in mixture.sources]
        rendered = Rendered()
        for variant in self._inputs.mix.variants:
            utterances = [Utterance(each.signals[variant.sample_rate], each.level, each.peak) for each in sources]
            starts = mixture.starts(variant.sample_rate)
            mixed = mix_at_levels(utterances, levels, rule=rule, mode=variant.mode, starts=starts)
            add_files(rendered, mixture, mixed, variant, self._inputs.mix)
        return rendered
