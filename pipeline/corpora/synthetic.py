"""Synthetic voices: eSpeak NG reads sentences from a small grammar, so that everything runs on a machine without any speech.

There are no terms of use: the sentences are generated here, and nobody holds rights in what eSpeak NG says. It is the speech of a
rule-based synthesiser: good for tests and for trying out the pipeline, but no measure of how well a system separates people.

A speaker is a voice variant, an accent, a pitch, a liveliness and a pace. No pair of variant and accent occurs twice, so the
splits share no speaker (they do share variants, as people share traits). Half are female, half male, and within each split the
pitches of each sex are spread evenly, so that speakers sound distinct.

Layout::

    ROOT/settings.json                    what the corpus was made by; a folder made otherwise is refused
    ROOT/f001/f001-000.wav                22,050 Hz, 16 bit, about 3 to 6 seconds
    ROOT/metadata.csv                     written last: path, speaker_id, utterance_id, split, sex, voice, pitch_hz, …, text
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.audio.files import write_audio
from pipeline.compute.workers import map_parallel
from pipeline.corpora import folder
from pipeline.corpora.espeak import SAMPLE_RATE, Voice, speak
from pipeline.corpora.listing import ListedFile
from pipeline.corpora.manifests import Utterance, keyed_order
from pipeline.corpora.sentences import sentence
from pipeline.errors import CorpusError
from pipeline.files import remove_temporaries, written_whole
from pipeline.recipe.schema import SPLITS, FolderCorpus, SyntheticCorpus
from pipeline.tables import write_table

FOLDER_NAMES = ("synthetic",)
ENDINGS = folder.ENDINGS
VOICE_COLUMNS = ("pitch_hz", *(f"voice_{field.name}" for field in fields(Voice)), "text")
"""What ``metadata.csv`` says of how an utterance was made."""
SHARED_SPLITS: tuple[str, ...] = ()
SETTINGS = "settings.json"
VERSION = 1
"""Of what ``generate`` makes from the same settings."""

ACCENTS = (
    "en-us",
    "en",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)
# Natural-sounding variants (no whisper, creak, echo or robot) and the pitch in Hz each speaks with at eSpeak's middle setting.
VARIANTS = {
    "F": {
        "f1": 181,
        "f2": 197,
        "f3": 212,
        "f5": 204,
        "Annie": 235,
        "Andrea": 245,
        "linda": 230,
        "belinda": 230,
        "steph": 184,
        "anika": 269,
    },
    "M": {"m1": 93, "m3": 105, "m4": 93, "m5": 103, "m6": 101, "m7": 106, "max": 102, "Diogo": 105, "miguel": 111, "Mike": 90},
}
PITCH_HZ = {"F": (165.0, 260.0), "M": (80.0, 140.0)}
# One step of eSpeak's pitch setting multiplies the pitch by about this much (measured between 20 and 80).
PITCH_STEP = 1.0107
MIN_SECONDS, MAX_SECONDS = 3.2, 6.0
SILENCE = 64 / 2**15
"""Linear level below which the ends of an utterance are cut off."""

_AS_FOLDER = FolderCorpus(kind="folder")


@dataclass(frozen=True)
class Speaker:
    """Who speaks, and how."""

    speaker_id: str
    sex: str
    split: str
    pitch_hz: float
    voice: Voice


def files(corpus: SyntheticCorpus, root: Path, *, splits: Collection[str] = SPLITS) -> list[ListedFile]:
    """The audio files of the corpus."""
    return folder.files(_AS_FOLDER, root)


def metadata_files(corpus: SyntheticCorpus) -> list[str]:
    """Tables whose content decides the manifest."""
    return [folder.METADATA]


def utterances(corpus: SyntheticCorpus, root: Path, *, seed: int, splits: Collection[str] = SPLITS) -> list[Utterance]:
    """Every recording, as ``metadata.csv`` lists it.

    Raises:
        CorpusError: nothing was generated here, or not all of it.
    """
    if not (root / folder.METADATA).is_file():
        raise CorpusError(f"{root}: holds no complete synthetic corpus; generate it first (`tasnet run RECIPE corpus`)")
    return folder.utterances(_AS_FOLDER, root, seed=seed, splits=splits, extra_columns=VOICE_COLUMNS)


def generate(corpus: SyntheticCorpus, root: Path, *, seed: int, num_workers: int | None = None) -> None:
    """Make the corpus; what is already there is kept, so a killed run continues.

    The files are the same, byte for byte, for any number of workers and however often the work was cut off.

    Args:
        corpus: how many speakers and utterances.
        root: where to; the folder is made.
        seed: of the recipe; it decides voices and sentences.
        num_workers: processes; by default one per core.

    Raises:
        CorpusError: eSpeak NG is not installed, more speakers are wanted than voices exist, or the folder holds another corpus.
        WorkError: the folder cannot be written.
    """
    speakers = cast_speakers(corpus, seed)
    _claim(root, {"version": VERSION, "seed": seed, **corpus.model_dump(exclude={"channel", "skip"})})
    remove_temporaries(root)
    record = partial(_record_speaker, root, seed, corpus.utterances_per_speaker)
    rows = [row for some in map_parallel(record, speakers, num_workers=num_workers, description="speak") for row in some]
    write_table(pd.DataFrame(rows), root / folder.METADATA, folder.METADATA_TABLE)


def cast_speakers(corpus: SyntheticCorpus, seed: int) -> list[Speaker]:
    """The speakers of all splits, female and male in turn.

    Raises:
        CorpusError: more are wanted than there are pairs of variant and accent.
    """
    most = 2 * min(len(variants) for variants in VARIANTS.values()) * len(ACCENTS)
    wanted = sum(corpus.num_speakers.values())
    if wanted > most - 2 * len(SPLITS):
        raise CorpusError(f"corpus.num_speakers: {wanted} speakers are more than the {most - 2 * len(SPLITS)} voices there are")
    speakers: list[Speaker] = []
    for sex, variants in VARIANTS.items():
        names = iter(_voice_order(list(variants), sex, seed))
        number = count(1)
        for split in SPLITS:
            for pitch_hz in _spread_pitches(sex, split, _share_of(sex, split, corpus), seed):
                speaker_id = f"{sex.lower()}{next(number):03d}"
                speakers.append(_speaker(speaker_id, sex, split, pitch_hz, next(names), seed))
    return speakers


def _share_of(sex: str, split: str, corpus: SyntheticCorpus) -> int:
    """Speakers of one sex in a split; the odd one is female."""
    total = sum(number for name, number in corpus.num_speakers.items() if name == split)
    return (total + 1) // 2 if sex == "F" else total // 2


def _voice_order(variants: list[str], sex: str, seed: int) -> list[str]:
    """All voices of one sex, drawn by seed so that every variant comes round before any comes again."""
    rounds: list[str] = []
    accents_of = {variant: keyed_order(ACCENTS, seed, "accents", variant) for variant in variants}
    for turn in range(len(ACCENTS)):
        rounds += [f"{accents_of[variant][turn]}+{variant}" for variant in keyed_order(variants, seed, "variants", sex, turn)]
    return rounds


def _spread_pitches(sex: str, split: str, num_speakers: int, seed: int) -> list[float]:
    """Pitches in Hz at equal musical distances over the range of a sex, in drawn order."""
    lowest, highest = PITCH_HZ[sex]
    steps = [(index + 0.5) / num_speakers for index in range(num_speakers)]
    random.Random(f"{seed}/pitch/{sex}/{split}").shuffle(steps)
    return [round(lowest * (highest / lowest) ** step, 1) for step in steps]


def _speaker(speaker_id: str, sex: str, split: str, pitch_hz: float, voice_name: str, seed: int) -> Speaker:
    draw = random.Random(f"{seed}/speaker/{speaker_id}")
    own_pitch_hz = VARIANTS[sex][voice_name.split("+")[1]]
    pitch = round(50 + math.log(pitch_hz / own_pitch_hz) / math.log(PITCH_STEP))
    voice = Voice(
        voice_name, pitch=min(max(pitch, 0), 99), pitch_range=draw.randint(35, 75), words_per_minute=draw.randint(140, 190)
    )
    return Speaker(speaker_id, sex, split, pitch_hz, voice)


def _record_speaker(root: Path, seed: int, num_utterances: int, speaker: Speaker) -> list[dict[str, object]]:
    """Write the missing utterances of a speaker; returns the rows of all of them."""
    return [_record(root, seed, speaker, f"{speaker.speaker_id}-{index:03d}") for index in range(num_utterances)]


def _record(root: Path, seed: int, speaker: Speaker, utterance_id: str) -> dict[str, object]:
    text, samples = _say(speaker.voice, f"{seed}/sentence/{utterance_id}")
    path = f"{speaker.speaker_id}/{utterance_id}.wav"
    if not (root / path).exists():
        write_audio(root / path, samples, SAMPLE_RATE)
    who = {
        "utterance_id": utterance_id,
        "speaker_id": speaker.speaker_id,
        "sex": speaker.sex,
        "split": speaker.split,
        "path": path,
    }
    how = (speaker.pitch_hz, *asdict(speaker.voice).values(), text)
    return who | dict(zip(VOICE_COLUMNS, how, strict=True))


def _say(voice: Voice, key: str) -> tuple[str, npt.NDArray[np.int16]]:
    """A spoken sentence of an allowed duration: the first of those drawn for the key that fits."""
    draw = random.Random(key)
    for attempt in count():
        num_words = round(draw.uniform(MIN_SECONDS, MAX_SECONDS) * voice.words_per_minute / 60)
        text = sentence(f"{key}/{attempt}", num_words=num_words)
        samples = _trimmed(speak(text, voice))
        if MIN_SECONDS <= len(samples) / SAMPLE_RATE <= MAX_SECONDS:
            return text, samples
        if attempt == 100:
            break
    raise CorpusError(f"eSpeak NG's voice {voice.name} says nothing of {MIN_SECONDS} to {MAX_SECONDS} seconds; reinstall it")


def _trimmed(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Without the silence at both ends."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > SILENCE * 2**15)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]


def _claim(root: Path, settings: dict[str, object]) -> None:
    """Mark an empty folder as this corpus, or make sure that it is."""
    text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
    path = root / SETTINGS
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise CorpusError(f"{root}: holds a synthetic corpus made with other settings; choose another folder or remove this one")
    if not path.is_file() and root.is_dir() and any(root.iterdir()):
        raise CorpusError(f"{root}: holds other files; choose an empty folder for the synthetic corpus")
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
