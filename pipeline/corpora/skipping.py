"""Files that the recipe leaves out (``corpus.skip``): by name, or because they are silent. Each is counted and named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd

from pipeline.corpora.inspection import inspect_files
from pipeline.corpora.manifests import MAX_EXAMPLES, some_of
from pipeline.errors import CorpusError
from pipeline.recipe.schema import Corpus

Item = TypeVar("Item")

logger = logging.getLogger("pipeline")


def without_named(corpus: Corpus, items: Sequence[Item], names_of: Callable[[Item], tuple[str, str]], root: Path) -> list[Item]:
    """What is left without the utterances that ``corpus.skip`` lists; their files are never opened.

    Args:
        corpus: the recipe's table.
        items: utterances.
        names_of: gives an utterance's id and path, either of which may be listed.
        root: names the corpus in messages.

    Raises:
        CorpusError: a name in the list is no utterance's.
    """
    if corpus.skip == "silent" or not corpus.skip:
        return list(items)
    wanted = set(corpus.skip)
    skipped = [item for item in items if wanted & set(names_of(item))]
    unknown = wanted - {name for item in skipped for name in names_of(item)}
    if unknown:
        raise CorpusError(f"corpus.skip: {root} has no utterance and no file called {some_of(unknown, MAX_EXAMPLES)}")
    _log(root, len(skipped), len(items), sorted(names_of(item)[1] for item in skipped), "listed in corpus.skip")
    return [item for item in items if not wanted & set(names_of(item))]


def without_silent(corpus: Corpus, manifest: pd.DataFrame, root: Path, *, num_workers: int | None = None) -> pd.DataFrame:
    """The manifest without silent files, where ``corpus.skip = "silent"`` asks for it.

    Files that cannot be decoded stay: they are no silence, and rendering names them.
    """
    if corpus.skip != "silent":
        return manifest
    sounds = inspect_files(
        root, list(manifest["path"]), channel=corpus.channel, num_workers=num_workers, description="find silent files"
    )
    silent = [sound.path for sound in sounds if sound.is_silent]
    kept = manifest[~manifest["path"].isin(silent)].reset_index(drop=True)
    if silent:
        _log(root, len(silent), len(manifest), silent, "silent")
    if mute := set(manifest["speaker_id"]) - set(kept["speaker_id"]):
        logger.warning("%s: %d speakers have nothing left: %s", root, len(mute), some_of(mute, MAX_EXAMPLES))
    return kept


def _log(root: Path, num_skipped: int, num_all: int, paths: Sequence[str], why: str) -> None:
    logger.warning(
        "%s: %s of %s files are left out, %s: %s", root, f"{num_skipped:,}", f"{num_all:,}", why, some_of(paths, MAX_EXAMPLES)
    )
