"""The recipe: every setting that affects a result, typed, on one page.

A recipe is a TOML file. Settings it omits take the values of its ``preset``, and otherwise the defaults below, which are the
paper's (Luo & Mesgarani, "Conv-TasNet", IEEE/ACM TASLP 27(8), 2019). Anything that does not affect the result (paths, device,
number of workers) is a runtime option instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
SystemName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(@[0-9]+)?$", max_length=64)]
"""Where a system is trained with several seeds, each run is called ``NAME@SEED``."""
Positive = Annotated[int, Field(gt=0, le=10**9)]
Mixtures = Annotated[int, Field(gt=0, le=10**7)]
Width = Annotated[int, Field(gt=0, le=8192)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
SampleRate = Annotated[int, Field(ge=1000, le=192000)]
"""Hz."""
NumSources = Annotated[int, Field(ge=2, le=10)]
MinSeconds = Annotated[float, Field(ge=0.4, le=86400)]
Hours = Annotated[float, Field(gt=0, le=10**6)]


def _distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("must not repeat a value")
    return values


def _some(values: list[Any]) -> list[Any]:
    if not values:
        raise ValueError("must list at least one value")
    return _distinct(values)


Splits = Annotated[list[Split], AfterValidator(_some)]


def _within(place: str) -> str:
    if PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
        raise ValueError("must be a path within the corpus: relative, without '..'")
    return place


Place = Annotated[str, Field(pattern="."), AfterValidator(_within)]
"""A file, a folder, or a pattern of files, relative to a corpus or to a folder in it."""


class _Table(BaseModel):
    """A TOML table: unknown keys and wrong types are errors, and values are immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False)


# ---------------------------------------------------------------------------------------------------------------- corpus
class Subsets(_Table):
    """The published subsets (folders) that make up each split."""

    train: Name | list[Name]
    valid: Name | list[Name]
    test: Name | list[Name]

    def of(self, split: str) -> tuple[str, ...]:
        """The folders of one split."""
        value = getattr(self, split)
        return (value,) if isinstance(value, str) else tuple(value)


class _Corpus(_Table):
    channel: Annotated[int, Field(ge=0, le=1023)] | None = None
    """The channel to use of multi-channel files, counted from 0; by default such files are an error."""
    skip: Literal["silent"] | Annotated[list[str], AfterValidator(_distinct)] = []
    """Files to leave out: ``"silent"`` (those nowhere louder than -70 LUFS), or a list of utterance ids and paths."""


class SyntheticCorpus(_Corpus):
    """eSpeak NG voices reading generated sentences: a corpus for machines that have no speech."""

    kind: Literal["synthetic"]
    num_speakers: dict[Split, Annotated[int, Field(gt=0, le=10**5)]] = {"train": 40, "valid": 4, "test": 8}
    """Speakers per split; a speaker is a voice, a variant, a pitch and a speaking rate."""
    utterances_per_speaker: Annotated[int, Field(gt=0, le=10**5)] = 30
    """Sentences that each speaker reads."""


class FolderCorpus(_Corpus):
    """Your own speech: ``SPEAKER/anything.{flac,wav,ogg,mp3}``, optionally with a ``metadata.csv``."""

    kind: Literal["folder"]
    valid_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of the speakers held out for validation, unless ``metadata.csv`` assigns the splits."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of the speakers held out for testing, unless ``metadata.csv`` assigns the splits."""


class LibriSpeechCorpus(_Corpus):
    """LibriSpeech as published: ``SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac``."""

    kind: Literal["librispeech"]
    subsets: Subsets = Subsets(train="train-clean-100", valid="dev-clean", test="test-clean")


class Wsj0Corpus(_Corpus):
    """WSJ0, close-talking channel: ``wsj0/{si_tr_s,si_dt_05,si_et_05}/SPEAKER/UTTERANCE.wav``."""

    kind: Literal["wsj0"]


class MixturesCorpus(_Corpus):
    """Finished mixtures with their sources, used where they are: ``SPLIT/{mix,s1,s2}/ID.wav``, other layouts, or lists.

    ``skip`` names mixtures, by id or path; ``"silent"`` leaves out those with any silent file.
    """

    kind: Literal["mixtures"]
    subsets: dict[Split, Place] = {}
    """The folder of each split; by default the one called ``train``, ``valid`` or ``test``, or by a usual name for it (``tr``,
    ``cv``, ``dev``, ``tt``, ``train-100``)."""
    lists: dict[Split, Place] = {}
    """Instead of folders, a list for each split, in CSV or JSON as Asteroid and SpeechBrain write it; beside Asteroid's
    ``mix_both.json`` lie ``s1.json``, ``s2.json``. Paths are absolute, or start from the corpus, as do ``$data_root`` and
    ``{data_root}``."""
    mixture: Place | None = None
    """Where the mixtures are: a folder of each split (``"noisy"``), a pattern (``"noisy/*_{id}.wav"``; from the corpus on where
    it says ``{split}``), or a column of the lists. By default ``mix``, ``mix_clean``, ``mix_both``, …, whichever is there."""
    sources: Annotated[list[Place], Field(max_length=10), AfterValidator(_some)] = ["s1", "s2"]
    """The same for each source. One source alone makes it enhancement: ``mixture = "noisy"``, ``sources = ["clean"]``."""

    @model_validator(mode="after")
    def _files_have_one_channel(self) -> Self:
        if self.channel is not None:
            raise ValueError("channel: finished mixtures are used as they are; remove it, and convert their files to one channel")
        return self


Corpus = Annotated[SyntheticCorpus | FolderCorpus | LibriSpeechCorpus | Wsj0Corpus | MixturesCorpus, Field(discriminator="kind")]


# ------------------------------------------------------------------------------------------------------------------ plan
class _DrawnPlan(_Table):
    overlap: Annotated[list[Annotated[float, Field(ge=0, le=1)]], AfterValidator(_some)] = [1.0]
    """Overlap ratios of drawn mixtures, used in turn: 1 is full overlap, 0 is one speaker after another, and 0.2 overlaps two
    consecutive speakers by a fifth of the shorter utterance. Ratios below 1 need ``mix.mode = "max"``."""

    @property
    def is_partial(self) -> bool:
        """Whether any speaker starts later than the mixture does."""
        return self.overlap != [1.0]


class RandomPlan(_DrawnPlan):
    """Random mixtures of any corpus: speakers are drawn first, then their least-used utterances."""

    kind: Literal["random"]
    num_sources: NumSources = 2
    num_mixtures: dict[Split, Mixtures] = {"train": 20000, "valid": 5000, "test": 3000}
    level: Literal["active", "loudness", "rms"] = "active"
    """How source levels are set: ``active`` (ITU-T P.56 active speech level, relative level U(0, 5) dB split symmetrically, as in
    WSJ0-2mix), ``loudness`` (U(-33, -25) LUFS per source, as in LibriMix), ``rms`` (like ``active``, but by plain RMS)."""
    min_seconds: MinSeconds = 3.0
    """Shorter utterances are left out."""
    single_speaker_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the mixtures in which the first speaker is alone and the other sources are silent. ``train.loss = "sa_sdr"``
    learns from the silence; the report scores these mixtures apart."""

    @property
    def splits(self) -> list[str]:
        """The splits to make."""
        return list(self.num_mixtures)

    @property
    def drawing(self) -> RandomPlan:
        """The rules for drawing mixtures on the fly: this plan itself."""
        return self


class _ListedPlan(_DrawnPlan):
    num_sources: NumSources = 2
    lists: Literal["published", "drawn"] = "published"
    """``published`` reads the dataset's own lists; ``drawn`` makes new ones by the same rules, for any corpus."""
    splits: Splits = list(SPLITS)
    """The splits to make."""
    limit: Positive | None = None
    """Use only this many mixtures of each split, from the top of its list."""
    limit_hours: Hours | None = None
    """Use only this many hours of each split, from the top of its list."""

    @model_validator(mode="after")
    def _overlap_needs_drawn_lists(self) -> Self:
        if self.is_partial and self.lists == "published":
            raise ValueError("overlap below 1 needs lists = 'drawn': in the published mixtures all speakers start together")
        return self


class Wsj0MixPlan(_ListedPlan):
    """WSJ0-2mix and WSJ0-3mix: relative levels by ITU-T P.56, measured at 8 kHz; every mixture is scaled to a peak of 0.9."""

    level: ClassVar[Literal["active"]] = "active"
    kind: Literal["wsj0mix"]
    num_mixtures: dict[Split, Mixtures] = {"train": 20000, "valid": 5000, "test": 3000}
    """Mixtures to draw per split, if ``lists = "drawn"``."""
    min_seconds: MinSeconds = 0.4
    """Shorter utterances are left out of drawn mixtures."""

    @property
    def drawing(self) -> RandomPlan:
        """The same rules as a random plan, for dynamic mixing."""
        return _as_random(self)


class LibriMixPlan(_ListedPlan):
    """LibriMix: loudness U(-33, -25) LUFS per source, noise U(-38, -30) LUFS; scaled down only if the peak exceeds 0.9."""

    level: ClassVar[Literal["loudness"]] = "loudness"
    kind: Literal["librimix"]
    num_mixtures: dict[Split, Mixtures] = {"train": 13900, "valid": 3000, "test": 3000}
    """Mixtures to draw per split, if ``lists = "drawn"``."""
    min_seconds: MinSeconds = 3.0
    """Shorter utterances are left out of drawn mixtures."""

    @property
    def drawing(self) -> RandomPlan:
        """The same rules as a random plan, for dynamic mixing."""
        return _as_random(self)


class WhamPlan(_DrawnPlan):
    """Noisy mixtures as in WHAM!: the first speaker is U(-3, 6) dB louder than the noise; the peak is at most 0.95."""

    level: ClassVar[Literal["active"]] = "active"
    kind: Literal["wham"]
    num_sources: NumSources = 2
    num_mixtures: dict[Split, Mixtures] = {"train": 20000, "valid": 5000, "test": 3000}
    min_seconds: MinSeconds = 0.4
    """Shorter utterances are left out of drawn mixtures."""
    lists: Literal["drawn"] = "drawn"
    """There are no published lists; mixtures are drawn for any corpus."""

    @property
    def splits(self) -> list[str]:
        """The splits to make."""
        return list(self.num_mixtures)

    @property
    def drawing(self) -> RandomPlan:
        """The same rules without the noise, for dynamic mixing."""
        return _as_random(self)


def _as_random(plan: Wsj0MixPlan | LibriMixPlan | WhamPlan) -> RandomPlan:
    return RandomPlan(
        kind="random",
        num_sources=plan.num_sources,
        num_mixtures={split: number for split, number in plan.num_mixtures.items() if split in plan.splits},
        level=plan.level,
        min_seconds=plan.min_seconds,
        overlap=plan.overlap,
    )


class FinishedPlan(_Table):
    """The mixtures of a corpus of finished mixtures; with that corpus the table may be left out."""

    kind: Literal["finished"]
    splits: Splits = list(SPLITS)
    """The splits to use."""
    limit: Positive | None = None
    """Use only this many mixtures of each split, the first by name or in the list."""
    limit_hours: Hours | None = None
    """Use only this many hours of each split, the same way."""
    is_partial: ClassVar[bool] = False


DrawnPlan = RandomPlan | Wsj0MixPlan | LibriMixPlan | WhamPlan
"""Plans with rules by which mixtures can be drawn."""
Plan = Annotated[DrawnPlan | FinishedPlan, Field(discriminator="kind")]


# ------------------------------------------------------------------------------------------------------------------- mix
class Variant(_Table):
    """One rendering of a plan."""

    sample_rate: SampleRate
    """Hz."""
    mode: Literal["min", "max"]

    @property
    def name(self) -> str:
        """Its folder in the published trees: ``wav8k/min``."""
        return f"wav{self.sample_rate / 1000:g}k/{self.mode}"


MixType = Literal["mix_clean", "mix_both", "mix_single"]


class Mix(_Table):
    """How a plan becomes audio."""

    sample_rate: SampleRate = 8000
    """Hz; of the mixtures and of the models trained on them."""
    mode: Literal["min", "max"] = "min"
    """``min`` cuts every mixture to its shortest source, ``max`` pads it to its longest."""
    encoding: Literal["pcm16", "float32", "flac"] = "pcm16"
    """Format on disk: 16-bit WAV (as in the published datasets), 32-bit float WAV, or 16-bit FLAC."""
    types: Annotated[list[MixType], AfterValidator(_some)] = ["mix_clean"]
    """The mixtures to write: ``mix_clean`` is speech alone, ``mix_both`` all speakers and noise, ``mix_single`` the first speaker
    and noise. Systems are trained on the first type listed."""
    splits: Splits = list(SPLITS)
    """The planned splits to write as audio files. Dynamic mixing does not need ``train``, and no system needs ``valid``."""
    also: list[Variant] = []
    """Additional sample rates and modes to write in the same pass; systems are trained on ``sample_rate`` and ``mode``."""

    @model_validator(mode="after")
    def _variants_are_distinct(self) -> Self:
        if len({variant.name for variant in self.variants}) < len(self.variants):
            raise ValueError("also repeats a combination of sample rate and mode")
        return self

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Every rate and mode to write; systems are trained on the first."""
        return (Variant(sample_rate=self.sample_rate, mode=self.mode), *self.also)

    @property
    def with_noise(self) -> bool:
        """Whether any mixture type contains noise."""
        return self.types != ["mix_clean"]


# ----------------------------------------------------------------------------------------------------------------- model
class Model(_Table):
    """Conv-TasNet; the defaults are the best rows of the paper's Table II, whose letters are given in brackets."""

    causal: bool = False
    """``true``: causal convolutions and cumulative layer norm. ``false``: centred convolutions and global layer norm."""
    norm: Literal["global", "cumulative", "frame"] | None = None
    """For ablations only; by default ``causal`` decides. ``global`` [gLN], ``cumulative`` [cLN] or ``frame`` (frame by frame)."""
    num_filters: Width = 512
    """[N] encoder filters."""
    filter_length: Annotated[int, Field(ge=2, le=8192, multiple_of=2)] = 16
    """[L] samples per filter; the stride is half of that."""
    bottleneck_channels: Width = 128
    """[B] channels between the blocks."""
    skip_channels: Width = 128
    """[Sc] channels of the skip connections."""
    hidden_channels: Width = 512
    """[H] channels inside the blocks."""
    kernel_size: Annotated[int, Field(ge=1, le=1023)] = 3
    """[P] taps of the depthwise convolutions; odd unless ``causal``."""
    blocks_per_repeat: Annotated[int, Field(gt=0, le=16)] = 8
    """[X] blocks per repeat, with dilations 1, 2, 4, …, 2^(X-1)."""
    num_repeats: Annotated[int, Field(gt=0, le=100)] = 3
    """[R] repeats."""
    mask: Literal["sigmoid", "relu", "softmax"] = "sigmoid"
    """Non-linearity of the masks; ``softmax`` is taken over the sources."""
    encoder: Literal["linear", "relu"] = "linear"
    """Non-linearity of the encoder."""
    filterbank: Literal["random", "sinusoids"] = "random"
    """Initial values of encoder and decoder: noise, or windowed sinusoids and their inverse, which learn faster. Both are then
    trained."""

    @property
    def norm_kind(self) -> Literal["global", "cumulative", "frame"]:
        """The normalisation in use: ``norm``, or else what ``causal`` implies."""
        return self.norm or ("cumulative" if self.causal else "global")

    @model_validator(mode="after")
    def _settings_are_compatible(self) -> Self:
        if self.causal and self.norm == "global":
            raise ValueError("causal = true and norm = 'global' contradict each other: a global norm sees the whole future")
        if not self.causal and self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size = {self.kernel_size} must be odd unless causal = true")
        if self.filterbank == "sinusoids" and (self.num_filters % 4 or self.num_filters < 2 * self.filter_length):
            raise ValueError(
                f"filterbank = 'sinusoids' needs num_filters (={self.num_filters}) to be a multiple of 4 and at least twice "
                f"filter_length (={self.filter_length})"
            )
        return self


class Train(_Table):
    """How a system is trained; the defaults are those of the paper's section III-B."""

    init: str | None = None
    """A model file to start from instead of random weights: ours, or an imported one. What does not fit is named."""
    segment_seconds: Annotated[float, Field(ge=0.01, le=3600)] = 4.0
    batch_size: Annotated[int, Field(gt=0, le=10**6)] = 8
    epochs: Positive = 100
    segments_per_epoch: Positive | None = None
    """Segments per epoch; by default one from each training mixture."""
    optimiser: Literal["adam", "muon"] = "adam"
    """``muon`` trains the separator's matrices by orthogonalised steps of ten times ``learning_rate``, and the rest by Adam."""
    learning_rate: Annotated[float, Field(gt=0, le=1000)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, le=1000)] = 0.0
    loss: Literal["si_snr", "sa_sdr"] = "si_snr"
    """``si_snr`` is the negative SI-SNR of each source, silent ones left out; ``sa_sdr`` is the negative ratio of all sources'
    energy to that of all errors (von Neumann et al., 2022), for which an output must be silent where its source is."""
    clip_norm: Annotated[float, Field(ge=0, le=10**9)] = 5.0
    """Gradients are clipped to this L2 norm; 0 turns clipping off."""
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    """``plateau`` halves the learning rate after ``plateau_epochs`` epochs without a better validation loss; ``cosine`` lowers it
    to zero over all epochs."""
    plateau_epochs: Positive = 3
    warmup_steps: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Optimiser steps over which the learning rate rises from zero at the start."""
    stop_epochs: Positive | None = None
    """Stop early after this many epochs without a better validation loss."""
    mixing: Literal["static", "dynamic"] = "static"
    """``static`` trains on the rendered mixtures; ``dynamic`` draws new ones on the fly by the plan's rules."""
    speed_percent: Annotated[int, Field(ge=0, le=20)] = 0
    """Dynamic mixing plays every source up to this many percent faster or slower, which shifts its pitch too."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """Precision of matrix products; ``auto`` is bfloat16 on devices that support it, else float32. ``tf32`` is float32 with
    products in TF32 on CUDA, and plain float32 elsewhere. Norm statistics are never below float32."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Validate and save an exponential moving average of the weights; 0 uses the weights themselves."""
    seed: Seed | None = None
    """Seed of the initial weights, the segments and their order; by default the recipe's. It does not affect the mixtures."""
    seeds: Annotated[list[Seed], AfterValidator(_distinct)] = []
    """Train the system once with each seed; the runs are called NAME@SEED, and the report shows their mean and spread."""


class System(_Table):
    """One system under comparison: ``[model]`` and ``[train]``, overridden by its own table."""

    model: Model
    train: Train


# ---------------------------------------------------------------------------------------------------------------- report
class Score(_Table):
    """How estimates are scored."""

    permutation: Literal["si_snr", "sir"] = "si_snr"
    """The metric that assigns estimates to references; all metrics of a mixture use that assignment."""
    also: list[Literal["sir", "sar", "sa_sdr", "stoi", "estoi", "pesq"]] = []
    """Metrics besides SI-SNR and SDR; STOI, ESTOI and PESQ need the extra ``perceptual``."""
    verify: Annotated[int, Field(ge=0, le=10**9)] = 10
    """Random rows per system to recompute with mir_eval; the report prints the largest difference."""


class Published(_Table):
    """Results from a paper, shown next to ours and marked "not rerun"."""

    si_snri_db: float | None = None
    sdri_db: float | None = None
    source: str = ""


class Report(_Table):
    """What the report compares."""

    baseline: str | None = None
    """The system that the others are compared with; by default the first non-causal one."""
    published: dict[str, Published] = {}
    oracles: bool = True
    """Also score ideal masks (IRM, IBM, WFM) on the test mixtures, for context."""
    num_examples: Annotated[int, Field(ge=0, le=50)] = 5
    """Mixtures to listen to in the report."""


# ---------------------------------------------------------------------------------------------------------------- recipe
class Recipe(_Table):
    """A whole experiment: one corpus, one plan, one rendering, the systems trained on it and the report that compares them."""

    name: Name
    seed: Seed = 0
    corpus: Corpus
    plan: Plan
    mix: Mix = Mix()
    systems: dict[SystemName, System]
    score: Score = Score()
    report: Report = Report()

    @model_validator(mode="before")
    @classmethod
    def _finished_mixtures_are_planned(cls, raw: Any) -> Any:
        """A corpus of finished mixtures needs no ``[plan]``, nor its ``kind``."""
        corpus = raw.get("corpus") if isinstance(raw, dict) else None
        if isinstance(corpus, dict) and corpus.get("kind") == "mixtures" and isinstance(raw.get("plan", {}), dict):
            return {**raw, "plan": {"kind": "finished", **raw.get("plan", {})}}
        return raw

    @model_validator(mode="after")
    def _baseline_is_a_system(self) -> Self:
        if not self.systems:
            raise ValueError("systems: a recipe needs at least one [systems.NAME] table")
        if self.report.baseline is not None and not self._runs_of(self.report.baseline):
            raise ValueError(
                f"report.baseline: no system is called {self.report.baseline!r}; choose from {', '.join(self.systems)}"
            )
        return self

    @model_validator(mode="after")
    def _plan_fits_corpus_and_mix(self) -> Self:
        needed = {"wsj0mix": "wsj0", "librimix": "librispeech"}.get(self.plan.kind)
        if (
            isinstance(self.plan, Wsj0MixPlan | LibriMixPlan | WhamPlan)
            and self.plan.lists == "published"
            and self.corpus.kind != needed
        ):
            raise ValueError(
                f"plan.lists: the published lists of {self.plan.kind!r} need corpus.kind = {needed!r}, not {self.corpus.kind!r}; "
                "use plan.lists = 'drawn' to make new lists for this corpus"
            )
        if self.mix.with_noise and self.plan.kind not in ("librimix", "wham"):
            raise ValueError(f"mix.types: plan.kind = {self.plan.kind!r} makes no noisy mixtures; 'librimix' and 'wham' do")
        if self.plan.is_partial and any(variant.mode == "min" for variant in self.mix.variants):
            raise ValueError(
                "mix.mode: 'min' cuts a mixture where its shortest source ends, and with plan.overlap below 1 other sources may "
                "not have started by then; use mix.mode = 'max'"
            )
        return self

    @model_validator(mode="after")
    def _finished_mixtures_stay_as_they_are(self) -> Self:
        if (self.corpus.kind == "mixtures") != (self.plan.kind == "finished"):
            raise ValueError(
                f"plan.kind: {self.plan.kind!r} does not go with corpus.kind = {self.corpus.kind!r}; 'finished' is the plan of a "
                "corpus of 'mixtures', which has no other"
            )
        if self.plan.kind != "finished":
            return self
        changed = [name for name in ("mode", "types", "splits", "also") if getattr(self.mix, name) != getattr(Mix(), name)]
        if changed:
            raise ValueError(f"mix.{changed[0]}: finished mixtures are used as they are; remove it (plan.splits chooses splits)")
        if dynamic := [name for name, system in self.systems.items() if system.train.mixing == "dynamic"]:
            raise ValueError(
                f"systems.{dynamic[0]}.train.mixing: finished mixtures cannot be mixed anew; set train.mixing = 'static'"
            )
        return self

    @property
    def num_outputs(self) -> int:
        """Sources that the systems separate: only the first speaker where they are trained on ``mix_single``."""
        if isinstance(self.corpus, MixturesCorpus):
            return len(self.corpus.sources)
        assert not isinstance(self.plan, FinishedPlan), "it comes with its corpus"
        return 1 if self.mix.types[0] == "mix_single" else self.plan.num_sources

    @property
    def mixes_dynamically(self) -> bool:
        """Whether any system is trained on mixtures made on the fly."""
        return any(system.train.mixing == "dynamic" for system in self.systems.values())

    @property
    def missing_for_training(self) -> list[str]:
        """Why the systems cannot be trained, one line per reason; the mixtures can be made nevertheless."""
        found = [] if "valid" in self.plan.splits else ["plan: training needs validation mixtures; add the split 'valid'"]
        return found + [f"systems.{name}: {line}" for name, system in self.systems.items() for line in self._missing_for(system)]

    @property
    def speech_splits(self) -> list[str]:
        """The splits that speech is needed for: those of the plan, and ``train`` where dynamic mixing draws from it."""
        needed = {*self.plan.splits} if self.missing_for_training else {*self.plan.splits, "train"}
        return [split for split in SPLITS if split in needed]

    def _missing_for(self, system: System) -> Iterator[str]:
        if system.train.mixing == "static":
            for key, splits in (("the plan's splits", self.plan.splits), ("mix.splits", self.mix.splits)):
                if "train" not in splits:
                    yield f"static mixing needs rendered training mixtures; add 'train' to {key}, or set train.mixing = 'dynamic'"
        elif "train" not in self.plan.splits and system.train.segments_per_epoch is None:
            yield "set train.segments_per_epoch, since the plan has no mixtures of split 'train' to count"

    @property
    def baseline(self) -> str:
        """The system that the others are compared with; if it has several runs, the first of them."""
        non_causal = [name for name, system in self.systems.items() if not system.model.causal]
        named = self._runs_of(self.report.baseline) if self.report.baseline else []
        return (named or non_causal or list(self.systems))[0]

    def _runs_of(self, name: str) -> list[str]:
        """The system of this name, or all its runs."""
        return [run for run in self.systems if name in (run, run.rpartition("@")[0])]

    def training_seed(self, name: str) -> int:
        """The seed of a system's initial weights, its segments and their order."""
        own = self.systems[name].train.seed
        return self.seed if own is None else own
