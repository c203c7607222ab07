"""WSJ0: read Wall Street Journal sentences, 16 kHz, the speech of WSJ0-2mix and WSJ0-3mix.

Terms: licensed by the LDC (catalogue LDC93S6A), https://catalog.ldc.upenn.edu/LDC93S6A; it cannot be downloaded freely.

Layout, after the discs are merged and the SPHERE files converted (``sph2pipe -p -f wav IN.wv1 OUT.wav``)::

    ROOT/si_tr_s/SPEAKER/UTTERANCE.wav        101 speakers: train and valid, utterances disjoint
    ROOT/si_dt_05/SPEAKER/UTTERANCE.wav       18 other speakers together with
    ROOT/si_et_05/SPEAKER/UTTERANCE.wav       this folder: test
    ROOT/doc/spkrinfo.txt                     optional: sex of the speakers

Only the close-talking channel is used: ``.wv1`` on the discs. Its twin ``.wv2`` is another microphone, often mistaken for it when
both are converted to the same name; it is refused.

MERL's lists split si_tr_s between train and valid by utterance, with 3,557 of 12,326 in valid. Plans drawn anew do the same by
a rule keyed by seed and utterance: 29 % of every speaker's utterances are valid.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from pipeline.corpora.listing import ListedFile, list_files
from pipeline.corpora.manifests import MAX_EXAMPLES, Utterance, keyed_order, raise_findings, some_of
from pipeline.errors import CorpusError
from pipeline.recipe.schema import SPLITS, Wsj0Corpus

FOLDER_NAMES = ("wsj0", "WSJ0")
ENDINGS = (".wav", ".flac", ".wv1")
SPEAKERS = "doc/spkrinfo.txt"
SHARED_SPLITS = ("train", "valid")
TRAIN_FOLDER = "si_tr_s"
TEST_FOLDERS = ("si_dt_05", "si_et_05")
VALID_SHARE = 3557 / 12326
MERL_SPLITS = {"train": "tr", "valid": "cv", "test": "tt"}
"""What MERL's lists and trees of WSJ0-mix, and WHAM! after them, call the splits."""


def files(corpus: Wsj0Corpus, root: Path, *, splits: Collection[str] = SPLITS) -> list[ListedFile]:
    """The audio files of the folders that ``splits`` are made of.

    Raises:
        CorpusError: a folder is missing, or holds the far-field channel.
    """
    folders = _folders(splits)
    raise_findings(
        f"{root / folder}: no such folder; merge the folders wsj0 of all discs of WSJ0 (LDC93S6A) into {root}, so that it holds "
        f"{folder}/SPEAKER/UTTERANCE.wav"
        for folder in folders
        if not (root / folder).is_dir()
    )
    listed = [file for folder in folders for file in list_files(root, (*ENDINGS, ".wv2"), below=folder)]
    far_field = [file.path for file in listed if file.path.lower().endswith(".wv2")]
    if far_field:
        raise CorpusError(
            f"{root}: {len(far_field)} .wv2 files ({some_of(far_field)}) are the far-field microphone, which WSJ0-2mix "
            "does not use; move them away and convert the .wv1 files"
        )
    return listed


def metadata_files(corpus: Wsj0Corpus) -> list[str]:
    """Tables whose content decides the manifest."""
    return [SPEAKERS]


def utterances(corpus: Wsj0Corpus, root: Path, *, seed: int, splits: Collection[str] = SPLITS) -> list[Utterance]:
    """Every recording of the folders that ``splits`` are made of.

    Raises:
        CorpusError: as :func:`files`, and where a folder holds no audio.
    """
    listed = [Path(file.path) for file in files(corpus, root, splits=splits)]
    misplaced = [path.as_posix() for path in listed if len(path.parts) != 3]
    if misplaced:
        raise CorpusError(
            f"{root}: {len(misplaced):,} files are not in FOLDER/SPEAKER/ ({some_of(misplaced, MAX_EXAMPLES)}); move them there"
        )
    found = {path.parts[0] for path in listed}
    raise_findings(f"{root / name}: holds no audio" for name in _folders(splits) if name not in found)
    valid = _valid_utterances([path for path in listed if path.parts[0] == TRAIN_FOLDER], seed)
    sex_of = _read_speakers(root / SPEAKERS)
    return [
        Utterance(path.stem, path.parts[1], sex_of.get(path.parts[1].lower(), ""), _split_of(path, valid), path.as_posix())
        for path in listed
    ]


def _folders(splits: Collection[str]) -> list[str]:
    """The folders that splits are made of; train and valid share theirs."""
    return [TRAIN_FOLDER] * bool({"train", "valid"} & set(splits)) + [*TEST_FOLDERS] * ("test" in splits)


def _split_of(path: Path, valid: set[str]) -> str:
    if path.parts[0] in TEST_FOLDERS:
        return "test"
    return "valid" if path.stem in valid else "train"


def _valid_utterances(paths: list[Path], seed: int) -> set[str]:
    """Of every speaker the same share of utterances, drawn by seed and utterance."""
    by_speaker: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_speaker[path.parts[1]].append(path.stem)
    return {
        stem
        for stems in by_speaker.values()
        for stem in keyed_order(stems, seed, "wsj0-valid")[: round(len(stems) * VALID_SHARE)]
    }


def _read_speakers(path: Path) -> dict[str, str]:
    """The sex of every speaker from the LDC's table (``ID SEX …``, ';' begins a comment), where it is at hand."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="latin-1").splitlines()
    rows = [line.split() for line in lines if line.strip() and not line.startswith(";")]
    return {row[0].lower(): row[1].upper() for row in rows if len(row) > 1 and row[1].upper() in ("F", "M")}
