"""LibriMix as its published script makes it, bit for bit, with its tree and its two families of tables.

    Libri2Mix/{wav8k,wav16k}/{min,max}/{train-100,dev,test}/{s1,s2,noise,mix_clean,mix_both,mix_single}/MIXTURE.wav
    Libri2Mix/{wav8k,wav16k}/{min,max}/metadata/{mixture,metrics}_{train-100,…}_{mix_clean,…}.csv

Gains apply to the raw files, in single precision; nothing is scaled afterwards, and what exceeds full scale is clipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np

from pipeline.audio.files import dequantise, quantise_down, read_audio
from pipeline.audio.mixing import Mode, extended, fit_length
from pipeline.audio.resampling import at_speed, deciding_length, resample, resampled_length
from pipeline.mixtures.plans.planned import NOISE, PlannedMixture, PlannedSource
from pipeline.mixtures.renderers.base import (
    MIXTURES_FILE,
    Array,
    AudioFile,
    CachedUtterance,
    Inputs,
    Rendered,
    Row,
    UtteranceCache,
    file_ending,
    mixture_cells,
    source_cells,
    table_of,
)
from pipeline.recipe.schema import Mix, MixType, Variant

_EPSILON = 1e-10

Components = Mapping[str, Array]
"""Signals [time] by name: s1, s2, …, noise where there is any, and the types of mixtures where they are made."""


class LibriMixRenderer:
    """Renders LibriMix; clean mixtures never touch the noise corpus."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._cache = UtteranceCache()

    def render(self, mixture: PlannedMixture) -> Rendered:
        """Every variant and type of one mixture."""
        mix = self._inputs.mix
        raw = self._components(mixture, _num_needed(mixture, mix.variants))
        planned = [source for source in _components_of(mixture) if source.name in raw]
        gained = {source.name: raw[source.name] * float(source.level) for source in planned}
        rendered = Rendered()
        rate_of = attrgetter("sample_rate")
        for rate, variants in groupby(sorted(mix.variants, key=rate_of), rate_of):
            asked = list(variants)
            needed = _num_needed(mixture, asked)
            resampled = {s.name: resample(gained[s.name][: needed[s.name]], s.sample_rate, rate) for s in planned}
            placed = _placed(resampled, mixture, rate)
            signals = with_mixtures(fitted(placed, _longest(asked)), mix, len(mixture.sources))
            # What is cut to the shortest is the beginning of what is not, also once it is added up and quantised.
            stored = {name: _stored(samples, mix) for name, samples in signals.items()}
            for variant in asked:
                length = _length(placed.values(), variant.mode)
                _add(rendered, mixture, _first_samples(signals, length), _first_samples(stored, length), variant, mix)
        return rendered

    def _components(self, mixture: PlannedMixture, needed: Mapping[str, int | None]) -> dict[str, Array]:
        """The raw signals as far as they are needed, noise as long as all the speech."""
        components = {source.name: self._speech(source, needed[source.name]) for source in mixture.sources}
        if self._inputs.mix.with_noise and mixture.noise is not None:
            longest = round(mixture.seconds * mixture.noise.sample_rate)
            components[NOISE] = self._read_noise(mixture.noise, longest, needed[NOISE])
        return components

    def _speech(self, source: PlannedSource, needed: int | None) -> Array:
        """The beginning of an utterance; another mixture may have needed more or less of it."""
        wanted = source.num_samples if needed is None else min(needed, source.num_samples)
        read = partial(self._read, source, needed)
        utterance = self._cache.get(source.path, read, lambda known: len(known.signals[source.sample_rate]) >= wanted)
        return utterance.signals[source.sample_rate]

    def _read(self, source: PlannedSource, needed: int | None, _: float | None) -> CachedUtterance:
        path = self._inputs.corpus_root / source.path
        samples, own_rate = read_audio(path, channel=self._inputs.channel, stop=needed, dtype="float32")
        return CachedUtterance({own_rate: samples})

    def _read_noise(self, noise: PlannedSource, longest: int, needed: int | None) -> Array:
        assert self._inputs.noise_root is not None, "render() asks for it"
        path = self._inputs.noise_root / noise.path
        # Noise that is repeated becomes double precision, from its first sample on: a shorter cut would give other samples.
        num_samples = longest if needed is None or noise.num_samples < longest else min(needed, longest)
        if noise.speed == 1:
            samples, own_rate = read_audio(path, channel=0, stop=num_samples, dtype="float32")
        else:
            samples, own_rate = read_at_speed(path, noise.speed)
        return extended(samples, num_samples, own_rate)


def read_at_speed(path: Path, speed: float) -> tuple[Array, int]:
    """A clip of noise [time] at another speed, as LibriMix's script writes it in 16 bits and reads it again; its rate in Hz."""
    samples, own_rate = read_audio(path, channel=0, dtype="float32")
    return dequantise(quantise_down(at_speed(samples, speed))), own_rate


def _components_of(mixture: PlannedMixture) -> list[PlannedSource]:
    return [*mixture.sources, *([] if mixture.noise is None else [mixture.noise])]


def _num_needed(mixture: PlannedMixture, variants: Sequence[Variant]) -> dict[str, int | None]:
    """How many samples of every component, from the first on, decide the variants; None for all of them."""
    if _longest(variants) == "max":
        return {source.name: None for source in _components_of(mixture)}
    shortest = {
        rate: min(resampled_length(source.num_samples, source.sample_rate, rate) for source in mixture.sources)
        for rate in {variant.sample_rate for variant in variants}
    }
    return {
        source.name: max(deciding_length(length, source.sample_rate, rate) for rate, length in shortest.items())
        for source in _components_of(mixture)
    }


def _placed(components: Components, mixture: PlannedMixture, rate: int) -> dict[str, Array]:
    """The speech from where it begins on, and the noise as long as all of it, to the sample."""
    placed = {source.name: delayed(components[source.name], source.start(rate)) for source in mixture.sources}
    if NOISE not in components:
        return placed
    return placed | {NOISE: fit_length(components[NOISE], max(map(len, placed.values())))}


def delayed(samples: Array, start: int) -> Array:
    """A signal after ``start`` samples of silence."""
    return np.concatenate([np.zeros(start, samples.dtype), samples]) if start else samples


def _longest(variants: Sequence[Variant]) -> Mode:
    return "min" if all(variant.mode == "min" for variant in variants) else "max"


def _length(signals: Iterable[Array], mode: Mode) -> int:
    return (min if mode == "min" else max)(map(len, signals))


def _first_samples(signals: Components, length: int) -> dict[str, Array]:
    return {name: samples[:length] for name, samples in signals.items()}


def fitted(components: Components, mode: Mode) -> dict[str, Array]:
    """The components cut to the shortest, or padded with zeros to the longest."""
    length = _length(components.values(), mode)
    if mode == "min":
        return _first_samples(components, length)
    return {name: np.pad(samples, (0, length - len(samples))) for name, samples in components.items()}


def with_mixtures(components: Components, mix: Mix, num_sources: int) -> dict[str, Array]:
    """The components, and beside them their mixtures of every type."""
    mixtures = {str(kind): summed([components[name] for name in names_in(kind, num_sources)]) for kind in mix.types}
    return {**components, **mixtures}


def names_in(mix_type: MixType, num_sources: int) -> list[str]:
    """The components of a type of mixture, in the order they are added."""
    speech = [f"s{number}" for number in range(1, num_sources + 1)]
    return {"mix_clean": speech, "mix_both": [*speech, NOISE], "mix_single": ["s1", NOISE]}[mix_type]


def summed(components: Sequence[Array]) -> Array:
    """The sum, component after component, in the precision of the first."""
    total = components[0].copy()
    for component in components[1:]:
        total += component
    return total


def _add(
    rendered: Rendered, mixture: PlannedMixture, signals: Components, stored: Components, variant: Variant, mix: Mix
) -> None:
    """Add the files and rows of one variant."""
    num_sources = len(mixture.sources)
    top = f"Libri{num_sources}Mix/{variant.name}/{mixture.subset}"
    metadata = f"Libri{num_sources}Mix/{variant.name}/metadata"
    paths = {name: f"{top}/{name}/{mixture.mixture_id}{file_ending(mix)}" for name in signals}
    rendered.files.extend(AudioFile(paths[name], samples, variant.sample_rate) for name, samples in stored.items())
    for kind in mix.types:
        names, length = names_in(kind, num_sources), len(signals[kind])
        ending = f"{mixture.subset}_{kind}.csv"
        rendered.rows[f"{metadata}/mixture_{ending}"] = _path_row(mixture, kind, paths, names, length)
        rendered.rows[f"{metadata}/metrics_{ending}"] = _snr_row(mixture, signals[kind], signals, names)
        rendered.rows[table_of_type(kind, variant, mix)] = _mixture_row(mixture, kind, paths, variant, length)


def _stored(samples: Array, mix: Mix) -> Array:
    """Samples as a file holds them: 16 bits as ``soundfile.write`` makes them of floats, or float32 in float wav."""
    return samples.astype(np.float32) if mix.encoding == "float32" else quantise_down(samples)


def _path_row(mixture: PlannedMixture, kind: MixType, paths: Mapping[str, str], names: Sequence[str], length: int) -> Row:
    """A row of the published ``mixture_*.csv``."""
    row: Row = {"mixture_ID": mixture.mixture_id, "mixture_path": paths[kind]}
    return row | {f"{_column(name)}_path": paths[name] for name in names} | {"length": length}


def _snr_row(mixture: PlannedMixture, samples: Array, components: Components, names: Sequence[str]) -> Row:
    """A row of the published ``metrics_*.csv``: every component against the rest of the mixture, in dB."""
    snrs = {f"{_column(name)}_SNR": _snr_db(components[name], samples - components[name]) for name in names}
    return {"mixture_ID": mixture.mixture_id, **snrs}


def _snr_db(signal: Array, rest: Array) -> float:
    ratio = float(signal @ signal) / len(signal) / (float(rest @ rest) / len(rest) + _EPSILON)
    return float(10 * np.log10(ratio + _EPSILON))


def _column(name: str) -> str:
    return name if name == NOISE else f"source_{name.removeprefix('s')}"


def table_of_type(kind: MixType, variant: Variant, mix: Mix) -> str:
    """``mixtures.csv`` for what systems are trained on, a longer name for every other variant and type."""
    table = table_of(variant, mix)
    if kind == mix.types[0]:
        return table
    return (
        f"mixtures-{variant.name.replace('/', '-')}-{kind}.csv"
        if table == MIXTURES_FILE
        else table.replace(".csv", f"-{kind}.csv")
    )


def _mixture_row(mixture: PlannedMixture, kind: MixType, paths: Mapping[str, str], variant: Variant, num_samples: int) -> Row:
    """A row of our own table of mixtures."""
    row = mixture_cells(mixture, variant, num_samples=num_samples, scale=1.0, path=paths[kind])
    sources = mixture.sources[:1] if kind == "mix_single" else mixture.sources
    for source in sources:
        row |= source_cells(mixture, source, paths[source.name], source.level)
    row["num_sources"] = len(sources)
    return row | ({"noise_path": paths[NOISE]} if NOISE in paths else {})
