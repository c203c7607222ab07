"""The tree of WSJ0-2mix, for drawn mixtures and for MERL's own, which come out bit for bit.

2speakers/{wav8k,wav16k}/{min,max}/{tr,cv,tt}/{mix,s1,s2}/MIXTURE.wav
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import sqrt

import numpy as np

from pipeline.audio.files import quantise, read_audio
from pipeline.audio.levels import LevelRule, active_level
from pipeline.audio.mixing import Mixed, Utterance, mix, mix_at_levels
from pipeline.audio.resampling import resample
from pipeline.errors import AudioError
from pipeline.mixtures.plans.planned import PlannedMixture
from pipeline.mixtures.renderers.base import (
    SILENT,
    Array,
    AudioFile,
    Inputs,
    Rendered,
    Voice,
    Voices,
    mixture_cells,
    source_cells,
    suffix,
    table_of,
    voice_of,
)
from pipeline.recipe.schema import Mix, Variant

FOLDERS = {"train": "tr", "valid": "cv", "test": "tt"}
"""The tree's names of the splits."""
LEVEL_RATE = 8000
"""Hz at which MERL's script measures levels, whatever it writes."""


class DrawnRenderer:
    """Plans of any corpus: levels measured at the mixtures' own sample rate, single precision throughout."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._voices = Voices()

    def render(self, mixture: PlannedMixture) -> Rendered:
        """Every variant of one mixture."""
        rule: LevelRule = mixture.rule  # type: ignore[assignment]  # renderer_of has checked it
        voices = [voice_of(self._voices, source.path, rule, self._inputs) for source in mixture.sources]
        levels = [source.level for source in mixture.sources]
        rendered = Rendered()
        for variant in self._inputs.mix.variants:
            utterances = [Utterance(voice.signals[variant.sample_rate], voice.level, voice.peak) for voice in voices]
            starts = mixture.starts(variant.sample_rate)
            mixed = mix_at_levels(utterances, levels, rule=rule, mode=variant.mode, starts=starts)
            _add(rendered, mixture, mixed, variant, self._inputs.mix)
        return rendered


class Wsj0MixRenderer:
    """MERL's create_wav script: double precision, active levels measured at 8 kHz, a peak of 0.9 in every variant."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._voices = Voices()

    def render(self, mixture: PlannedMixture) -> Rendered:
        """Every variant of one mixture."""
        voices = [self._voices.get(source.path, partial(self._read, source.path)) for source in mixture.sources]
        weights = [10 ** (source.level / 20) for source in mixture.sources]
        rendered = Rendered()
        for variant in self._inputs.mix.variants:
            signals, starts = [voice.signals[variant.sample_rate] for voice in voices], mixture.starts(variant.sample_rate)
            mixed = mix(signals, weights, mode=variant.mode, peak_rule="always", starts=starts)
            gains = tuple(gain / sqrt(voice.level) for gain, voice in zip(mixed.gains, voices, strict=True))
            _add(rendered, mixture, replace(mixed, gains=gains), variant, self._inputs.mix)
        return rendered

    def _read(self, path: str, known_power: float | None) -> Voice:
        """The utterance, brought to unit active power at every sample rate, and the power it had."""
        samples, own_rate = read_audio(self._inputs.corpus_root / path, channel=self._inputs.channel)
        power = known_power or active_level(resample(samples, own_rate, LEVEL_RATE), LEVEL_RATE).power
        if power == 0:
            raise AudioError(f"{self._inputs.corpus_root / path}: {SILENT}")
        rates = {variant.sample_rate for variant in self._inputs.mix.variants}
        return Voice({rate: resample(samples, own_rate, rate) / sqrt(power) for rate in rates}, level=power)


def _add(rendered: Rendered, mixture: PlannedMixture, mixed: Mixed, variant: Variant, mix: Mix) -> None:
    """Add the files and the row of one variant."""
    names = ["mix", *(source.name for source in mixture.sources)]
    top = f"{len(mixture.sources)}speakers/{variant.name}/{FOLDERS[mixture.split]}"
    paths = {name: f"{top}/{name}/{mixture.mixture_id}{suffix(mix)}" for name in names}
    signals = dict(zip(names, [mixed.mixture, *mixed.sources], strict=True))
    rendered.files.extend(AudioFile(paths[name], stored(signals[name], mix), variant.sample_rate) for name in names)
    row = mixture_cells(mixture, variant, num_samples=len(mixed.mixture), scale=mixed.scale, path=paths["mix"])
    for source, gain in zip(mixture.sources, mixed.gains, strict=True):
        row |= source_cells(mixture, source, paths[source.name], gain)
    rendered.rows[table_of(variant, mix)] = row


def stored(samples: Array, mix: Mix) -> Array:
    """Samples as a file holds them: int16, or float32 in float wav."""
    return samples.astype(np.float32) if mix.encoding == "float32" else quantise(samples)
