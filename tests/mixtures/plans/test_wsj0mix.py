"""MERL's lists: all published names, the lists themselves, the golden mixture bit for bit, levels that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.audio.files import read_audio, write_audio
from pipeline.audio.levels import active_level
from pipeline.audio.resampling import resample
from pipeline.corpora.wsj0 import MERL_SPLITS
from pipeline.errors import AudioError, PlanError
from pipeline.mixtures.plans import wsj0mix
from pipeline.mixtures.plans.planned import first_hours
from pipeline.mixtures.plans.published import listed_manifest
from pipeline.mixtures.rendering import FILES, check_inputs, render
from pipeline.recipe.schema import Mix, Variant, Wsj0MixPlan
from pipeline.tables import MIXTURES, PLAN, check_table, read_table
from tests.mixtures.small_corpus import inputs_of
from tests.voices import voice

LINES = (
    "wsj0/si_tr_s/40n/40na010x.wav 1.9857 wsj0/si_tr_s/01x/01xo031a.wav -1.9857 \n"
    "wsj0/si_tr_s/020/020c0211.wav 0.44692 wsj0/si_tr_s/40m/40mc021b.wav -0.44692 \n"
)


def _plan(**settings: Any) -> Wsj0MixPlan:
    return Wsj0MixPlan(kind="wsj0mix", **settings)


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/mix_2_spk_tr.txt").write_text(LINES)
    return tmp_path


@pytest.mark.parametrize("num_sources", [2, 3])
def test_all_published_names_are_reproduced(corpora: Path, num_sources: int) -> None:
    plan, utterances = wsj0mix.read_lists(corpora / "wsj0", _plan(num_sources=num_sources))
    check_table(plan, PLAN, origin="plan")
    path_of = utterances.set_index("utterance_id")["path"]
    for split, name in MERL_SPLITS.items():
        published = pd.read_csv(corpora / f"wsj0/filenames/mix_{num_sources}_spk_filenames_{name}.csv", dtype=str)
        ours = plan[plan["split"] == split]
        assert list(published["output_filename"]) == [f"{name}.wav" for name in ours["mixture_id"].iloc[::num_sources]]
        for k in range(num_sources):
            paths = wsj0mix.TOP + ours["utterance_id"].iloc[k::num_sources].map(path_of)
            assert list(published[f"s{k + 1}_path"]) == list(paths)


@pytest.mark.parametrize("num_sources", [2, 3])
def test_published_lists_are_written_as_they_were_read(corpora: Path, tmp_path: Path, num_sources: int) -> None:
    plan, utterances = wsj0mix.read_lists(corpora / "wsj0", _plan(num_sources=num_sources, splits=["valid", "test"]))
    written = wsj0mix.write_lists(plan, utterances, tmp_path)
    assert [path.read_bytes() for path in written] == [(corpora / "wsj0" / path.name).read_bytes() for path in written]


def test_a_list_is_read(lists: Path) -> None:
    plan, utterances = wsj0mix.read_lists(lists, _plan(splits=["train"]))
    assert list(plan["mixture_id"].unique()) == ["40na010x_1.9857_01xo031a_-1.9857", "020c0211_0.44692_40mc021b_-0.44692"]
    assert list(plan["level"]) == [1.9857, -1.9857, 0.44692, -0.44692]
    assert list(utterances["speaker_id"]) == ["40n", "01x", "020", "40m"]
    assert utterances["path"][2] == "si_tr_s/020/020c0211.wav"
    assert len(wsj0mix.read_lists(lists, _plan(splits=["train"], limit=1))[0]) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LINES + "wsj0/a/b/c.wav 1.0 \n", "mix_2_spk_tr.txt, line 3: expected 2 pairs"),
        (LINES.replace("0.44692", "loud"), "line 2: a level in dB is 'loud', not a number"),
        (LINES.replace("0.44692", "nan"), "line 2: a level in dB is 'nan', not a number"),
        (LINES.replace("0.44692", "9" * 20), "line 2: a level in dB is '99999999999999999999', not a number up to 200"),
        (LINES + LINES, r"line 3: mixture 40na010x_\S+ is listed twice, first in \S+mix_2_spk_tr.txt, line 1"),
        (LINES.replace("wsj0/si_tr_s/020", "../../020"), "line 2: '../../020/020c0211.wav' is no file within the corpus"),
    ],
)
def test_a_broken_list_is_named(lists: Path, text: str, message: str) -> None:
    (lists / "lists/mix_2_spk_tr.txt").write_text(text)
    with pytest.raises(PlanError, match=message):
        wsj0mix.read_lists(lists, _plan(splits=["train"]))


def test_a_missing_list_is_named(lists: Path) -> None:
    with pytest.raises(PlanError, match=r"no mix_2_spk_tt.txt here"):
        wsj0mix.read_lists(lists, _plan(splits=["train", "test"]))


def test_the_golden_mixture_is_bit_identical(corpora: Path, tmp_path: Path) -> None:
    golden = json.loads((corpora / "golden/merl_mix_golden.json").read_text())
    line = " ".join(f"wsj0/{golden[f's{k}']} {golden[f'snr{k}']}" for k in (1, 2))
    (tmp_path / "mix_2_spk_tt.txt").write_text(f"{line} \n")
    plan, utterances = wsj0mix.read_lists(tmp_path, _plan(splits=["test"]))
    root, out = corpora / "golden/in", tmp_path / "out"
    manifest = listed_manifest(utterances, root, num_workers=1)
    also = [Variant(sample_rate=rate, mode=mode) for rate, mode in ((8000, "max"), (16000, "min"), (16000, "max"))]
    check_inputs(plan, manifest, inputs_of("wsj0mix", root, Mix(also=also)), num_workers=1)
    render(plan, manifest, inputs_of("wsj0mix", root, Mix(also=also)), out, num_workers=1)
    name = plan["mixture_id"][0]
    files = read_table(out / "files.csv", FILES).set_index("path")
    for case, truth in golden["cases"].items():
        rate, mode = case.split("_")
        for part, digest in truth["pcm16_sha256"].items():
            assert files.loc[f"2speakers/wav{rate}/{mode}/tt/{part}/{name}.wav", "sha256"] == digest, (case, part)
        table = "mixtures.csv" if case == "8k_min" else f"mixtures-wav{rate}-{mode}.csv"
        row = read_table(out / table, MIXTURES).iloc[0]
        assert row["num_samples"] == truth["n"]
        assert row["scale"] == pytest.approx(truth["mix_scaling"], rel=1e-12)
        assert row["source_1_gain"] == pytest.approx(truth["scaling_s1"], rel=1e-9)
        assert row["source_2_gain"] == pytest.approx(truth["scaling_s2"], rel=1e-9)


def test_levels_that_do_not_fit_are_all_named(tmp_path: Path) -> None:
    rows, published = [], {}
    for number in range(6):
        path = f"si_tr_s/01a/{number}.wav"
        write_audio(tmp_path / path, voice(number, 0), 16000)
        level = active_level(resample(read_audio(tmp_path / path)[0], 16000, 8000), 8000).power
        published[str(number)] = level * 10 ** ((2.0 if number in (2, 5) else 0.1) / 10)
        rows.append({"utterance_id": str(number), "speaker_id": "01a", "sex": "", "split": "train", "path": path})
    manifest = listed_manifest(pd.DataFrame(rows), tmp_path, num_workers=1)
    with pytest.raises(AudioError) as caught:
        wsj0mix.check_levels(manifest, tmp_path, published, num_workers=1)
    lines = str(caught.value).splitlines()
    assert ["/2.wav" in lines[0], "/5.wav" in lines[1], len(lines)] == [True, True, 2]
    assert "-2.0 dB from the published level" in lines[0]
    del published["2"], published["5"]
    wsj0mix.check_levels(manifest, tmp_path, published, num_workers=1)


def test_the_published_levels_are_read(corpora: Path) -> None:
    levels = wsj0mix.read_levels(corpora / "wsj0")
    assert len(levels) == 14633
    assert levels["423a010n"] == 4.8802830569326887e-04


def test_files_of_another_ending_are_found_and_missing_ones_all_named(lists: Path) -> None:
    root = lists / "wsj0"
    _, utterances = wsj0mix.read_lists(lists, _plan(splits=["train"]))
    for path in utterances["path"][:2]:
        write_audio((root / path).with_suffix(".flac"), voice(0, 0), 16000, "flac")
    with pytest.raises(AudioError, match=r"no such file for 2 of the 4 .*\n.*020c0211.wav, .*40mc021b.wav"):
        listed_manifest(utterances, root, num_workers=1)
    manifest = listed_manifest(utterances[:2], root, num_workers=1)
    assert manifest["path"].str.endswith(".flac").all()
    assert list(manifest["num_samples"]) == [32000, 32000]


def test_drawn_lists_can_be_read_back(lists: Path, tmp_path: Path) -> None:
    rows = [(f"u{k}", f"s{k % 5}", "F", "train", f"s{k % 5}/u{k}.wav", 16000, 64000) for k in range(20)]
    manifest = pd.DataFrame(rows, columns=["utterance_id", "speaker_id", "sex", "split", "path", "sample_rate", "num_samples"])
    settings = _plan(splits=["train"], lists="drawn", num_mixtures={"train": 30}, limit=20)
    plan = wsj0mix.draw_lists(manifest, settings, seed=4)
    assert plan["mixture_id"].nunique() == 20
    wsj0mix.write_lists(plan, manifest, tmp_path / "drawn")
    again, utterances = wsj0mix.read_lists(tmp_path / "drawn", settings)
    assert again.equals(plan)
    assert set(utterances["path"]) <= set(manifest["path"])


def test_hours_limit_a_plan() -> None:
    rows = [(f"u{k}", "s", "", "train", "p", 8000, 8000 * (k + 1)) for k in range(10)]
    manifest = pd.DataFrame(rows, columns=["utterance_id", "speaker_id", "sex", "split", "path", "sample_rate", "num_samples"])
    plan = pd.DataFrame(
        [(f"m{k}", "train", s, u) for k in range(5) for s, u in (("s1", f"u{2 * k}"), ("s2", f"u{2 * k + 1}"))],
        columns=["mixture_id", "split", "source", "utterance_id"],
    ).assign(start_seconds=0.0)
    # Each lasts as long as its shorter source: 1, 3, 5, 7, 9 seconds.
    assert list(first_hours(plan, manifest, 4 / 3600)["mixture_id"].unique()) == ["m0", "m1"]
    assert list(first_hours(plan, manifest, 4.5 / 3600)["mixture_id"].unique()) == ["m0", "m1", "m2"]
    # Where the second of each begins when the first has ended, the last end counts: 3, 7, 11 … seconds.
    plan.loc[plan["source"] == "s2", "start_seconds"] = [1.0, 3, 5, 7, 9]
    assert list(first_hours(plan, manifest, 9 / 3600)["mixture_id"].unique()) == ["m0", "m1"]
    assert list(first_hours(plan, manifest, 10.5 / 3600)["mixture_id"].unique()) == ["m0", "m1", "m2"]
