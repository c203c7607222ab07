"""Manifests: what must hold of one, and that every finding is told at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpora.manifests import (
    Utterance,
    check_manifest,
    describe_missing,
    keyed_order,
    make_manifest,
    raise_findings,
    some_of,
)
from pipeline.errors import CorpusError
from pipeline.tables import MANIFEST, read_table, write_table


@dataclass
class Header:
    sample_rate: int = 16000
    num_samples: int = 48000


def manifest_of(*utterances: Utterance, num_samples: int = 48000) -> pd.DataFrame:
    digests = {utterance.path: f"digest of {utterance.path}" for utterance in utterances}
    return make_manifest(utterances, [Header(num_samples=num_samples)] * len(utterances), digests)


def sound_corpus() -> list[Utterance]:
    """Two speakers in each split, one utterance each."""
    return [
        Utterance(f"{split}-{number}", f"{split}{number}", "F", split, f"{split}{number}/a.wav")
        for split in ("train", "valid", "test")
        for number in (1, 2)
    ]


def test_a_sound_manifest_passes_and_survives_the_disk(tmp_path: Path) -> None:
    tricky = [Utterance("011", "NA", "", "train", "NA/011.wav"), Utterance("1e5", "null", "M", "train", "null/1e5.wav")]
    manifest = manifest_of(*sound_corpus(), *tricky)
    check_manifest(manifest, origin="here")
    write_table(manifest, tmp_path / "manifest.csv", MANIFEST)
    again = read_table(tmp_path / "manifest.csv", MANIFEST)
    pd.testing.assert_frame_equal(again, manifest)
    assert set(again["speaker_id"]) >= {"NA", "null"}
    assert "011" in set(again["utterance_id"])


@given(st.permutations(sound_corpus()))
def test_order_of_the_listing_does_not_matter(shuffled: list[Utterance]) -> None:
    pd.testing.assert_frame_equal(manifest_of(*shuffled), manifest_of(*sound_corpus()))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (Utterance("train-1", "train1", "", "train", "train1/b.wav"), "utterance_id train-1 belongs to 2 files"),
        (Utterance("x", "train1", "", "test", "x.wav"), "speaker train1 is in the splits test, train"),
        (Utterance("x", "s", "", "dev", "x.wav"), "split 'dev' (1 utterances) is none of train, valid, test; write 'valid'"),
        (
            Utterance("x", "s", "", "Train ", "x.wav"),
            "split 'Train ' (1 utterances) is none of train, valid, test; write 'train'",
        ),
        (
            Utterance("a/b", "s", "", "train", "x.wav"),
            "utterance_id 'a/b' has a slash, as if it were a path, so it cannot be part of a file name",
        ),
        (Utterance("", "s", "", "train", "x.wav"), "utterance_id '' is empty, so it cannot be part of a file name"),
        (
            Utterance("x", "a\nb", "", "train", "x.wav"),
            "speaker_id 'a\\nb' has a character that cannot be printed, so it cannot be part",
        ),
        (Utterance("x" * 101, "s", "", "train", "x.wav"), f"utterance_id {'x' * 101} is longer than 100 bytes"),
        (Utterance("x", "CON", "", "train", "x.wav"), "speaker_id 'CON' is the name of a device on Windows"),
        (Utterance("x", "s", "", "train", "../x.wav"), "path ../x.wav leaves the corpus"),
        (Utterance("x", "s", "", "train", "/x.wav"), "path /x.wav leaves the corpus"),
    ],
)
def test_each_fault_is_named(extra: Utterance, message: str) -> None:
    with pytest.raises(CorpusError) as caught:
        check_manifest(manifest_of(*sound_corpus(), extra), origin="here")
    assert f"here: {message}" in str(caught.value)


def test_all_faults_come_at_once() -> None:
    faulty = [Utterance("train-1", "train1", "", "test", "x.wav"), Utterance("y", "s", "", "dev", "../y.wav")]
    with pytest.raises(CorpusError) as caught:
        check_manifest(manifest_of(*sound_corpus(), *faulty), origin="here")
    assert len(str(caught.value).splitlines()) == 4


def test_splits_that_may_share_speakers() -> None:
    shared = Utterance("x", "train1", "", "valid", "x.wav")
    check_manifest(manifest_of(*sound_corpus(), shared), origin="here", shared_splits=("train", "valid"))
    with pytest.raises(CorpusError, match="a speaker belongs to one split"):
        check_manifest(
            manifest_of(*sound_corpus(), Utterance("x", "train1", "", "test", "x.wav")),
            origin="here",
            shared_splits=("train", "valid"),
        )


def test_empty_one_speaker_and_thin_splits() -> None:
    with pytest.raises(CorpusError, match="here: holds no utterances"):
        check_manifest(manifest_of(), origin="here")
    with pytest.raises(CorpusError, match="all 1 utterances are of one speaker"):
        check_manifest(manifest_of(sound_corpus()[0]), origin="here")
    with pytest.raises(CorpusError) as caught:
        check_manifest(manifest_of(*sound_corpus()[:3]), origin="here")
    assert str(caught.value).splitlines() == [
        "here: split valid has 1 speaker; a mixture needs at least 2",
        "here: split test has 0 speakers; a mixture needs at least 2",
    ]


def test_files_without_samples() -> None:
    with pytest.raises(CorpusError, match=r"train1/a.wav: holds no samples"):
        check_manifest(manifest_of(*sound_corpus(), num_samples=0), origin="here")


def test_very_many_findings_are_counted() -> None:
    with pytest.raises(CorpusError) as caught:
        raise_findings(f"finding {number}" for number in range(1000))
    lines = str(caught.value).splitlines()
    assert len(lines) == 51
    assert lines[-1] == "… and 950 more findings like these"


def test_some_of() -> None:
    assert some_of({"c", "a"}) == "a, c"
    assert some_of(list("edcba")) == "a, b, c and 2 more"


@given(st.sets(st.text(min_size=1), max_size=20), st.randoms())
def test_keyed_order_ignores_the_order_given(names: list[str], random: Random) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)
    assert keyed_order(shuffled, 1, "x") == keyed_order(names, 1, "x")


def test_keyed_order_is_what_it_was() -> None:
    """A golden value: published splits hang on it."""
    assert keyed_order(["ann", "bob", "cy", "dee", "011", "NA"], 0, "split") == ["NA", "dee", "011", "cy", "ann", "bob"]


def test_missing_files_are_grouped_by_folder() -> None:
    missing = [f"train-clean-360/{number}/1/{number}-1-0.flac" for number in range(32109)]
    lines = describe_missing(Path("/corpora/LibriSpeech"), missing, 50800).splitlines()
    assert lines[0] == "/corpora/LibriSpeech: no such file for 32,109 of the 50,800 that are needed"
    assert lines[1].startswith("  train-clean-360: 32,109 missing: train-clean-360/0/1/0-1-0.flac, ")
    assert lines[1].count(".flac") == 10
    assert "and 32099 more" in lines[1]
    assert "`tasnet fetch librispeech-train-clean-360`" in lines[2]
    assert len(lines) == 3
    many = describe_missing(Path("/c"), [f"disc{number}/x.wav" for number in range(30)], 30).splitlines()
    assert len(many) == 13
    assert "… and 20 more folders" in many[-2]
