"""The stages of a run, in order: the table of contents of the project.

    corpus → scan → plan → mix → pack → train → separate → score → report

``corpus`` exists for synthetic speech only; ``train``, ``separate`` and ``score`` once per system, so that a new or changed
system leaves the others' work alone; ``oracles`` scores what ideal masks would reach. Each stage is a function here
that reads the folders of the stages it needs, calls the room that does the work, and leaves the result in its own folder.

Torch is imported by the stages that train and separate, when they run: building a dataset does not need it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import BaseModel

from pipeline import corpora
from pipeline.compute.options import Options
from pipeline.compute.torchrun import world_size
from pipeline.corpora import synthetic, wham_noise
from pipeline.errors import CorpusError, PlanError, RecipeError
from pipeline.files import written_whole
from pipeline.mixtures import packing, rendering
from pipeline.mixtures.footprint import footprint, require_room, written_bytes
from pipeline.mixtures.plans import build, drawn
from pipeline.mixtures.plans.adapter import Roots
from pipeline.mixtures.plans.planned import of_splits
from pipeline.mixtures.shards import Shard
from pipeline.recipe.schema import Plan, Recipe, SyntheticCorpus, System
from pipeline.recipe.writing import format_recipe
from pipeline.reports.provenance import provenance
from pipeline.scoring import cross_checks, scoring
from pipeline.scoring.mixture import Settings
from pipeline.stages import runner
from pipeline.stages.runner import Stage
from pipeline.tables import HISTORY, MANIFEST, MIXTURES, PLAN, SCORES, read_table, write_table

if TYPE_CHECKING:
    from pipeline.compute.distributed import Group
    from pipeline.training.batches import Segments

MANIFEST_FILE, PLAN_FILE = "manifest.csv", "plan.csv"
SHARD = "packed.shard"
FACTS = "facts.json"
SCORES_FILE = "scores.csv"


def build_stages(recipe: Recipe, options: Options | None = None) -> list[Stage]:
    """All stages of a recipe, each after what it needs; nothing is run.

    Raises:
        CorpusError: when the corpus is not where the options say.
        ScoreError: when a metric cannot be computed here.
    """
    options = options or Options()
    roots, corpus = _corpus(recipe, options)
    if build.is_published(recipe):
        scan = plan = _published_plan(recipe, options, roots)
    elif build.needs_audio(recipe):
        scan = plan = _measured_plan(recipe, options, roots, _scan(recipe, options, roots, corpus))
    else:
        scan = _scan(recipe, options, roots, corpus)
        plan = _drawn_plan(recipe, options, scan)
    mix = _mix(recipe, options, roots, scan, plan)
    packs = _packs(recipe, options, roots, scan, plan, mix)
    trained = [_train(recipe, options, packs, scan, plan, name) for name in recipe.systems]
    separated = [_separate(recipe, options, mix, train) for train in trained]
    scored = [_score(recipe, options, mix, separate) for separate in separated]
    oracles = [_oracles(recipe, options, mix)] if recipe.report.oracles else []
    report = _report(recipe, options, mix, trained, separated, scored, oracles)
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
        tables = [read_table(self.folders[f"score {name}"] / SCORES_FILE, SCORES) for name in self.recipe.systems]
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

    Under torchrun, the first process runs them; the others only join it for the trainings, and return after the last.

    Args:
        recipe: see :func:`pipeline.load_recipe`.
        stages: names of stages to run with all they need; all by default.
        options: where things lie and what they run on.
        force: stages to run again, with all that depends on them.
        announce: called before each stage with whether it is done already.
    """
    options = options or Options()
    all_stages = build_stages(recipe, options)
    chosen = runner.ordered(named(all_stages, stages)) if stages else all_stages
    if recipe.missing_for_training and any(stage.name == "train" for stage in chosen):
        raise RecipeError("\n".join(recipe.missing_for_training))
    with _together(options) as group:
        if group is not None and not group.first:
            _follow(group, all_stages, options)
        else:
            for stage in reversed(dependents(all_stages, named(all_stages, force))):
                runner.forget(stage, options.work)
            _run_stages(chosen, options, group, announce)
    return Run(recipe, {stage.title: stage.folder(options.work) for stage in all_stages})


@contextmanager
def _together(options: Options) -> Iterator[Group | None]:
    """The processes that torchrun has started for this run; None, without a look at torch, for a run of one."""
    if world_size() == 1:
        yield None
        return
    from pipeline.compute import devices, distributed

    with distributed.joined(devices.choose_device(options.device)) as group:
        yield group


def _run_stages(chosen: Sequence[Stage], options: Options, group: Group | None, announce: Callable[[Stage, bool], None]) -> None:
    """Run stages in order; the other processes are called to every training, and let go after the last."""
    trainings = [stage for stage in chosen if stage.name == "train"]
    for stage in chosen:
        done = runner.is_done(stage, options.work)
        announce(stage, done)
        if group is not None and stage.name == "train" and not done:
            group.broadcast(stage.title)
        runner.run_stage(stage, options.work)
        if group is not None and trainings[-1:] == [stage]:
            group.broadcast("")
    if group is not None and not trainings:
        group.broadcast("")


def _follow(group: Group, all_stages: Sequence[Stage], options: Options) -> None:
    """Join process 0 in every training it calls for; all else is its work alone."""
    called = {stage.title: stage for stage in all_stages}
    while title := group.receive():
        called[title].run(called[title].folder(options.work))


# ---------------------------------------------------------------------------------------------------- from speech to mixtures
def _find_inputs(recipe: Recipe, options: Options) -> Roots:
    """Where the recipe's inputs lie; synthetic speech is no input.

    Raises:
        CorpusError: naming every one that is missing.
    """
    wanted = {
        "speech": None if isinstance(recipe.corpus, SyntheticCorpus) else recipe.corpus.kind,
        "lists": build.lists_of(recipe),
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
    if build.is_published(recipe):
        return build.read_published(recipe, roots, num_workers=options.num_workers)
    scan = _scan(recipe, options, roots, corpus)
    if runner.is_done(scan, options.work):
        manifest = _manifest(scan, options)
    else:
        manifest = corpora.scan(recipe.corpus, roots.speech, seed=recipe.seed, num_workers=options.num_workers)
    if build.needs_audio(recipe):
        return build.draw_with_audio(
            recipe, manifest, roots, noises=_noises(recipe, options, roots), num_workers=options.num_workers
        )
    return build.draw(recipe, manifest), manifest


def _noises(recipe: Recipe, options: Options, roots: Roots) -> pd.DataFrame | None:
    if roots.noise is None:
        return None
    return wham_noise.scan(roots.noise, seed=recipe.seed, num_workers=options.num_workers)


def _measured_plan(recipe: Recipe, options: Options, roots: Roots, scan: Stage) -> Stage:
    """A plan drawn with noise, or with gains measured on the files; the manifest beside it holds the noise too."""

    def work(folder: Path) -> None:
        noises = _noises(recipe, options, roots)
        plan, manifest = build.draw_with_audio(
            recipe, _manifest(scan, options), roots, noises=noises, num_workers=options.num_workers
        )
        build.write_lists(recipe, plan, manifest, folder)
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
        plan = build.draw(recipe, manifest)
        build.write_lists(recipe, plan, manifest, folder)
        write_table(plan, folder / PLAN_FILE, PLAN)

    return Stage("plan", 1, {"plan": _plan_settings(recipe.plan), "seed": recipe.seed}, work, needs=(scan,))


def _published_plan(recipe: Recipe, options: Options, roots: Roots) -> Stage:
    """The plan as its authors published it; the manifest beside it holds the files that it names, and no others are needed."""
    assert roots.lists is not None

    def work(folder: Path) -> None:
        plan, manifest = build.read_published(recipe, roots, num_workers=options.num_workers)
        build.check_levels(recipe, manifest, roots, num_workers=options.num_workers)
        write_table(manifest, folder / MANIFEST_FILE, MANIFEST)
        write_table(plan, folder / PLAN_FILE, PLAN)

    settings = {
        "plan": _plan_settings(recipe.plan),
        "corpus": _settings(recipe.corpus),
        "with_noise": recipe.mix.with_noise,
        "lists": build.lists_digest(recipe, roots.lists),
    }
    return Stage("plan", 1, settings, work)


def _mix(recipe: Recipe, options: Options, roots: Roots, scan: Stage, plan: Stage) -> Stage:
    def work(folder: Path) -> None:
        table, manifest = of_splits(_plan(plan, options), recipe.mix.splits), _manifest(scan, options)
        if table.empty:
            raise PlanError(f"mix.splits = {recipe.mix.splits}: the plan has no mixtures of them; it has {recipe.plan.splits}")
        inputs = build.inputs_of(recipe, roots)
        rendering.check_inputs(table, manifest, inputs, num_workers=options.num_workers)
        require_room(folder, footprint(table, manifest, recipe.mix).disk_bytes - written_bytes(folder))
        rendering.render(table, manifest, inputs, folder, num_workers=options.num_workers)

    settings = {"mix": _settings(recipe.mix), "channel": recipe.corpus.channel}
    return Stage("mix", 1, settings, work, needs=(plan,) if scan is plan else (scan, plan))


# ------------------------------------------------------------------------------------------------- from mixtures to estimates


def _packs(recipe: Recipe, options: Options, roots: Roots, scan: Stage, plan: Stage, mix: Stage) -> dict[str, Stage]:
    """What training reads, each packed into one file.

    ``valid`` mixtures, straight from the plan; ``train`` mixtures as rendered; ``utterances`` and ``noise`` to mix anew.
    """

    def valid(folder: Path) -> None:
        table, manifest = of_splits(_plan(plan, options), ["valid"]), _manifest(scan, options)
        inputs = build.inputs_of(recipe, roots)
        rendering.check_inputs(table, manifest, inputs, num_workers=options.num_workers)
        packing.pack_planned(table, manifest, inputs, "valid", folder / SHARD, num_workers=options.num_workers)

    def train(folder: Path) -> None:
        packing.pack_mixtures(
            mix.folder(options.work),
            _mixtures(mix, options),
            "train",
            folder / SHARD,
            encoding=recipe.mix.encoding,
            num_workers=options.num_workers,
        )

    rendered = {"split": "valid", "mix": recipe.mix.model_dump(mode="json", exclude={"splits", "also"})}
    both = (plan,) if scan is plan else (scan, plan)
    return {
        "valid": Stage("pack", 2, {**rendered, "channel": recipe.corpus.channel}, valid, needs=both, label="valid"),
        "train": Stage("pack", 1, {"split": "train"}, train, needs=(mix,), label="train"),
        "utterances": _bank(recipe, options, roots, scan),
        "noise": _noise_bank(recipe, options, roots, scan),
    }


def _bank(recipe: Recipe, options: Options, roots: Roots, scan: Stage) -> Stage:
    """The training speakers' utterances, measured."""
    measured: dict[str, Any] = {
        "level": recipe.plan.level,
        "min_seconds": recipe.plan.min_seconds,
        "channel": recipe.corpus.channel,
        "with_loudness": recipe.mix.with_noise,
    }

    def work(folder: Path) -> None:
        manifest, workers = _manifest(scan, options), options.num_workers
        packing.pack_utterances(manifest, roots.speech, "train", recipe.mix, folder / SHARD, num_workers=workers, **measured)

    return Stage("pack", 1, {"sample_rate": recipe.mix.sample_rate, **measured}, work, needs=(scan,), label="utterances")


def _noise_bank(recipe: Recipe, options: Options, roots: Roots, scan: Stage) -> Stage:
    """The training split's noise, measured."""

    def work(folder: Path) -> None:
        assert roots.noise is not None
        manifest, workers = _manifest(scan, options), options.num_workers
        packing.pack_noise(manifest, roots.noise, "train", recipe.mix, folder / SHARD, num_workers=workers)

    return Stage("pack", 1, {"sample_rate": recipe.mix.sample_rate}, work, needs=(scan,), label="noise")


def _train(recipe: Recipe, options: Options, packs: Mapping[str, Stage], scan: Stage, plan: Stage, name: str) -> Stage:
    system = recipe.systems[name]
    read = [packs[pack] for pack in _read_by(recipe, system)]

    def work(folder: Path) -> None:
        from pipeline.training import batches, loop

        valid, *others = (Shard(pack.folder(options.work) / SHARD) for pack in read)
        if system.train.mixing == "static":
            segments: Segments = _static_segments(recipe, name, *others)
        else:
            segments = _dynamic_segments(recipe, name, _manifest(scan, options), _plan(plan, options), *others)
        loop.train(
            system,
            loop.TrainingSets(segments, batches.PackedMixtures(valid)),
            folder,
            seed=recipe.training_seed(name),
            num_sources=recipe.num_outputs,
            sample_rate=recipe.mix.sample_rate,
            options=options,
            description=f"train {name}",
        )

    settings: dict[str, Any] = {
        "system": name,
        "model": _settings(system.model),
        "train": system.train.model_dump(mode="json", exclude={"seed", "seeds"}),
        "seed": recipe.training_seed(name),
        "num_sources": recipe.num_outputs,
        "sample_rate": recipe.mix.sample_rate,
    }
    if system.train.mixing == "dynamic":
        settings |= {"level": recipe.plan.level, "mode": recipe.mix.mode}
        settings |= {"overlap": recipe.plan.overlap} if recipe.plan.is_partial else {}
    return Stage("train", 1, settings, work, needs=tuple(read), label=name)


def _read_by(recipe: Recipe, system: System) -> list[str]:
    """The packed files that a system's training reads, by name: what it is validated on first."""
    if system.train.mixing == "static":
        return ["valid", "train"]
    return ["valid", "utterances", *(["noise"] if recipe.mix.types[0] != "mix_clean" else [])]


def _num_samples(recipe: Recipe, name: str) -> int:
    return round(recipe.systems[name].train.segment_seconds * recipe.mix.sample_rate)


def _static_segments(recipe: Recipe, name: str, mixtures: Shard) -> Segments:
    """Cuts of the rendered mixtures."""
    from pipeline.training import batches

    packed = batches.PackedMixtures(mixtures)
    return batches.StaticSegments(packed, num_samples=_num_samples(recipe, name), seed=recipe.training_seed(name))


def _dynamic_segments(
    recipe: Recipe, name: str, manifest: pd.DataFrame, plan: pd.DataFrame, bank: Shard, noise: Shard | None = None
) -> Segments:
    """Mixtures made on the fly by the plan's rules, as many an epoch as the plan has for training."""
    from pipeline.training import batches

    return batches.DynamicSegments(
        bank,
        drawn.MixtureSampler(manifest, recipe.plan.drawing, split="train", seed=recipe.training_seed(name)),
        mode=recipe.mix.mode,
        num_samples=_num_samples(recipe, name),
        num_segments=of_splits(plan, ["train"])["mixture_id"].nunique(),
        speed_percent=recipe.systems[name].train.speed_percent,
        noise=noise,
        first_only=recipe.num_outputs == 1,
    )


def _separate(recipe: Recipe, options: Options, mix: Stage, train: Stage) -> Stage:
    def work(folder: Path) -> None:
        from pipeline import models
        from pipeline.compute import devices
        from pipeline.models import checkpoints
        from pipeline.separation import offline

        device = devices.choose_device(options.device)
        devices.prepare(device)
        model = checkpoints.load_model(train.folder(options.work) / "best.safetensors", device=device)
        timing = offline.separate_dataset(model, _mixtures(mix, options), mix.folder(options.work), folder)
        seen = models.causality(model)
        facts = {
            **models.describe_model(model),
            "look_ahead_samples": seen.look_ahead_samples,
            "causality_deviation": seen.largest_deviation,
            "cpu_real_time_factor": offline.cpu_real_time_factor(model, timing),
            "cpu": devices.cpu_name(),
            "real_time_factor": offline.real_time_factor(timing),
            "device": devices.device_name(device),
        }
        with written_whole(folder / FACTS) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    return Stage("separate", 2, {"system": train.label}, work, needs=(mix, train), label=train.label)


# ------------------------------------------------------------------------------------------------ from estimates to the report
def _score(recipe: Recipe, options: Options, mix: Stage, separate: Stage) -> Stage:
    Settings.of(recipe.score.permutation, recipe.score.also, recipe.mix.sample_rate)  # a missing package shows at once

    def work(folder: Path) -> None:
        tasks = _scoring_tasks(mix, options, {separate.label: separate.folder(options.work)})
        scores = _score_tasks(recipe, options, tasks, folder)
        if num_rows := recipe.score.verify:
            check = cross_checks.cross_check(scores, tasks, num_rows, seed=recipe.seed, num_workers=options.num_workers)
            cross_checks.write_check(check, folder / SCORES_FILE)

    settings = {"system": separate.label, "score": _settings(recipe.score), "seed": recipe.seed}
    return Stage("score", scoring.VERSION, settings, work, needs=(mix, separate), label=separate.label)


def _oracles(recipe: Recipe, options: Options, mix: Stage) -> Stage:
    def work(folder: Path) -> None:
        _score_tasks(recipe, options, scoring.with_oracles(_scoring_tasks(mix, options, {})), folder)

    return Stage("oracles", scoring.VERSION, {"score": _settings(recipe.score)}, work, needs=(mix,))


def _scoring_tasks(mix: Stage, options: Options, estimates: Mapping[str, Path]) -> list[scoring.Task]:
    mixtures = _mixtures(mix, options)
    return scoring.dataset_tasks(mixtures[mixtures["split"] == "test"], mix.folder(options.work), estimates)


def _score_tasks(recipe: Recipe, options: Options, tasks: Sequence[scoring.Task], folder: Path) -> pd.DataFrame:
    return scoring.score_tasks(
        tasks,
        out=folder / SCORES_FILE,
        num_workers=options.num_workers,
        permutation=recipe.score.permutation,
        also=recipe.score.also,
    )


def _report(
    recipe: Recipe,
    options: Options,
    mix: Stage,
    trained: Sequence[Stage],
    separated: Sequence[Stage],
    scored: Sequence[Stage],
    oracles: Sequence[Stage],
) -> Stage:
    def work(folder: Path) -> None:
        from pipeline import reports

        mixtures = _mixtures(mix, options)
        scores = _scores(scored, options)
        write_table(scores, folder / SCORES_FILE, SCORES)
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
            verification=cross_checks.read_checks(stage.folder(options.work) / SCORES_FILE for stage in scored),
            oracles=_scores(oracles, options) if oracles else None,
        )

    settings = {"name": recipe.name, "report": _settings(recipe.report)}
    return Stage("report", 1, settings, work, needs=(mix, *trained, *separated, *scored, *oracles))


def _scores(stages: Sequence[Stage], options: Options) -> pd.DataFrame:
    """The score tables of some stages, one below the other."""
    return pd.concat([read_table(stage.folder(options.work) / SCORES_FILE, SCORES) for stage in stages], ignore_index=True)


def _settings(table: BaseModel) -> dict[str, Any]:
    """A recipe table as JSON values, its defaults included."""
    return table.model_dump(mode="json")


def _plan(plan: Stage, options: Options) -> pd.DataFrame:
    return read_table(plan.folder(options.work) / PLAN_FILE, PLAN)


def _plan_settings(plan: Plan) -> dict[str, Any]:
    """As :func:`_settings`; full overlap goes without saying."""
    settings = _settings(plan)
    return settings if plan.is_partial else {key: value for key, value in settings.items() if key != "overlap"}


def _mixtures(mix: Stage, options: Options) -> pd.DataFrame:
    return read_table(mix.folder(options.work) / "mixtures.csv", MIXTURES)


def _manifest(scan: Stage, options: Options) -> pd.DataFrame:
    return read_table(scan.folder(options.work) / MANIFEST_FILE, MANIFEST)
