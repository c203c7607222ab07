"""The stages of a run, in order: the table of contents of the project.

    corpus → scan → plan → mix → pack → train → separate → score → report

``corpus`` exists for synthetic speech only; ``train``, ``separate`` and ``score`` once per system. Each stage is a function here
that reads the folders of the stages it needs, calls the room that does the work, and leaves the result in its own folder.

Torch is imported by the stages that train and separate, when they run: building a dataset does not need it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import BaseModel

from pipeline import corpora, packing, rendering, runner, scoring
from pipeline.corpora import synthetic, wham_noise
from pipeline.errors import CorpusError, RecipeError
from pipeline.footprint import footprint, require_room, written_bytes
from pipeline.plans import making, random
from pipeline.plans.making import Roots
from pipeline.provenance import provenance
from pipeline.recipe import Plan, Recipe, SyntheticCorpus, format_recipe
from pipeline.runner import Stage
from pipeline.shards import Shard
from pipeline.tables import HISTORY, MANIFEST, MIXTURES, PLAN, SCORES, read_table, write_table, written_whole

if TYPE_CHECKING:
    from pipeline.batches import Segments

MANIFEST_FILE, PLAN_FILE = "manifest.csv", "plan.csv"
SHARD = "packed.shard"
FACTS = "facts.json"


@dataclass(frozen=True)
class Options:
    """What does not decide the result: where things lie and what they run on.

    Attributes:
        work: folder of all stages.
        corpora_dir: folder that holds corpora under their usual names.
        named_corpora: ``{"folder": Path("/my/speech")}``; looked at before ``corpora_dir``.
        num_workers: processes for scanning, mixing and scoring; one per core by default.
        device: ``auto``, ``cpu`` or ``cuda``.
        compile: ``auto``, ``on`` or ``off``: whether the network is compiled for training.
        checkpoint_minutes: time between the training states kept in the middle of an epoch.
    """

    work: Path = Path("work")
    corpora_dir: Path | None = None
    named_corpora: Mapping[str, Path] = field(default_factory=dict)
    num_workers: int | None = None
    device: str = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    checkpoint_minutes: float = 5.0


def build_stages(recipe: Recipe, options: Options | None = None) -> list[Stage]:
    """All stages of a recipe, each after what it needs; nothing is run.

    Raises:
        CorpusError: when the corpus is not where the options say.
    """
    options = options or Options()
    roots, corpus = _corpus(recipe, options)
    if making.is_published(recipe):
        scan = plan = _published_plan(recipe, options, roots)
    elif making.draws_on_audio(recipe):
        scan = plan = _measured_plan(recipe, options, roots, _scan(recipe, options, roots, corpus))
    else:
        scan = _scan(recipe, options, roots, corpus)
        plan = _drawn_plan(recipe, options, scan)
    mix = _mix(recipe, options, roots, scan, plan)
    packs = _packs(recipe, options, roots, scan, mix)
    trained = [_train(recipe, options, packs, scan, name) for name in recipe.systems]
    separated = [_separate(recipe, options, mix, train) for train in trained]
    scored = [_score(recipe, options, mix, separate) for separate in separated]
    report = _report(recipe, options, mix, trained, separated, scored)
    return runner.ordered([report])


def named(stages: Sequence[Stage], names: Sequence[str]) -> list[Stage]:
    """The stages called by ``names``: ``train`` for all systems, ``train:causal`` for one.

    Raises:
        RecipeError: for a name that no stage of this recipe has.
    """
    titles = {stage.fingerprint: (stage.name, f"{stage.name}:{stage.label}") for stage in stages}
    for name in names:
        if not any(name in both for both in titles.values()):
            known = dict.fromkeys([s.name for s in stages] + [f"{s.name}:{s.label}" for s in stages if s.label])
            raise RecipeError(f"no stage is called {name!r}; there are {', '.join(known)}")
    return [stage for stage in stages if set(names) & set(titles[stage.fingerprint])]


def dependents(stages: Sequence[Stage], roots: Sequence[Stage]) -> list[Stage]:
    """The roots and every stage that reads, directly or not, what they write."""
    found = {stage.fingerprint for stage in roots}
    for stage in stages:
        if any(need.fingerprint in found for need in stage.needs):
            found.add(stage.fingerprint)
    return [stage for stage in stages if stage.fingerprint in found]


@dataclass(frozen=True)
class Run:
    """A finished run: where everything lies, and the tables ready to use."""

    recipe: Recipe
    folders: Mapping[str, Path]

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """The utterances, one row each; of published lists, those they name."""
        return read_table(self.folders.get("scan", self.folders["plan"]) / MANIFEST_FILE, MANIFEST)

    @cached_property
    def plan(self) -> pd.DataFrame:
        """The planned mixtures, one row per source."""
        return read_table(self.folders["plan"] / PLAN_FILE, PLAN)

    @cached_property
    def mixtures(self) -> pd.DataFrame:
        """The rendered mixtures, one row each; paths are relative to ``folders["mix"]``."""
        return read_table(self.folders["mix"] / "mixtures.csv", MIXTURES)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per system, mixture and source."""
        tables = [read_table(self.folders[f"score {name}"] / "scores.csv", SCORES) for name in self.recipe.systems]
        return pd.concat(tables, ignore_index=True)

    @property
    def models(self) -> dict[str, Path]:
        """The best checkpoint of every system."""
        return {name: self.folders[f"train {name}"] / "best.safetensors" for name in self.recipe.systems}

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.folders["report"] / "report.html"


def run(
    recipe: Recipe,
    stages: Sequence[str] = (),
    *,
    options: Options | None = None,
    force: Sequence[str] = (),
    announce: Callable[[Stage, bool], None] = lambda stage, done: None,
) -> Run:
    """Run a recipe's stages, skipping what is done.

    Args:
        recipe: see :func:`pipeline.load_recipe`.
        stages: names of stages to run with all they need; all by default.
        options: where things lie and what they run on.
        force: stages to run again, with all that depends on them.
        announce: called before each stage with whether it is done already.
    """
    options = options or Options()
    all_stages = build_stages(recipe, options)
    for stage in reversed(dependents(all_stages, named(all_stages, force))):
        runner.forget(stage, options.work)
    for stage in runner.ordered(named(all_stages, stages)) if stages else all_stages:
        announce(stage, runner.is_done(stage, options.work))
        runner.run_stage(stage, options.work)
    return Run(recipe, {stage.title: stage.folder(options.work) for stage in all_stages})


# ---------------------------------------------------------------------------------------------------- from speech to mixtures
def _find_inputs(recipe: Recipe, options: Options) -> Roots:
    """Where the recipe's inputs lie; synthetic speech is no input.

    Raises:
        CorpusError: naming every one that is missing.
    """
    wanted = {
        "speech": None if isinstance(recipe.corpus, SyntheticCorpus) else recipe.corpus.kind,
        "lists": making.lists_of(recipe),
        "noise": "wham_noise" if recipe.mix.with_noise else None,
    }
    found: dict[str, Path] = {}
    findings: list[str] = []
    for role, name in wanted.items():
        try:
            if name is not None:
                found[role] = corpora.find_folder(name, corpora_dir=options.corpora_dir, named=options.named_corpora)
        except CorpusError as error:
            findings.append(str(error))
    if findings:
        raise CorpusError("\n".join(findings))
    return Roots(**{"speech": Path(), **found})


def _corpus(recipe: Recipe, options: Options) -> tuple[Roots, Stage | None]:
    """Where the inputs lie, and the stage that makes the speech if it is synthetic."""
    corpus, roots = recipe.corpus, _find_inputs(recipe, options)
    if not isinstance(corpus, SyntheticCorpus):
        return roots, None

    def work(folder: Path) -> None:
        synthetic.generate(corpus, folder / "speech", seed=recipe.seed, num_workers=options.num_workers)

    stage = Stage("corpus", synthetic.VERSION, {"corpus": _settings(corpus), "seed": recipe.seed}, work)
    return replace(roots, speech=stage.folder(options.work) / "speech"), stage


def _scan(recipe: Recipe, options: Options, roots: Roots, corpus: Stage | None) -> Stage:
    def work(folder: Path) -> None:
        manifest = corpora.scan(recipe.corpus, roots.speech, seed=recipe.seed, num_workers=options.num_workers)
        write_table(manifest, folder / MANIFEST_FILE, MANIFEST)

    settings = {"corpus": _settings(recipe.corpus), "seed": recipe.seed}
    if corpus is None:
        return Stage("scan", 1, {**settings, "listing": corpora.listing_digest(recipe.corpus, roots.speech)}, work)
    return Stage("scan", 1, settings, work, needs=(corpus,))


def planned(recipe: Recipe, options: Options) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The plan and the manifest it draws on, made in memory: what the first stages would write, or have written.

    Raises:
        TasnetError: as those stages would.
    """
    roots, corpus = _corpus(recipe, options)
    if making.is_published(recipe):
        return making.read_published(recipe, roots, num_workers=options.num_workers)
    scan = _scan(recipe, options, roots, corpus)
    if runner.is_done(scan, options.work):
        manifest = _manifest(scan, options)
    else:
        manifest = corpora.scan(recipe.corpus, roots.speech, seed=recipe.seed, num_workers=options.num_workers)
    if making.draws_on_audio(recipe):
        return making.draw_on_audio(
            recipe, manifest, roots, noises=_noises(recipe, options, roots), num_workers=options.num_workers
        )
    return making.draw(recipe, manifest), manifest


def _noises(recipe: Recipe, options: Options, roots: Roots) -> pd.DataFrame | None:
    if roots.noise is None:
        return None
    return wham_noise.scan(roots.noise, seed=recipe.seed, num_workers=options.num_workers)


def _measured_plan(recipe: Recipe, options: Options, roots: Roots, scan: Stage) -> Stage:
    """A plan drawn with noise, or with gains measured on the files; the manifest beside it holds the noise too."""

    def work(folder: Path) -> None:
        noises = _noises(recipe, options, roots)
        plan, manifest = making.draw_on_audio(
            recipe, _manifest(scan, options), roots, noises=noises, num_workers=options.num_workers
        )
        making.write_lists(recipe, plan, manifest, folder)
        write_table(manifest, folder / MANIFEST_FILE, MANIFEST)
        write_table(plan, folder / PLAN_FILE, PLAN)

    settings = {
        "plan": _plan_settings(recipe.plan),
        "seed": recipe.seed,
        "channel": recipe.corpus.channel,
        "noise": None if roots.noise is None else wham_noise.listing_digest(roots.noise),
    }
    return Stage("plan", 1, settings, work, needs=(scan,))


def _drawn_plan(recipe: Recipe, options: Options, scan: Stage) -> Stage:
    def work(folder: Path) -> None:
        manifest = _manifest(scan, options)
        plan = making.draw(recipe, manifest)
        making.write_lists(recipe, plan, manifest, folder)
        write_table(plan, folder / PLAN_FILE, PLAN)

    return Stage("plan", 1, {"plan": _plan_settings(recipe.plan), "seed": recipe.seed}, work, needs=(scan,))


def _published_plan(recipe: Recipe, options: Options, roots: Roots) -> Stage:
    """The plan as its authors published it; the manifest beside it holds the files that it names, and no others are needed."""
    assert roots.lists is not None

    def work(folder: Path) -> None:
        plan, manifest = making.read_published(recipe, roots, num_workers=options.num_workers)
        making.check_levels(recipe, manifest, roots, num_workers=options.num_workers)
        write_table(manifest, folder / MANIFEST_FILE, MANIFEST)
        write_table(plan, folder / PLAN_FILE, PLAN)

    settings = {
        "plan": _plan_settings(recipe.plan),
        "corpus": _settings(recipe.corpus),
        "with_noise": recipe.mix.with_noise,
        "lists": making.lists_digest(recipe, roots.lists),
    }
    return Stage("plan", 1, settings, work)


def _mix(recipe: Recipe, options: Options, roots: Roots, scan: Stage, plan: Stage) -> Stage:
    def work(folder: Path) -> None:
        table, manifest = read_table(plan.folder(options.work) / PLAN_FILE, PLAN), _manifest(scan, options)
        channel, noise, workers = recipe.corpus.channel, roots.noise, options.num_workers
        rendering.check_inputs(table, manifest, roots.speech, recipe.mix, channel=channel, noise_root=noise, num_workers=workers)
        require_room(folder, footprint(table, manifest, recipe.mix).disk_bytes - written_bytes(folder))
        rendering.render(
            table, manifest, roots.speech, folder, recipe.mix, channel=channel, noise_root=noise, num_workers=workers
        )

    settings = {"mix": _settings(recipe.mix), "channel": recipe.corpus.channel}
    return Stage("mix", 1, settings, work, needs=(plan,) if scan is plan else (scan, plan))


# ------------------------------------------------------------------------------------------------- from mixtures to estimates


def _packs(recipe: Recipe, options: Options, roots: Roots, scan: Stage, mix: Stage) -> dict[str, Stage]:
    """What training reads, each packed into one file: ``valid`` mixtures, ``train`` mixtures, and ``utterances`` to mix anew."""

    def mixtures(split: str, folder: Path) -> None:
        table = _mixtures(mix, options)
        packing.pack_mixtures(
            mix.folder(options.work), table, split, folder / SHARD, encoding=recipe.mix.encoding, num_workers=options.num_workers
        )

    def utterances(folder: Path) -> None:
        packing.pack_utterances(
            _manifest(scan, options),
            roots.speech,
            "train",
            recipe.mix,
            folder / SHARD,
            level=recipe.plan.level,
            min_seconds=recipe.plan.min_seconds,
            channel=recipe.corpus.channel,
            num_workers=options.num_workers,
        )

    settings = {
        "sample_rate": recipe.mix.sample_rate,
        "level": recipe.plan.level,
        "min_seconds": recipe.plan.min_seconds,
        "channel": recipe.corpus.channel,
    }
    return {
        "valid": Stage("pack", 1, {"split": "valid"}, partial(mixtures, "valid"), needs=(mix,), label="valid"),
        "static": Stage("pack", 1, {"split": "train"}, partial(mixtures, "train"), needs=(mix,), label="train"),
        "dynamic": Stage("pack", 1, settings, utterances, needs=(scan,), label="utterances"),
    }


def _train(recipe: Recipe, options: Options, packs: Mapping[str, Stage], scan: Stage, name: str) -> Stage:
    system = recipe.systems[name]
    source = packs[system.train.mixing]

    def work(folder: Path) -> None:
        from pipeline import batches, training

        valid = Shard(packs["valid"].folder(options.work) / SHARD)
        segments = _segments(recipe, options, scan, Shard(source.folder(options.work) / SHARD), name)
        training.train(
            system,
            training.TrainingSets(segments, batches.PackedMixtures(valid)),
            folder,
            seed=recipe.training_seed(name),
            num_sources=recipe.plan.num_sources,
            sample_rate=recipe.mix.sample_rate,
            options=training.Options(
                device=options.device,
                compile=options.compile,
                checkpoint_minutes=options.checkpoint_minutes,
                description=f"train {name}",
            ),
        )

    settings: dict[str, Any] = {
        "system": name,
        "model": _settings(system.model),
        "train": system.train.model_dump(mode="json", exclude={"seed", "seeds"}),
        "seed": recipe.training_seed(name),
        "num_sources": recipe.plan.num_sources,
        "sample_rate": recipe.mix.sample_rate,
    }
    if system.train.mixing == "dynamic":
        settings |= {"level": recipe.plan.level, "mode": recipe.mix.mode, "num_mixtures": recipe.plan.num_mixtures["train"]}
        settings |= {"overlap": recipe.plan.overlap} if recipe.plan.is_partial else {}
    return Stage("train", 1, settings, work, needs=(packs["valid"], source), label=name)


def _segments(recipe: Recipe, options: Options, scan: Stage, shard: Shard, name: str) -> Segments:
    """What a system learns from: cuts of the rendered mixtures, or mixtures made on the fly."""
    from pipeline import batches

    system = recipe.systems[name]
    num_samples = round(system.train.segment_seconds * recipe.mix.sample_rate)
    if system.train.mixing == "static":
        return batches.StaticSegments(batches.PackedMixtures(shard), num_samples=num_samples, seed=recipe.training_seed(name))
    return batches.DynamicSegments(
        shard,
        random.MixtureSampler(_manifest(scan, options), recipe.plan.drawing, split="train", seed=recipe.training_seed(name)),
        mode=recipe.mix.mode,
        num_samples=num_samples,
        num_segments=recipe.plan.num_mixtures["train"],
        speed_percent=system.train.speed_percent,
    )


def _separate(recipe: Recipe, options: Options, mix: Stage, train: Stage) -> Stage:
    def work(folder: Path) -> None:
        from pipeline import checkpoints, devices, models, separation

        device = devices.choose_device(options.device)
        devices.prepare(device)
        model = checkpoints.load_model(train.folder(options.work) / "best.safetensors", device=device)
        timing = separation.separate_dataset(model, _mixtures(mix, options), mix.folder(options.work), folder)
        seen = models.causality(model)
        facts = {
            **models.describe_model(model),
            "look_ahead_samples": seen.look_ahead_samples,
            "causality_deviation": seen.largest_deviation,
            "cpu_real_time_factor": separation.cpu_real_time_factor(model, timing),
            "cpu": devices.cpu_name(),
            "real_time_factor": separation.real_time_factor(timing),
            "device": devices.device_name(device),
        }
        with written_whole(folder / FACTS) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    return Stage("separate", 2, {"system": train.label}, work, needs=(mix, train), label=train.label)


# ------------------------------------------------------------------------------------------------ from estimates to the report
def _score(recipe: Recipe, options: Options, mix: Stage, separate: Stage) -> Stage:
    def work(folder: Path) -> None:
        mixtures = _mixtures(mix, options)
        scoring.score_dataset(
            mixtures[mixtures["split"] == "test"],
            mix.folder(options.work),
            {separate.label: separate.folder(options.work)},
            out=folder / "scores.csv",
            num_workers=options.num_workers,
            permutation=recipe.score.permutation,
        )

    settings = {"system": separate.label, "score": _settings(recipe.score)}
    return Stage("score", 1, settings, work, needs=(mix, separate), label=separate.label)


def _report(
    recipe: Recipe, options: Options, mix: Stage, trained: Sequence[Stage], separated: Sequence[Stage], scored: Sequence[Stage]
) -> Stage:
    def work(folder: Path) -> None:
        from pipeline import reports

        mixtures = _mixtures(mix, options)
        scores = pd.concat([read_table(stage.folder(options.work) / "scores.csv", SCORES) for stage in scored], ignore_index=True)
        write_table(scores, folder / "scores.csv", SCORES)
        facts = {stage.label: json.loads((stage.folder(options.work) / FACTS).read_text()) for stage in separated}
        reports.write_report(
            scores,
            folder,
            title=recipe.name,
            histories={stage.label: read_table(stage.folder(options.work) / "history.csv", HISTORY) for stage in trained},
            models=facts,
            published={name: figures.model_dump() for name, figures in recipe.report.published.items()},
            baseline=recipe.baseline,
            provenance={**provenance(device=facts[recipe.baseline]["device"]), "recipe": format_recipe(recipe)},
            examples=reports.clip_loader(
                mix.folder(options.work),
                mixtures[mixtures["split"] == "test"],
                {stage.label: stage.folder(options.work) for stage in separated},
            ),
            num_examples=recipe.report.num_examples,
        )

    settings = {"name": recipe.name, "report": _settings(recipe.report)}
    return Stage("report", 1, settings, work, needs=(mix, *trained, *separated, *scored))


def _settings(table: BaseModel) -> dict[str, Any]:
    """A recipe table as JSON values, its defaults included."""
    return table.model_dump(mode="json")


def _plan_settings(plan: Plan) -> dict[str, Any]:
    """As :func:`_settings`; full overlap goes without saying."""
    settings = _settings(plan)
    return settings if plan.is_partial else {key: value for key, value in settings.items() if key != "overlap"}


def _mixtures(mix: Stage, options: Options) -> pd.DataFrame:
    return read_table(mix.folder(options.work) / "mixtures.csv", MIXTURES)


def _manifest(scan: Stage, options: Options) -> pd.DataFrame:
    return read_table(scan.folder(options.work) / MANIFEST_FILE, MANIFEST)
