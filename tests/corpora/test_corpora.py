"""Corpora: layouts, tables, splits and every way a folder of speech can be wrong."""

from __future__ import annotations

import logging
import random
import shutil
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline import corpora
from pipeline.audio.files import Encoding, write_audio
from pipeline.corpora import folder, librispeech, listing, synthetic, wsj0
from pipeline.errors import CorpusError, TasnetError
from pipeline.recipe.schema import FolderCorpus, LibriSpeechCorpus, Subsets, SyntheticCorpus, Wsj0Corpus
from pipeline.tables import MANIFEST, check_table

FOLDER = FolderCorpus(kind="folder")
TONE = (0.1 * np.sin(np.arange(1600) / 5)).astype(np.float32)


def put(path: Path, num_samples: int = 1600, sample_rate: int = 16000, encoding: Encoding = "pcm16") -> None:
    write_audio(path, np.resize(TONE, num_samples), sample_rate, "flac" if path.suffix == ".flac" else encoding)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Six speakers, two utterances each, with names made to be misread."""
    root = tmp_path / "speech"
    for speaker in ("011", "NA", "ann", "bob", "1e5", "zoë"):
        put(root / speaker / "007.wav", num_samples=800)
        put(root / speaker / "day 1" / "x.flac", sample_rate=8000)
    return root


def message_of(corpus: Any, root: Path, **options: Any) -> str:
    with pytest.raises(TasnetError) as caught:
        corpora.scan(corpus, root, seed=0, num_workers=1, **options)
    return str(caught.value)


def describe_splits(manifest: pd.DataFrame) -> dict[str, set[str]]:
    return {str(split): set(rows) for split, rows in manifest.groupby("split")["speaker_id"]}


# ---------------------------------------------------------------------------------------------------------------- folder
def test_folder_without_table(speech: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pipeline"):
        manifest = corpora.scan(FOLDER, speech, seed=0, num_workers=1)
    check_table(manifest, MANIFEST, origin="scan")
    assert len(manifest) == 12
    assert list(manifest["utterance_id"]) == sorted(manifest["utterance_id"])
    assert set(manifest["speaker_id"]) == {"011", "NA", "ann", "bob", "1e5", "zoë"}
    row = manifest.set_index("utterance_id").loc["011-day 1-x"]
    assert row["path"] == "011/day 1/x.flac"
    assert (row["sample_rate"], row["num_samples"]) == (8000, 1600)
    assert {split: len(speakers) for split, speakers in describe_splits(manifest).items()} == {"train": 2, "valid": 2, "test": 2}
    assert "speakers split by seed 0: 2 train, 2 valid, 2 test" in caplog.text


def test_splits_depend_on_seed_and_names_only(speech: Path, tmp_path: Path) -> None:
    first = describe_splits(corpora.scan(FOLDER, speech, seed=0, num_workers=1))
    elsewhere = tmp_path / "elsewhere"
    for name in random.Random(1).sample(sorted(p.name for p in speech.iterdir()), 6):
        shutil.copytree(speech / name, elsewhere / name)
    assert describe_splits(corpora.scan(FOLDER, elsewhere, seed=0, num_workers=1)) == first
    others = [describe_splits(corpora.scan(FOLDER, speech, seed=seed, num_workers=1)) for seed in range(1, 6)]
    assert any(other != first for other in others)


def test_workers_and_listing_order_do_not_matter(speech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "FILES_PER_CHUNK", 2)
    one = corpora.scan(FOLDER, speech, seed=0, num_workers=1)
    pd.testing.assert_frame_equal(corpora.scan(FOLDER, speech, seed=0, num_workers=2), one)


@pytest.mark.parametrize(("num_speakers", "expected"), [(6, (2, 2)), (7, (2, 2)), (30, (3, 3)), (100, (10, 10))])
def test_held_out_shares(num_speakers: int, expected: tuple[int, int]) -> None:
    assert folder._held_out(num_speakers, 0.1, 0.1) == expected


def test_large_shares_still_leave_speakers_to_train_on() -> None:
    assert folder._held_out(10, 0.9, 0.9) == (4, 4)
    assert folder._held_out(6, 0.99, 0.01) == (2, 2)


def test_metadata_per_file(speech: Path) -> None:
    paths = sorted(path.relative_to(speech).as_posix() for path in speech.rglob("*.*"))
    splits = dict(
        zip(("011", "NA", "ann", "bob", "1e5", "zoë"), ("train", "train", "valid", "valid", "test", "test"), strict=True)
    )
    rows = [{"path": p, "speaker_id": (s := p.split("/")[0]), "split": splits[s], "sex": "female", "age": 30} for p in paths]
    pd.DataFrame(rows).to_csv(speech / "metadata.csv", index=False)
    manifest = corpora.scan(FOLDER, speech, seed=0, num_workers=1)
    assert dict(zip(manifest["speaker_id"], manifest["split"], strict=True)) == splits
    assert set(manifest["sex"]) == {"F"}
    assert "age" not in manifest.columns


def test_metadata_per_speaker(speech: Path) -> None:
    rows = [("011", "M", "train"), ("NA", "f", "train"), ("ann", "", "valid"), ("bob", "m", "valid"), ("1e5", "?", "test")]
    table = pd.DataFrame([*rows, ("zoë", "F", "test")], columns=["speaker_id", "sex", "split"])
    table.to_csv(speech / "metadata.csv", index=False, encoding="utf-8-sig")  # as spreadsheet programs write it
    manifest = corpora.scan(FOLDER, speech, seed=0, num_workers=1)
    assert dict(zip(manifest["speaker_id"], manifest["sex"], strict=True)) == {
        "011": "M", "NA": "F", "ann": "", "bob": "M", "1e5": "", "zoë": "F",
    }  # fmt: skip


def test_metadata_and_files_that_do_not_match(speech: Path) -> None:
    rows = [("011/007.wav", "011"), ("gone/1.wav", "gone"), ("gone/2.wav", "gone"), ("011/007.wav", "011")]
    pd.DataFrame(rows, columns=["path", "speaker_id"]).to_csv(speech / "metadata.csv", index=False)
    lines = message_of(FOLDER, speech).splitlines()
    assert lines[0].endswith("2 rows name a file that does not exist (gone/1.wav, gone/2.wav); remove the rows or add the audio")
    assert "11 files have no row (011/day 1/x.flac, 1e5/007.wav, 1e5/day 1/x.flac and 8 more)" in lines[1]
    assert "1 files have more than one row (011/007.wav)" in lines[2]


@pytest.mark.parametrize("column", ["path", "speaker_id"])
def test_unicode_forms_of_one_name_are_one_name(speech: Path, column: str) -> None:
    """A corpus unpacked on macOS has the ``ë`` of ``zoë`` as two characters, a table typed elsewhere as one."""
    decomposed = unicodedata.normalize("NFD", "zoë")
    (speech / "zoë").rename(speech / decomposed)
    paths = sorted(path.relative_to(speech).as_posix() for path in speech.rglob("*.*"))
    rows = [{"path": unicodedata.normalize("NFC", path), "speaker_id": path.split("/")[0]} for path in paths]
    table = pd.DataFrame(rows) if column == "path" else pd.DataFrame(rows)[["speaker_id"]].drop_duplicates()
    table.to_csv(speech / "metadata.csv", index=False)
    manifest = corpora.scan(FOLDER, speech, seed=0, num_workers=1)
    assert sorted(manifest["path"]) == paths
    assert "zoë" in set(manifest["speaker_id"])
    assert decomposed not in set(manifest["speaker_id"])
    assert "zoë-007" in set(manifest["utterance_id"])


def test_a_file_that_is_there_in_two_unicode_forms_is_named(speech: Path) -> None:
    shutil.copytree(speech / "zoë", speech / unicodedata.normalize("NFD", "zoë"))
    assert "zoë/007.wav is there twice, as its name is in different Unicode forms; remove one" in unicodedata.normalize(
        "NFC", message_of(FOLDER, speech)
    )


def test_metadata_without_speakers(speech: Path) -> None:
    (speech / "metadata.csv").write_text("path,split\n011/007.wav,train\n")
    assert "needs the columns speaker_id" in message_of(FOLDER, speech)


@pytest.mark.parametrize("header", ["Split", " split", "SPLIT", "split ", "splits", "subset", "Set", "partition", "Fold"])
def test_a_column_that_is_nearly_known_is_refused(speech: Path, header: str) -> None:
    (speech / "metadata.csv").write_text(f"speaker_id,{header}\n011,test\n")
    assert f"the column {header!r} must be called 'split'; rename it" in message_of(FOLDER, speech)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("speaker,split", "speaker_id"),
        ("speaker_id,gender", "sex"),
        ("speaker_id,file_name", "path"),
        ("spk-id,path", "speaker_id"),
    ],
)
def test_a_column_that_others_call_otherwise_is_refused(speech: Path, header: str, name: str) -> None:
    (speech / "metadata.csv").write_text(f"{header}\n011,test\n")
    assert f"must be called {name!r}; rename it" in message_of(FOLDER, speech)


def test_a_column_with_a_typing_error_is_refused(speech: Path) -> None:
    (speech / "metadata.csv").write_text("speaker_id,spilt\n011,test\n")
    assert "is the column 'spilt' meant to be 'split'? Rename it, or remove it" in message_of(FOLDER, speech)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_table_in_another_encoding_is_refused(speech: Path, encoding: str) -> None:
    (speech / "metadata.csv").write_text("speaker_id,split\nzoë,test\n", encoding=encoding)
    assert message_of(FOLDER, speech) == f"{speech / 'metadata.csv'}: is not UTF-8 text; save it as UTF-8"


@pytest.mark.parametrize("header", ["speaker_id,split", "Speaker;Subset", "file\tpartition"])
def test_a_table_with_splits_under_another_name_is_refused(speech: Path, header: str) -> None:
    (speech / "speakers.csv").write_text(f"{header}\n011,test\n")
    assert "speakers.csv: must be called metadata.csv" in message_of(FOLDER, speech)


def test_tables_without_splits_may_lie_beside_the_speech(speech: Path) -> None:
    (speech / "speakers.csv").write_text("speaker_id,age\n011,30\n")
    assert len(corpora.scan(FOLDER, speech, seed=0, num_workers=1)) == 12


@pytest.mark.parametrize(
    "name",
    ["Metadata.CSV", "metadata.CSV", "meta_data.csv", "metadata.csv.txt", "metadata.tsv", "metadata.xlsx", "metadata.json"],
)
def test_a_table_that_is_nearly_called_metadata_is_refused(speech: Path, name: str) -> None:
    (speech / name).write_text("speaker_id,split\n011,test\n")
    assert f"{name}: must be called metadata.csv" in message_of(FOLDER, speech)


def test_unused_columns_are_reported(speech: Path, caplog: pytest.LogCaptureFixture) -> None:
    speakers = "".join(f"{speaker},30\n" for speaker in ("011", "NA", "ann", "bob", "1e5", "zoë"))
    (speech / "metadata.csv").write_text(f"speaker_id,age\n{speakers}", encoding="utf-8")
    with caplog.at_level(logging.INFO, logger="pipeline"):
        corpora.scan(FOLDER, speech, seed=0, num_workers=1)
    assert "the columns 'age' are not used" in caplog.text


def test_audio_of_other_formats_is_counted(speech: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("ann/1.sph", "ann/2.SPH", "bob/1.opus", "bob/1.txt", "bob/.1.opus"):
        (speech / name).touch()
    assert len(corpora.scan(FOLDER, speech, seed=0, num_workers=1)) == 12
    assert "12 audio files are used; left out: 1 .opus, 2 .sph files, which must be converted" in caplog.text
    (tmp_path / "other" / "ann").mkdir(parents=True)
    (tmp_path / "other" / "ann" / "1.m4a").touch()
    assert "left out: 1 .m4a files" in message_of(FOLDER, tmp_path / "other")


def test_a_link_to_nothing_is_named(speech: Path) -> None:
    (speech / "ann" / "lost.wav").symlink_to("nowhere.wav")
    assert message_of(FOLDER, speech).endswith(
        "ann/lost.wav: is a link to a file that is not there; remove it or restore the file"
    )


def test_half_a_file_is_not_scanned(speech: Path) -> None:
    for name in ("ann/007.wav", "ann/day 1/x.flac"):
        (speech / name).write_bytes((speech / name).read_bytes()[: (speech / name).stat().st_size // 2])
    lines = message_of(FOLDER, speech).splitlines()
    assert "007.wav: is cut short: 778 of the 1,600 bytes of samples are there" in lines[0]
    assert "x.flac: is " in lines[1]


def test_the_manifest_knows_what_the_files_hold(speech: Path) -> None:
    manifest = corpora.scan(FOLDER, speech, seed=0, num_workers=1)
    first = corpora.listing_digest(FOLDER, speech)
    assert corpora.changed_files(manifest, speech) == []
    write_audio(speech / "ann" / "007.wav", -np.resize(TONE, 800), 16000)
    assert corpora.changed_files(manifest, speech) == ["ann/007.wav"]
    assert corpora.listing_digest(FOLDER, speech) != first


def test_speaker_in_two_splits(speech: Path) -> None:
    paths = sorted(path.relative_to(speech).as_posix() for path in speech.rglob("*.*"))
    rows = [{"path": p, "speaker_id": p.split("/")[0], "split": ("train", "valid")[i % 2]} for i, p in enumerate(paths)]
    pd.DataFrame(rows).to_csv(speech / "metadata.csv", index=False)
    message = message_of(FOLDER, speech)
    assert "speaker 011 is in the splits train, valid" in message
    assert "split test has 0 speakers" in message


def test_empty_folder_and_loose_files(tmp_path: Path, speech: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no audio" in message_of(FOLDER, empty)
    put(speech / "loose.wav")
    assert "1 audio files lie outside any speaker's folder (loose.wav)" in message_of(FOLDER, speech)


def test_too_few_speakers(tmp_path: Path) -> None:
    for speaker in "abc":
        put(tmp_path / speaker / "1.wav")
    assert "3 speakers are too few to split; it takes at least 6 (2 for each of train, valid, test)" in message_of(
        FOLDER, tmp_path
    )
    assert "3 speakers are too few to split; it takes at least 4 (2 for each of valid, test)" in message_of(
        FOLDER, tmp_path, splits=["valid", "test"]
    )


def test_a_small_corpus_is_split_among_the_splits_asked_for(tmp_path: Path) -> None:
    for speaker in "abcde":
        put(tmp_path / speaker / "1.wav")
    only_test = corpora.scan(FOLDER, tmp_path, seed=0, splits=["test"], num_workers=1)
    assert describe_splits(only_test) == {"test": set("abcde")}
    two = describe_splits(corpora.scan(FOLDER, tmp_path, seed=0, splits=["valid", "test"], num_workers=1))
    assert {split: len(speakers) for split, speakers in two.items()} == {"valid": 3, "test": 2}


def test_enough_speakers_are_split_alike_whatever_is_asked_for(speech: Path) -> None:
    whole = describe_splits(corpora.scan(FOLDER, speech, seed=0, num_workers=1))
    assert describe_splits(corpora.scan(FOLDER, speech, seed=0, splits=["test"], num_workers=1)) == whole


def test_only_the_splits_asked_for_have_to_be_there(libri: Path, wsj: Path) -> None:
    for folder_name in ("train-clean-100", "dev-clean"):
        shutil.rmtree(libri / folder_name)
    manifest = corpora.scan(LibriSpeechCorpus(kind="librispeech"), libri, seed=0, splits=["test"], num_workers=1)
    assert describe_splits(manifest) == {"test": {"61", "121"}}
    first = corpora.listing_digest(LibriSpeechCorpus(kind="librispeech"), libri, splits=["test"])
    put(libri / "dev-clean" / "84" / "7" / "84-7-0001.flac")
    assert corpora.listing_digest(LibriSpeechCorpus(kind="librispeech"), libri, splits=["test"]) == first
    shutil.rmtree(wsj / "si_tr_s")
    manifest = corpora.scan(Wsj0Corpus(kind="wsj0"), wsj, seed=0, splits=["test"], num_workers=1)
    assert describe_splits(manifest) == {"test": {"050", "440"}}
    assert "si_tr_s: no such folder" in message_of(Wsj0Corpus(kind="wsj0"), wsj, splits=["valid", "test"])


def test_two_files_with_one_id(speech: Path) -> None:
    put(speech / "ann" / "007.flac")
    put(speech / "ann" / "day 1-x.flac")
    lines = message_of(FOLDER, speech).splitlines()
    assert "utterance_id ann-007 belongs to 2 files (ann/007.flac, ann/007.wav)" in lines[0]
    assert len(lines) == 2


def test_every_bad_file_is_named_at_once(speech: Path) -> None:
    (speech / "ann" / "empty.wav").touch()
    (speech / "ann" / "text.flac").write_text("no audio")
    (speech / "bob" / "cut.flac").write_bytes((speech / "bob" / "day 1" / "x.flac").read_bytes()[:20])
    write_audio(speech / "bob" / "none.wav", TONE[:0], 16000)
    stereo(speech / "zoë" / "two.wav")
    message = message_of(FOLDER, speech)
    assert len(message.splitlines()) == 5
    for name in ("empty.wav", "text.flac", "cut.flac", "none.wav", "two.wav"):
        assert name in message
    assert "corpus.channel" in message


def stereo(path: Path) -> None:
    """A two-channel wav file: the mono header with its channel fields changed."""
    put(path)
    content = bytearray(path.read_bytes())
    content[22], content[32] = 2, 4
    path.write_bytes(content)


def test_stereo_with_a_channel_chosen(tmp_path: Path) -> None:
    for speaker in "abcdef":
        stereo(tmp_path / speaker / "1.wav")
    manifest = corpora.scan(FolderCorpus(kind="folder", channel=1), tmp_path, seed=0, num_workers=1)
    assert set(manifest["num_samples"]) == {800}
    assert "there is no channel 2 (0 is the first)" in message_of(FolderCorpus(kind="folder", channel=2), tmp_path)


def test_hidden_files_links_and_loops(speech: Path) -> None:
    (speech / "ann" / "._007.wav").write_bytes(b"what a Mac leaves behind")
    (speech / "ann" / "again").symlink_to(speech)
    (speech / "bob" / "linked").symlink_to(speech / "bob" / "day 1")
    manifest = corpora.scan(FOLDER, speech, seed=0, num_workers=1)
    assert len(manifest) == 13
    assert "bob/linked/x.flac" in set(manifest["path"])


def test_real_speech(corpora_folder_speech: Path) -> None:
    manifest = corpora.scan(FOLDER, corpora_folder_speech, seed=0, num_workers=1)
    table = pd.read_csv(corpora_folder_speech / "metadata.csv", dtype=str, keep_default_na=False).sort_values("utterance_id")
    for column in ("utterance_id", "speaker_id", "sex", "split", "path", "sample_rate", "num_samples"):
        assert list(manifest[column].astype(str)) == list(table[column]), column


@pytest.fixture
def corpora_folder_speech(corpora: Path) -> Path:
    return corpora / "speech"


# ----------------------------------------------------------------------------------------------------------- librispeech
@pytest.fixture
def libri(tmp_path: Path) -> Path:
    root = tmp_path / "LibriSpeech"
    names = {"train-clean-100": ("60", "103"), "dev-clean": ("84", "174"), "test-clean": ("61", "121")}
    for subset, speakers in names.items():
        for speaker in speakers:
            put(root / subset / speaker / "7" / f"{speaker}-7-0001.flac")
            (root / subset / speaker / "7" / f"{speaker}-7.trans.txt").write_text("WORDS")
    (root / "SPEAKERS.TXT").write_text(
        ";ID  |SEX| SUBSET           |MINUTES| NAME\n"
        "60   | M | train-clean-100  | 20.18 | | CarolAnn of the bars |\n"
        "103  | F | train-clean-100  | 25.04 | Karen Savage\n"
        "84   | F | dev-clean        | 8.02  | Christie Nowak\n"
        "174  | M | dev-clean        | 8.04  | Peter Eastman\n"
        "61   | M | test-clean       | 8.08  | Paul-Gabriel Wiener\n"
    )
    return root


def test_librispeech(libri: Path) -> None:
    manifest = corpora.scan(LibriSpeechCorpus(kind="librispeech"), libri, seed=0, num_workers=1)
    rows = manifest.set_index("speaker_id")
    assert dict(rows["sex"]) == {"60": "M", "103": "F", "84": "F", "174": "M", "61": "M", "121": ""}
    assert dict(rows["split"]) == {"60": "train", "103": "train", "84": "valid", "174": "valid", "61": "test", "121": "test"}
    assert rows.loc["60", "utterance_id"] == "60-7-0001"
    assert rows.loc["60", "path"] == "train-clean-100/60/7/60-7-0001.flac"


def test_librispeech_subsets(libri: Path) -> None:
    other = LibriSpeechCorpus(
        kind="librispeech", subsets=Subsets(train=["train-clean-100", "train-clean-360"], valid="dev-clean", test="dev-other")
    )
    lines = message_of(other, libri).splitlines()
    assert [line.split(":")[0].rpartition("/")[2] for line in lines] == ["dev-other", "train-clean-360"]
    assert "tasnet fetch" in lines[0]
    twice = LibriSpeechCorpus(kind="librispeech", subsets=Subsets(train="dev-clean", valid="dev-clean", test="test-clean"))
    assert "a subset may be used once only" in message_of(twice, libri)
    shutil.rmtree(libri / "dev-clean" / "84")
    shutil.rmtree(libri / "dev-clean" / "174")
    assert "dev-clean: holds no audio" in message_of(LibriSpeechCorpus(kind="librispeech"), libri)


def test_librispeech_without_speaker_table(libri: Path, caplog: pytest.LogCaptureFixture) -> None:
    (libri / "SPEAKERS.TXT").unlink()
    manifest = corpora.scan(LibriSpeechCorpus(kind="librispeech"), libri, seed=0, num_workers=1)
    assert set(manifest["sex"]) == {""}
    assert "SPEAKERS.TXT" in caplog.text


def test_librispeech_speakers_in_two_splits(libri: Path) -> None:
    put(libri / "dev-clean" / "60" / "8" / "60-8-0001.flac")
    assert "speaker 60 is in the splits train, valid" in message_of(LibriSpeechCorpus(kind="librispeech"), libri)


# ------------------------------------------------------------------------------------------------------------------ wsj0
@pytest.fixture
def wsj(tmp_path: Path) -> Path:
    root = tmp_path / "wsj0"
    for part, speakers in {"si_tr_s": ("011", "01z"), "si_dt_05": ("050",), "si_et_05": ("440",)}.items():
        for speaker in speakers:
            for number in range(10):
                put(root / part / speaker / f"{speaker}c02{number:02d}.wav", num_samples=160)
    return root


def test_wsj0_shares_speakers_but_no_utterances(wsj: Path) -> None:
    manifest = corpora.scan(Wsj0Corpus(kind="wsj0"), wsj, seed=0, num_workers=1)
    assert describe_splits(manifest) == {"train": {"011", "01z"}, "valid": {"011", "01z"}, "test": {"050", "440"}}
    assert manifest["utterance_id"].is_unique
    assert list(manifest[manifest["split"] == "valid"].groupby("speaker_id").size()) == [3, 3]
    assert set(manifest["sex"]) == {""}


def test_wsj0_speaker_table(wsj: Path) -> None:
    (wsj / "doc").mkdir()
    (wsj / "doc" / "spkrinfo.txt").write_text(";; ID SEX\n011 M other words\n01Z F\n---\n")
    manifest = corpora.scan(Wsj0Corpus(kind="wsj0"), wsj, seed=0, num_workers=1)
    assert dict(zip(manifest["speaker_id"], manifest["sex"], strict=True)) == {"011": "M", "01z": "F", "050": "", "440": ""}


def test_wsj0_refuses_the_far_field_microphone(wsj: Path) -> None:
    (wsj / "si_tr_s" / "011" / "011c0200.wv2").touch()
    message = message_of(Wsj0Corpus(kind="wsj0"), wsj)
    assert "1 .wv2 files (si_tr_s/011/011c0200.wv2) are the far-field microphone" in message


def test_wsj0_explains_shortened_sphere(wsj: Path) -> None:
    sphere = (
        b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\nsample_count -i 160\nend_head\n".ljust(1024) + b"ajkg"
    )
    (wsj / "si_tr_s" / "011" / "011c0299.wv1").write_bytes(sphere)
    message = message_of(Wsj0Corpus(kind="wsj0"), wsj)
    assert "011c0299.wv1" in message
    assert "sph2pipe" in message
    assert len(message.splitlines()) == 1


def test_wsj0_reads_uncompressed_sphere(wsj: Path) -> None:
    (wsj / "si_tr_s" / "011" / "011c0299.wv1").write_bytes(sphere_file(num_samples=320))
    manifest = corpora.scan(Wsj0Corpus(kind="wsj0"), wsj, seed=0, num_workers=1).set_index("utterance_id")
    assert manifest.loc["011c0299", "num_samples"] == 320


def sphere_file(num_samples: int) -> bytes:
    """A NIST SPHERE file of silence."""
    fields = "channel_count -i 1\nsample_rate -i 16000\nsample_n_bytes -i 2\nsample_byte_format -s2 01\nsample_sig_bits -i 16\n"
    header = f"NIST_1A\n   1024\n{fields}sample_coding -s3 pcm\nsample_count -i {num_samples}\nend_head\n"
    return header.encode().ljust(1024) + bytes(2 * num_samples)


def test_wsj0_missing_and_misplaced(wsj: Path) -> None:
    put(wsj / "si_tr_s" / "flat.wav")
    assert "1 files are not in FOLDER/SPEAKER/ (si_tr_s/flat.wav)" in message_of(Wsj0Corpus(kind="wsj0"), wsj)
    shutil.rmtree(wsj / "si_dt_05")
    shutil.rmtree(wsj / "si_et_05")
    assert [line.split(":")[0].rpartition("/")[2] for line in message_of(Wsj0Corpus(kind="wsj0"), wsj).splitlines()] == [
        "si_dt_05",
        "si_et_05",
    ]


# ------------------------------------------------------------------------------------------------------- finding, digest
def test_find_root(tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    assert corpora.find_folder(FOLDER.kind, corpora_dir=tmp_path, named={}) == tmp_path / "speech"
    assert corpora.find_folder(FOLDER.kind, corpora_dir=None, named={"folder": tmp_path}) == tmp_path
    (tmp_path / "LibriSpeech" / "LibriSpeech").mkdir(parents=True)
    libri = LibriSpeechCorpus(kind="librispeech")
    assert corpora.find_folder(libri.kind, corpora_dir=tmp_path, named={}) == tmp_path / "LibriSpeech" / "LibriSpeech"


@pytest.mark.parametrize("corpora_dir", [None, "here"])
def test_a_corpus_that_is_not_there(tmp_path: Path, corpora_dir: str | None) -> None:
    with pytest.raises(CorpusError) as caught:
        corpora.find_folder(Wsj0Corpus(kind="wsj0").kind, corpora_dir=tmp_path if corpora_dir else None, named={})
    assert "--corpus wsj0=DIR" in str(caught.value)
    assert "--corpora DIR or TASNET_CORPORA" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_point_nowhere(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such folder"):
        corpora.find_folder(FOLDER.kind, corpora_dir=None, named={"folder": tmp_path / "gone"})
    with pytest.raises(CorpusError, match="no corpus has that name; there are folder, librimix"):
        corpora.find_folder(FOLDER.kind, corpora_dir=None, named={"libri": tmp_path})


def test_listing_digest_notices_what_matters(speech: Path) -> None:
    first = corpora.listing_digest(FOLDER, speech)
    (speech / "notes.txt").write_text("not audio")
    assert corpora.listing_digest(FOLDER, speech) == first
    digests = {first}
    changes: list[Callable[[], object]] = [
        lambda: (speech / "metadata.csv").write_text("speaker_id,split\n"),
        lambda: (speech / "metadata.csv").write_text("speaker_id,other\n"),
        lambda: put(speech / "ann" / "new.wav"),
        lambda: put(speech / "ann" / "new.wav", num_samples=900),
        lambda: (speech / "ann" / "new.wav").rename(speech / "ann" / "newer.wav"),
    ]
    for change in changes:
        change()
        digests.add(corpora.listing_digest(FOLDER, speech))
    assert len(digests) == 6


# ------------------------------------------------------------------------------------------------------------- synthetic
SMALL = SyntheticCorpus(kind="synthetic", num_speakers={"train": 4, "valid": 2, "test": 2}, utterances_per_speaker=2)


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("espeakng_loader", reason="the extra `demo` is not installed: no synthetic voices")
    root = tmp_path_factory.mktemp("voices") / "speech"
    synthetic.generate(SMALL, root, seed=0, num_workers=1)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_synthetic_corpus_scans(voices: Path) -> None:
    manifest = corpora.scan(SMALL, voices, seed=0, num_workers=1)
    assert len(manifest) == 16
    speakers = manifest.drop_duplicates("speaker_id")
    assert dict(speakers.groupby("split").size()) == {"train": 4, "valid": 2, "test": 2}
    assert dict(speakers.groupby(["split", "sex"]).size()) == {
        ("test", "F"): 1, ("test", "M"): 1, ("train", "F"): 2, ("train", "M"): 2, ("valid", "F"): 1, ("valid", "M"): 1,
    }  # fmt: skip
    assert set(manifest["sample_rate"]) == {22050}
    assert manifest["num_samples"].between(3.2 * 22050, 6.0 * 22050).all()


def test_synthetic_speech_is_audible_and_not_clipped(voices: Path) -> None:
    from pipeline.audio.files import read_audio

    for path in voices.rglob("*.wav"):
        samples, _ = read_audio(path)
        assert -45 < 20 * np.log10(np.sqrt(np.mean(samples**2))) < -10, path
        assert np.abs(samples).max() < 1 - 2**-15, path


def test_synthetic_bytes_are_the_same_for_any_order_and_workers(voices: Path, tmp_path: Path) -> None:
    synthetic.generate(SMALL, tmp_path / "again", seed=0, num_workers=2)
    assert contents(tmp_path / "again") == contents(voices)


def test_synthetic_resumes_after_a_kill(voices: Path, tmp_path: Path) -> None:
    root = tmp_path / "cut"
    shutil.copytree(voices, root)
    (root / "metadata.csv").unlink()
    for number, path in enumerate(sorted(root.rglob("*.wav"))):
        if number % 3:
            path.unlink()
    (root / "f001" / ".f001-001.wav.123.tmp").touch()
    kept = {path: path.stat().st_mtime_ns for path in root.rglob("*.wav")}
    assert "generate it first" in message_of(SMALL, root)
    time.sleep(0.01)
    synthetic.generate(SMALL, root, seed=0, num_workers=1)
    assert contents(root) == contents(voices)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_synthetic_never_mixes_two_corpora(voices: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="made with other settings"):
        synthetic.generate(SMALL, voices, seed=1)
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(CorpusError, match="holds other files"):
        synthetic.generate(SMALL, tmp_path, seed=0)


def test_synthetic_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.corpora import espeak

    monkeypatch.setattr(espeak, "espeakng_loader", None)
    with pytest.raises(CorpusError, match=r"pip install 'tasnet-pipeline\[demo\]'"):
        synthetic.generate(SMALL, tmp_path / "x", seed=0, num_workers=1)


@pytest.mark.parametrize("seed", range(5))
def test_synthetic_speakers_are_distinct(seed: int) -> None:
    corpus = SyntheticCorpus(kind="synthetic")
    speakers = synthetic.cast_speakers(corpus, seed)
    assert len({speaker.voice.name for speaker in speakers}) == len(speakers) == 52
    assert len({speaker.speaker_id for speaker in speakers}) == 52
    for split in ("train", "valid", "test"):
        here = [speaker for speaker in speakers if speaker.split == split]
        assert sum(speaker.sex == "F" for speaker in here) == len(here) / 2
        assert len({speaker.pitch_hz for speaker in here}) == len(here)
        assert all(0 < speaker.voice.pitch < 99 for speaker in here)


def test_synthetic_voices_run_out() -> None:
    many = SyntheticCorpus(kind="synthetic", num_speakers={"train": 200, "valid": 2, "test": 2})
    with pytest.raises(CorpusError, match="204 speakers are more than the 154 voices there are"):
        synthetic.cast_speakers(many, 0)
    most = SyntheticCorpus(kind="synthetic", num_speakers={"train": 149, "valid": 3, "test": 2})
    assert len(synthetic.cast_speakers(most, 0)) == 154


def test_sentences() -> None:
    from pipeline.corpora.sentences import sentence

    texts = [sentence(f"key {number}", num_words=10) for number in range(5000)]
    assert len(set(texts)) == 5000
    assert sentence("key 7", num_words=10) == texts[7]
    assert all(10 <= len(text.split()) <= 19 and text[0].isupper() and text.endswith(".") for text in texts)


def test_adapters_agree_on_their_face() -> None:
    for kind, adapter in corpora.ADAPTERS.items():
        assert kind in corpora.FOLDER_NAMES
        for name in ("FOLDER_NAMES", "SHARED_SPLITS", "files", "metadata_files", "utterances"):
            assert hasattr(adapter, name), (kind, name)
    assert {librispeech, wsj0, folder, synthetic} == set(corpora.ADAPTERS.values())
