"""Finished mixtures are neither drawn nor rendered: they are found in folders or lists, checked, and used where they are."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.corpora.listing import read_headers
from pipeline.corpora.manifests import MAX_EXAMPLES, UNKNOWN_SPEAKER, describe_missing, raise_findings, some_of
from pipeline.corpora.skipping import without_named, without_silent
from pipeline.errors import AudioError
from pipeline.mixtures.plans.adapter import Adapter, Listed, Roots, Tables
from pipeline.mixtures.plans.finished_folders import FinishedMixture, FoundMixtures, find_in_folders
from pipeline.mixtures.plans.finished_lists import find_in_lists, list_names
from pipeline.mixtures.plans.planned import MIXTURE
from pipeline.mixtures.plans.published import listed_manifest, unique_rows, with_ids, without_utterances
from pipeline.mixtures.renderers.finished import FinishedRenderer
from pipeline.recipe.schema import FinishedPlan, Mix, MixturesCorpus, Recipe
from pipeline.tables import PLAN

RULE = "finished"

logger = logging.getLogger("pipeline")


class FinishedDataset(Adapter[FinishedPlan]):
    """Mixtures that somebody has made, with their sources."""

    renderer = FinishedRenderer
    level_rules = (RULE,)
    writes_audio = False

    def is_published(self, plan: FinishedPlan) -> bool:
        """Always: there is nothing to draw."""
        return True

    def list_names(self, plan: FinishedPlan, recipe: Recipe, folder: Path) -> Iterable[str]:
        """The corpus's own lists, if it has any."""
        return list_names(_corpus(recipe), plan, folder)

    def read_lists(self, plan: FinishedPlan, recipe: Recipe, roots: Roots) -> tuple[pd.DataFrame, Listed]:
        """Find the mixtures, complete or not."""
        table, files = _tables(_find(plan, recipe, roots.speech).mixtures)
        return table, [(files, roots.speech)]

    def read_tables(self, plan: FinishedPlan, recipe: Recipe, roots: Roots, *, num_workers: int | None = None) -> Tables:
        """Find the mixtures, leave out those that ``corpus.skip`` names, and read the headers of their files."""
        corpus, root = _corpus(recipe), roots.speech
        found = _find(plan, recipe, root)
        for warning in found.warnings:
            logger.warning("%s", warning)
        mixtures = without_named(corpus, found.mixtures, lambda mixture: (mixture.mixture_id, mixture.path), root)
        raise_findings(_incomplete(mixtures, corpus, root))
        table, files = _tables(mixtures)
        manifest = listed_manifest(files, root, num_workers=num_workers)
        if "speed" in manifest:  # LibriMix's names for sped-up noise mean nothing here
            missing = sorted(set(files["path"]) - set(manifest["path"]))
            raise AudioError(describe_missing(root, missing, len(files)))
        heard = without_silent(corpus, manifest, root, num_workers=num_workers)
        return without_utterances(table, set(manifest["utterance_id"]) - set(heard["utterance_id"])), heard

    def check_audio(
        self, recipe: Recipe, plan: pd.DataFrame, manifest: pd.DataFrame, roots: Roots, *, num_workers: int | None = None
    ) -> None:
        """Check that nothing has to be converted: rates, channels, sample formats, and lengths within each mixture."""
        used = manifest[manifest["utterance_id"].isin(plan["utterance_id"])]
        paths = list(used["path"])
        headers = read_headers(roots.speech, paths, channel=0, num_workers=num_workers)
        facts = pd.DataFrame([vars(header) for header in headers]).assign(path=paths)
        raise_findings(f"{roots.speech}: {finding}" for finding in [*_unfit(facts, recipe.mix), *_unequal(plan, manifest)])


def _corpus(recipe: Recipe) -> MixturesCorpus:
    assert isinstance(recipe.corpus, MixturesCorpus), "the schema pairs it with this plan"
    return recipe.corpus


def _find(plan: FinishedPlan, recipe: Recipe, root: Path) -> FoundMixtures:
    corpus = _corpus(recipe)
    return find_in_lists(corpus, plan, root) if corpus.lists else find_in_folders(corpus, plan, root)


def _tables(mixtures: Iterable[FinishedMixture]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The plan (``tables.PLAN``), a row for every file, and the files (``utterance_id, speaker_id, sex, split, path``)."""
    rows: list[dict[str, Any]] = []
    for mixture in mixtures:
        parts = {MIXTURE: mixture.path} | {f"s{number}": path for number, path in enumerate(mixture.sources, start=1)}
        common = {"mixture_id": mixture.mixture_id, "split": mixture.split}
        rows += [common | {"source": name, "utterance_id": path} for name, path in parts.items() if path is not None]
    plan = pd.DataFrame(rows, columns=["mixture_id", "split", "source", "utterance_id"])
    plan = plan.assign(level_rule=RULE, level=1.0, start_seconds=0.0)[PLAN.required()]
    files = plan.assign(path=plan["utterance_id"], speaker_id=UNKNOWN_SPEAKER, sex="").to_dict("records")
    named, unique = with_ids(plan, unique_rows(files))  # type: ignore[arg-type]
    return named, unique


def _incomplete(mixtures: Iterable[FinishedMixture], corpus: MixturesCorpus, root: Path) -> Iterator[str]:
    """A line for every source that mixtures lack."""
    mixtures = list(mixtures)
    for number, place in enumerate(corpus.sources):
        if lacking := [f"{mixture.split}: {mixture.mixture_id}" for mixture in mixtures if mixture.sources[number] is None]:
            yield (
                f"{root}: {len(lacking):,} of {len(mixtures):,} mixtures have no {place} ({some_of(lacking, MAX_EXAMPLES)}); "
                "add the files, or leave the mixtures out by listing them in corpus.skip"
            )


def _unfit(facts: pd.DataFrame, mix: Mix) -> Iterator[str]:
    """Lines about files that would have to be converted."""
    as_they_are = "finished mixtures are used as they are"
    for rate, files in facts[facts["sample_rate"] != mix.sample_rate].groupby("sample_rate"):
        count, mend = f"{len(files):,} of {len(facts):,} files", f"resample the files ({as_they_are})"
        if len(files) == len(facts):
            mend = f"set mix.sample_rate = {rate}"
        yield f"{count} are sampled at {rate} Hz ({some_of(files['path'])}), and mix.sample_rate = {mix.sample_rate}; {mend}"
    if several := list(facts["path"][facts["num_channels"] > 1]):
        yield f"{len(several):,} files have several channels ({some_of(several)}); convert them to one ({as_they_are})"
    finer = facts[facts["subtype"] != "PCM_16"]
    if len(finer) and mix.encoding != "float32":
        kinds = ", ".join(sorted(set(finer["subtype"])))
        yield (
            f"{len(finer):,} of {len(facts):,} files hold other samples than 16-bit integers ({kinds}: "
            f"{some_of(list(finer['path']))}); set mix.encoding = 'float32', so that training reads them without a loss"
        )


def _unequal(plan: pd.DataFrame, manifest: pd.DataFrame) -> Iterator[str]:
    """A line about mixtures whose files differ in length."""
    lengths = plan.join(manifest.set_index("utterance_id")["num_samples"], on="utterance_id")
    by_mixture = lengths.groupby(["split", "mixture_id"], sort=False)["num_samples"].agg(list)
    unequal = by_mixture[by_mixture.map(lambda each: len(set(each)) > 1)]
    if len(unequal):
        names = [": ".join(key) for key in unequal.index]
        examples = [f"{name}: {', '.join(map(str, each))} samples" for name, each in zip(names, unequal, strict=True)]
        yield (
            f"{len(unequal):,} of {len(by_mixture):,} mixtures differ in length from their sources ({some_of(examples)}); "
            "cut or pad the files, or leave the mixtures out by listing them in corpus.skip"
        )
