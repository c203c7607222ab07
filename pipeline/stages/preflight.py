"""Before a run: whether everything it needs is there, what it takes on disk, and about how long. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from pipeline import corpora
from pipeline.compute import workers
from pipeline.compute.options import Options
from pipeline.corpora.manifests import UNKNOWN_SPEAKER, is_noise, raise_findings
from pipeline.mixtures import packing, rendering
from pipeline.mixtures.footprint import footprint, free_bytes, longest_mixture, resampled_lengths
from pipeline.mixtures.plans import build
from pipeline.mixtures.plans.lint import lint
from pipeline.mixtures.plans.planned import needed_rows, of_splits
from pipeline.mixtures.renderers.finished import describe_residuals
from pipeline.recipe.schema import SPLITS, FinishedPlan, Recipe, SyntheticCorpus
from pipeline.stages import checks, data, finished, graph, runner
from pipeline.stages.training import padding_warning

FILES_PER_CORE_SECOND = 400
"""For estimates: audio files that one core renders per second (8 kHz, from 5-s utterances in 16 kHz FLAC)."""
TRAINING_EFFICIENCY = 0.3
"""For estimates: the share of the measured matrix-product rate that training reaches as a whole."""
PASSES = 3
"""For estimates: what a forward and a backward pass cost together, in forward passes."""


def findings(recipe: Recipe, options: Options, *, full: bool = False, decode: bool = False) -> Iterator[str]:
    """What the recipe needs and costs, line by line: ``corpus    train: 4 utterances, …``.

    Args:
        recipe: what would be run.
        options: where things lie.
        full: read the inputs again instead of believing the time stamps of files whose content is known.
        decode: decode every sample of every file that would be used, instead of the beginnings.

    Raises:
        TasnetError: whatever would stop the run before it writes audio: every file that is missing, damaged, silent, or at a rate
            below the mixtures'.
    """
    yield _line("recipe", f"{recipe.name}: systems {', '.join(recipe.systems)}; seed {recipe.seed}")
    yield from (_line("MISSING", finding) for finding in recipe.missing_for_training)
    if not isinstance(recipe.plan, FinishedPlan):
        yield from _about_training(recipe, options, recipe.plan.num_mixtures.get("train", 0))
    if full:
        data.reread(recipe, options)
    stages = graph.build_stages(recipe, options)
    scan = next((stage for stage in stages if stage.name == "scan"), None)
    if isinstance(recipe.corpus, SyntheticCorpus) and scan and not runner.is_done(scan, options.work):
        yield _line("corpus", "synthetic speech, which the run will generate")
    else:
        plan, manifest = data.plan_in_memory(recipe, options)
        if isinstance(recipe.plan, FinishedPlan):
            yield from _about_training(recipe, options, of_splits(plan, ["train"])["mixture_id"].nunique())
        yield from _about_corpus(manifest)
        yield from _about_mixtures(recipe, options, plan, manifest)
        yield from (_line("warning", warning) for warning in _padding_warnings(recipe, plan, manifest))
        yield from _about_files(recipe, options, plan, manifest, decode=decode)
        yield from (_line("warning", finding) for finding in lint(plan, manifest))
    pending = [found.stage.id for found in runner.status(stages, options.work) if found.state != "done"]
    yield _line("to run", ", ".join(pending) or "nothing: every stage is done")


def _line(label: str, text: str) -> str:
    return f"{label:10}{text}"


def _about_training(recipe: Recipe, options: Options, num_mixtures: int) -> Iterator[str]:
    from pipeline import models
    from pipeline.compute import devices
    from pipeline.training import benchmark

    device = devices.choose_device(options.device)
    devices.prepare(device)
    for name, system in recipe.systems.items():
        network = models.build_model(system.model, num_sources=recipe.num_outputs, sample_rate=recipe.mix.sample_rate)
        facts = models.describe_model(network)
        segments = system.train.epochs * (system.train.segments_per_epoch or num_mixtures)
        operations = segments * system.train.segment_seconds * facts["macs_per_second"] * 2 * PASSES
        rate = 1e9 * benchmark.gemm_gflops_per_second(device, system.train.precision)
        duration = _duration(operations / rate / TRAINING_EFFICIENCY / 60)
        parameters = f"{facts['num_parameters']:,} parameters"
        yield _line("training", f"{name}: {parameters}, {segments:,} segments, about {duration} on {device}")


def _about_corpus(manifest: pd.DataFrame) -> Iterator[str]:
    hours = manifest["num_samples"] / manifest["sample_rate"] / 3600
    noise = is_noise(manifest)
    for split in SPLITS:
        here = (manifest["split"] == split) & ~noise
        if here.any():
            speakers = set(manifest.loc[here, "speaker_id"])
            what = "files" if speakers == {UNKNOWN_SPEAKER} else f"utterances, {len(speakers)} speakers"
            yield _line("corpus", f"{split}: {here.sum()} {what}, {hours[here].sum():.2f} h")
    if noise.any():
        yield _line("noise", f"{noise.sum()} clips, {hours[noise].sum():.2f} h")


def _about_mixtures(recipe: Recipe, options: Options, plan: pd.DataFrame, manifest: pd.DataFrame) -> Iterator[str]:
    planned = footprint(of_splits(plan, recipe.mix.splits), manifest, recipe.mix)
    free, packed = free_bytes(options.work), _packed_bytes(recipe, plan, manifest)
    if not build.writes_audio(recipe):
        yield _line("mixtures", f"{planned.num_mixtures} mixtures, {planned.seconds / 3600:.2f} h, which are used where they are")
        yield _line("disk", f"packed for training, {packed / 1e9:.2f} GB; {free / 1e9:.0f} GB free: {_verdict(packed, free)}")
        return
    minutes = planned.num_files / FILES_PER_CORE_SECOND / (options.num_workers or workers.cpu_count()) / 60
    duration = f"{planned.seconds / 3600:.2f} h, about {_duration(minutes)} to render"
    yield _line("mixtures", f"{planned.num_mixtures} mixtures, {duration}")
    size = f"{planned.num_bytes:,} bytes ({planned.num_bytes / 1e9:.2f} GB)"
    fits = _verdict(planned.disk_bytes, free)
    yield _line("disk", f"{planned.num_files} files, {size}; {free / 1e9:.0f} GB free: {fits}")
    if packed:
        fits = _verdict(planned.disk_bytes + packed, free)
        yield _line("disk", f"packed for training, another {packed / 1e9:.2f} GB: {fits}")


def _padding_warnings(recipe: Recipe, plan: pd.DataFrame, manifest: pd.DataFrame) -> Iterator[str]:
    """What each training will say of segments that are longer than all it has to cut them from."""
    for name, system in recipe.systems.items():
        if system.train.mixing == "static":
            longest = longest_mixture(of_splits(plan, ["train"]), manifest, recipe.mix)
        else:
            assert not isinstance(recipe.plan, FinishedPlan), "the schema refuses it"
            utterances = packing.packed_utterances(manifest, "train", recipe.plan.min_seconds)
            longest = int(resampled_lengths(utterances, recipe.mix.sample_rate).max()) if len(utterances) else 0
        if longest and (warning := padding_warning(recipe, name, longest)):
            yield warning


def _about_files(recipe: Recipe, options: Options, plan: pd.DataFrame, manifest: pd.DataFrame, *, decode: bool) -> Iterator[str]:
    """What the samples of the files say that would be used.

    Raises:
        TasnetError: a line for every file that the run would stop at.
    """
    context, _ = data.prepare(recipe, options)
    build.check_audio(recipe, plan, manifest, context.inputs, num_workers=options.num_workers)
    rendering.check_inputs(plan, manifest, build.inputs_of(recipe, context.inputs), num_workers=options.num_workers)
    planned = set(needed_rows(plan, manifest, with_noise=recipe.mix.with_noise)["utterance_id"])
    is_drawn_from = (manifest["split"] == "train") & (recipe.mixes_dynamically and (recipe.mix.with_noise or ~is_noise(manifest)))
    used = manifest[manifest["utterance_id"].isin(planned) | is_drawn_from]
    sounds = checks.inspect(context, used, whole=decode)
    raise_findings(checks.fatal_sounds(sounds, measured=checks.measures_levels(context) or recipe.mixes_dynamically))
    if build.is_published(recipe) and decode:
        build.check_levels(recipe, manifest, context.inputs, num_workers=options.num_workers)
    hours = (used["num_samples"] / used["sample_rate"]).sum() / 3600
    how = f"all {hours:.2f} h decoded" if decode else "headers and beginnings read; --decode reads all"
    yield _line("files", f"{len(used):,} used, {how}: no damage found")
    if not build.writes_audio(recipe):
        sums = describe_residuals(finished.measured_residuals(context, plan, manifest, whole=decode))
        yield _line("sums", sums if decode else f"of those looked at, {sums}")
    if others := "" if build.is_published(recipe) else corpora.other_audio(recipe.corpus, context.inputs.speech, manifest):
        yield _line("warning", others)
    yield from (_line("warning", warning) for warning in checks.sound_warnings(sounds))


def _verdict(num_bytes: int, free: int) -> str:
    return "fits" if num_bytes < free else "DOES NOT FIT"


def _packed_bytes(recipe: Recipe, plan: pd.DataFrame, manifest: pd.DataFrame) -> int:
    """What training reads: the mixtures for validation, and those it learns from or the utterances it mixes on the fly."""
    mixing = {system.train.mixing for system in recipe.systems.values()}
    splits = {"valid"} | ({"train"} if "static" in mixing else set())
    mix = recipe.mix.model_copy(update={"also": [], "types": recipe.mix.types[:1]})
    packed = footprint(of_splits(plan, sorted(splits)), manifest, mix).num_bytes
    if "dynamic" not in mixing:
        return packed
    with_noise = recipe.mix.types[0] != "mix_clean"
    utterances = manifest[(manifest["split"] == "train") & (~is_noise(manifest) | with_noise)]
    seconds = float((utterances["num_samples"] / utterances["sample_rate"]).sum())
    return packed + round(seconds * recipe.mix.sample_rate * 4)


def _duration(minutes: float) -> str:
    if minutes < 1.5:
        return "a minute"
    if minutes < 90:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days"
