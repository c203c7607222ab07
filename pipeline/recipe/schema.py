"""The recipe: every knob that decides a result, typed, on one page.

A recipe is a TOML file. What it leaves out takes the values of its ``preset``, or else the defaults below, which are the paper's
(Luo & Mesgarani, "Conv-TasNet", IEEE/ACM TASLP 27(8), 2019). What does not decide the result (paths, device, number of workers)
is a runtime option instead.

    recipe = load_recipe("recipes/demo.toml", overrides=["train.epochs=2"])
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import RecipeError

SPLITS = ("train", "valid", "test")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
SystemName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(@[0-9]+)?$", max_length=64)]
"""A run's name ends with ``@`` and its seed."""
Positive = Annotated[int, Field(gt=0)]


class _Table(BaseModel):
    """A TOML table: unknown keys and wrong types are errors, and a value never changes once read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False)


# ---------------------------------------------------------------------------------------------------------------- corpus
class Subsets(_Table):
    """Which published subsets (folders) make up each split."""

    train: str | list[str]
    valid: str | list[str]
    test: str | list[str]

    def of(self, split: str) -> tuple[str, ...]:
        """The folders of one split."""
        value = getattr(self, split)
        return (value,) if isinstance(value, str) else tuple(value)


class _Corpus(_Table):
    channel: Annotated[int, Field(ge=0)] | None = None
    """Which channel of multi-channel files to use (0 is the first); without it such files are refused."""


class SyntheticCorpus(_Corpus):
    """Voices of eSpeak NG reading sentences of our own grammar: a corpus for machines without any speech."""

    kind: Literal["synthetic"]
    num_speakers: dict[Literal["train", "valid", "test"], Positive] = {"train": 40, "valid": 4, "test": 8}
    """Speakers (voice, variant, pitch, rate) in each split."""
    utterances_per_speaker: Positive = 30
    """Sentences each speaker reads."""


class FolderCorpus(_Corpus):
    """Anybody's speech: ``SPEAKER/anything.{flac,wav,ogg,mp3}`` and perhaps a ``metadata.csv``."""

    kind: Literal["folder"]
    valid_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the speakers held out for validation, where no ``metadata.csv`` says so."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the speakers held out for the test."""


class LibriSpeechCorpus(_Corpus):
    """LibriSpeech as published: ``SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac``."""

    kind: Literal["librispeech"]
    subsets: Subsets = Subsets(train="train-clean-100", valid="dev-clean", test="test-clean")


class Wsj0Corpus(_Corpus):
    """WSJ0, close-talking channel: ``wsj0/{si_tr_s,si_dt_05,si_et_05}/SPEAKER/UTTERANCE.wav``."""

    kind: Literal["wsj0"]


Corpus = Annotated[SyntheticCorpus | FolderCorpus | LibriSpeechCorpus | Wsj0Corpus, Field(discriminator="kind")]


# ------------------------------------------------------------------------------------------------------------------ plan
class _DrawnPlan(_Table):
    overlap: list[Annotated[float, Field(ge=0, le=1)]] = [1.0]
    """How far speakers overlap, for drawn mixtures: 1 fully, 0 one after the other, 0.2 that a fifth of the shorter of two
    neighbours sounds together. Several ratios take turns. Below 1 needs ``mix.mode = "max"``."""

    @property
    def is_partial(self) -> bool:
        """Whether any speaker begins later than its mixture."""
        return self.overlap != [1.0]

    @model_validator(mode="after")
    def _some_overlap(self) -> Self:
        if not self.overlap or len(set(self.overlap)) < len(self.overlap):
            raise ValueError("overlap must name one or more ratios from 0 to 1, each once")
        return self


class RandomPlan(_DrawnPlan):
    """Mixtures drawn anew from any manifest: the speakers first, then their least used utterances."""

    kind: Literal["random"]
    num_sources: Annotated[int, Field(ge=2, le=10)] = 2
    num_mixtures: dict[Literal["train", "valid", "test"], Positive] = {"train": 20000, "valid": 5000, "test": 3000}
    level: Literal["active", "loudness", "rms"] = "active"
    """How sources are levelled: ``active`` (ITU-T P.56 active speech level, relative level U(0, 5) dB split symmetrically,
    as WSJ0-2mix), ``loudness`` (U(-33, -25) LUFS per source, as LibriMix), ``rms`` (as ``active``, by plain RMS)."""
    min_seconds: Annotated[float, Field(ge=0.4)] = 3.0
    """Shorter utterances are not used."""

    @property
    def splits(self) -> list[str]:
        """Which splits are made."""
        return list(self.num_mixtures)

    @property
    def drawing(self) -> RandomPlan:
        """The rules by which mixtures are drawn: these."""
        return self


class _ListedPlan(_DrawnPlan):
    num_sources: Annotated[int, Field(ge=2, le=10)] = 2
    lists: Literal["published", "drawn"] = "published"
    """``published`` reads the dataset's own lists; ``drawn`` makes new ones for any corpus by the same rules."""
    splits: list[Literal["train", "valid", "test"]] = ["train", "valid", "test"]
    """Which splits to make."""
    limit: Positive | None = None
    """Only the first so many mixtures of every split."""
    limit_hours: Annotated[float, Field(gt=0)] | None = None
    """Only the first mixtures of every split that together last so long."""

    @model_validator(mode="after")
    def _some_splits(self) -> Self:
        if not self.splits or len(set(self.splits)) < len(self.splits):
            raise ValueError("splits must name one or more of train, valid and test, each once")
        return self

    @model_validator(mode="after")
    def _overlap_is_drawn(self) -> Self:
        if self.is_partial and self.lists == "published":
            raise ValueError("overlap below 1 needs lists = 'drawn': in the published mixtures all speakers begin together")
        return self


class Wsj0MixPlan(_ListedPlan):
    """WSJ0-2mix and its relatives: relative levels by ITU-T P.56 measured at 8 kHz, every mixture scaled to a peak of 0.9."""

    kind: Literal["wsj0mix"]
    num_mixtures: dict[Literal["train", "valid", "test"], Positive] = {"train": 20000, "valid": 5000, "test": 3000}
    """How many to draw, where ``lists = "drawn"``."""
    min_seconds: Annotated[float, Field(ge=0.4)] = 0.4
    """Shorter utterances are not drawn."""

    @property
    def level(self) -> Literal["active"]:
        """How sources are levelled."""
        return "active"

    @property
    def drawing(self) -> RandomPlan:
        """The same rules as a plan drawn anew, for dynamic mixing."""
        return _drawing(self)


class LibriMixPlan(_ListedPlan):
    """LibriMix: loudness U(-33, -25) LUFS per source, noise U(-38, -30) LUFS, scaled only where the sum exceeds 0.9."""

    kind: Literal["librimix"]
    num_mixtures: dict[Literal["train", "valid", "test"], Positive] = {"train": 13900, "valid": 3000, "test": 3000}
    """How many to draw, where ``lists = "drawn"``."""
    min_seconds: Annotated[float, Field(ge=0.4)] = 3.0
    """Shorter utterances are not drawn."""

    @property
    def level(self) -> Literal["loudness"]:
        """How sources are levelled."""
        return "loudness"

    @property
    def drawing(self) -> RandomPlan:
        """The same rules as a plan drawn anew, for dynamic mixing."""
        return _drawing(self)


class WhamPlan(_DrawnPlan):
    """Noisy mixtures as WHAM! makes them: the first speaker U(-3, 6) dB louder than the noise, a peak of at most 0.95."""

    kind: Literal["wham"]
    num_sources: Annotated[int, Field(ge=2, le=10)] = 2
    num_mixtures: dict[Literal["train", "valid", "test"], Positive] = {"train": 20000, "valid": 5000, "test": 3000}
    min_seconds: Annotated[float, Field(ge=0.4)] = 0.4
    """Shorter utterances are not drawn."""
    lists: Literal["drawn"] = "drawn"
    """Mixtures are drawn anew for any corpus."""

    @property
    def splits(self) -> list[str]:
        """Which splits are made."""
        return list(self.num_mixtures)

    @property
    def level(self) -> Literal["active"]:
        """How sources are levelled."""
        return "active"

    @property
    def drawing(self) -> RandomPlan:
        """The same rules for speech alone, for dynamic mixing."""
        return RandomPlan(
            kind="random",
            num_sources=self.num_sources,
            num_mixtures=self.num_mixtures,
            min_seconds=self.min_seconds,
            overlap=self.overlap,
        )


def _drawing(plan: Wsj0MixPlan | LibriMixPlan) -> RandomPlan:
    num_mixtures = {split: num for split, num in plan.num_mixtures.items() if split in plan.splits}
    return RandomPlan(
        kind="random",
        num_sources=plan.num_sources,
        num_mixtures=num_mixtures,
        level=plan.level,
        min_seconds=plan.min_seconds,
        overlap=plan.overlap,
    )


Plan = Annotated[RandomPlan | Wsj0MixPlan | LibriMixPlan | WhamPlan, Field(discriminator="kind")]


# ------------------------------------------------------------------------------------------------------------------- mix
class Variant(_Table):
    """One rendering of a plan."""

    sample_rate: Annotated[int, Field(ge=1000, le=192000)]
    """Hz."""
    mode: Literal["min", "max"]

    @property
    def name(self) -> str:
        """As the published trees say it: ``wav8k/min``."""
        return f"wav{self.sample_rate / 1000:g}k/{self.mode}"


MixType = Literal["mix_clean", "mix_both", "mix_single"]


class Mix(_Table):
    """How a plan becomes audio."""

    sample_rate: Annotated[int, Field(ge=1000, le=192000)] = 8000
    """Hz, of the mixtures and of the models trained on them."""
    mode: Literal["min", "max"] = "min"
    """``min`` cuts to the shortest source, ``max`` pads to the longest."""
    encoding: Literal["pcm16", "float32", "flac"] = "pcm16"
    """Sample format on disk: 16-bit wav (published datasets), 32-bit float wav, or 16-bit FLAC."""
    types: list[MixType] = ["mix_clean"]
    """Where the plan has noise: speech alone, all speech and noise, the first speaker and noise. The first is trained on."""
    splits: list[Literal["train", "valid", "test"]] = ["train", "valid", "test"]
    """Which of the planned splits become files. Systems that mix dynamically need no files of train, and none do of valid."""
    also: list[Variant] = []
    """Further rates and modes to write in the same pass; systems are trained on ``sample_rate`` and ``mode``."""

    @model_validator(mode="after")
    def _no_repeats(self) -> Mix:
        if not self.types or len(set(self.types)) < len(self.types):
            raise ValueError("types must name one or more of mix_clean, mix_both and mix_single, each once")
        if not self.splits or len(set(self.splits)) < len(self.splits):
            raise ValueError("splits must name one or more of train, valid and test, each once")
        if len({variant.name for variant in self.variants}) < len(self.variants):
            raise ValueError("also repeats a sample rate and mode")
        return self

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Everything to write, what systems are trained on first."""
        return (Variant(sample_rate=self.sample_rate, mode=self.mode), *self.also)

    @property
    def with_noise(self) -> bool:
        """Whether any type holds noise."""
        return self.types != ["mix_clean"]


# ----------------------------------------------------------------------------------------------------------------- model
class Model(_Table):
    """Conv-TasNet; the defaults are the best rows of the paper's Table II, its letters in brackets."""

    causal: bool = False
    """Causal convolutions and cumulative layer norm; otherwise centred convolutions and global layer norm."""
    norm: Literal["global", "cumulative", "frame"] | None = None
    """Only for ablations: ``global`` [gLN], ``cumulative`` [cLN], ``frame`` (each frame by itself)."""
    num_filters: Positive = 512
    """[N] filters of the encoder."""
    filter_length: Annotated[int, Field(ge=2, multiple_of=2)] = 16
    """[L] samples per filter; the stride is half of it."""
    bottleneck_channels: Positive = 128
    """[B] channels between blocks."""
    skip_channels: Positive = 128
    """[Sc] channels of the skip path."""
    hidden_channels: Positive = 512
    """[H] channels inside a block."""
    kernel_size: Annotated[int, Field(ge=1)] = 3
    """[P] taps of the depthwise convolutions; odd unless causal."""
    blocks_per_repeat: Positive = 8
    """[X] blocks per repeat, with dilations 1, 2, 4, …, 2^(X-1)."""
    num_repeats: Positive = 3
    """[R] repeats."""
    mask: Literal["sigmoid", "relu", "softmax"] = "sigmoid"
    """The mask's non-linearity; ``softmax`` runs over the sources."""
    encoder: Literal["linear", "relu"] = "linear"
    """The encoder's non-linearity."""
    filterbank: Literal["random", "sinusoids"] = "random"
    """What encoder and decoder begin as: noise, or windowed sinusoids and their inverse, which learn faster. Both are trained."""

    @property
    def norm_kind(self) -> Literal["global", "cumulative", "frame"]:
        """The normalisation in force: what ``causal`` implies, unless ``norm`` says otherwise."""
        return self.norm or ("cumulative" if self.causal else "global")

    @model_validator(mode="after")
    def _consistent(self) -> Model:
        if self.causal and self.norm == "global":
            raise ValueError("causal = true and norm = 'global' contradict each other: a global norm looks at the whole future")
        if not self.causal and self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size = {self.kernel_size} must be odd unless causal = true")
        if self.filterbank == "sinusoids" and (self.num_filters % 4 or self.num_filters < 2 * self.filter_length):
            raise ValueError(
                f"filterbank = 'sinusoids' needs num_filters (={self.num_filters}) to be a multiple of 4 and at least twice "
                f"filter_length (={self.filter_length})"
            )
        return self


class Train(_Table):
    """How a system is trained; the defaults are the paper's section III-B."""

    segment_seconds: Annotated[float, Field(gt=0)] = 4.0
    batch_size: Positive = 8
    epochs: Positive = 100
    segments_per_epoch: Positive | None = None
    """Segments drawn per epoch; by default one from each training mixture."""
    optimiser: Literal["adam", "muon"] = "adam"
    """``muon`` gives the matrices inside the separator orthogonalised steps, ten times ``learning_rate``; Adam moves the rest."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: Annotated[float, Field(gt=0)] | None = 5.0
    """Gradients are scaled down to this L2 norm."""
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    """``plateau`` halves the learning rate after ``plateau_epochs`` epochs without a better validation loss; ``cosine`` falls to
    zero over all epochs."""
    plateau_epochs: Positive = 3
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps over which the learning rate first rises from zero."""
    stop_epochs: Positive | None = None
    """Stop early after so many epochs without a better validation loss."""
    mixing: Literal["static", "dynamic"] = "static"
    """``static`` trains on the rendered mixtures; ``dynamic`` draws new ones on the fly by the plan's own rules."""
    speed_percent: Annotated[int, Field(ge=0, le=20)] = 0
    """Dynamic mixing plays every source up to so many percent faster or slower, pitch and all: new voices."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the matrix products; ``auto`` is bfloat16 where the device computes in it. Norm statistics never are."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Validate and keep an exponential moving average of the weights; 0 keeps the weights themselves."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Of the first weights, the segments and their order; by default the recipe's. The mixtures stay the same."""
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = []
    """Train the system once with each: its runs are called NAME@SEED, and the report shows their mean and their spread."""

    @model_validator(mode="after")
    def _seeds_differ(self) -> Train:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds repeats a seed")
        return self


class System(_Table):
    """One system under comparison: ``[model]`` and ``[train]`` with its own table on top."""

    model: Model
    train: Train


# ---------------------------------------------------------------------------------------------------------------- report
class Score(_Table):
    """How estimates are scored."""

    permutation: Literal["si_snr", "sir"] = "si_snr"
    """Which metric assigns estimates to references, for all metrics of a mixture."""
    also: list[Literal["sir", "sar", "sa_sdr", "stoi", "estoi", "pesq"]] = []
    """Metrics beside SI-SNR and SDR; STOI, ESTOI and PESQ need the extra ``perceptual``."""
    verify: Annotated[int, Field(ge=0)] = 10
    """Rows per system, drawn at random, that mir_eval computes anew; the report prints the largest difference."""


class Published(_Table):
    """Figures from a paper, shown beside ours and marked "not rerun"."""

    si_snri_db: float | None = None
    sdri_db: float | None = None
    source: str = ""


class Report(_Table):
    """What the report compares."""

    baseline: str | None = None
    """The system the others are compared with; by default the first non-causal one."""
    published: dict[str, Published] = {}
    oracles: bool = True
    """Score ideal masks on the test mixtures (IRM, IBM, WFM), for context."""
    num_examples: Annotated[int, Field(ge=0, le=50)] = 5
    """Mixtures in the report's listening examples."""


# ---------------------------------------------------------------------------------------------------------------- presets
PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "paper": {"model": {}, "train": {}},
    "strong": {
        "model": {"mask": "relu", "encoder": "relu", "filterbank": "sinusoids"},
        "train": {
            "mixing": "dynamic",
            "speed_percent": 10,
            "optimiser": "muon",
            "learning_rate": 2e-3,
            "schedule": "cosine",
            "warmup_steps": 100,
        },
    },
}
"""What ``preset``, of a recipe or of one system, puts under ``[model]`` and ``[train]``: the paper's settings, or those that
learn most in the same time. Sizes and lengths are not among them: they depend on the data and the time there is."""


# ---------------------------------------------------------------------------------------------------------------- recipe
class Recipe(_Table):
    """A whole experiment: one corpus, one plan, one rendering, the systems trained on it and the report that compares them."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    corpus: Corpus
    plan: Plan
    mix: Mix = Mix()
    systems: dict[SystemName, System]
    score: Score = Score()
    report: Report = Report()

    @model_validator(mode="after")
    def _report_names_systems(self) -> Recipe:
        if not self.systems:
            raise ValueError("systems: a recipe needs at least one [systems.NAME] table")
        if self.report.baseline is not None and not self._runs_of(self.report.baseline):
            raise ValueError(
                f"report.baseline: no system is called {self.report.baseline!r}; there are {', '.join(self.systems)}"
            )
        return self

    @model_validator(mode="after")
    def _plan_fits_corpus_and_mix(self) -> Self:
        needed = {"wsj0mix": "wsj0", "librimix": "librispeech"}.get(self.plan.kind)
        if not isinstance(self.plan, RandomPlan) and self.plan.lists == "published" and self.corpus.kind != needed:
            raise ValueError(
                f"plan.lists: the published lists of {self.plan.kind!r} name files of {needed!r}, and corpus.kind is "
                f"{self.corpus.kind!r}; plan.lists = 'drawn' makes new ones for any corpus"
            )
        if self.mix.with_noise and self.plan.kind not in ("librimix", "wham"):
            raise ValueError(f"mix.types: plan.kind = {self.plan.kind!r} has no noise; 'librimix' and 'wham' have")
        if self.plan.is_partial and any(variant.mode == "min" for variant in self.mix.variants):
            raise ValueError(
                "mix.mode: 'min' ends a mixture with the source that ends first, and with plan.overlap below 1 others may begin "
                "after that; use mix.mode = 'max'"
            )
        return self

    @property
    def num_outputs(self) -> int:
        """Sources of what systems are trained on: of ``mix_single`` only the first speaker."""
        return 1 if self.mix.types[0] == "mix_single" else self.plan.num_sources

    @property
    def lacking(self) -> list[str]:
        """What keeps the recipe's systems from being trained, a line each; mixtures alone can be made without it."""
        found = [] if "valid" in self.plan.splits else ["plan: has no mixtures of split valid, and training is validated on them"]
        for name, system in self.systems.items():
            if system.train.mixing == "static":
                missing = [f"plan's {self.plan.splits}"] if "train" not in self.plan.splits else []
                missing += [f"mix.splits = {self.mix.splits}"] if "train" not in self.mix.splits else []
                found += [
                    f"systems.{name}: trains on rendered mixtures, and train is not in {where}; add it, or set "
                    "train.mixing = 'dynamic'"
                    for where in missing
                ]
            elif "train" not in self.plan.splits and system.train.segments_per_epoch is None:
                found.append(f"systems.{name}: train.segments_per_epoch is needed where the plan has no mixtures of split train")
        return found

    @property
    def baseline(self) -> str:
        """The system that others are compared with; of one with several runs, the first run."""
        non_causal = [name for name, system in self.systems.items() if not system.model.causal]
        named = self._runs_of(self.report.baseline) if self.report.baseline else []
        return (named or non_causal or list(self.systems))[0]

    def _runs_of(self, name: str) -> list[str]:
        """The system of this name, or its runs."""
        return [run for run in self.systems if name in (run, run.rpartition("@")[0])]

    def training_seed(self, name: str) -> int:
        """What a system's first weights, segments and their order are drawn from."""
        own = self.systems[name].train.seed
        return self.seed if own is None else own


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and check a recipe.

    Args:
        path: a TOML file.
        overrides: ``"train.epochs=2"``; the value is TOML, or a bare word taken as text.

    Raises:
        RecipeError: with every finding, one per line.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error
    for override in overrides:
        _apply(raw, override)
    return parse_recipe(raw, origin=str(path))


def parse_recipe(raw: Mapping[str, Any], *, origin: str = "recipe") -> Recipe:
    """Check a recipe given as nested dictionaries, as TOML would give it; errors name ``origin``."""
    try:
        merged, shared = _merge_systems(raw)
    except RecipeError as error:
        raise RecipeError(f"{origin}: {error}") from None
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        findings = [_finding(e["loc"], e["msg"], shared) for e in error.errors()]
        raise RecipeError("\n".join(f"{origin}: {text}" for text in dict.fromkeys(findings))) from None


def _merge_systems(raw: Mapping[str, Any]) -> tuple[dict[str, Any], set[tuple[str, ...]]]:
    """Lay every system's own keys over the shared ``[model]`` and ``[train]`` tables, and those over its preset.

    Returns the merged recipe and the locations that came from the shared tables, so that errors name the line people wrote.
    """
    merged = {key: value for key, value in raw.items() if key not in ("preset", "model", "train")}
    common_preset = raw.get("preset", "paper")
    _preset(common_preset, "preset")
    shared: set[tuple[str, ...]] = set()
    tables = raw.get("systems", {})
    if not isinstance(tables, Mapping):
        return merged, shared
    systems: dict[str, Any] = {}
    for name, own in tables.items():
        if not isinstance(own, Mapping):
            systems[name] = own
            continue
        parts = {"model": {k: v for k, v in own.items() if k not in ("preset", "train")}, "train": own.get("train", {})}
        preset = _preset(own.get("preset", common_preset), f"systems.{name}.preset")
        system: dict[str, Any] = {}
        for part, mine in parts.items():
            common = raw.get(part, {})
            if not isinstance(common, Mapping):
                system[part] = common
                shared.add(("systems", name, part))
                continue
            if not isinstance(mine, Mapping):
                system[part] = mine
                continue
            system[part] = {**preset[part], **common, **mine}
            shared |= {("systems", name, part, key) for key in common if key not in mine}
        for run in _runs(name, system):
            systems[run] = {**system, "train": _of_run(system["train"], run)}
            shared |= {("systems", run, *rest) for _, owner, *rest in shared if owner == name}
    merged["systems"] = systems
    return merged, shared


def _preset(name: object, key: str) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(name, str) or name not in PRESETS:
        raise RecipeError(f"{key}: there is no {name!r}; choose from {', '.join(PRESETS)}")
    return PRESETS[name]


def _runs(name: str, system: Mapping[str, Any]) -> list[str]:
    """A system's name, or those of its runs where it is trained with several seeds."""
    seeds = system["train"].get("seeds") if isinstance(system["train"], Mapping) else None
    numbers = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    return [f"{name}@{seed}" for seed in seeds] if seeds and numbers and len(set(seeds)) == len(seeds) else [name]


def _of_run(train: Any, run: str) -> Any:
    """The training table of one run; that of a system without runs as it is."""
    name, _, seed = run.rpartition("@")
    if not name or not isinstance(train, Mapping) or not train.get("seeds"):
        return train
    return {**{key: value for key, value in train.items() if key != "seeds"}, "seed": int(seed)}


def _finding(location: tuple[int | str, ...], message: str, shared: set[tuple[str, ...]]) -> str:
    """One validation error in the user's words, at the place the user wrote it."""
    words = [str(part) for part in location]
    if tuple(words[:3]) in shared or tuple(words[:4]) in shared:
        words = words[2:]
    elif words[:1] == ["systems"] and words[2:3] == ["model"]:
        words = words[:2] + words[3:]
    # A union's tag ("folder") follows the table's name in pydantic's locations but not in the file.
    if words[:1] in (["corpus"], ["plan"]) and len(words) > 2:
        words.pop(1)
    message = message.removeprefix("Value error, ").replace("Extra inputs are not permitted", "no such setting")
    return f"{'.'.join(words)}: {message}" if words else message


def parse_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """``["mask=relu", "sample_rate=16000"]`` as a dictionary; the value is TOML, or a bare word taken as text.

    Raises:
        RecipeError: for what is not KEY=VALUE.
    """
    raw: dict[str, Any] = {}
    for override in overrides:
        _apply(raw, override)
    return raw


def _apply(raw: dict[str, Any], override: str) -> None:
    """Set one dotted key of a raw recipe."""
    key, separator, text = override.partition("=")
    words = key.strip().split(".")
    if not separator or not all(words):
        raise RecipeError(f"--set {override}: write it as table.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = raw
    for word in words[:-1]:
        table = table.setdefault(word, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {override}: {word} is a value, not a table")
    table[words[-1]] = value


def format_recipe(recipe: Recipe) -> str:
    """The whole recipe as TOML, every default written out; reading it gives the same recipe."""
    tables = recipe.model_dump(mode="json", exclude_none=True)
    for name, system in tables["systems"].items():
        tables["systems"][name] = {**system["model"], "train": system["train"]}
    return "\n".join(_toml_lines(tables, ())).strip() + "\n"


def _toml_lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """A table's plain values first, then its tables: TOML's order."""
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    plain = {key: value for key, value in table.items() if key not in inner}
    if path and plain:
        yield f"\n[{'.'.join(map(_toml_key, path))}]"
    for key, value in plain.items():
        yield f"{_toml_key(key)} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in inner.items():
        yield from _toml_lines(value, (*path, key))


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
