"""Which values are marked as the best: by the ranking of the headline, and never against it."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from pipeline.reports import best, report_tables
from pipeline.reports.analysis import Analysis, analyse
from pipeline.reports.grids import Grid
from tests.report_cases import give_up, make_scores

LEVELS = {"first": 7.0, "second": 9.5, "third": 8.0}


def marked(grid: Grid, cells: frozenset[tuple[int, int]]) -> dict[str, list[str]]:
    """The systems that are marked, by the heading of the column."""
    found: dict[str, list[str]] = {}
    for row, column in sorted(cells):
        found.setdefault(grid.headings[column], []).append(grid.rows[row][0])
    return found


def results(analysis: Analysis) -> Grid:
    return report_tables.results_grid(analysis)


def shifted(scores: pd.DataFrame, system: str, copy_of: str, by: float = 0.0) -> pd.DataFrame:
    """The scores with one system's values replaced by another's, plus a constant."""
    columns = ["si_snr_db", "si_snri_db", "sdr_db", "sdri_db"]
    changed = scores.copy()
    changed.loc[scores["system"] == system, columns] = scores.loc[scores["system"] == copy_of, columns].to_numpy() + by
    return changed


def test_the_highest_means_and_the_lowest_shares_are_marked() -> None:
    grid = results(analyse(make_scores(LEVELS)))
    found = marked(grid, grid.best)
    assert found["SI-SNRi, dB"] == found["SDRi, dB"] == found["median SI-SNRi"] == ["second"]
    shares = {row[0]: float(row[-1].removesuffix("%")) for row in grid.rows}
    assert found["below 5 dB"] == [name for name, share in shares.items() if share == min(shares.values())]
    assert not any("interval" in heading or heading == "mixtures" for heading in found)


def test_a_higher_share_below_zero_is_not_the_best() -> None:
    assert best.best_places([0.1, 0.3], ["10%", "30%"], lower_is_better=True) == {0}
    assert best.best_places([0.1, 0.3], ["0.10", "0.30"]) == {1}


def test_equal_values_are_marked_alike() -> None:
    grid = results(analyse(shifted(make_scores(LEVELS), "third", "second", 0.001)))
    assert marked(grid, grid.best)["SI-SNRi, dB"] == ["second", "third"]
    assert "SI-SNRi, dB" not in marked(grid, grid.alike)


def test_shares_that_are_all_equal_mark_nobody() -> None:
    scores = make_scores({"a": 30.0, "b": 25.0})
    grid = results(analyse(scores))
    assert [row[-2:] for row in grid.rows] == [("0%", "0%")] * 2
    assert set(marked(grid, grid.best)) == {"SI-SNRi, dB", "SDRi, dB", "median SI-SNRi"}


def test_what_cannot_be_told_apart_from_the_best_is_marked_as_the_headline_says() -> None:
    scores = make_scores({"a": 8.0, "b": 8.0, "c": 3.0}, num_mixtures=40)
    analysis = analyse(scores)
    grid = results(analysis)
    first, second = re.match(r"(\w) improves .*; (\w) cannot be told apart", analysis.headline).groups()  # type: ignore[union-attr]
    assert marked(grid, grid.best)["SI-SNRi, dB"] == [first]
    assert marked(grid, grid.alike)["SI-SNRi, dB"] == [second]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("num_failed", [0, 15])
def test_the_headline_and_the_marks_agree(seed: int, num_failed: int) -> None:
    """``quitter`` is best wherever it answers; counted with its failures it is not, and then it is marked nowhere."""
    scores = give_up(make_scores({"steady": 9.0, "quitter": 9.6}, num_mixtures=40, seed=seed), "quitter", num_failed)
    analysis = analyse(scores)
    grid = results(analysis)
    found = marked(grid, grid.best)
    column = "SI-SNRi, failures as 0 dB" if num_failed else "SI-SNRi, dB"
    named = re.search(r"(\w+) improves SI-SNR", analysis.headline)
    assert named is not None
    assert named[1] in found[column]
    if num_failed:
        assert "SI-SNRi, dB" not in found
        assert "median SI-SNRi" not in found
        assert found["below 0 dB"] == ["steady"]


def test_context_is_never_marked() -> None:
    analysis = analyse(make_scores(LEVELS), oracles=make_scores({"oracle": 30.0}))
    grid = results(analysis)
    assert all(row < len(LEVELS) for row, _ in grid.best | grid.alike)
    assert "second" in marked(grid, grid.best)["SI-SNRi, dB"]


def test_one_system_is_not_the_best_of_one() -> None:
    grid = results(analyse(make_scores({"alone": 8.0})))
    assert not grid.best | grid.alike


def test_different_mixtures_mark_nobody() -> None:
    scores = make_scores(LEVELS, num_mixtures=30)
    number = scores["mixture_id"].str[:4].astype(int) % 3
    apart = scores[number == scores["system"].map({"first": 0, "second": 1, "third": 2})]
    analysis = analyse(apart)
    assert analysis.headline.startswith("No mixture has scores from every system")
    for grid in (results(analysis), report_tables.spread_grid(analysis)):
        assert not grid.best | grid.alike


def test_partly_different_mixtures_are_marked_on_those_in_common() -> None:
    scores = make_scores(LEVELS, num_mixtures=30)
    apart = scores[~((scores["system"] == "second") & (scores["mixture_id"] < "0010"))]
    grid = results(analyse(apart))
    assert marked(grid, grid.best)["SI-SNRi, dB"] == ["second"]


def test_every_metric_of_the_distribution_has_its_best_mean() -> None:
    scores = make_scores(LEVELS)
    scores["pesq"] = scores["system"].map({"first": 3.0, "second": 2.0, "third": 2.5})
    grid = report_tables.spread_grid(analyse(scores))
    winners = {grid.rows[row][1]: grid.rows[row][0] for row, _ in grid.best}
    assert winners == {"SI-SNRi": "second", "SDRi": "second", "SI-SNR": "second", "SDR": "second", "PESQ": "first"}
    assert {grid.headings[column] for _, column in grid.best} == {"mean"}


def test_a_system_without_the_metric_takes_no_part() -> None:
    scores = make_scores(LEVELS)
    scores.loc[scores["system"] == "second", ["sdr_db", "sdri_db"]] = np.nan
    grid = results(analyse(scores))
    assert marked(grid, grid.best)["SDRi, dB"] == ["third"]
