"""LibriMix: the published mixtures of LibriSpeech and WHAM!'s noise, or new ones of any corpus by the same rules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from pipeline.mixtures.plans import librimix_drawn, librimix_lists
from pipeline.mixtures.plans.adapter import Adapter, Listed, Roots
from pipeline.mixtures.plans.planned import NOISE, first_hours
from pipeline.mixtures.renderers.librimix import LibriMixRenderer
from pipeline.recipe.schema import LibriMixPlan, LibriSpeechCorpus, Recipe


class LibriMixDataset(Adapter[LibriMixPlan]):
    """Libri2Mix and its relatives; noise only where the recipe's types have it."""

    renderer = LibriMixRenderer
    level_rules = (librimix_lists.RULE,)
    noise_rule = staticmethod(librimix_drawn.as_another_source)

    def needs_audio(self, plan: LibriMixPlan) -> bool:
        """Always where lists are drawn: gains are measured on the files."""
        return plan.lists == "drawn"

    def draw_with_audio(
        self,
        plan: LibriMixPlan,
        recipe: Recipe,
        manifest: pd.DataFrame,
        roots: Roots,
        *,
        noises: pd.DataFrame | None,
        num_workers: int | None = None,
    ) -> pd.DataFrame:
        """See :func:`librimix_drawn.draw_lists`."""
        reading = librimix_drawn.Reading(roots.speech, roots.noise, recipe.corpus.channel, recipe.seed)
        drawn = librimix_drawn.draw_lists(manifest, plan, reading, noises=noises, num_workers=num_workers)
        return first_hours(drawn, manifest, plan.limit_hours)

    def is_published(self, plan: LibriMixPlan) -> bool:
        """Whether the published metadata are read."""
        return plan.lists == "published"

    def list_names(self, plan: LibriMixPlan, recipe: Recipe, folder: Path) -> Iterable[str]:
        """One list for every subset of every split."""
        subsets = [subset for split in plan.splits for subset in _librispeech(recipe).subsets.of(split)]
        return [librimix_lists.list_name(plan.num_sources, subset) for subset in subsets]

    def read_lists(self, plan: LibriMixPlan, recipe: Recipe, roots: Roots) -> tuple[pd.DataFrame, Listed]:
        """See :func:`librimix_lists.read_lists`; clean mixtures never touch the noise corpus, which need not be there."""
        assert roots.lists is not None
        table, speech, noises = librimix_lists.read_lists(roots.lists, plan, _librispeech(recipe).subsets.of)
        if not recipe.mix.with_noise:
            return table[table["source"] != NOISE].reset_index(drop=True), [(speech, roots.speech)]
        assert roots.noise is not None
        return table, [(speech, roots.speech), (noises, roots.noise)]

    def write_lists(self, plan: pd.DataFrame, manifest: pd.DataFrame, folder: Path) -> None:
        """See :func:`librimix_lists.write_lists`."""
        librimix_lists.write_lists(plan, manifest, folder)


def _librispeech(recipe: Recipe) -> LibriSpeechCorpus:
    assert isinstance(recipe.corpus, LibriSpeechCorpus), "the recipe allows published lists for no other corpus"
    return recipe.corpus
