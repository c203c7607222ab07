"""WSJ0-2mix as MERL's script makes it, bit for bit, and its tree.

2speakers/{wav8k,wav16k}/{min,max}/{tr,cv,tt}/{mix,s1,s2}/MIXTURE.wav
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import sqrt

import numpy as np

from pipeline.audio.files import quantise, read_audio
from pipeline.audio.levels import active_level
from pipeline.audio.mixing import Mixed, mix
from pipeline.audio.resampling import resample
from pipeline.corpora.wsj0 import MERL_SPLITS
from pipeline.errors import AudioError
from pipeline.mixtures.plans.planned import PlannedMixture
from pipeline.mixtures.renderers.base import (
    SILENT,
    Array,
    AudioFile,
    CachedUtterance,
    Inputs,
    Rendered,
    UtteranceCache,
    file_ending,
    mixture_cells,
    source_cells,
    table_of,
)
from pipeline.recipe.schema import Mix, Variant

LEVEL_RATE = 8000
"""Hz at which MERL's script measures levels, whatever it writes."""


class Wsj0MixRenderer:
    """MERL's create_wav script: double precision, active levels measured at 8 kHz, a peak of 0.9 in every variant."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._cache = UtteranceCache()

    def render(self, mixture: PlannedMixture) -> Rendered:
        """Every variant of one mixture."""
        utterances = [self._cache.get(source.path, partial(self._read, source.path)) for source in mixture.sources]
        weights = [10 ** (source.level / 20) for source in mixture.sources]
        rendered = Rendered()
        for variant in self._inputs.mix.variants:
            signals, starts = [each.signals[variant.sample_rate] for each in utterances], mixture.starts(variant.sample_rate)
            mixed = mix(signals, weights, mode=variant.mode, peak_rule="always", starts=starts)
            gains = tuple(gain / sqrt(each.level) for gain, each in zip(mixed.gains, utterances, strict=True))
            add_files(rendered, mixture, replace(mixed, gains=gains), variant, self._inputs.mix)
        return rendered

    def _read(self, path: str, known_power: float | None) -> CachedUtterance:
        """The utterance, brought to unit active power at every sample rate, and the power it had."""
        samples, own_rate = read_audio(self._inputs.corpus_root / path, channel=self._inputs.channel)
        power = known_power or active_level(resample(samples, own_rate, LEVEL_RATE), LEVEL_RATE).power
        if power == 0:
            raise AudioError(f"{self._inputs.corpus_root / path}: {SILENT}")
        rates = {variant.sample_rate for variant in self._inputs.mix.variants}
        return CachedUtterance({rate: resample(samples, own_rate, rate) / sqrt(power) for rate in rates}, level=power)


def add_files(rendered: Rendered, mixture: PlannedMixture, mixed: Mixed, variant: Variant, mix: Mix) -> None:
    """Add the files and the row of one variant, in WSJ0-2mix's tree."""
    names = ["mix", *(source.name for source in mixture.sources)]
    top = f"{len(mixture.sources)}speakers/{variant.name}/{MERL_SPLITS[mixture.split]}"
    paths = {name: f"{top}/{name}/{mixture.mixture_id}{file_ending(mix)}" for name in names}
    signals = dict(zip(names, [mixed.mixture, *mixed.sources], strict=True))
    rendered.files.extend(AudioFile(paths[name], stored(signals[name], mix), variant.sample_rate) for name in names)
    row = mixture_cells(mixture, variant, num_samples=len(mixed.mixture), scale=mixed.scale, path=paths["mix"])
    for source, gain in zip(mixture.sources, mixed.gains, strict=True):
        row |= source_cells(mixture, source, paths[source.name], gain)
    rendered.rows[table_of(variant, mix)] = row


def stored(samples: Array, mix: Mix) -> Array:
    """Samples as a file holds them: int16, or float32 in float wav."""
    return samples.astype(np.float32) if mix.encoding == "float32" else quantise(samples)
