"""Before a run: whether recipe, corpus and disk hold, and about how long it will take. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from pipeline.compute import workers
from pipeline.compute.options import Options
from pipeline.corpora.manifests import is_noise
from pipeline.mixtures.footprint import footprint, free_bytes
from pipeline.mixtures.plans.lint import lint
from pipeline.mixtures.plans.planned import NOISE, of_splits
from pipeline.recipe.schema import SPLITS, Recipe, SyntheticCorpus
from pipeline.stages import data, graph, runner

# For the estimates of time only: files that one core renders in a second (8 kHz, of 5-s utterances in 16 kHz FLAC), the share of
# the measured matrix-product rate that training reaches as a whole, and what a pass forward and backward costs in passes forward.
FILES_PER_CORE_SECOND = 400
TRAINING_EFFICIENCY = 0.3
PASSES = 3


def findings(recipe: Recipe, options: Options) -> Iterator[str]:
    """Lines that say what the recipe needs and costs.

    Raises:
        TasnetError: for whatever would stop the run at its beginning: every missing input, every unreadable file.
    """
    yield f"recipe    {recipe.name}: systems {', '.join(recipe.systems)}; seed {recipe.seed}"
    yield from (f"LACKING   {line}" for line in recipe.missing_for_training)
    yield from _about_training(recipe, options)
    every = graph.build_stages(recipe, options)
    scan = next((stage for stage in every if stage.name == "scan"), None)
    if isinstance(recipe.corpus, SyntheticCorpus) and scan and not runner.is_done(scan, options.work):
        yield "corpus    synthetic speech, to be made"
    else:
        plan, manifest = data.plan_in_memory(recipe, options)
        yield from _about_corpus(manifest)
        yield from _about_mixtures(recipe, options, plan, manifest)
        yield from (f"doubtful  {finding}" for finding in lint(plan, manifest))
    waiting = [found.stage.id for found in runner.status(every, options.work) if found.state != "done"]
    yield f"to run    {', '.join(waiting) or 'nothing: all is done'}"


def _about_corpus(manifest: pd.DataFrame) -> Iterator[str]:
    hours = manifest["num_samples"] / manifest["sample_rate"] / 3600
    noise = is_noise(manifest)
    for split in SPLITS:
        here = (manifest["split"] == split) & ~noise
        if here.any():
            speakers = manifest.loc[here, "speaker_id"].nunique()
            yield f"corpus    {split}: {here.sum()} utterances, {speakers} speakers, {hours[here].sum():.2f} h"
    if noise.any():
        yield f"noise     {noise.sum()} clips, {hours[noise].sum():.2f} h"


def _about_mixtures(recipe: Recipe, options: Options, plan: pd.DataFrame, manifest: pd.DataFrame) -> Iterator[str]:
    planned = footprint(of_splits(plan, recipe.mix.splits), manifest, recipe.mix)
    minutes = planned.num_files / FILES_PER_CORE_SECOND / (options.num_workers or workers.cpu_count()) / 60
    yield f"mixtures  {planned.num_mixtures} mixtures, {planned.seconds / 3600:.2f} h, about {_duration(minutes)} to render"
    free, packed = free_bytes(options.work), _packed_bytes(recipe, plan, manifest)
    verdict = "fits" if planned.disk_bytes < free else "DOES NOT FIT"
    size = f"{planned.num_bytes:,} bytes ({planned.num_bytes / 1e9:.2f} GB)"
    yield f"disk      {planned.num_files} files, {size}; {free / 1e9:.0f} GB free: {verdict}"
    if packed:
        verdict = "fits" if planned.disk_bytes + packed < free else "DOES NOT FIT"
        yield f"disk      packed for training another {packed / 1e9:.2f} GB: {verdict}"


def _packed_bytes(recipe: Recipe, plan: pd.DataFrame, manifest: pd.DataFrame) -> int:
    """What training reads: the mixtures for validation, those it learns from, or the utterances it mixes anew."""
    mixing = {system.train.mixing for system in recipe.systems.values()}
    splits = {"valid"} | ({"train"} if "static" in mixing else set())
    mix = recipe.mix.model_copy(update={"also": [], "types": recipe.mix.types[:1]})
    packed = footprint(plan[plan["split"].isin(splits) & (plan["source"] != NOISE)], manifest, mix).num_bytes
    with_noise = recipe.mix.types[0] != "mix_clean"
    voices = manifest[(manifest["split"] == "train") & (~is_noise(manifest) | with_noise)]
    seconds = float((voices["num_samples"] / voices["sample_rate"]).sum())
    return packed + (round(seconds * recipe.mix.sample_rate * 4) if "dynamic" in mixing else 0)


def _about_training(recipe: Recipe, options: Options) -> Iterator[str]:
    from pipeline import models
    from pipeline.compute import devices
    from pipeline.training import benchmark

    device = devices.choose_device(options.device)
    devices.prepare(device)
    for name, system in recipe.systems.items():
        network = models.build_model(system.model, num_sources=recipe.num_outputs, sample_rate=recipe.mix.sample_rate)
        facts = models.describe_model(network)
        segments = system.train.epochs * (system.train.segments_per_epoch or recipe.plan.num_mixtures.get("train", 0))
        work = segments * system.train.segment_seconds * facts["macs_per_second"] * 2 * PASSES
        precision = devices.choose_precision(system.train.precision, device)
        rate = 1e9 * benchmark.gemm_gflops_per_second(device, precision)
        minutes = work / rate / TRAINING_EFFICIENCY / 60
        parameters = f"{facts['num_parameters']:,} parameters"
        yield f"training  {name}: {parameters}, {segments:,} segments, about {_duration(minutes)} on {device}"


def _duration(minutes: float) -> str:
    if minutes < 1:
        return "a minute"
    if minutes < 90:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days"
