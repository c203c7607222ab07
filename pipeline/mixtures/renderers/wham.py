"""WHAM!: speech as in WSJ0-2mix, noise under it, and one scale where anything would exceed 0.95.

    {wav8k,wav16k}/{min,max}/{tr,cv,tt}/{s1,s2,noise,mix_clean,mix_both,mix_single}/MIXTURE.wav

The published files are 32-bit floats: ``mix.encoding = "float32"``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from pipeline.audio.files import read_audio
from pipeline.audio.levels import loudness
from pipeline.audio.mixing import Mixed, Utterance, extended, fit_length, mix_at_levels
from pipeline.audio.resampling import resample
from pipeline.corpora.wsj0 import MERL_SPLITS
from pipeline.errors import AudioError
from pipeline.mixtures.plans.planned import NOISE, PlannedMixture, PlannedSource
from pipeline.mixtures.renderers.base import (
    SILENT,
    Array,
    AudioFile,
    CachedUtterance,
    Inputs,
    Rendered,
    UtteranceCache,
    cached_utterance,
    file_ending,
    mixture_cells,
    source_cells,
)
from pipeline.mixtures.renderers.librimix import names_in, summed, table_of_type
from pipeline.mixtures.renderers.wsj0mix import stored
from pipeline.recipe.schema import Mix, MixType, Variant

PEAK = 0.95


class WhamRenderer:
    """Renders noisy mixtures; clean ones alone need no noise."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._cache = UtteranceCache()

    def render(self, mixture: PlannedMixture) -> Rendered:
        """Every variant and type of one mixture."""
        mix = self._inputs.mix
        sources = [cached_utterance(self._cache, source.path, "active", self._inputs) for source in mixture.sources]
        noises, noise_gain = self._noise(mixture, sources[0])
        rendered = Rendered()
        for variant in mix.variants:
            utterances = [Utterance(each.signals[variant.sample_rate], each.level, each.peak) for each in sources]
            levels, starts = [source.level for source in mixture.sources], mixture.starts(variant.sample_rate)
            mixed = mix_at_levels(utterances, levels, rule="active", mode=variant.mode, starts=starts)
            parts = {source.name: samples for source, samples in zip(mixture.sources, mixed.sources, strict=True)}
            if noises:
                noise = fit_length(noises[variant.sample_rate], len(mixed.mixture))
                parts[NOISE] = noise * np.float32(noise_gain * mixed.scale)
            _add(rendered, mixture, mixed, parts, variant, mix)
        return rendered

    def _noise(self, mixture: PlannedMixture, first: CachedUtterance) -> tuple[dict[int, Array], float]:
        """The noise at every sample rate, as long as the mixture, and its gain beside sources at their levels."""
        if not self._inputs.mix.with_noise or mixture.noise is None or self._inputs.noise_root is None:
            return {}, 0.0
        path = self._inputs.noise_root / mixture.noise.path
        samples, own_rate = read_audio(path, channel=0)
        samples = _excerpt(samples, mixture.noise, round(mixture.seconds * own_rate) + 1, own_rate)
        signals = {
            v.sample_rate: resample(samples, own_rate, v.sample_rate).astype(np.float32) for v in self._inputs.mix.variants
        }
        rate = self._inputs.mix.sample_rate
        gain = noise_gain(
            speech_lufs=loudness(first.signals[rate], rate) + mixture.sources[0].level - first.level,
            noise_lufs=loudness(signals[rate], rate),
            over_noise_db=mixture.noise.level,
        )
        if not 0 < gain < np.inf:
            raise AudioError(f"{path}: {SILENT}")
        return signals, gain


def noise_gain(*, speech_lufs: float, noise_lufs: float, over_noise_db: float) -> float:
    """The linear gain that brings a noise ``over_noise_db`` below the first speaker.

    Args:
        speech_lufs: loudness of the first speaker at its level, before the peak rule.
        noise_lufs: loudness of the noise as it is.
        over_noise_db: the speaker's loudness over that of the noise.
    """
    return float(10 ** ((speech_lufs - noise_lufs - over_noise_db) / 20))


def peak_scale(signals: Iterable[Array]) -> float:
    """The linear factor that keeps every signal of a mixture within 0.95; 1 where they are."""
    peak = max(float(np.abs(samples).max(initial=0)) for samples in signals)
    return min(1.0, PEAK / peak) if peak > 0 else 1.0


def _excerpt(samples: Array, noise: PlannedSource, num_samples: int, sample_rate: int) -> Array:
    """The noise from its start in the plan, repeated where it is too short."""
    rest = samples[round(-noise.start_seconds * sample_rate) :]
    if len(rest) < num_samples:
        rest = extended(samples, num_samples, sample_rate)
    return rest[:num_samples]


def _add(
    rendered: Rendered, mixture: PlannedMixture, mixed: Mixed, parts: Mapping[str, Array], variant: Variant, mix: Mix
) -> None:
    """Add the files and rows of one variant, all by one scale."""
    num_sources = len(mixture.sources)
    mixtures: dict[MixType, Array] = {kind: summed([parts[n] for n in names_in(kind, num_sources)]) for kind in mix.types}
    signals = {**parts, **{str(kind): samples for kind, samples in mixtures.items()}}
    scale = peak_scale(signals.values())
    top = f"{variant.name}/{MERL_SPLITS[mixture.split]}"
    paths = {name: f"{top}/{name}/{mixture.mixture_id}{file_ending(mix)}" for name in signals}
    for name, samples in signals.items():
        rendered.files.append(AudioFile(paths[name], stored(samples * samples.dtype.type(scale), mix), variant.sample_rate))
    for kind in mix.types:
        row = mixture_cells(mixture, variant, num_samples=len(mixed.mixture), scale=mixed.scale * scale, path=paths[kind])
        sources = mixture.sources[:1] if kind == "mix_single" else mixture.sources
        for source, gain in zip(sources, mixed.gains, strict=False):
            row |= source_cells(mixture, source, paths[source.name], gain * scale)
        row["num_sources"] = len(sources)
        rendered.rows[table_of_type(kind, variant, mix)] = row | ({"noise_path": paths[NOISE]} if NOISE in paths else {})
