"""The plan of a recipe: read from the published lists it names, or drawn anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.errors import AudioError, PlanError
from pipeline.mixtures.plans import drawn, librimix, librimix_drawn, wham, wsj0mix
from pipeline.mixtures.plans.planned import NOISE, first_hours
from pipeline.mixtures.plans.published import find_list, listed_manifest
from pipeline.recipe.schema import LibriMixPlan, LibriSpeechCorpus, RandomPlan, Recipe, WhamPlan, Wsj0MixPlan


@dataclass(frozen=True)
class Roots:
    """Where the inputs of a plan lie; the last two only where the recipe asks for them."""

    speech: Path
    noise: Path | None = None
    lists: Path | None = None


def is_published(recipe: Recipe) -> bool:
    """Whether the plan is read from published lists, which need no scan of the whole corpus."""
    return not isinstance(recipe.plan, RandomPlan) and recipe.plan.lists == "published"


def lists_of(recipe: Recipe) -> str | None:
    """The name under which the published lists are looked for: ``wsj0mix`` or ``librimix``; None for drawn plans."""
    return recipe.plan.kind if is_published(recipe) else None


def draw(recipe: Recipe, manifest: pd.DataFrame) -> pd.DataFrame:
    """A plan drawn anew from any manifest, by the recipe's rules."""
    if isinstance(recipe.plan, Wsj0MixPlan):
        return _limited(recipe, wsj0mix.draw_lists(manifest, recipe.plan, seed=recipe.seed), manifest)
    return drawn.draw_plan(manifest, recipe.plan.drawing, seed=recipe.seed)


def draws_on_audio(recipe: Recipe) -> bool:
    """Whether drawing needs more than the manifest: gains measured on the files (LibriMix), or noise (WHAM!)."""
    return isinstance(recipe.plan, WhamPlan) or (isinstance(recipe.plan, LibriMixPlan) and recipe.plan.lists == "drawn")


def draw_on_audio(
    recipe: Recipe, manifest: pd.DataFrame, roots: Roots, *, noises: pd.DataFrame | None, num_workers: int | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Plans for which :func:`draws_on_audio` holds, and the manifest with their noise added.

    Args:
        recipe: of a plan of kind ``wham``, or of LibriMix lists drawn anew.
        manifest: of the speech.
        roots: where speech and noise lie.
        noises: manifest of the noise corpus; None for clean mixtures.
        num_workers: processes.

    Raises:
        PlanError: a split has too little speech or noise.
        AudioError: a file is damaged or silent.
    """
    if isinstance(recipe.plan, WhamPlan):
        if noises is None:
            raise PlanError("plan.kind = 'wham' needs noise: put a noisy type into mix.types and name --corpus wham_noise=DIR")
        plan = wham.draw_lists(manifest, recipe.plan, seed=recipe.seed, noises=noises)
    else:
        assert isinstance(recipe.plan, LibriMixPlan)
        reading = librimix_drawn.Reading(roots.speech, roots.noise, recipe.corpus.channel, recipe.seed)
        plan = librimix_drawn.draw_lists(manifest, recipe.plan, reading, noises=noises, num_workers=num_workers)
        plan = _limited(recipe, plan, manifest)
    return plan, manifest if noises is None else pd.concat([manifest, noises], ignore_index=True)


def read_published(recipe: Recipe, roots: Roots, *, num_workers: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The published plan and the manifest of the files it names.

    Raises:
        PlanError: a list is missing or malformed.
        AudioError: one line for every listed file that is missing or unreadable.
    """
    assert roots.lists is not None
    if isinstance(recipe.plan, Wsj0MixPlan):
        plan, speech = wsj0mix.read_lists(roots.lists, recipe.plan)
        manifest = listed_manifest(speech, roots.speech, num_workers=num_workers)
    else:
        plan, manifest = _read_librimix(recipe, roots, num_workers)
    return _limited(recipe, plan, manifest), manifest


def _limited(recipe: Recipe, plan: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """The plan cut to the hours the recipe asks for."""
    if not isinstance(recipe.plan, Wsj0MixPlan | LibriMixPlan) or recipe.plan.limit_hours is None:
        return plan
    return first_hours(plan, manifest, recipe.plan.limit_hours)


def check_levels(recipe: Recipe, manifest: pd.DataFrame, roots: Roots, *, num_workers: int | None = None) -> None:
    """Compare the speech of WSJ0-mix with the levels MERL measured, where their tables lie beside the lists.

    Raises:
        AudioError: one line for every file that differs: another microphone, or a damaged file.
    """
    if not isinstance(recipe.plan, Wsj0MixPlan) or roots.lists is None:
        return
    published = wsj0mix.read_levels(roots.lists)
    if published:
        wsj0mix.check_levels(manifest, roots.speech, published, channel=recipe.corpus.channel, num_workers=num_workers)


def write_lists(recipe: Recipe, plan: pd.DataFrame, manifest: pd.DataFrame, folder: Path) -> None:
    """Write a drawn plan in the format of the lists it follows, for other tools; those formats know full overlap only."""
    if recipe.plan.is_partial:
        return
    if isinstance(recipe.plan, Wsj0MixPlan):
        wsj0mix.write_lists(plan, manifest, folder)
    elif isinstance(recipe.plan, LibriMixPlan):
        librimix_drawn.write_lists(plan, manifest, folder)


def _read_librimix(recipe: Recipe, roots: Roots, num_workers: int | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    assert isinstance(recipe.plan, LibriMixPlan)
    assert isinstance(recipe.corpus, LibriSpeechCorpus)
    assert roots.lists is not None
    plan, speech, noises = librimix.read_lists(roots.lists, recipe.plan, recipe.corpus.subsets.of)
    wanted = [(speech, roots.speech)]
    if recipe.mix.with_noise:
        assert roots.noise is not None
        wanted.append((noises, roots.noise))
    else:
        # Clean mixtures never touch the noise corpus: it need not be there.
        plan = plan[plan["source"] != NOISE].reset_index(drop=True)
    return plan, _all_manifests(wanted, num_workers)


def _all_manifests(wanted: Sequence[tuple[pd.DataFrame, Path]], num_workers: int | None) -> pd.DataFrame:
    """The files listed of several corpora.

    Raises:
        AudioError: one line for everything that is missing, of all of them.
    """
    manifests, findings = [], []
    for listed, root in wanted:
        try:
            manifests.append(listed_manifest(listed, root, num_workers=num_workers))
        except AudioError as error:
            findings.append(str(error))
    if findings:
        raise AudioError("\n".join(findings))
    return pd.concat(manifests, ignore_index=True)


def lists_digest(recipe: Recipe, folder: Path) -> dict[str, str]:
    """SHA-256 of every published list the recipe reads, by file name.

    Raises:
        PlanError: one line for each that is missing.
    """
    digests, findings = {}, []
    for name in sorted(_list_names(recipe)):
        try:
            digests[name] = hashlib.sha256(find_list(folder, name).read_bytes()).hexdigest()
        except PlanError as error:
            findings.append(str(error))
    if findings:
        raise PlanError("\n".join(findings))
    return digests


def _list_names(recipe: Recipe) -> Iterator[str]:
    if isinstance(recipe.plan, Wsj0MixPlan):
        yield from (wsj0mix.list_name(recipe.plan.num_sources, split) for split in recipe.plan.splits)
    elif isinstance(recipe.plan, LibriMixPlan) and isinstance(recipe.corpus, LibriSpeechCorpus):
        for split in recipe.plan.splits:
            yield from (librimix.list_name(recipe.plan.num_sources, subset) for subset in recipe.corpus.subsets.of(split))
