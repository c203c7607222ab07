"""What every kind of dataset offers: see ``build.ADAPTERS`` for the kinds there are.

A new kind is a table in ``recipe.schema``, a subclass of :class:`Adapter` in a file of its own here, its entry in
``build.ADAPTERS``, and, where its audio is made differently, a file in ``renderers``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import pandas as pd

from pipeline.corpora.manifests import is_noise
from pipeline.corpora.skipping import without_named, without_silent
from pipeline.mixtures.dynamic import NoiseRule
from pipeline.mixtures.plans.published import listed_manifests, without_utterances
from pipeline.mixtures.renderers.base import Renderer
from pipeline.recipe.schema import FinishedPlan, LibriMixPlan, RandomPlan, Recipe, WhamPlan, Wsj0MixPlan

Settings = TypeVar("Settings", RandomPlan, Wsj0MixPlan, LibriMixPlan, WhamPlan, FinishedPlan)
"""The recipe's ``[plan]`` table of a kind."""
Tables = tuple[pd.DataFrame, pd.DataFrame]
"""A plan (``tables.PLAN``) and the manifest of all the files it names."""
Listed = Sequence[tuple[pd.DataFrame, Path]]
"""Files that lists name (``utterance_id, speaker_id, sex, split, path``), and the corpus they lie in."""


@dataclass(frozen=True)
class Roots:
    """Where the inputs of a plan are; the last two only where the recipe asks for them."""

    speech: Path
    noise: Path | None = None
    lists: Path | None = None


class Adapter(Generic[Settings]):
    """One kind of dataset: where its plans come from, what their levels mean, and what makes them audio.

    A kind overrides what it has: :meth:`draw` or :meth:`draw_with_audio`, and the methods about lists where it has any.
    """

    renderer: type[Renderer]
    """Makes the audio of its plans."""
    level_rules: tuple[str, ...]
    """What the column ``level_rule`` of its plans may say: see ``tables.PLAN``."""
    needs_noise = False
    """Whether none of its mixtures can be drawn without a noise corpus."""
    writes_audio = True
    """Whether its mixtures are rendered, rather than used where they are."""
    noise_rule: NoiseRule | None = None
    """How noise is added to speech that is mixed on the fly; None for kinds without noise."""

    # ------------------------------------------------------------------------------------------------------------ drawing
    def needs_audio(self, plan: Settings) -> bool:
        """Whether drawing needs more than the manifest of the speech: :meth:`draw_with_audio` instead of :meth:`draw`."""
        return False

    def draw(self, plan: Settings, recipe: Recipe, manifest: pd.DataFrame) -> pd.DataFrame:
        """Draw a plan (``tables.PLAN``) from the manifest alone.

        Raises:
            PlanError: a split has fewer speakers than a mixture needs.
        """
        raise NotImplementedError

    def draw_with_audio(
        self,
        plan: Settings,
        recipe: Recipe,
        manifest: pd.DataFrame,
        roots: Roots,
        *,
        noises: pd.DataFrame | None,
        num_workers: int | None = None,
    ) -> pd.DataFrame:
        """Draw a plan (``tables.PLAN``) from the files themselves, or with noise.

        Args:
            plan: the recipe's table.
            recipe: the whole of it.
            manifest: of the speech.
            roots: where speech and noise are.
            noises: manifest of the noise corpus; None for clean mixtures.
            num_workers: processes.

        Raises:
            PlanError: a split has too little speech or noise.
            AudioError: a file is damaged or silent.
        """
        raise NotImplementedError

    # -------------------------------------------------------------------------------------------------------------- lists
    def is_published(self, plan: Settings) -> bool:
        """Whether the plan is read from the dataset's own lists or folders: :meth:`read_lists` instead of drawing."""
        return False

    def list_names(self, plan: Settings, recipe: Recipe, folder: Path) -> Iterable[str]:
        """The file names of the published lists that the recipe reads."""
        return ()

    def read_lists(self, plan: Settings, recipe: Recipe, roots: Roots) -> tuple[pd.DataFrame, Listed]:
        """Read the published lists, and no audio: the plan (``tables.PLAN``) and its files, speech before noise.

        Raises:
            PlanError: a list is missing or malformed.
        """
        raise NotImplementedError

    def read_tables(self, plan: Settings, recipe: Recipe, roots: Roots, *, num_workers: int | None = None) -> Tables:
        """Read the lists and the headers of the files they name, without those that ``corpus.skip`` leaves out.

        Raises:
            PlanError: a list is missing or malformed.
            AudioError: the listed files that are missing, by folder, and one line for every unreadable one.
        """
        table, ((speech, root), *noise) = self.read_lists(plan, recipe, roots)
        named = list(speech[["utterance_id", "path"]].itertuples(index=False, name=None))
        kept = {name for name, _ in without_named(recipe.corpus, named, lambda pair: pair, root)}
        manifest = listed_manifests([(speech[speech["utterance_id"].isin(kept)], root), *noise], num_workers=num_workers)
        is_speech = ~is_noise(manifest)
        heard = without_silent(recipe.corpus, manifest[is_speech], root, num_workers=num_workers)
        manifest = pd.concat([heard, manifest[~is_speech]], ignore_index=True)
        return without_utterances(table, set(speech["utterance_id"]) - set(heard["utterance_id"])), manifest

    def check_audio(
        self, recipe: Recipe, plan: pd.DataFrame, manifest: pd.DataFrame, roots: Roots, *, num_workers: int | None = None
    ) -> None:
        """Check what the kind needs of the headers of a plan's files beyond what all kinds need; by default nothing.

        Raises:
            CorpusError: a line for each kind of fault, with how many files have it.
        """

    def check_levels(self, recipe: Recipe, manifest: pd.DataFrame, roots: Roots, *, num_workers: int | None = None) -> None:
        """Compare the speech of published lists with its published levels, where there are any.

        Raises:
            AudioError: one line for every file that differs.
        """

    def write_lists(self, plan: pd.DataFrame, manifest: pd.DataFrame, folder: Path) -> None:
        """Write a drawn plan in the format of the published lists, for other tools, where there is such a format."""
