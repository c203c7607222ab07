"""Reports: every number recomputed from the scores, everything escaped, the same bytes twice, small enough to send."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import reports
from pipeline.errors import ScoreError
from pipeline.reports import (
    breakdowns,
    formatting,
    listening,
    sentences,
    statistics,
    strict_json,
)
from pipeline.reports.analysis import analyse
from pipeline.reports.clips import Clips
from tests.report_cases import make_history, make_scores, spoil
from tests.reports.clips import EVIL, load_clips
from tests.reports.drawing import without_pdfs
from tests.reports.pages import Page, number


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    made = make_scores({"noncausal": 8.0, "causal": 6.5, EVIL: 7.9}, num_mixtures=40)
    made.loc[made["system"] == "noncausal", "estimate"] = 3 - made["estimate"]
    return spoil(made, {0: "silent_estimate", 8: "nan_in_estimate", 14: "length_mismatch(3)"})


def write(scores: pd.DataFrame, out: Path, **changes: object) -> Path:
    arguments: dict[str, object] = {
        "title": f"a {EVIL} title",
        "baseline": "noncausal",
        "histories": {"noncausal": make_history(8.0), EVIL: make_history(7.9)},
        "models": {
            "causal": {"look_ahead_samples": 15, "latency_seconds": 0.002, "causal": True, "causality_deviation": 0.0}
            | {"cpu_real_time_factor": 0.0171, "cpu": "a CPU", "real_time_factor": 0.0002, "device": "a GPU"},
            "noncausal": {"num_parameters": 4984881, "causal": False, "norm": EVIL, "look_ahead_samples": None}
            | {"causality_deviation": 0.0123, "cpu_real_time_factor": 0.021, "real_time_factor": 0.021, "device": "cpu"},
        },
        "published": {"noncausal": {"si_snri_db": 15.3, "sdri_db": None, "source": EVIL}},
        "provenance": {"seed": "0", "command": f"tasnet run {EVIL}", "recipe": f'name = "{EVIL}"\nseed = 0\n'},
        "examples": load_clips,
        "num_examples": 5,
        "oracles": make_scores({"oracle-ratio": 12.2, f"oracle {EVIL}": 13.0}, num_mixtures=40),
        "verification": {"num_rows": 50, "largest_difference_db": 3.21e-10, "permutations_equal": True, "mir_eval": "0.8.2"},
    }
    return reports.write_report(scores, out, **{**arguments, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(scores: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(scores, tmp_path_factory.mktemp("report")).parent


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def brief(function: Callable[[float], str], value: float) -> str:
    return function(float(value))


def means_of(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Sources averaged, NaN without a score: a row per mixture, a column per system."""
    means = scores.groupby(["system", "mixture_id"])[metric].agg(lambda values: values.mean(skipna=False))
    return means.unstack("system")


def test_the_results_are_the_scores(scores: pd.DataFrame, page: Page) -> None:
    """Three systems failed on one mixture each: means over the other 37, and over all 40 with failures at 0 dB."""
    rows = page.tables["Results of every system"]
    assert rows[0][:3] == ["system", "mixtures", "failed"]
    assert rows[0][7:9] == ["SI-SNRi, failures as 0 dB", "SDRi, failures as 0 dB"]
    for row in rows[1:4]:
        for metric, place, with_failures in (("si_snri_db", 3, 7), ("sdri_db", 5, 8)):
            means = means_of(scores, metric)
            assert number(row[place]) == pytest.approx(means.dropna()[row[0]].mean(), abs=0.0051)
            assert number(row[with_failures]) == pytest.approx(means[row[0]].fillna(0).mean(), abs=0.0051)
        means = means_of(scores, "si_snri_db")
        assert row[1:3] == ["37 of 40", str(means[row[0]].isna().sum())]
        assert number(row[9]) == pytest.approx(means.dropna()[row[0]].median(), abs=0.0051)
        assert row[10:] == [formatting.percent((means[row[0]].fillna(-np.inf) < limit).mean()) for limit in (0, 5)]


def test_the_differences_are_the_scores(scores: pd.DataFrame, page: Page) -> None:
    metrics = {"SI-SNRi": "si_snri_db", "SDRi": "sdri_db"}
    rows = page.tables["Paired differences"][1:] + page.tables["Every other pair"][1:]
    assert [row[0] for row in rows] == ["causal", EVIL] * 2 + [f"{EVIL} − causal"] * 2
    for row in rows:
        system, baseline = row[0].split(" − ") if " − " in row[0] else (row[0], "noncausal")
        means = means_of(scores, metrics[row[1]])
        difference = means.dropna()[system] - means.dropna()[baseline]
        assert row[2] == str(len(difference))
        assert number(row[3]) == pytest.approx(difference.mean(), abs=0.0051)
        assert row[6:9] == [formatting.percent(s.mean()) for s in (difference > 0.1, difference.abs() <= 0.1, difference < -0.1)]
        assert row[11] == " / ".join(str(means[name].isna().sum()) for name in (system, baseline))
        assert number(row[12]) == pytest.approx((means[system].fillna(0) - means[baseline].fillna(0)).mean(), abs=0.0051)


def test_the_table_of_mixtures_is_the_scores(scores: pd.DataFrame, page: Page) -> None:
    table = json.loads(page.scripts["mixture-rows"])
    names = [column["name"] for column in table["columns"]]
    assert len(table["rows"]) == 40
    for cells in table["rows"]:
        row = dict(zip(names, cells, strict=True))
        mine = scores[scores["mixture_id"] == row["mixture"]]
        assert row["seconds"] == pytest.approx(mine["num_samples"].iloc[0] / 8000)
        for system, rows in mine.groupby("system"):
            expected = rows["si_snri_db"].mean(skipna=False)
            assert row[f"{system} SI-SNRi"] == (None if np.isnan(expected) else pytest.approx(expected, rel=1e-8))


def test_intervals_and_breakdowns_are_those_of_statistics(scores: pd.DataFrame, folder: Path, page: Page) -> None:
    summary = pd.read_csv(folder / "summary.csv")
    expected = statistics.summaries(scores)
    systems = summary[summary["kind"] == "system"].drop(columns="kind")
    pd.testing.assert_frame_equal(systems, expected, rtol=1e-6, check_dtype=False)
    first = summary.iloc[0]
    assert page.tables["Results of every system"][1][4] == formatting.interval(first["low"], first["high"])
    sexes = breakdowns.breakdown(scores, "si_snri_db", breakdowns.sex_pairs(scores))
    found = page.tables["SI-SNRi by sexes"][1:]
    assert [row[0] for row in found] == list(dict.fromkeys(sexes["group"]))
    assert found[0][2] == brief(formatting.number, sexes["mean"].iloc[0])


def test_published_numbers_are_marked(page: Page) -> None:
    row = page.tables["Results of every system"][-1]
    assert row[:6] == ["noncausal, published", "not rerun", "", "15.30", "", "–"]
    assert f"noncausal: {EVIL}" in page.text


def test_oracles_are_context_and_never_compared(scores: pd.DataFrame, folder: Path, page: Page) -> None:
    oracles = make_scores({"oracle-ratio": 12.2, f"oracle {EVIL}": 13.0}, num_mixtures=40)
    results = page.tables["Results of every system"]
    assert [row[0] for row in results[4:6]] == ["oracle-ratio", f"oracle {EVIL}"]
    shared = oracles[oracles["mixture_id"].isin(scores["mixture_id"])]
    means = shared.groupby(["system", "mixture_id"])["si_snri_db"].mean().groupby("system").mean()
    assert results[4][3] == brief(formatting.number, means["oracle-ratio"])
    for label, rows in page.tables.items():
        assert label == "Results of every system" or "oracle" not in str(rows)
    assert "oracle" not in (folder / "pairs.csv").read_text(encoding="utf-8") + page.scripts["mixture-rows"]
    assert "are oracles: masks computed from" in page.text
    assert set(pd.read_csv(folder / "summary.csv").query("kind == 'oracle'")["system"]) == {"oracle-ratio", f"oracle {EVIL}"}


def test_an_oracle_with_a_systems_name_is_refused(scores: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="more than once"):
        write(scores, tmp_path, oracles=scores)


def test_the_verification_is_printed(folder: Path, page: Page) -> None:
    sentence = "50 random rows recomputed with mir_eval 0.8.2: largest difference 3.2e−10 dB; all permutations agree."
    assert sentence in page.text.replace("\u00a0", " ")
    assert "3.2e−10 dB" in (folder / "report.md").read_text(encoding="utf-8")
    assert "recomputed" not in sentences.verification({})
    assert "some permutations differ" in sentences.verification(
        {"num_rows": 1, "largest_difference_db": 0.0, "permutations_equal": False, "mir_eval": "x"}
    )


def test_mixtures_without_scores_are_listed(page: Page) -> None:
    statuses = {(row[0], row[1]): row[2:] for row in page.tables["Rows by status"][1:]}
    assert statuses["noncausal", "silent_estimate"] == ["1", "1", "no"]
    assert len(statuses) == 3
    assert "3 mixtures of 40 have no score from at least one system" in page.text


def test_the_costs_are_those_of_the_models(scores: pd.DataFrame, page: Page) -> None:
    costs = {row[0]: row[1:] for row in page.tables["Cost and delay"]}
    assert costs["parameters"] == ["4.98 M", "–", "–"]
    assert costs["look-ahead, samples"] == ["whole signal", "15", "–"]
    assert costs["look-ahead"] == ["whole signal", "1.9 ms", "–"]
    assert costs["algorithmic delay"] == ["–", "2.0 ms", "–"]
    assert costs["deviation before the look-ahead"] == ["1.2e−02", "0", "–"]
    assert costs["real-time factor, CPU"] == ["0.021", "0.017", "–"]
    assert costs["separated on"] == ["cpu", "a GPU", "–"]
    assert costs["CPU"] == ["–", "a CPU", "–"]


def test_without_a_stated_factor_real_time_comes_from_the_scores(scores: pd.DataFrame, page: Page) -> None:
    factors = next(row for row in page.tables["Cost and delay"] if row[0] == "real-time factor")
    mine = scores[scores["system"] == EVIL].drop_duplicates("mixture_id")
    expected = mine["seconds"].sum() / (mine["num_samples"] / 8000).sum()
    assert factors[1:] == ["–", "0.0002", f"{expected:.2g}"]


def test_markup_in_names_is_escaped(folder: Path, page: Page) -> None:
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert EVIL not in html
    markdown = (folder / "report.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in markdown if EVIL in line] == [f'    name = "{EVIL}"']  # an indented block shows text as it is
    assert list(page.scripts) == ["mixture-rows", "script 1"]
    assert EVIL in page.text


def test_the_page_loads_nothing(page: Page) -> None:
    assert page.addresses
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert len(page.ids) == len(set(page.ids))


def test_the_same_arguments_give_the_same_bytes(scores: pd.DataFrame, folder: Path, tmp_path: Path) -> None:
    write(scores, tmp_path)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert {str(file) for file in files} > {"report.html", "report.md", "summary.csv", "pairs.csv", "summary.json", "summary.tex"}
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_json_is_strict(folder: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads((folder / "summary.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert read["systems"] == ["noncausal", "causal", EVIL]
    assert read["published"]["noncausal"]["sdri_db"] is None
    assert len(read["summaries"]) == 12
    assert [row["seconds"] for row in read["over_time"][:4]] == [0.25, 0.75, 1.25, 1.75]


def test_values_that_are_not_finite_become_null() -> None:
    value = {"a": [np.float64("nan"), np.inf, 1.5], "b": np.int64(3), "c": np.bool_(True), "d": (None, "x")}
    assert json.loads(strict_json.dumps(value)) == {"a": [None, None, 1.5], "b": 3, "c": True, "d": [None, "x"]}


def test_long_examples_are_cut_before_any_is_left_out(scores: pd.DataFrame, tmp_path: Path) -> None:
    """Full-band noise, the worst case for FLAC, eighteen seconds of it; then more examples than three seconds each leave room."""
    noise = np.random.default_rng(1).normal(0, 0.1, 18 * 8000)
    clips = Clips(8000, noise, np.stack([noise, -noise]), {"causal": np.stack([noise, noise])})
    analysis = analyse(scores, baseline="noncausal")
    cut = listening.make_examples(analysis, lambda _: clips, 5, max_bytes=4_000_000)
    assert cut.num_left_out == 0
    assert cut.cut_to_seconds is not None
    assert {example.seconds for example in cut.shown} == {cut.cut_to_seconds}
    assert 3.6e6 < sum(example.num_bytes for example in cut.shown) <= 4e6
    few = listening.make_examples(analysis, lambda _: clips, 5, max_bytes=1_000_000)
    assert (len(few.shown), few.num_left_out, few.cut_to_seconds) == (2, 3, 3.0)
    with without_pdfs():
        path = write(scores.head(48), tmp_path, examples=lambda _: clips, num_examples=12)
    assert path.stat().st_size < 10_000_000
    assert re.search(r"Longer clips are cut to \d\.?\d* s\.", path.read_text(encoding="utf-8"))


def test_one_system_makes_a_report(tmp_path: Path) -> None:
    scores = make_scores({"alone": 5.0}, num_mixtures=6).drop(columns=["speaker_id", "sex", "seconds"])
    with without_pdfs():
        path = reports.write_report(scores, tmp_path, title="plain")
    page = Page(path.read_text(encoding="utf-8"))
    assert "Paired differences" not in page.tables
    assert "alone improves SI-SNR by" in page.text
    assert (tmp_path / "pairs.csv").read_text(encoding="utf-8").startswith("system,baseline")


def test_a_report_of_failures_says_so(tmp_path: Path) -> None:
    scores = make_scores(num_mixtures=5)
    with without_pdfs():
        path = write(spoil(scores, dict.fromkeys(range(len(scores)), "silent_estimate")), tmp_path, histories={}, published={})
    page = Page(path.read_text(encoding="utf-8"))
    assert "No mixture could be scored." in page.text
    assert page.tables["Results of every system"][1][1:] == ["0 of 5", "5", *["–"] * 4, "0.00", "0.00", "–", "100%", "100%"]
    assert not re.search(r"\bnan\b", page.text, re.IGNORECASE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scores: scores.iloc[:0], "no scores"),
        (lambda scores: pd.concat([scores, scores.head(1)]), "more than once"),
    ],
)
def test_scores_that_cannot_be_reported_are_refused(
    scores: pd.DataFrame, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    with pytest.raises(ScoreError, match=message):
        write(change(scores), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_baseline_is_refused(scores: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="baseline 'other' has no scores; choose one of noncausal, causal"):
        write(scores, tmp_path, baseline="other")


def test_figures_of_an_older_report_are_removed_and_nothing_else(tmp_path: Path) -> None:
    scores = make_scores(num_mixtures=12)
    figures = tmp_path / "figures"
    with without_pdfs():
        reports.write_report(scores, tmp_path, title="x")
        (figures / "mine.svg").touch()
        before = {path.name for path in figures.iterdir()}
        reports.write_report(scores[scores["system"] == "causal"], tmp_path, title="x")
    after = {path.name for path in figures.iterdir()}
    assert "mine.svg" in after
    assert after < before
    assert after - {"mine.svg", "written.txt"} == set((figures / "written.txt").read_text().split())
