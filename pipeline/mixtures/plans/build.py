"""The plan of a recipe: read from the published lists it names, or drawn, by the adapter of its kind."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.corpora.digests import digest_files
from pipeline.corpora.manifests import is_noise
from pipeline.corpora.skipping import without_named, without_silent
from pipeline.errors import PlanError
from pipeline.mixtures.dynamic import NoiseRule
from pipeline.mixtures.plans.adapter import Adapter, Roots, Tables
from pipeline.mixtures.plans.drawn import RandomDataset
from pipeline.mixtures.plans.librimix import LibriMixDataset
from pipeline.mixtures.plans.planned import first_hours
from pipeline.mixtures.plans.published import find_list, listed_manifests, listed_paths
from pipeline.mixtures.plans.wham import WhamDataset
from pipeline.mixtures.plans.wsj0mix import Wsj0MixDataset
from pipeline.mixtures.renderers.base import Inputs
from pipeline.recipe.schema import LibriMixPlan, Recipe, Wsj0MixPlan

ADAPTERS: dict[str, Adapter[Any]] = {
    "librimix": LibriMixDataset(),
    "random": RandomDataset(),
    "wham": WhamDataset(),
    "wsj0mix": Wsj0MixDataset(),
}
"""Every kind of dataset, by the recipe's ``plan.kind``."""

logger = logging.getLogger("pipeline")

VERSION = 1
"""Raise it when the same recipe would draw or read another plan."""


def inputs_of(recipe: Recipe, roots: Roots) -> Inputs:
    """What rendering and packing read, and what they make of it."""
    return Inputs(recipe.plan.kind, roots.speech, roots.noise, recipe.corpus.channel, recipe.mix)


def noise_rule_of(recipe: Recipe) -> NoiseRule | None:
    """How noise is added to speech that is mixed on the fly; None for kinds without noise."""
    return _adapter(recipe).noise_rule


# --------------------------------------------------------------------------------------------------------------- drawing
def needs_audio(recipe: Recipe) -> bool:
    """Whether drawing needs more than the manifest of the speech: gains measured on the files (LibriMix), or noise (WHAM!)."""
    return _adapter(recipe).needs_audio(recipe.plan)


def draw(recipe: Recipe, manifest: pd.DataFrame) -> pd.DataFrame:
    """Draw a plan from any manifest, by the recipe's rules.

    Raises:
        PlanError: a split has fewer speakers than a mixture needs.
    """
    return _adapter(recipe).draw(recipe.plan, recipe, manifest)


def draw_with_audio(
    recipe: Recipe, manifest: pd.DataFrame, roots: Roots, *, noises: pd.DataFrame | None, num_workers: int | None = None
) -> Tables:
    """Draw a plan for which :func:`needs_audio` holds, and add its noise to the manifest.

    Args:
        recipe: of a kind that needs noise, or gains measured on the files.
        manifest: of the speech.
        roots: where speech and noise are.
        noises: manifest of the noise corpus; None for clean mixtures.
        num_workers: processes.

    Raises:
        PlanError: a split has too little speech or noise.
        AudioError: a file is damaged or silent.
    """
    adapter = _adapter(recipe)
    if adapter.needs_noise and noises is None:
        raise PlanError(
            f"plan.kind = {recipe.plan.kind!r} needs noise: put a noisy type into mix.types and name --corpus wham_noise=DIR"
        )
    if noises is not None:
        noises = _apart_from(manifest, noises)
    plan = adapter.draw_with_audio(recipe.plan, recipe, manifest, roots, noises=noises, num_workers=num_workers)
    return plan, manifest if noises is None else pd.concat([manifest, noises], ignore_index=True)


def _apart_from(speech: pd.DataFrame, noises: pd.DataFrame) -> pd.DataFrame:
    """The manifest of noise; those clips that are called like an utterance get another id, as both share one manifest."""
    utterances, taken = set(speech["utterance_id"]), {*speech["utterance_id"], *noises["utterance_id"]}

    def apart(name: str) -> str:
        if name in utterances:
            while name in taken:
                name = f"noise-{name}"
            taken.add(name)
        return name

    return noises.assign(utterance_id=noises["utterance_id"].map(apart))


# ----------------------------------------------------------------------------------------------------------------- lists
def is_published(recipe: Recipe) -> bool:
    """Whether the plan is read from published lists, which need no scan of the whole corpus."""
    return _adapter(recipe).is_published(recipe.plan)


def lists_of(recipe: Recipe) -> str | None:
    """The name of the published lists among the inputs, such as ``wsj0mix``; None for drawn plans."""
    return recipe.plan.kind if is_published(recipe) else None


def read_published(recipe: Recipe, roots: Roots, *, num_workers: int | None = None) -> Tables:
    """Read the published plan, and make the manifest of the files it names.

    Raises:
        PlanError: a list is missing or malformed.
        AudioError: the listed files that are missing, by folder, and one line for every unreadable one.
    """
    assert isinstance(recipe.plan, Wsj0MixPlan | LibriMixPlan), "no other kind has published lists"
    plan, ((speech, root), *noise) = _adapter(recipe).read_lists(recipe.plan, recipe, roots)
    named = list(speech[["utterance_id", "path"]].itertuples(index=False, name=None))
    kept = {name for name, _ in without_named(recipe.corpus, named, lambda pair: pair, root)}
    manifest = listed_manifests([(speech[speech["utterance_id"].isin(kept)], root), *noise], num_workers=num_workers)
    is_speech = ~is_noise(manifest)
    heard = without_silent(recipe.corpus, manifest[is_speech], root, num_workers=num_workers)
    manifest = pd.concat([heard, manifest[~is_speech]], ignore_index=True)
    plan = _without_utterances(plan, set(speech["utterance_id"]) - set(heard["utterance_id"]))
    return first_hours(plan, manifest, recipe.plan.limit_hours), manifest


def _without_utterances(plan: pd.DataFrame, skipped: set[str]) -> pd.DataFrame:
    """A plan without the mixtures that any of these utterances is in."""
    keys = pd.MultiIndex.from_frame(plan[["split", "mixture_id"]])
    lost = keys.isin(keys[plan["utterance_id"].isin(skipped)])
    if lost.any():
        logger.warning(
            "%d of %d mixtures are left out, as corpus.skip leaves out their speech", keys[lost].nunique(), keys.nunique()
        )
    return plan[~lost].reset_index(drop=True)


def listed_digests(recipe: Recipe, roots: Roots, *, num_workers: int | None = None, fresh: bool = False) -> dict[str, str]:
    """A digest over the contents of the files that the published lists name, for ``speech`` and, where it is used, ``noise``.

    Files that are missing count as missing. See :mod:`pipeline.corpora.digests` for what is read and what is remembered.

    Raises:
        PlanError: a list is missing or malformed.
    """
    _, listed = _adapter(recipe).read_lists(recipe.plan, recipe, roots)
    return {
        name: digest_files(root, listed_paths(utterances, root), num_workers=num_workers, fresh=fresh)
        for name, (utterances, root) in zip(("speech", "noise"), listed, strict=False)
    }


def check_levels(recipe: Recipe, manifest: pd.DataFrame, roots: Roots, *, num_workers: int | None = None) -> None:
    """Compare the speech of published lists with its published levels, where these are beside the lists.

    Raises:
        AudioError: one line for every file that differs: another microphone, or a damaged file.
    """
    _adapter(recipe).check_levels(recipe, manifest, roots, num_workers=num_workers)


def write_lists(recipe: Recipe, plan: pd.DataFrame, manifest: pd.DataFrame, folder: Path) -> None:
    """Write a drawn plan in the format of the lists it follows, for other tools; those formats know full overlap only."""
    if not recipe.plan.is_partial:
        _adapter(recipe).write_lists(plan, manifest, folder)


def lists_digest(recipe: Recipe, folder: Path) -> dict[str, str]:
    """SHA-256 of every published list the recipe reads, by file name.

    Raises:
        PlanError: one line for each that is missing.
    """
    digests, findings = {}, []
    for name in sorted(_adapter(recipe).list_names(recipe.plan, recipe)):
        try:
            digests[name] = hashlib.sha256(find_list(folder, name).read_bytes()).hexdigest()
        except PlanError as error:
            findings.append(str(error))
    if findings:
        raise PlanError("\n".join(findings))
    return digests


def _adapter(recipe: Recipe) -> Adapter[Any]:
    return ADAPTERS[recipe.plan.kind]
