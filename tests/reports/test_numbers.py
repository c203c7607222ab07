"""Every number that a report shows, recomputed from the score table with plain pandas, numpy and scipy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline import reports
from pipeline.tables import SCORES, read_table, write_table
from tests.report_cases import make_scores, spoil
from tests.reports.pages import Page, number

pytestmark = pytest.mark.usefixtures("no_pdfs")

METRICS = {"SI-SNRi": "si_snri_db", "SDRi": "sdri_db", "SI-SNR": "si_snr_db", "SDR": "sdr_db"}
SYSTEMS = {"noncausal": 8.0, "causal": 6.5, "theirs": 5.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of ``scores.csv``, read from the file as the command does it."""
    folder = tmp_path_factory.mktemp("numbers")
    scores = spoil(make_scores(SYSTEMS, num_mixtures=90, num_speakers=14), {0: "silent_estimate", 9: "nan_in_estimate"})
    scores["overlap"] = scores["mixture_id"].str[:4].astype(int) % 3 / 2
    scores.loc[3, "status"] = "clipped"
    write_table(scores, folder / "scores.csv", SCORES)
    reports.write_report(reports.read_scores([folder / "scores.csv"]), folder, title="numbers", baseline="noncausal")
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def scores(folder: Path) -> pd.DataFrame:
    return read_table(folder / "scores.csv", SCORES)


def same(text: str, value: float, digits: int = 2) -> bool:
    """Whether a printed number is this one, rounded."""
    return bool(abs(number(text) - value) <= 0.5000001 * 10**-digits)


def same_share(text: str, share: float) -> bool:
    return same(text, 100 * share, 0 if share >= 0.0995 or share == 0 else 1)


def means_of(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Sources averaged; NaN if one of them has no score."""
    return scores.pivot_table(
        index="mixture_id",
        columns="system",
        values=metric,
        aggfunc=lambda v: v.mean() if v.notna().all() else np.nan,
        dropna=False,
    )


def floor_of(scores: pd.DataFrame, metric: str) -> pd.Series | float:
    """What a failure counts: the mixture itself."""
    column = {"si_snr_db": "input_si_snr_db", "sdr_db": "input_sdr_db"}.get(metric)
    return 0.0 if column is None else scores.groupby("mixture_id")[column].mean()


def test_results_and_spread(scores: pd.DataFrame, page: Page) -> None:
    results = {row[0]: row for row in page.tables["Results of every system"][1:]}
    assert set(results) == set(SYSTEMS)
    rows = page.tables["Distribution over the mixtures"][1:]
    assert len(rows) == len(SYSTEMS) * len(METRICS)
    for system, label, count, failed, mean, with_failures, std, p5, p25, median, p75, p95, below_0, below_5 in rows:
        means = means_of(scores, METRICS[label])
        every, values = means[system], means.dropna()[system]
        assert count == f"{len(values)} of {len(every)}" == "88 of 90"
        assert int(failed) == every.isna().sum()
        assert same(with_failures, every.fillna(floor_of(scores, METRICS[label])).mean())
        assert same(mean, values.mean())
        assert same(std, values.std())
        for text, q in ((p5, 0.05), (p25, 0.25), (median, 0.5), (p75, 0.75), (p95, 0.95)):
            assert same(text, values.quantile(q))
        assert same_share(below_0, (every.fillna(-np.inf) < 0).mean())
        assert same_share(below_5, (every.fillna(-np.inf) < 5).mean())
        if label in ("SI-SNRi", "SDRi"):
            assert [results[system][k] for k in ((3, 7) if label == "SI-SNRi" else (5, 8))] == [mean, with_failures]
        if label == "SI-SNRi":
            assert [results[system][k] for k in (1, 2, 9, 10, 11)] == [count, failed, median, below_0, below_5]


def test_every_pair(scores: pd.DataFrame, page: Page) -> None:
    first = [["causal", "noncausal", *row[1:]] if row[0] == "causal" else ["theirs", "noncausal", *row[1:]]
             for row in page.tables["Paired differences"][1:]]  # fmt: skip
    rows = first + [[*row[0].split(" − "), *row[1:]] for row in page.tables["Every other pair"][1:]]
    assert len(rows) == 6
    p_values: dict[str, list[tuple[float, float]]] = {}
    for system, baseline, label, count, mean, interval, std, wins, ties, losses, p, holm, failed, with_failures, _ in rows:
        every = means_of(scores, METRICS[label])
        means = every.dropna()
        assert failed == f"{every[system].isna().sum()} / {every[baseline].isna().sum()}"
        assert same(with_failures, (every[system].fillna(0) - every[baseline].fillna(0)).mean())
        difference = (means[system] - means[baseline]).dropna()
        assert int(count) == len(difference)
        assert same(mean, difference.mean())
        assert same(std, difference.std())
        assert same_share(wins, (difference > 0.1).mean())
        assert same_share(losses, (difference < -0.1).mean())
        assert same_share(ties, (difference.abs() <= 0.1).mean())
        expected = stats.wilcoxon(means[[system, baseline]].dropna()[system], means[[system, baseline]].dropna()[baseline]).pvalue
        assert same(p, expected, 3) if expected >= 0.001 else p == "< 0.001"
        low, high = (number(end) for end in interval.strip("[]").split(", "))
        assert low < difference.mean() < high
        p_values.setdefault(label, []).append((expected, number(holm)))
    for found in p_values.values():
        ordered = sorted(found)
        adjusted = np.maximum.accumulate([min(1.0, (3 - rank) * p) for rank, (p, _) in enumerate(ordered)])
        for (_, printed), value in zip(ordered, adjusted, strict=True):
            assert abs(printed - value) <= 0.0005 or (printed == 0.001 and value < 0.001)


def inside(label: str) -> Callable[[pd.Series], pd.Series]:
    """Which values a printed bin holds: ``below 4 s``, ``4 to 4.5 s``, ``6.5 s or more``."""
    ends = [float(text) for text in re.findall(r"-?\d+\.?\d*", label.replace("−", "-"))]
    if label.startswith("below"):
        return lambda values: values < ends[0]
    if label.endswith("or more"):
        return lambda values: values >= ends[0]
    return lambda values: (values >= ends[0]) & (values < ends[1])


def test_every_breakdown(scores: pd.DataFrame, page: Page) -> None:
    common = means_of(scores, "si_snri_db").dropna().index
    sexes = scores.groupby(["mixture_id", "source"])["sex"].first().groupby("mixture_id").agg(lambda s: "+".join(sorted(s)))
    chosen: dict[str, Callable[[str], pd.Series]] = {
        "input SI-SNR": lambda group: inside(group)(scores["input_si_snr_db"]),
        "length": lambda group: inside(group)(scores["num_samples"] / 8000),
        "sexes": lambda group: scores["mixture_id"].map(sexes) == group,
        "overlap": lambda group: scores["overlap"] == number(group) / 100,
        "speaker": lambda group: scores["speaker_id"] == group,
    }
    for name, rows_of in chosen.items():
        table = page.tables[f"SI-SNRi by {name}"]
        assert [heading for heading in table[0] if heading.endswith(", dB")] == [f"{system}, dB" for system in SYSTEMS]
        num_rows = 0
        for group, count, *cells in table[1:]:
            mine = scores[rows_of(group)]
            means = means_of(mine[mine["mixture_id"].isin(common)], "si_snri_db").reindex(columns=list(SYSTEMS))
            failed = means_of(scores, "si_snri_db").isna().reindex(mine["mixture_id"].unique()).sum()
            assert int(count) == means.count().max()
            for system, text, failures in zip(SYSTEMS, cells[::3], cells[2::3], strict=True):
                assert same(text, means[system].mean()), (name, group, system)
                assert int(failures) == failed[system]
            num_rows += len(mine)
        assert num_rows == len(scores), name  # every row is in exactly one group


def test_headline_scope_and_conclusions(scores: pd.DataFrame, page: Page) -> None:
    means = means_of(scores, "si_snri_db").fillna(0)
    text = page.text.replace("\u00a0", " ")
    assert "Of 90 mixtures, noncausal failed on 1 and causal on 1. With failures counted as 0 dB, noncausal improves" in text
    found = re.search(r"noncausal improves SI-SNR by (\S+) dB, (\S+) dB more than causal\.", text)
    assert found
    assert same(found[1], means["noncausal"].mean())
    assert same(found[2], (means["noncausal"] - means["causal"]).mean())
    seconds = scores.drop_duplicates("mixture_id")["num_samples"].sum() / 8000
    assert f"90 test mixtures, {seconds / 60:.0f} minutes, 14 speakers, 8 kHz." in text
    for system in ("causal", "theirs"):
        sentence = re.search(
            rf"{system} is worse than noncausal: (\S+) dB SI-SNRi with failures counted as 0 dB, 95% interval", text
        )
        assert sentence
        assert same(sentence[1], (means[system] - means["noncausal"]).mean())


def test_what_is_left_out(scores: pd.DataFrame, page: Page) -> None:
    rows = {(row[0], row[1]): row[2:] for row in page.tables["Rows by status"][1:]}
    odd = scores[scores["status"] != "ok"]
    for (system, status), mine in odd.groupby(["system", "status"]):
        counted = "yes" if mine["si_snri_db"].notna().all() else "no"
        assert rows[system, status] == [str(len(mine)), str(mine["mixture_id"].nunique()), counted]
    missing = means_of(scores, "si_snri_db").isna().any(axis=1).sum()
    assert f"{missing} mixtures of 90 have no score from at least one system" in page.text
    disagreeing = scores.drop_duplicates(["system", "mixture_id"])["permutations_agree"].eq(False).sum()
    assert f"differently for {disagreeing} separated mixtures" in page.text


def test_every_mixture(scores: pd.DataFrame, page: Page) -> None:
    table = json.loads(page.scripts["mixture-rows"])
    names = [column["name"] for column in table["columns"]]
    shown = pd.DataFrame(table["rows"], columns=names).set_index("mixture")
    for system in SYSTEMS:
        for label in ("SI-SNRi", "SDRi"):
            expected = means_of(scores, METRICS[label])[system].reindex(shown.index)
            np.testing.assert_allclose(shown[f"{system} {label}"].astype(float), expected, rtol=1e-8)
    lengths = scores.drop_duplicates("mixture_id").set_index("mixture_id")["num_samples"].reindex(shown.index)
    np.testing.assert_allclose(shown["seconds"], lengths / 8000, rtol=1e-8)


def test_the_other_formats_hold_the_same_numbers(folder: Path, page: Page) -> None:
    results = page.tables["Results of every system"][1:]
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    latex = (folder / "summary.tex").read_text(encoding="utf-8")
    summary = pd.read_csv(folder / "summary.csv").set_index(["system", "metric"])
    numbers = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for row in results:
        assert "| " + " | ".join(row).replace("[", r"\[").replace("]", r"\]") + " |" in markdown
        assert " & ".join(row).replace("%", r"\%").replace("−", "$-$") in latex
        mine = summary.loc[(row[0], "si_snri_db")]
        assert same(row[3], mine["mean"])
        assert [number(end) for end in row[4].strip("[]").split(", ")] == pytest.approx([mine["low"], mine["high"]], abs=0.0051)
        record = next(r for r in numbers["summaries"] if (r["system"], r["metric"]) == (row[0], "si_snri_db"))
        assert record["mean"] == pytest.approx(mine["mean"])
    pairs = pd.read_csv(folder / "pairs.csv").set_index(["system", "baseline", "metric"])
    for row in page.tables["Paired differences"][1:]:
        mine = pairs.loc[(row[0], "noncausal", METRICS[row[1]])]
        assert same(row[3], mine["difference"])
        assert [number(end) for end in row[4].strip("[]").split(", ")] == pytest.approx([mine["low"], mine["high"]], abs=0.0051)
