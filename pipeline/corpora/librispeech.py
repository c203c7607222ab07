"""LibriSpeech: 1,000 hours of English audio books read by 2,484 volunteers, 16 kHz FLAC (Panayotov et al., ICASSP 2015).

Terms: CC BY 4.0, https://www.openslr.org/12; ``tasnet fetch`` downloads it.

Layout::

    ROOT/SPEAKERS.TXT                                          ID | SEX | SUBSET | MINUTES | NAME; ';' begins a comment
    ROOT/train-clean-100/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac
    ROOT/{train-clean-360,train-other-500,dev-clean,dev-other,test-clean,test-other}/…

The recipe's ``corpus.subsets`` says which subsets make up each split. The published subsets share no speakers.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from pipeline.corpora.listing import ListedFile, list_files
from pipeline.corpora.manifests import Utterance, raise_findings
from pipeline.errors import CorpusError
from pipeline.recipe.schema import SPLITS, LibriSpeechCorpus

FOLDER_NAMES = ("LibriSpeech", "librispeech")
ENDINGS = (".flac", ".wav")
SPEAKERS = "SPEAKERS.TXT"
SHARED_SPLITS: tuple[str, ...] = ()

logger = logging.getLogger("pipeline")


def files(corpus: LibriSpeechCorpus, root: Path, *, splits: Collection[str] = SPLITS) -> list[ListedFile]:
    """The audio files of the subsets that make up ``splits``."""
    subsets = {subset for split in splits for subset in corpus.subsets.of(split)}
    _check_subsets(root, subsets)
    return [file for subset in sorted(subsets) for file in list_files(root, ENDINGS, below=subset)]


def metadata_files(corpus: LibriSpeechCorpus) -> list[str]:
    """Tables whose content decides the manifest."""
    return [SPEAKERS]


def utterances(corpus: LibriSpeechCorpus, root: Path, *, seed: int, splits: Collection[str] = SPLITS) -> list[Utterance]:
    """Every recording of the subsets that make up ``splits``; the seed plays no part.

    Raises:
        CorpusError: a subset is missing, holds no audio, or is asked for twice.
    """
    split_of = {subset: split for subset, split in _split_of_subsets(corpus).items() if split in splits}
    sex_of = read_speakers(root / SPEAKERS)
    listed = [Path(file.path) for file in files(corpus, root, splits=splits)]
    found = {path.parts[0] for path in listed}
    raise_findings(f"{root / subset}: holds no audio ({', '.join(ENDINGS)})" for subset in sorted(set(split_of) - found))
    return [
        Utterance(
            path.stem, speaker_id := path.stem.split("-")[0], sex_of.get(speaker_id, ""), split_of[path.parts[0]], path.as_posix()
        )
        for path in listed
    ]


def read_speakers(path: Path) -> dict[str, str]:
    """The sex of every speaker; names are not read, some hold the separator."""
    if not path.is_file():
        logger.warning("%s: no such file, so the speakers' sex is unknown", path)
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [line.split("|", 2) for line in lines if line.strip() and not line.startswith(";")]
    return {row[0].strip(): row[1].strip() for row in rows if len(row) == 3 and row[1].strip() in ("F", "M")}


def _check_subsets(root: Path, subsets: set[str]) -> None:
    missing = sorted(subset for subset in subsets if not (root / subset).is_dir())
    raise_findings(f"{root / subset}: no such folder; `tasnet fetch librispeech-{subset}` downloads it" for subset in missing)


def _split_of_subsets(corpus: LibriSpeechCorpus) -> dict[str, str]:
    pairs = [(subset, split) for split in SPLITS for subset in corpus.subsets.of(split)]
    if len(dict(pairs)) < len(pairs):
        raise CorpusError("corpus.subsets: a subset may be used once only")
    return dict(pairs)
