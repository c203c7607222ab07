"""Warnings about a plan and its corpus: the faults that published lists and people's folders of speech have had."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

import pandas as pd

from pipeline.corpora.manifests import UNKNOWN_SPEAKER, some_of
from pipeline.mixtures.plans.planned import is_source


def lint(plan: pd.DataFrame, manifest: pd.DataFrame) -> list[str]:
    """Return the warnings about a plan, one line each.

    One speaker twice in a mixture; the same utterances in two mixtures of a split; utterances or speakers in more than one split;
    one recording under several speakers or in several splits; folders of sessions that were taken for speakers; speakers
    whose names are nearly the same.

    Args:
        plan: see ``tables.PLAN``.
        manifest: ``utterance_id`` and ``speaker_id`` of its utterances, and what else is known of them (``tables.MANIFEST``).
    """
    speech = plan[is_source(plan)].merge(manifest[["utterance_id", "speaker_id"]], on="utterance_id", how="left")
    spoken = speech[speech["speaker_id"] != UNKNOWN_SPEAKER]
    leaks = [*_leaks(speech, "utterance_id"), *_leaks(spoken, "speaker_id")]
    return [
        *_same_speaker(spoken),
        *_same_utterances(speech),
        *leaks,
        *_same_recordings(manifest),
        *_sessions(manifest),
        *_alike(manifest),
    ]


def _same_speaker(speech: pd.DataFrame) -> Iterator[str]:
    by_mixture = speech.groupby(["split", "mixture_id"], sort=False)["speaker_id"]
    repeated = (by_mixture.nunique() < by_mixture.size()).rename("repeated").reset_index()
    for split, rows in repeated.groupby("split", sort=False):
        faulty = list(rows["mixture_id"][rows["repeated"]])
        if faulty:
            yield f"split {split}: the same speaker more than once in {len(faulty)} of {len(rows)} mixtures ({some_of(faulty)})"


def _same_utterances(speech: pd.DataFrame) -> Iterator[str]:
    sets = speech.groupby(["split", "mixture_id"], sort=False)["utterance_id"].agg(frozenset).reset_index()
    for split, rows in sets.groupby("split", sort=False):
        faulty = list(rows["mixture_id"][rows.duplicated("utterance_id")])
        if faulty:
            counts = f"{len(faulty)} of {len(rows)} mixtures ({some_of(faulty)})"
            yield f"split {split}: the same utterances as another mixture in {counts}"


def _leaks(speech: pd.DataFrame, column: str) -> Iterator[str]:
    names = {str(split): set(rows[column]) for split, rows in speech.groupby("split", sort=False)}
    what = {"utterance_id": "utterances", "speaker_id": "speakers"}[column]
    for a, b in combinations(names, 2):
        common = sorted(names[a] & names[b])
        if common:
            yield f"splits {a} and {b} share {len(common)} {what} ({some_of(common)})"


def _same_recordings(manifest: pd.DataFrame) -> Iterator[str]:
    """Recordings that several files hold, byte for byte, by different speakers or in different splits."""
    if not {"sha256", "path", "split"} <= set(manifest.columns):
        return
    copies = manifest[(manifest["sha256"] != "") & (manifest["speaker_id"] != "") & manifest["sha256"].duplicated(keep=False)]
    recordings = [rows for _, rows in copies.groupby("sha256", sort=False)]
    for column, what in (("speaker_id", "under several speakers"), ("split", "in several splits")):
        faulty = [" = ".join(sorted(rows["path"])) for rows in recordings if len(set(rows[column])) > 1]
        if faulty:
            count = "1 recording is" if len(faulty) == 1 else f"{len(faulty)} recordings are"
            yield f"{count} there {what} ({some_of(faulty)})"


_SESSION = r"(?:session|sess|day|date|disc|disk|cd|part|chapter|batch|set|split|fold|take|tape|recording|rec|visit|week)"
_IS_SESSION = re.compile(
    rf"{_SESSION}[-_ .]?\d*|\d{{4}}[-_.]?\d\d[-_.]?\d\d.*|train(ing)?|valid(ation)?|dev|test|audio|wavs?|flac", re.I
)
_HAS_SESSION = re.compile(rf"(.+?)[-_ .]?{_SESSION}[-_ .]?\d+", re.I)


def _sessions(manifest: pd.DataFrame) -> Iterator[str]:
    """Speakers who are called like sessions, or like one another but for a session: folders that are no speaker's own."""
    speakers = set(manifest["speaker_id"]) - {""}
    if sessions := sorted(name for name in speakers if _IS_SESSION.fullmatch(name)):
        yield (
            f"{len(sessions)} speakers are called like sessions or splits ({some_of(sessions)}); if several people speak in "
            "them, make a folder of each speaker, or list the files with their speakers in metadata.csv"
        )
    by_person: dict[str, list[str]] = defaultdict(list)
    for name in speakers - set(sessions):
        if found := _HAS_SESSION.fullmatch(name):
            by_person[found[1]].append(name)
    if twice := [some_of(names) for names in by_person.values() if len(names) > 1]:
        yield (
            f"{len(twice)} people may have been taken for several speakers ({some_of(twice)}); if these are sessions of one "
            "person, put them into one folder, or list them under one speaker_id in metadata.csv"
        )


def _alike(manifest: pd.DataFrame) -> Iterator[str]:
    """Speakers whose names differ in nothing but case and separators: ``Ann-1`` and ``ann_1``."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(manifest["speaker_id"]) - {""}):
        by_name[re.sub(r"[\W_]+", "-", name).strip("-").casefold()].append(name)
    if alike := [" = ".join(names) for names in by_name.values() if len(names) > 1]:
        yield (
            f"{len(alike)} speakers are there under several names that differ in case or separators only ({some_of(alike)}); "
            "if they are one person, put them into one folder, or list them under one speaker_id in metadata.csv"
        )
