"""Tables that share no mixture, or no metric: refused with the reason; what only some have is said."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline import reports
from pipeline.errors import TableError
from tests.cli.commands import tasnet
from tests.nursery import IN_THE_NURSERY
from tests.report_cases import make_scores


def table(path: Path, names: list[str], column: str = "si_snri_db") -> Path:
    path.write_text(f"mixture_id,{column}\n" + "".join(f"{name},{10 + k}\n" for k, name in enumerate(names)), encoding="utf-8")
    return path


NAMES = ["011_1.2_44o_-1.2", "012_0.5_45o_-0.5"]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["0", "1"], "it numbers the mixtures in the order they were scored in, as SpeechBrain does"),
        ([name.upper() + "_mix" for name in NAMES], "The names differ in case, endings or folders only"),
        (["x", "y"], "it has x, there are 011_1.2_44o_-1.2. These are scores of different test sets"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_tables_without_a_common_mixture_are_refused_with_the_reason(
    tmp_path: Path, names: list[str], reason: str, together: bool
) -> None:
    ours, theirs = table(tmp_path / "ours.csv", NAMES), table(tmp_path / "theirs.csv", names)
    with pytest.raises(TableError, match="no mixture in common") as raised:
        if together:
            reports.read_scores([theirs, ours])
        else:
            reports.compare(reports.read_scores([theirs]), reports.read_scores([ours]))
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_only_one_table_has_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [table(tmp_path / "ours.csv", [*NAMES, "013"]), table(tmp_path / "theirs.csv", NAMES)]
    with caplog.at_level("INFO", logger="pipeline"):
        assert len(reports.read_scores(paths)) == 5
    assert "ours.csv: 1 of 3 mixtures are in no other table, for example 013; they are not compared" in caplog.text
    assert "theirs.csv:" not in caplog.text


def test_tables_without_a_common_metric_are_refused(tmp_path: Path) -> None:
    tables = [reports.read_scores([table(tmp_path / f"{name}.csv", NAMES, name)]) for name in ("si_snri_db", "sdr_db")]
    with pytest.raises(TableError, match="no metric in common, so there is nothing to compare: A has SI-SNRi; B has SDR"):
        reports.compare(*tables)


def test_a_system_that_gave_up_is_still_compared() -> None:
    scores = make_scores(num_mixtures=6)
    one = scores[scores["system"] == scores["system"].iloc[0]]
    metrics = ["si_snri_db", "sdri_db", "si_snr_db", "sdr_db"]
    silent = one.assign(status="missing_estimate", **dict.fromkeys(metrics, float("nan")))
    assert "failed" in reports.compare(one, silent)[0]


def test_source_averaged_tables_are_compared_with_our_means(tmp_path: Path) -> None:
    """Asteroid writes a row per mixture; its values are those of our mixtures' means here, so there is no difference."""
    scores = make_scores(num_mixtures=6)
    ours = scores[scores["system"] == scores["system"].iloc[0]]
    ours = ours.assign(si_snri_db=ours["si_snr_db"] - ours["input_si_snr_db"])
    means = ours.groupby("mixture_id")[["input_si_snr_db", "si_snr_db"]].mean().reset_index()
    means["mix_path"] = "/wsj/tt/mix/" + means["mixture_id"] + ".wav"
    columns = {"input_si_snr_db": "input_si_sdr", "si_snr_db": "si_sdr"}
    means.drop(columns="mixture_id").rename(columns=columns).to_csv(tmp_path / "all_metrics.csv")
    ours.to_csv(tmp_path / "scores.csv", index=False)
    theirs = reports.read_scores([tmp_path / "all_metrics.csv"])
    text, _ = reports.compare(ours, theirs)
    assert "practically equal: 0.00 dB SI-SNRi" in text.replace("\n  ", " ").replace("−", "-").replace("+", "")


@IN_THE_NURSERY
def test_the_command_ends_with_the_reason(tmp_path: Path) -> None:
    table(tmp_path / "a.csv", NAMES)
    table(tmp_path / "b.csv", ["0", "1"])
    ended = tasnet("compare", "a.csv", "b.csv", cwd=tmp_path)
    assert ended.returncode == 2
    assert "no mixture in common" in ended.stderr.replace("\n", " ")
    assert pd.Series(ended.stderr.splitlines()).str.contains("Traceback").sum() == 0
