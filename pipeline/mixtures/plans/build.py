"""The plan of a recipe: read from the published lists it names, or drawn, by the adapter of its kind."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.corpora.digests import digest_files
from pipeline.errors import PlanError
from pipeline.mixtures.dynamic import NoiseRule
from pipeline.mixtures.plans.adapter import Adapter, Roots, Tables
from pipeline.mixtures.plans.drawn import RandomDataset
from pipeline.mixtures.plans.finished import FinishedDataset
from pipeline.mixtures.plans.librimix import LibriMixDataset
from pipeline.mixtures.plans.planned import first_hours
from pipeline.mixtures.plans.published import find_list, listed_paths
from pipeline.mixtures.plans.wham import WhamDataset
from pipeline.mixtures.plans.wsj0mix import Wsj0MixDataset
from pipeline.mixtures.renderers.base import Inputs
from pipeline.recipe.schema import FinishedPlan, LibriMixPlan, Recipe, Wsj0MixPlan

ADAPTERS: dict[str, Adapter[Any]] = {
    "finished": FinishedDataset(),
    "librimix": LibriMixDataset(),
    "random": RandomDataset(),
    "wham": WhamDataset(),
    "wsj0mix": Wsj0MixDataset(),
}
"""Every kind of dataset, by the recipe's ``plan.kind``."""

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
    """Whether the plan is read from lists, or from the folders of finished mixtures, which need no scan of the whole corpus."""
    return _adapter(recipe).is_published(recipe.plan)


def writes_audio(recipe: Recipe) -> bool:
    """Whether mixtures are rendered, rather than used where they are."""
    return _adapter(recipe).writes_audio


def lists_of(recipe: Recipe) -> str | None:
    """The name of the published lists among the inputs, such as ``wsj0mix``; None for drawn plans and finished mixtures."""
    return recipe.plan.kind if is_published(recipe) and writes_audio(recipe) else None


def read_published(recipe: Recipe, roots: Roots, *, num_workers: int | None = None) -> Tables:
    """Read the published plan, and make the manifest of the files it names.

    Raises:
        PlanError: a list is missing or malformed.
        AudioError: the listed files that are missing, by folder, and one line for every unreadable one.
    """
    assert isinstance(recipe.plan, Wsj0MixPlan | LibriMixPlan | FinishedPlan), "no other kind has lists"
    plan, manifest = _adapter(recipe).read_tables(recipe.plan, recipe, roots, num_workers=num_workers)
    return first_hours(plan, manifest, recipe.plan.limit_hours), manifest


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


def check_audio(
    recipe: Recipe, plan: pd.DataFrame, manifest: pd.DataFrame, roots: Roots, *, num_workers: int | None = None
) -> None:
    """Check what the kind of dataset needs of the headers of a plan's files: see :meth:`Adapter.check_audio`.

    Raises:
        CorpusError: a line for each kind of fault, with how many files have it.
    """
    _adapter(recipe).check_audio(recipe, plan, manifest, roots, num_workers=num_workers)


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
    for name in sorted(_adapter(recipe).list_names(recipe.plan, recipe, folder)):
        try:
            digests[name] = hashlib.sha256(find_list(folder, name).read_bytes()).hexdigest()
        except PlanError as error:
            findings.append(str(error))
        except OSError as error:
            findings.append(f"{error.filename}: cannot be read ({error.strerror or error})")
    if findings:
        raise PlanError("\n".join(findings))
    return digests


def _adapter(recipe: Recipe) -> Adapter[Any]:
    return ADAPTERS[recipe.plan.kind]
