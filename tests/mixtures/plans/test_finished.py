"""Finished mixtures are found in folders and lists of every usual layout, and what does not fit is counted and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.errors import CorpusError, PlanError, TasnetError
from pipeline.mixtures.plans import build
from pipeline.mixtures.plans.adapter import Roots
from pipeline.recipe.reading import parse_recipe
from pipeline.recipe.schema import Recipe
from tests.finished_mixtures import RATE, SIZES, write_json_lists, write_lists, write_mixtures

ASTEROID = {"mixture_path": "mix", "source_1_path": "s1", "source_2_path": "s2"}
SPEECHBRAIN = {"mix_wav": "mix", "s1_wav": "s1", "s2_wav": "s2"}


def recipe(plan: dict[str, Any] | None = None, mix: dict[str, Any] | None = None, /, **corpus: Any) -> Recipe:
    raw = {"name": "x", "corpus": {"kind": "mixtures", **corpus}, "plan": plan or {}, "mix": mix or {}, "systems": {"a": {}}}
    return parse_recipe(raw)


def read(root: Path, given: Recipe) -> pd.DataFrame:
    """What the plan says: a row for each mixture, with the paths of its parts."""
    plan, manifest = build.read_published(given, Roots(root), num_workers=1)
    plan = plan.join(manifest.set_index("utterance_id")["path"], on="utterance_id")
    return plan.pivot(index=["split", "mixture_id"], columns="source", values="path").reset_index()


def check(root: Path, given: Recipe) -> None:
    plan, manifest = build.read_published(given, Roots(root), num_workers=1)
    build.check_audio(given, plan, manifest, Roots(root), num_workers=1)


def expected(
    top: str = "", names: tuple[str, ...] = ("mix", "s1", "s2"), folders: tuple[str, ...] = tuple(SIZES)
) -> pd.DataFrame:
    numbers = iter(range(100))
    rows = []
    for split, folder in zip(SIZES, folders, strict=True):
        for _ in range(SIZES[split]):
            number = next(numbers)
            rows.append((split, f"m{number}", *(f"{top}{folder}/{name}/m{number}.wav" for name in names)))
    columns = ["split", "mixture_id", "mix", *(f"s{k}" for k in range(1, len(names)))]
    return pd.DataFrame(rows, columns=columns).sort_values(["split", "mixture_id"], ignore_index=True)


def assert_found(root: Path, given: Recipe, wanted: pd.DataFrame) -> None:
    found = read(root, given)
    assert found.to_dict("records") == wanted.to_dict("records")


# --------------------------------------------------------------------------------------------------------------- folders
@pytest.mark.parametrize("folders", [("train", "valid", "test"), ("tr", "cv", "tt"), ("train-100", "dev", "test")])
@pytest.mark.parametrize("mixture", ["mix", "mix_clean", "mix_both", "mixed", "noisy"])
def test_usual_trees_are_found_without_a_setting(tmp_path: Path, folders: tuple[str, ...], mixture: str) -> None:
    names = (mixture, "s1", "s2")
    write_mixtures(tmp_path, names, folders=dict(zip(SIZES, folders, strict=True)))
    assert_found(tmp_path, recipe(), expected(names=names, folders=folders))


@pytest.mark.parametrize("num_sources", [1, 2, 3])
def test_there_are_as_many_sources_as_are_named(tmp_path: Path, num_sources: int) -> None:
    names = ("mix", *(f"s{k}" for k in range(1, num_sources + 1)))
    write_mixtures(tmp_path, names)
    given = recipe(sources=list(names[1:]))
    assert given.num_outputs == num_sources
    assert_found(tmp_path, given, expected(names=names))


def test_pairs_of_noisy_and_clean(tmp_path: Path) -> None:
    write_mixtures(tmp_path, ("noisy", "clean"))
    assert_found(tmp_path, recipe(sources=["clean"]), expected(names=("noisy", "clean")))


def test_patterns_find_what_is_called_otherwise(tmp_path: Path) -> None:
    for split in SIZES:
        for number in range(2):
            for path in (
                f"noisy_{split}_wav/book_snr{number}_fileid_{number}.wav",
                f"clean_{split}_wav/clean_fileid_{number}.wav",
            ):
                (tmp_path / path).parent.mkdir(exist_ok=True)
                soundfile.write(tmp_path / path, np.full(100, 0.1), RATE)
    found = read(
        tmp_path, recipe(mixture="noisy_{split}_wav/*_fileid_{id}.wav", sources=["clean_{split}_wav/clean_fileid_{id}.wav"])
    )
    assert list(found["mixture_id"]) == ["0", "1"] * 3
    assert list(found["s1"][:2]) == [f"clean_test_wav/clean_fileid_{number}.wav" for number in range(2)]


def test_folders_below_become_part_of_the_name(tmp_path: Path) -> None:
    for name in ("noisy", "clean"):
        for split in SIZES:
            (tmp_path / split / name / "p1").mkdir(parents=True)
            soundfile.write(tmp_path / split / name / "p1" / "001.wav", np.full(100, 0.1), RATE)
    found = read(tmp_path, recipe(mixture="noisy", sources=["clean"]))
    assert set(found["mixture_id"]) == {"p1-001"}


def test_a_flat_folder_is_a_test_set(tmp_path: Path) -> None:
    write_mixtures(tmp_path, folders=dict.fromkeys(SIZES, "."))
    found = read(tmp_path, recipe({"splits": ["test"]}, subsets={"test": "."}))
    assert list(found["mix"]) == [f"mix/m{number}.wav" for number in range(sum(SIZES.values()))]


def test_a_limit_takes_the_first_of_each_split(tmp_path: Path) -> None:
    write_mixtures(tmp_path)
    assert sorted(read(tmp_path, recipe({"limit": 1}))["mixture_id"]) == ["m0", "m4", "m6"]


FAULTS = [
    (
        lambda root: shutil.rmtree(root / "valid"),
        {},
        r"has no folder for the split valid \(valid, val, .*corpus\.subsets\.valid=FOLDER",
    ),
    (lambda root: shutil.copytree(root / "valid", root / "dev"), {}, "dev and valid could each be the split valid; name it"),
    (
        lambda root: shutil.copytree(root / "test/mix", root / "test/mix_both"),
        {},
        "has mix and mix_both; choose one with --set corpus",
    ),
    (lambda root: shutil.rmtree(root / "test/mix"), {}, "has none of the folders mix, mix_clean"),
    (lambda root: shutil.rmtree(root / "test/s2"), {}, "test/s2: no such folder"),
    (lambda root: (root / "test/s2/m6.wav").unlink(), {}, r"1 of 8 mixtures have no s2 \(test: m6\); add the files, or leave"),
    (
        lambda root: [p.rename(p.with_suffix(".sph")) for p in (root / "test/s2").iterdir()],
        {},
        r"no audio .* fits test/s2/\{id\}.*2 \.sph",
    ),
    (lambda root: shutil.copy(root / "test/s2/m6.wav", root / "test/s2/m6.flac"), {}, "is taken for the same as test/s2/m6.flac"),
    (lambda root: None, {"skip": ["m99"]}, "has no utterance and no file called m99"),
    (lambda root: None, {"sources": ["s1", "s3"]}, "s3: no such folder"),
]


@pytest.mark.parametrize(("damage", "corpus", "message"), FAULTS)
def test_what_is_missing_or_ambiguous_is_named(tmp_path: Path, damage: Any, corpus: dict[str, Any], message: str) -> None:
    write_mixtures(tmp_path)
    damage(tmp_path)
    with pytest.raises(TasnetError, match=message):
        read(tmp_path, recipe(**corpus))


def test_a_mixture_that_is_skipped_may_lack_a_source(tmp_path: Path) -> None:
    write_mixtures(tmp_path)
    (tmp_path / "test/s2/m6.wav").unlink()
    assert "m6" not in set(read(tmp_path, recipe(skip=["m6"]))["mixture_id"])
    assert "m6" not in set(read(tmp_path, recipe(skip=["test/mix/m6.wav"]))["mixture_id"])


def test_mixtures_with_a_silent_source_can_be_left_out(tmp_path: Path) -> None:
    write_mixtures(tmp_path)
    soundfile.write(tmp_path / "test/s2/m6.wav", np.zeros(4800), RATE)
    assert "m6" in set(read(tmp_path, recipe())["mixture_id"])
    assert "m6" not in set(read(tmp_path, recipe(skip="silent"))["mixture_id"])


def test_files_that_are_not_used_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_mixtures(tmp_path, ("mix", "s1", "s2", "s3"))
    (tmp_path / "test/mix/m6.wav").unlink()
    read(tmp_path, recipe())
    text = "\n".join(caplog.messages)
    assert "1 files of s1 belong to no mixture (test/s1/m6.wav)" in text
    assert "s3 is not used; if it is a source to separate, set corpus.sources = ['s1', 's2', 's3']" in text


@pytest.mark.parametrize("place", ["/etc", "../other", "a/../../b"])
@pytest.mark.parametrize("setting", ["mixture", "sources", "subsets", "lists"])
def test_settings_stay_within_the_corpus(place: str, setting: str) -> None:
    value: Any = {"mixture": place, "sources": [place]}.get(setting, {"train": place})
    with pytest.raises(TasnetError, match="must be a path within the corpus"):
        recipe(**{setting: value})


# ----------------------------------------------------------------------------------------------------------------- lists
@pytest.mark.parametrize("top", ["", "$data_root/", "{data_root}/", "ABSOLUTE"])
@pytest.mark.parametrize(("columns", "id_column"), [(ASTEROID, ""), (ASTEROID, "mixture_ID"), (SPEECHBRAIN, "ID")])
def test_lists_of_other_toolkits(tmp_path: Path, columns: dict[str, str], id_column: str, top: str) -> None:
    write_mixtures(tmp_path)
    lists = write_lists(tmp_path, columns, top=f"{tmp_path}/" if top == "ABSOLUTE" else top, id_column=id_column)
    assert_found(tmp_path, recipe(lists=lists), expected())


def test_files_outside_of_the_corpus_are_read_where_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere, root = write_mixtures(tmp_path / "elsewhere"), tmp_path / "root"
    root.mkdir()
    lists = write_lists(elsewhere, ASTEROID, top=f"{elsewhere}/")
    for name in lists.values():
        (elsewhere / name).rename(root / name)
    assert_found(root, recipe(lists=lists), expected(f"{elsewhere}/"))
    assert "24 of 24 listed files lie outside of it" in "\n".join(caplog.messages)


def test_one_source_by_the_names_of_its_columns(tmp_path: Path) -> None:
    write_mixtures(tmp_path, ("noisy", "clean"))
    lists = write_lists(tmp_path, {"noisy_wav": "noisy", "clean_wav": "clean"}, id_column="ID")
    assert_found(tmp_path, recipe(lists=lists, sources=["clean"]), expected(names=("noisy", "clean")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ID,mix_wav,s1_wav\na,m.wav,s.wav\n", "has no column for source 2 .*name it in corpus.sources"),
        ("ID,s1_wav,s2_wav\na,m.wav,s.wav\n", "has no column for the mixture .*name it in corpus.mixture"),
        ("ID,mix_wav,s1_wav,s2_wav\n../../victim,a.wav,b.wav,c.wav\n", "'../../victim' has a slash"),
        ("ID,mix_wav,s1_wav,s2_wav\na,../a.wav,b.wav,c.wav\n", "line 2, mix_wav: '../a.wav' is no file within the corpus"),
        ("ID,mix_wav,s1_wav,s2_wav\na,/x/../a.wav,b.wav,c.wav\n", "is no file within the corpus"),
        ("ID,mix_wav,s1_wav,s2_wav\na,,b.wav,c.wav\n", "'' is no file within the corpus"),
        ("ID,mix_wav,s1_wav,s2_wav\na,a.wav,b.wav,c.wav\na,d.wav,b.wav,c.wav\n", "mixture a is listed twice"),
        ("ID,mix_wav,s1_wav,s2_wav\na,a.wav,b.wav\n", "has 3 cells, and the list has 4 columns"),
        ("", "is empty"),
    ],
)
def test_broken_lists_are_refused_by_row(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "test.csv").write_text(content, encoding="utf-8")
    with pytest.raises(PlanError, match=message):
        read(tmp_path, recipe({"splits": ["test"]}, lists={"test": "test.csv"}))


def test_missing_lists_and_missing_files_are_named(tmp_path: Path) -> None:
    write_mixtures(tmp_path)
    lists = write_lists(tmp_path, ASTEROID)
    with pytest.raises(PlanError, match="has no list of the split valid"):
        read(tmp_path, recipe(lists={"train": "train.csv"}))
    (tmp_path / "test/s2/m6.wav").unlink()
    with pytest.raises(TasnetError, match=r"no such file for 1 of the 24 that are needed\n  test: 1 missing: test/s2/m6\.wav"):
        read(tmp_path, recipe(lists=lists))


def test_a_further_source_in_a_list_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_mixtures(tmp_path)
    read(tmp_path, recipe(lists=write_lists(tmp_path, ASTEROID), sources=["s1"]))
    assert "source_2_path is not used; if it is a source to separate, add it to corpus.sources" in "\n".join(caplog.messages)


@pytest.mark.parametrize("top", ["", "ABSOLUTE"])
@pytest.mark.parametrize("names", [("mix", "s1", "s2"), ("mix_both", "s1", "s2"), ("noisy", "clean")])
def test_asteroids_lists_in_json(tmp_path: Path, names: tuple[str, ...], top: str) -> None:
    write_mixtures(tmp_path, names)
    lists = write_json_lists(tmp_path, names, top=f"{tmp_path}/" if top else "")
    assert_found(tmp_path, recipe(lists=lists, sources=list(names[1:])), expected(names=names))


def test_files_of_a_source_belong_to_the_mixtures_of_their_names(tmp_path: Path) -> None:
    lists = write_json_lists(write_mixtures(tmp_path))
    path = tmp_path / "lists/train/s2.json"
    path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    assert_found(tmp_path, recipe(lists=lists), expected())


def test_files_of_other_names_belong_to_the_mixtures_in_their_order(tmp_path: Path) -> None:
    lists = write_json_lists(write_mixtures(tmp_path))
    for path in sorted((tmp_path / "train/s2").iterdir()):
        path.rename(path.with_name(f"source-of-{path.name}"))
    path = tmp_path / "lists/train/s2.json"
    path.write_text(path.read_text().replace("s2/m", "s2/source-of-m"))
    found = read(tmp_path, recipe(lists=lists))
    assert all(row.s2.endswith(f"{row.mixture_id}.wav") for row in found.itertuples())


def test_files_of_which_some_have_the_names_of_mixtures_are_not_guessed(tmp_path: Path) -> None:
    lists = write_json_lists(write_mixtures(tmp_path))
    path = tmp_path / "lists/train/s2.json"
    path.write_text(path.read_text().replace("m0", "m1"))
    with pytest.raises(PlanError, match=r"s2\.json: has no m0\.wav, as mix\.json has; make the lists again"):
        read(tmp_path, recipe(lists=lists))


def test_speechbrains_table_in_json(tmp_path: Path) -> None:
    write_mixtures(tmp_path)
    for split in SIZES:
        names = sorted(path.stem for path in (tmp_path / split / "mix").iterdir())
        table = {
            name: {"duration": 0.6, **{f"{part}_wav": f"{{data_root}}/{split}/{part}/{name}.wav" for part in ("mix", "s1", "s2")}}
            for name in names
        }
        (tmp_path / f"{split}.json").write_text(json.dumps(table))
    assert_found(tmp_path, recipe(lists={split: f"{split}.json" for split in SIZES}), expected())


def test_every_list_of_a_split_decides_the_identity(tmp_path: Path) -> None:
    given = recipe(lists=write_json_lists(write_mixtures(tmp_path)))
    before = build.lists_digest(given, tmp_path)
    assert len(before) == 9
    path = tmp_path / "lists/test/s2.json"
    path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    assert [name for name, digest in build.lists_digest(given, tmp_path).items() if digest != before[name]] == [
        "lists/test/s2.json"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"test\.json: is empty"),
        ("[", r"test\.json: is not valid JSON"),
        ("[[" * 50000, "is not valid JSON .nested too deeply"),
        ("[]", "lists nothing; it should hold"),
        ("{}", "lists nothing"),
        ("7", "lists nothing"),
        ('{"a": 1}', "a has no columns, as in"),
        ('{"a": {"mix_wav": "m.wav", "s1_wav": "s.wav"}}', "has no column for source 2 .*name it in corpus.sources"),
        ('{"a": {"mix_wav": "m.wav", "s1_wav": "s.wav", "s2_wav": 7}}', "test.json, a, s2_wav: '' is no file within the corpus"),
        ('{"../a": {"mix_wav": "m.wav", "s1_wav": "s.wav", "s2_wav": "t.wav"}}', "'../a' has a slash"),
        ('["a.wav"]', "entry 1: is no path with a number of samples"),
        ('[["a.wav", 7], [8, 9]]', "entry 2: is no path with a number of samples"),
        (f'[["a.wav", {"9" * 5000}]]', "is not valid JSON"),
        ('[["a.wav", 7]]', "has no s2.json beside it, which should list the files of that source"),
        ('[["b.wav", 7]]', "has no s2.json beside it"),
        ('[["a.wav", 7], ["b.wav", 8]]', "s1.json: lists 1 files, and test.json lists 2 mixtures"),
    ],
)
def test_broken_lists_in_json_are_refused_by_entry(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "test.json").write_text(content, encoding="utf-8")
    (tmp_path / "s1.json").write_text('[["s1/a.wav", 7]]', encoding="utf-8")
    with pytest.raises(PlanError, match=message):
        read(tmp_path, recipe({"splits": ["test"]}, lists={"test": "test.json"}))


# ------------------------------------------------------------------------------------------------------ nothing converted
def test_what_fits_passes(tmp_path: Path) -> None:
    write_mixtures(tmp_path)
    check(tmp_path, recipe())


def test_a_common_rate_names_the_setting(tmp_path: Path) -> None:
    write_mixtures(tmp_path, sample_rate=16000)
    with pytest.raises(CorpusError, match=r"24 of 24 files are sampled at 16000 Hz .*; set mix\.sample_rate = 16000$"):
        check(tmp_path, recipe())
    check(tmp_path, recipe(None, {"sample_rate": 16000}))


def test_other_rates_are_counted(tmp_path: Path) -> None:
    write_mixtures(tmp_path)
    soundfile.write(tmp_path / "test/s2/m6.wav", np.full(4800, 0.1), 16000)
    with pytest.raises(CorpusError, match=r"1 of 24 files are sampled at 16000 Hz \(test/s2/m6\.wav\).*; resample the files"):
        check(tmp_path, recipe())


def test_several_channels_are_counted(tmp_path: Path) -> None:
    write_mixtures(tmp_path)
    soundfile.write(tmp_path / "test/s2/m6.wav", np.full((4800, 2), 0.1), RATE)
    with pytest.raises(CorpusError, match=r"1 files have several channels \(test/s2/m6\.wav\); convert them to one"):
        check(tmp_path, recipe())


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_24"])
def test_finer_samples_than_training_would_read_name_the_setting(tmp_path: Path, subtype: str) -> None:
    write_mixtures(tmp_path, subtype=subtype)
    with pytest.raises(CorpusError, match=rf"24 of 24 files hold other samples than 16-bit integers \({subtype}: .*float32"):
        check(tmp_path, recipe())
    check(tmp_path, recipe(None, {"encoding": "float32"}))


def test_unequal_lengths_are_counted_with_their_numbers(tmp_path: Path) -> None:
    write_mixtures(tmp_path)
    soundfile.write(tmp_path / "test/s2/m6.wav", np.full(4799, 0.1), RATE)
    with pytest.raises(CorpusError, match=r"1 of 8 mixtures differ in length .*\(test: m6: 4800, 4800, 4799 samples\)"):
        check(tmp_path, recipe())


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    write_mixtures(tmp_path)
    path = tmp_path / "test/s2/m6.wav"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TasnetError, match=r"m6\.wav: is cut short"):
        read(tmp_path, recipe())


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"plan": {"kind": "random"}}, "plan.kind: 'random' does not go with corpus.kind = 'mixtures'"),
        ({"corpus": {"kind": "folder"}, "plan": {"kind": "finished"}}, "'finished' does not go with corpus.kind = 'folder'"),
        ({"corpus": {"kind": "mixtures", "channel": 0}}, "convert their files to one channel"),
        ({"mix": {"mode": "max"}}, "mix.mode: finished mixtures are used as they are"),
        ({"mix": {"types": ["mix_both"]}}, "makes no noisy mixtures"),
        ({"mix": {"splits": ["test"]}}, "plan.splits chooses splits"),
        ({"train": {"mixing": "dynamic"}}, r"systems\.a\.train\.mixing: finished mixtures cannot be mixed anew"),
        ({"corpus": {"kind": "mixtures", "sources": []}}, "must list at least one value"),
    ],
)
def test_settings_that_finished_mixtures_do_not_allow(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(TasnetError, match=message):
        parse_recipe({"name": "x", "corpus": {"kind": "mixtures"}, "systems": {"a": {}}, **tables})
