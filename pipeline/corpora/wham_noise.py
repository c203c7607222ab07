"""WHAM! noise: 28,000 clips of cafés, bars and streets of the San Francisco Bay Area, 16 kHz (Wichern et al., Interspeech 2019).

Terms: CC BY-NC 4.0, not for commercial use, http://wham.whisper.ai; ``tasnet fetch wham_noise`` downloads it (17.65 GB).

Layout::

    ROOT/{tr,cv,tt}/CLIP.wav        train, valid, test; two channels, of which LibriMix and WHAM! use the first
    ROOT/metadata/…                 not needed

LibriMix's lists for train-clean-360 also name clips such as ``CLIPsp08.wav``: the clip at 0.8 times the speed. They are not in
the published archive, and are made as they are needed: see ``mixtures.plans.published``.

Any other folder of noise will do for plans drawn anew: ``ROOT/anything.{wav,flac}``, nested as it likes. Its clips are split by
seed and name, one in ten each for valid and test.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.corpora.digests import content_digests, digest_files
from pipeline.corpora.listing import ListedFile, describe_other_audio, list_files, read_headers
from pipeline.corpora.manifests import Utterance, keyed_order, make_manifest
from pipeline.corpora.wsj0 import MERL_SPLITS
from pipeline.errors import CorpusError
from pipeline.recipe.schema import SPLITS

ENDINGS = (".wav", ".flac")
SPLIT_OF_FOLDER = {folder: split for split, folder in MERL_SPLITS.items()}
HELD_OUT_SHARE = 0.1
CHANNEL = 0

logger = logging.getLogger("pipeline")


def scan(root: Path, *, seed: int, splits: Sequence[str] = SPLITS, num_workers: int | None = None) -> pd.DataFrame:
    """Make a manifest of noise clips: as of utterances (``tables.MANIFEST``), with empty ``speaker_id`` and ``sex``.

    A clip's ``utterance_id`` is its path without the ending, ``/`` written as ``-``, or the whole path where two clips would be
    called alike; ``path`` is relative to ``root``.

    Args:
        root: the noise corpus.
        seed: splits the clips of a corpus that has no split folders.
        splits: those that noise is asked for; the corpus may lack the others.
        num_workers: processes reading headers.

    Raises:
        CorpusError: no clips, fewer than one for each split, or files that cannot be read (one line each).
    """
    paths = [file.path for file in files(root)]
    if not paths or (len(paths) < len(splits) and not _is_published(root)):
        raise CorpusError(f"{root}: holds {len(paths)} noise clips ({', '.join(ENDINGS)}); one for each split is the least")
    split_of = _published_splits(paths) if _is_published(root) else _drawn_splits(root, paths, seed, splits)
    clips = [Utterance(clip_id, "", "", split_of[path], path) for clip_id, path in zip(_clip_ids(paths), paths, strict=True)]
    if others := describe_other_audio(root, ENDINGS):
        logger.warning("%s: %s noise clips are used%s", root, f"{len(clips):,}", others)
    headers = read_headers(root, paths, channel=CHANNEL, num_workers=num_workers)
    return make_manifest(clips, headers, content_digests(root, paths, num_workers=num_workers))


def _clip_ids(paths: list[str]) -> list[str]:
    short = pd.Series([path.rpartition(".")[0].replace("/", "-") for path in paths], dtype="str")
    ids = short.where(~short.duplicated(keep=False), pd.Series(paths, dtype="str"))
    return list(ids) if ids.is_unique else paths


def files(root: Path) -> list[ListedFile]:
    """The clips, of the three folders where they exist."""
    if not _is_published(root):
        return list_files(root, ENDINGS)
    return [file for folder in SPLIT_OF_FOLDER if (root / folder).is_dir() for file in list_files(root, ENDINGS, below=folder)]


def listing_digest(root: Path, *, num_workers: int | None = None, fresh: bool = False) -> str:
    """SHA-256 over the relative paths and contents of the clips: see :mod:`pipeline.corpora.digests`."""
    return digest_files(root, [file.path for file in files(root)], num_workers=num_workers, fresh=fresh)


def _is_published(root: Path) -> bool:
    return any((root / folder).is_dir() for folder in SPLIT_OF_FOLDER)


def _published_splits(paths: list[str]) -> dict[str, str]:
    return {path: SPLIT_OF_FOLDER[path.split("/")[0]] for path in paths}


def _drawn_splits(root: Path, paths: list[str], seed: int, splits: Sequence[str]) -> dict[str, str]:
    """One clip in ten, at least one, for valid and for test; too few for all splits, one for each of those asked for."""
    if len(paths) < len(SPLITS):
        return {path: splits[number % len(splits)] for number, path in enumerate(keyed_order(paths, seed, "noise-split"))}
    held_out = max(1, round(len(paths) * HELD_OUT_SHARE))
    order = keyed_order(paths, seed, "noise-split")
    logger.info("%s: no folders tr, cv, tt; %d noise clips split by seed %d", root, len(paths), seed)
    names = ["valid"] * held_out + ["test"] * held_out + ["train"] * (len(paths) - 2 * held_out)
    return dict(zip(order, names, strict=True))
