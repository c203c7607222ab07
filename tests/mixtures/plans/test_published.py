"""Published lists: broken ones are named with the row, files are known by their paths, missing ones are reported by folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import AudioError, PlanError
from pipeline.mixtures.plans import librimix_lists, wsj0mix
from pipeline.mixtures.plans.foreign import read_families
from pipeline.mixtures.plans.published import find_list, listed_manifest, listed_paths, unique_rows, with_ids
from pipeline.recipe.schema import LibriMixPlan, Wsj0MixPlan
from tests.voices import write_voices


def row(path: str) -> dict[str, str]:
    """A listed file, known by its path."""
    return {"utterance_id": path, "speaker_id": path.split("/")[0], "sex": "", "split": "test", "path": path}


HEADER = "mixture_ID,source_1_path,source_1_gain,source_2_path,source_2_gain\n"
ROWS = HEADER + "m1,t/1/1-1-1.flac,1,t/2/2-2-2.flac,1\nZo\u00eb,t/1/1-1-2.flac,1,t/2/2-2-3.flac,1\n"
BROKEN = [
    (b"", "is empty"),
    (b"\n \n", "is empty"),
    (ROWS.encode("utf-16"), "line 1: is not UTF-8 text"),
    (HEADER.encode("utf-16-le"), "line 1: has NUL characters"),
    (ROWS.encode("latin-1"), "line 3: is not UTF-8 text"),
    (HEADER.encode(), "has column names and no rows"),
    (b"a,b\n1,2\n", "the columns mixture_ID, source_1_path"),
    (ROWS.replace(",1\nZo", ",1,2\nZo").encode(), "line 2: has 6 cells, and the list has 5 columns"),
    (ROWS.replace("t/1/1-1-2.flac,1,", "").encode(), "line 3: has 3 cells"),
    (ROWS.replace("Zo\u00eb", "m1").encode(), r"line 3: mixture m1 is listed twice, first in \S+, line 2"),
    ((ROWS + ROWS.splitlines()[2].replace("\u00eb", "e\u0308")).encode(), r"line 4: mixture Zo\S+ is listed twice"),
    (ROWS.replace("m1", "../../../victim/mine").encode(), "line 2: the mixture's name '../../../victim/mine' has a slash"),
    (ROWS.replace("m1", "").encode(), "line 2: the mixture's name '' is empty"),
    (ROWS.replace("t/2/2-2-3", "../2-2-3").encode(), "line 3: '../2-2-3.flac' is no file within the corpus"),
    (ROWS.replace("t/2/2-2-3.flac", "/etc/passwd").encode(), "line 3: '/etc/passwd' is no file within the corpus"),
]


def test_a_folder_in_the_place_of_a_list_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "below" / "x.csv").mkdir(parents=True)
    with pytest.raises(PlanError, match=r"no x\.csv here or in any subfolder"):
        find_list(tmp_path, "x.csv")
    with pytest.raises(PlanError, match=r"x\.csv: is a folder, and should be a list; move it away"):
        find_list(tmp_path / "below", "x.csv")


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_broken_lists_are_named_with_the_row(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "libri2mix_t.csv"
    path.write_bytes(content)
    for read in (lambda: list(read_families(path)), lambda: read_librimix(tmp_path)):
        with pytest.raises(PlanError, match=message) as caught:
            read()
        assert str(caught.value).startswith(str(path))
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1.flac,1,", "1.flac,loud,", "line 2: source_1_gain is 'loud', not a number"),
        ("1.flac,1,", "1.flac,inf,", "line 2: source_1_gain is 'inf', not a number"),
        ("1.flac,1,", f"1.flac,{'9' * 5000},", f"line 2: source_1_gain is '{'9' * 37}...', not a number up to 1e.06"),
        ("source_2_gain\n", "noise_path\n", "the columns source_2_gain are missing"),
    ],
)
def test_gains_must_be_numbers(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "libri2mix_t.csv").write_text(ROWS.replace(old, new))
    with pytest.raises(PlanError, match=message):
        read_librimix(tmp_path)


def read_librimix(folder: Path) -> pd.DataFrame:
    """The plan of a folder's LibriMix lists."""
    plan = LibriMixPlan(kind="librimix", splits=["test"])
    return librimix_lists.read_lists(folder, plan, lambda split: ["t"])[0]


def test_a_byte_order_mark_is_no_part_of_a_list(tmp_path: Path) -> None:
    (tmp_path / "libri2mix_t.csv").write_bytes(ROWS.encode("utf-8-sig"))
    assert list(read_librimix(tmp_path)["mixture_id"].unique()) == ["m1", "Zo\u00eb"]
    assert [len(rows) for _, rows, _ in read_families(tmp_path)] == [4]
    (tmp_path / "mix_2_spk_tt.txt").write_bytes("wsj0/a/1.wav 1.5 wsj0/b/2.wav -1.5\n".encode("utf-8-sig"))
    plan, _ = wsj0mix.read_lists(tmp_path, Wsj0MixPlan(kind="wsj0mix", lists="published", splits=["test"]))
    assert list(plan["mixture_id"]) == ["1_1.5_2_-1.5"] * 2


def test_the_speakers_beside_a_foreign_list_may_be_broken(tmp_path: Path) -> None:
    (tmp_path / "libri2mix_t.csv").write_text(ROWS)
    (tmp_path / "libri2mix_t_info.csv").write_text("mixture_ID,speaker_1_sex\nm1,F\n")
    with pytest.raises(PlanError, match=r"libri2mix_t_info\.csv: the columns speaker_1_ID, speaker_2_ID are missing"):
        list(read_families(tmp_path))


def test_equal_file_names_in_different_folders_are_different_utterances() -> None:
    speech = unique_rows([row(path) for path in ("ann/SA1.wav", "bob/SA1.wav", "bob/SX7.wav", "ann/SA1.wav")])
    plan = pd.DataFrame({"source": ["s1", "s2", "s1"], "utterance_id": ["ann/SA1.wav", "bob/SA1.wav", "bob/SX7.wav"]})
    named, utterances = with_ids(plan, speech)
    assert list(named["utterance_id"]) == list(utterances["utterance_id"]) == ["ann-SA1", "bob-SA1", "SX7"]
    assert list(utterances["path"]) == ["ann/SA1.wav", "bob/SA1.wav", "bob/SX7.wav"]


def test_two_formats_of_one_file_are_different_utterances() -> None:
    speech = unique_rows([row(path) for path in ("ann/1.wav", "ann/1.flac", "bob/1.wav")])
    _, utterances = with_ids(pd.DataFrame({"utterance_id": ["ann/1.wav"]}), speech)
    assert list(utterances["utterance_id"]) == ["ann/1.wav", "ann/1.flac", "bob-1"]


def test_speech_and_noise_of_one_name_are_told_apart() -> None:
    speech, noises = unique_rows([row("ann/1.wav")]), unique_rows([row("tt/1.wav")])
    plan = pd.DataFrame({"source": ["s1", "noise"], "utterance_id": ["ann/1.wav", "tt/1.wav"]})
    named, _, _ = with_ids(plan, speech, noises)
    assert list(named["utterance_id"]) == ["ann-1", "tt-1"]


def test_lists_without_noise() -> None:
    named, speech, noises = with_ids(pd.DataFrame(row("a/1.wav"), index=[0]), unique_rows([row("a/1.wav")]), unique_rows([]))
    assert list(named["utterance_id"]) == list(speech["utterance_id"]) == ["1"]
    assert noises.empty


def test_missing_files_are_one_finding_and_endings_may_differ(tmp_path: Path) -> None:
    write_voices(tmp_path, speakers=1, takes=2, seconds=0.5)
    there, gone = "spk00/00-0.wav", ["spk00/00-7.wav", "spk01/01-0.wav"]
    listed = unique_rows([row(path) for path in (there, *gone)])
    assert listed_paths(listed, tmp_path) == ["spk00/00-0.flac", *gone]
    with pytest.raises(AudioError, match="no such file for 2 of the 3 that are needed") as caught:
        listed_manifest(listed, tmp_path, num_workers=1)
    assert "spk01: 1 missing: spk01/01-0.wav" in str(caught.value)
    manifest = listed_manifest(listed[:1], tmp_path, num_workers=1)
    assert manifest["sha256"].str.len().tolist() == [64]
