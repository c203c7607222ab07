"""Score tables of other tools: what is understood, what stays unknown, and what is refused in one line."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import reports
from pipeline.errors import TableError
from pipeline.tables import SCORES, write_table
from tests.cli.commands import tasnet
from tests.nursery import IN_THE_NURSERY
from tests.report_cases import make_scores
from tests.reports.pages import Page

pytestmark = pytest.mark.usefixtures("no_pdfs")

ASTEROID = """,input_si_sdr,si_sdr,input_sdr,sdr,sir,sar,mix_path
0,0.1,9.1,0.3,9.8,15.0,11.0,/data/wav8k/min/tt/mix/011_1.2_44o_-1.2.wav
1,-0.2,7.8,0.1,8.4,14.0,10.0,/data/wav8k/min/tt/mix/012_0.5_45o_-0.5.wav
2,0.0,8.0,0.2,8.5,14.5,10.5,/data/wav8k/min/tt/mix/013_0.5_45o_-0.5.wav
"""
SPEECHBRAIN = """snt_id,sdr,sdr_i,si-snr,si-snr_i
0,9.9,9.5,9.2,9.1
1,8.9,8.5,8.2,8.1
avg,9.4,9.0,8.7,8.6
"""


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_our_own_tables_are_read_as_they_were_written(tmp_path: Path) -> None:
    scores = make_scores(num_mixtures=4)
    write_table(scores, tmp_path / "scores.csv", SCORES)
    pd.testing.assert_frame_equal(reports.read_scores([tmp_path / "scores.csv"])[list(scores.columns)], scores)


def test_asteroids_table(tmp_path: Path) -> None:
    read = reports.read_scores([written(tmp_path / "ConvTasNet" / "all_metrics.csv", ASTEROID)])
    assert read["system"].unique().tolist() == ["ConvTasNet"]
    assert read["mixture_id"].tolist() == ["011_1.2_44o_-1.2", "012_0.5_45o_-0.5", "013_0.5_45o_-0.5"]
    np.testing.assert_allclose(read["si_snri_db"], [9.0, 8.0, 8.0])
    np.testing.assert_allclose(read["sdri_db"], [9.5, 8.3, 8.3])
    assert read["sir_db"].tolist() == [15.0, 14.0, 14.5]
    assert read["status"].unique().tolist() == ["ok"]


def test_numbers_too_long_for_a_computer_are_names_or_a_line(tmp_path: Path) -> None:
    long = "9" * 20
    read = reports.read_scores([written(tmp_path / "a.csv", f"mixture_id,source,si_snri_db\nm1,{long},1\n")])
    assert read["source"].tolist() == [f"s{long}"]
    longer = "9" * 5000
    read = reports.read_scores([written(tmp_path / "b.csv", f"mixture_id,source,si_snri_db\nm1,{longer},1\n")])
    assert read["source"].tolist() == [longer]
    write_table(make_scores(num_mixtures=1), tmp_path / "scores.csv", SCORES)
    table = pd.read_csv(tmp_path / "scores.csv", dtype=str, keep_default_na=False).assign(num_samples=long)
    table.to_csv(tmp_path / "scores.csv", index=False)
    with pytest.raises(TableError, match="column num_samples holds something that is no integer"):
        reports.read_scores([tmp_path / "scores.csv"])


def test_speechbrains_table_without_its_average(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pipeline"):
        read = reports.read_scores([written(tmp_path / "sepformer.csv", SPEECHBRAIN)])
    assert read["system"].unique().tolist() == ["sepformer"]
    assert read["mixture_id"].tolist() == ["0", "1"]
    assert read["si_snri_db"].tolist() == [9.1, 8.1]
    np.testing.assert_allclose(read["input_si_snr_db"], [0.1, 0.1])
    assert "skipping the row of averages" in caplog.text


@pytest.mark.parametrize("header", ["Mixture ID,SI-SNRi (dB)", "utt,SI-SDRi [dB]", "Key,si_snr imp", "mixture,SISNRi"])
def test_columns_in_other_spellings(tmp_path: Path, header: str) -> None:
    read = reports.read_scores([written(tmp_path / "a.csv", f"{header}\nm1,5\n")])
    assert read[["mixture_id", "si_snri_db"]].to_numpy().tolist() == [["m1", 5.0]]


@pytest.mark.parametrize("missing", ["si_snri_db", "si_snr_db", "input_si_snr_db"])
def test_of_output_input_and_improvement_two_are_enough(tmp_path: Path, missing: str) -> None:
    values = pd.DataFrame(
        {"mixture_id": ["x", "y"], "si_snr_db": [9.5, 7.0], "si_snri_db": [9.0, 8.0], "input_si_snr_db": [0.5, -1.0]}
    )
    values.drop(columns=missing).to_csv(tmp_path / "system.csv", index=False)
    np.testing.assert_allclose(reports.read_scores([tmp_path / "system.csv"])[missing], values[missing])


def test_the_smallest_table_makes_a_report(tmp_path: Path) -> None:
    """Names of mixtures and one metric; a gap is a failure, not a lost row."""
    table = written(tmp_path / "mine.csv", "mixture_id,si_snri_db\n011,5.0\n012,7.0\n013,\n014,9.0\n")
    path = reports.write_report(reports.read_scores([table]), tmp_path / "page", title="small")
    page = Page(path.read_text(encoding="utf-8")).text.replace("\u00a0", " ")
    assert "Of 4 mixtures, mine failed on 1. With failures counted as 0 dB, mine improves" in page
    assert "SI-SNR by 5.25" in page
    assert "7.00" in page
    assert "3 of 4" in page
    assert "no_value" in page
    assert "The scores do not say how estimates were assigned" in page
    assert "SDR" not in pd.read_csv(tmp_path / "page" / "summary.csv")["metric"].str.upper().to_string()
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_sources_by_number_and_systems_in_one_table(tmp_path: Path) -> None:
    text = "model,utt_id,spk,SI-SDRi\n" + "".join(f"{m},{u},{s},{u + s}\n" for m in "ab" for u in (1, 2, 3) for s in (1, 2))
    read = reports.read_scores([written(tmp_path / "x.csv", text)])
    assert read["source"].unique().tolist() == ["s1", "s2"]
    assert read.groupby("system")["si_snri_db"].mean().tolist() == [3.5, 3.5]


def test_ours_and_theirs_side_by_side(tmp_path: Path) -> None:
    scores = make_scores({"ours": 8.0}, num_mixtures=12)
    write_table(scores, tmp_path / "scores.csv", SCORES)
    theirs = scores[["mixture_id", "source", "si_snri_db"]].assign(si_snri_db=scores["si_snri_db"] - 1)
    theirs.to_csv(tmp_path / "theirs.csv", index=False)
    both = reports.read_scores([tmp_path / "scores.csv", tmp_path / "theirs.csv"])
    path = reports.write_report(both, tmp_path / "page", title="both")
    assert "theirs is worse than ours: −1.00\u00a0dB SI-SNRi" in Page(path.read_text(encoding="utf-8")).text
    assert pd.read_csv(tmp_path / "page" / "pairs.csv")["resampled"].unique().tolist() == ["speakers"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no column names the mixture"),
        ("mixture_id,si_snri_db\n", "has the names of columns and no rows; score again"),
        ("mixture_id,loss\nx,2\n", "no column holds a score; it needs at least one of si_snri_db"),
        ("mixture_id,si_snri_db\nx,good\n", "column si_snri_db has a value that is not a number"),
        (f"mixture_id,si_snri_db\nx,{'9' * 20}\n", "si_snri_db of x is 1e.20, and SI-SNRi is up to 1000 dB; correct the value"),
        ("mixture_id,si_snri_db,stoi\nx,1,95.0\n", "stoi of x is 95, and STOI is -1 to 1; correct the value or its unit"),
        ("mixture_id,si_snri_db\nx,1\nx,2\n", "'t' scores x twice; give the rows a column source"),
        ("", "not a readable CSV file"),
    ],
)
def test_impossible_tables_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TableError, match=message) as refused:
        reports.read_scores([written(tmp_path / "t.csv", text)])
    assert str(tmp_path / "t.csv") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_repeats_number_what_several_tables_hold(tmp_path: Path) -> None:
    for k, more in ((1, {}), (2, {"other": 5.0})):
        write_table(make_scores({"causal": 6.0, **more}, num_mixtures=3, seed=0), tmp_path / f"{k}.csv", SCORES)
    tables = [tmp_path / "1.csv", tmp_path / "2.csv"]
    with pytest.raises(TableError, match="rename a system, or give --repeats"):
        reports.read_scores(tables)
    assert reports.read_scores(tables, repeats=True)["system"].unique().tolist() == ["causal@1", "causal@2", "other"]


@IN_THE_NURSERY
@pytest.mark.slow
def test_the_command_shows_what_is_given_beside_the_scores(tmp_path: Path) -> None:
    write_table(make_scores({"causal": 6.0}, num_mixtures=6), tmp_path / "scores.csv", SCORES)
    write_table(make_scores({"oracle-ratio": 12.0}, num_mixtures=6), tmp_path / "oracles.csv", SCORES)
    done = tasnet("report", "scores.csv", "--oracles", "oracles.csv", "-o", "page", cwd=tmp_path, check=True)
    assert done.stdout == "Report: page/report.html\n"
    assert "oracle-ratio" in (tmp_path / "page" / "report.md").read_text(encoding="utf-8")
    wrong = tasnet("report", "scores.csv", "--history", "causal", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr) == (2, "tasnet: --history causal: write it as SYSTEM=PATH\n")


@IN_THE_NURSERY
@pytest.mark.slow
def test_the_gates_exit_codes(tmp_path: Path) -> None:
    """0 where the interval does not show the drop, 1 where it does, 2 where the question makes no sense."""
    scores = make_scores({"causal": 6.0}, num_mixtures=40)
    noise = np.random.default_rng(3).normal(0, 0.2, len(scores))
    for name, shift in (("a", 0.0), ("same", -0.1), ("worse", -0.5)):
        write_table(
            scores.assign(si_snri_db=scores["si_snri_db"] + shift + noise * (name != "a")), tmp_path / f"{name}.csv", SCORES
        )
    scores.assign(num_samples=1000).pipe(write_table, tmp_path / "other.csv", SCORES)
    gate = ("--fail-if", "si_snri_db < -0.1")
    assert tasnet("compare", "a.csv", "same.csv", *gate, cwd=tmp_path).returncode == 0
    tripped = tasnet("compare", "a.csv", "worse.csv", *gate, cwd=tmp_path)
    assert tripped.returncode == 1
    assert "si_snri_db < -0.1 holds" in tripped.stdout
    refused = tasnet("compare", "a.csv", "other.csv", *gate, cwd=tmp_path)
    assert refused.returncode == 2
    assert "is different audio in the two tables" in refused.stderr


# ------------------------------------------------------------------------------------------------------ other than tables
def test_espnets_score_files(tmp_path: Path) -> None:
    for name, values in (("SI_SNR_spk1", "9.5 8.5"), ("SI_SNR_spk2", "7.5 6.5"), ("SDR_spk1", "10 9"), ("SDR_spk2", "8 7")):
        first, second = values.split()
        written(tmp_path / "tcn" / "scoring" / name, f"m1 {first}\nm2 {second}\n")
    read = reports.read_scores([tmp_path / "tcn" / "scoring"])
    assert read[["system", "mixture_id", "source", "si_snr_db", "sdr_db"]].to_numpy().tolist() == [
        ["tcn", "m1", "s1", 9.5, 10.0],
        ["tcn", "m2", "s1", 8.5, 9.0],
        ["tcn", "m1", "s2", 7.5, 8.0],
        ["tcn", "m2", "s2", 6.5, 7.0],
    ]


def test_musevals_json_by_the_median_over_frames(tmp_path: Path) -> None:
    frames = [{"time": k, "metrics": {"SDR": value, "SIR": 9, "ISR": 1}} for k, value in enumerate((1.0, 5.0, 100.0, None))]
    content = {"targets": [{"name": "vocals", "frames": frames}]}
    written(tmp_path / "open" / "track one.json", json.dumps(content))
    read = reports.read_scores([tmp_path / "open"])
    assert read[["system", "mixture_id", "source", "sdr_db", "sir_db"]].to_numpy().tolist() == [
        ["open", "track one", "vocals", 5.0, 9.0]
    ]


def test_versas_json_lines(tmp_path: Path) -> None:
    lines = [{"key": "m1", "si_snr": 9.0, "sdr": 9.5, "stoi": 0.9}, {"key": "m2", "si_snr": 8.0, "sdr": 8.5}]
    read = reports.read_scores([written(tmp_path / "sepformer.jsonl", "\n".join(map(json.dumps, lines)))])
    assert read["si_snr_db"].tolist() == [9.0, 8.0]
    assert read["stoi"].tolist() == pytest.approx([0.9, np.nan], nan_ok=True)
    assert set(read["system"]) == {"sepformer"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "{", "is not valid JSON"),
        ("a.jsonl", "[1]", "a JSON object was expected"),
        ("a.jsonl", "", "holds no scores"),
        ("a.json", '{"targets": [{}]}', "is no JSON of museval"),
        ("folder/SDR_spk1", "m1 1 2", "is no line of an utterance and its score"),
        ("folder/readme.txt", "", "holds neither score files of ESPnet"),
    ],
)
def test_what_these_tools_do_not_write_is_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = written(tmp_path / name, text)
    with pytest.raises(TableError, match=message):
        reports.read_scores([path.parent if "/" in name else path])
