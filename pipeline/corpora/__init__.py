"""Corpora: where speech comes from. One corpus, one file; here is what they have in common.

An adapter (``folder``, ``librispeech``, ``wsj0``, ``synthetic``) knows one layout: it lists the audio files and says who speaks
in each and which split it belongs to. ``scan`` adds the headers and checks the whole. No corpus is ever written to.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType

import pandas as pd

from pipeline.corpora import folder, librispeech, synthetic, wsj0
from pipeline.corpora.digests import changed_files as changed_files
from pipeline.corpora.digests import content_digests
from pipeline.corpora.digests import digest_files as digest_files
from pipeline.corpora.listing import describe_other_audio, read_headers
from pipeline.corpora.manifests import check_manifest, make_manifest
from pipeline.corpora.skipping import without_named as without_named
from pipeline.corpora.skipping import without_silent as without_silent
from pipeline.errors import CorpusError
from pipeline.recipe.schema import SPLITS, Corpus

logger = logging.getLogger("pipeline")

ADAPTERS: dict[str, ModuleType] = {"folder": folder, "librispeech": librispeech, "synthetic": synthetic, "wsj0": wsj0}

FOLDER_NAMES: dict[str, tuple[str, ...]] = {
    **{kind: adapter.FOLDER_NAMES for kind, adapter in ADAPTERS.items()},
    "mixtures": ("mixtures",),
    "wham_noise": ("wham_noise",),
    "librimix": ("librimix", "LibriMix"),
    "wsj0mix": ("wsj0mix", "wsj0-mix"),
}
"""What each input is called under ``--corpora DIR``, by the name it has in ``--corpus NAME=DIR``."""


def find_folder(name: str, *, corpora_dir: Path | None, named: Mapping[str, Path]) -> Path:
    """Where an input lies: where ``named`` says, else under its usual name in ``corpora_dir``.

    Args:
        name: a key of ``FOLDER_NAMES``.
        corpora_dir: ``--corpora`` or ``TASNET_CORPORA``.
        named: ``--corpus NAME=DIR``; a name that no input has is an error.

    Raises:
        CorpusError: it is not there; the message says both ways to point at it.
    """
    check_names(named)
    if name in named:
        if not named[name].is_dir():
            raise CorpusError(f"{named[name]}: no such folder (from --corpus {name}={named[name]})")
        return _unwrapped(name, named[name])
    usual = FOLDER_NAMES[name]
    found = [corpora_dir / folder_name for folder_name in usual if corpora_dir and (corpora_dir / folder_name).is_dir()]
    if found:
        return _unwrapped(name, found[0])
    where = f"no folder {' or '.join(usual)} in {corpora_dir}" if corpora_dir else "no corpora folder was given"
    raise CorpusError(
        f"corpus {name} not found: {where}; point at it with --corpus {name}=DIR, "
        f"or put it as {usual[0]} into a folder named by --corpora DIR or TASNET_CORPORA"
    )


def check_names(named: Mapping[str, Path]) -> None:
    """Raise CorpusError where ``--corpus`` names something that is no input."""
    unknown = sorted(set(named) - set(FOLDER_NAMES))
    if unknown:
        raise CorpusError(f"--corpus {unknown[0]}=…: no corpus has that name; there are {', '.join(sorted(FOLDER_NAMES))}")


def _unwrapped(name: str, root: Path) -> Path:
    """The corpus itself where an archive was unpacked into a folder around it (``DIR/LibriSpeech/…``)."""
    inner = [root / folder_name for folder_name in FOLDER_NAMES[name] if (root / folder_name).is_dir()]
    return inner[0] if inner and name in ("librispeech", "wsj0", "wham_noise") else root


def scan(
    corpus: Corpus, root: Path, *, seed: int, splits: Collection[str] = SPLITS, num_workers: int | None = None
) -> pd.DataFrame:
    """Make the manifest of a corpus from its listing, its tables, and the headers and digests of its files.

    Args:
        corpus: the recipe's ``[corpus]`` table.
        root: the corpus folder.
        seed: of the recipe; it decides splits where the corpus itself does not.
        splits: those that mixtures are asked for; the corpus may lack the others.
        num_workers: processes reading headers; the result does not depend on it.

    Returns:
        A table of ``tables.MANIFEST``, sorted by ``utterance_id``.

    Raises:
        CorpusError: one line per finding, each naming a file or table and the mend.
    """
    adapter = ADAPTERS[corpus.kind]
    listed = adapter.utterances(corpus, root, seed=seed, splits=splits)
    utterances = without_named(corpus, listed, lambda utterance: (utterance.utterance_id, utterance.path), root)
    headers = read_headers(root, [u.path for u in utterances], channel=corpus.channel, num_workers=num_workers)
    digests = content_digests(root, [u.path for u in utterances], num_workers=num_workers)
    manifest = without_silent(corpus, make_manifest(utterances, headers, digests), root, num_workers=num_workers)
    if others := other_audio(corpus, root, manifest):
        logger.warning("%s", others)
    check_manifest(manifest, origin=str(root), splits=splits, shared_splits=adapter.SHARED_SPLITS)
    return manifest


def other_audio(corpus: Corpus, root: Path, manifest: pd.DataFrame) -> str:
    """A warning about audio files of formats that are not read, of speakers too who have no others; empty if there are none."""
    adapter = ADAPTERS[corpus.kind]
    subsets = sorted({path.partition("/")[0] for path in manifest["path"] if "/" in path})
    others = describe_other_audio(root, adapter.ENDINGS, below=("",) if corpus.kind == "folder" else subsets)
    return f"{root}: {len(manifest):,} audio files are used{others}" if others else ""


def listing_digest(
    corpus: Corpus, root: Path, *, splits: Collection[str] = SPLITS, num_workers: int | None = None, fresh: bool = False
) -> str:
    """SHA-256 over what a corpus folder holds: relative paths and contents of its audio and of its tables.

    It changes when a file is added, removed, renamed or holds anything else. Contents are read once and remembered; ``fresh``
    reads them again: see :mod:`pipeline.corpora.digests`, and its ``digest_files`` for the files that published lists name.
    """
    adapter = ADAPTERS[corpus.kind]
    paths = [file.path for file in adapter.files(corpus, root, splits=splits)]
    return digest_files(root, paths, adapter.metadata_files(corpus), num_workers=num_workers, fresh=fresh)
