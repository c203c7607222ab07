"""Lint of plans: the faults of published lists are found, sound lists are not accused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import PlanError
from pipeline.mixtures.plans import wsj0mix
from pipeline.mixtures.plans.foreign import read_families
from pipeline.mixtures.plans.lint import lint
from pipeline.recipe.schema import Wsj0MixPlan


def _plan(*mixtures: tuple[str, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mixtures given as (split, name, utterance, utterance); the first letter of an utterance is its speaker."""
    rows = [(split, name, f"s{k}", u) for split, name, *utterances in mixtures for k, u in enumerate(utterances, 1)]
    plan = pd.DataFrame(rows, columns=["split", "mixture_id", "source", "utterance_id"])
    ids = sorted(set(plan["utterance_id"]))
    return plan, pd.DataFrame({"utterance_id": ids, "speaker_id": [name[0] for name in ids]})


def test_a_sound_plan_has_no_findings() -> None:
    assert lint(*_plan(("train", "m1", "a1", "b1"), ("train", "m2", "a2", "b1"), ("test", "m3", "c1", "d1"))) == []


def test_every_fault_is_named() -> None:
    findings = lint(
        *_plan(
            ("train", "m1", "a1", "a2"),
            ("train", "m2", "b1", "c1"),
            ("train", "m3", "c1", "b1"),
            ("test", "m4", "c1", "d1"),
        )
    )
    assert findings == [
        "split train: the same speaker more than once in 1 of 3 mixtures (m1)",
        "split train: the same utterances as another mixture in 1 of 3 mixtures (m3)",
        "splits train and test share 1 utterances (c1)",
        "splits train and test share 1 speakers (c)",
    ]


def test_the_published_lists_share_speakers_and_repeat_pairs_as_they_are_known_to(corpora: Path) -> None:
    plan, utterances = wsj0mix.read_lists(corpora / "wsj0", Wsj0MixPlan(kind="wsj0mix"))
    assert [text.split(" (")[0] for text in lint(plan, utterances)] == [
        "split train: the same utterances as another mixture in 6 of 20000 mixtures",
        "split valid: the same utterances as another mixture in 1 of 5000 mixtures",
        "split test: the same utterances as another mixture in 4 of 3000 mixtures",
        "splits train and valid share 101 speakers",
    ]


# ------------------------------------------------------------------------------------------------------------ foreign lists
def _findings(target: Path) -> list[str]:
    return [f"{Path(name).name}: {text}" for name, *tables in read_families(target) for text in lint(*tables)]


def test_lists_of_merls_format_with_any_number_of_speakers(tmp_path: Path) -> None:
    # One speaker twice in the third row, as in hundreds of rows of the 4-speaker lists that go around.
    rows = [
        "a/1.wav 1 b/1.wav -1 c/1.wav 0 d/1.wav 0",
        "a/2.wav 1 b/2.wav -1 c/2.wav 0 d/2.wav 0",
        "a/3.wav 1 b/3.wav 2 a/4.wav 0 d/3.wav 0",
    ]
    (tmp_path / "mix_4_spk_tr.txt").write_text("".join(f"{row} \n" for row in rows))
    (tmp_path / "mix_4_spk_tt.txt").write_text("e/1.wav 1 f/1.wav -1 g/1.wav 0 d/3.wav 0\n")
    (tmp_path / "mix_2_spk_tr.txt").write_text("a/1.wav 1 b/1.wav -1\n")
    assert _findings(tmp_path) == [
        "mix_4_spk_*.txt: split tr: the same speaker more than once in 1 of 3 mixtures (line 3)",
        "mix_4_spk_*.txt: splits tr and tt share 1 utterances (d/3.wav)",
        "mix_4_spk_*.txt: splits tr and tt share 1 speakers (d)",
    ]
    assert _findings(tmp_path / "mix_4_spk_tt.txt") == []


def test_lists_of_one_name_are_not_taken_for_one_list(tmp_path: Path) -> None:
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mix_2_spk_tr.txt").write_text("a/1.wav 1 b/1.wav -1\n")
    assert [text.split(" share ")[0] for text in _findings(tmp_path)] == [
        "mix_2_spk_*.txt: splits ours/mix_2_spk_tr.txt and theirs/mix_2_spk_tr.txt"
    ] * 2


def test_lists_of_librimixs_format_with_and_without_speakers(tmp_path: Path) -> None:
    header = "mixture_ID,source_1_path,source_1_gain,source_2_path,source_2_gain\n"
    (tmp_path / "libri2mix_dev.csv").write_text(f"{header}m1,x/1-1-1.flac,1,x/1-2-2.flac,1\nm2,x/1-2-2.flac,1,x/1-1-1.flac,1\n")
    assert _findings(tmp_path) == [
        "libri2mix_dev.csv: split dev: the same speaker more than once in 2 of 2 mixtures (m1, m2)",
        "libri2mix_dev.csv: split dev: the same utterances as another mixture in 1 of 2 mixtures (m2)",
    ]
    info = "mixture_ID,speaker_1_ID,speaker_1_sex,speaker_2_ID,speaker_2_sex\nm1,1.0,F,2.0,F\nm2,2.0,F,1.0,F\n"
    (tmp_path / "libri2mix_dev_info.csv").write_text(info)
    assert len(_findings(tmp_path)) == 1


def test_published_lists_are_as_sound_as_they_are_known_to_be(corpora: Path) -> None:
    assert _findings(corpora / "librimix") == []
    assert [text.split(" (")[0] for text in _findings(corpora / "wsj0")] == [
        "mix_2_spk_*.txt: split cv: the same utterances as another mixture in 1 of 5000 mixtures",
        "mix_2_spk_*.txt: split tr: the same utterances as another mixture in 6 of 20000 mixtures",
        "mix_2_spk_*.txt: split tt: the same utterances as another mixture in 4 of 3000 mixtures",
        "mix_2_spk_*.txt: splits cv and tr share 101 speakers",
        "mix_3_spk_*.txt: splits cv and tr share 101 speakers",
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.txt", "a 1 b\n", "line 1: expected 1 pairs of a path"),
        ("x.txt", "", "x.txt: is empty"),
        ("x.csv", "a,b\n1,2\n", "the columns mixture_ID, source_1_path are missing"),
        ("x.csv", "\0\xff", "line 1: has NUL characters"),
        ("x.txt", "\udcff", "line 1: is not UTF-8 text"),
        ("readme.md/x", "", "no lists here"),
    ],
)
def test_what_is_no_list_is_said(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(PlanError, match=said):
        _findings(path if path.suffix else path.parent)


def manifest_of(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Speaker, split and content of each file."""
    names = [f"u{number}" for number in range(len(rows))]
    table = pd.DataFrame(rows, columns=["speaker_id", "split", "sha256"], dtype="str")
    return table.assign(utterance_id=names, path=[f"{name}.wav" for name in names])


NO_PLAN = pd.DataFrame(columns=["mixture_id", "split", "source", "utterance_id"], dtype="str")


def test_one_recording_under_two_speakers_or_in_two_splits_is_named() -> None:
    copies = manifest_of(("ann", "train", "x"), ("bob", "train", "x"), ("ann", "train", "y"), ("ann", "train", "y"))
    assert lint(NO_PLAN, copies) == ["1 recording is there under several speakers (u0.wav = u1.wav)"]
    leaking = manifest_of(("ann", "train", "x"), ("ann", "test", "x"), ("cat", "test", ""), ("dan", "test", ""))
    assert lint(NO_PLAN, leaking) == ["1 recording is there in several splits (u0.wav = u1.wav)"]


@pytest.mark.parametrize("names", [("session1", "Session_2"), ("2024-01-05", "20240106"), ("disc 1", "train")])
def test_folders_of_sessions_are_not_taken_for_speakers_without_a_word(names: tuple[str, ...]) -> None:
    found = lint(NO_PLAN, manifest_of(*((name, "train", name) for name in (*names, "ann"))))
    assert len(found) == 1
    assert found[0].startswith(f"2 speakers are called like sessions or splits ({', '.join(sorted(names))})")


def test_sessions_of_one_person_are_not_taken_for_speakers_without_a_word() -> None:
    found = lint(NO_PLAN, manifest_of(*((name, "train", name) for name in ("ann_session1", "ann_session2", "bob_session1"))))
    assert len(found) == 1
    assert "1 people may have been taken for several speakers (ann_session1, ann_session2)" in found[0]


@pytest.mark.parametrize("names", [("Ann", "ann"), ("ann-1", "ANN_1"), ("ann 1", "ann_1")])
def test_names_that_differ_in_case_or_separators_only_are_named(names: tuple[str, ...]) -> None:
    found = lint(NO_PLAN, manifest_of(*((name, "train", name) for name in (*names, "bob"))))
    assert len(found) == 1
    assert f"({' = '.join(sorted(names))})" in found[0]


@pytest.mark.parametrize("names", [("spk1", "spk2", "f001", "m001"), ("103", "1034"), ("p225", "NA"), ("Desmond", "Day-Lewis")])
def test_usual_names_of_speakers_are_no_sessions(names: tuple[str, ...]) -> None:
    assert lint(NO_PLAN, manifest_of(*((name, "train", name) for name in names))) == []
