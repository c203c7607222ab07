"""The map of systems and mixtures."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from pipeline.reports import canvas, mixture_map, report_figures
from pipeline.reports.analysis import analyse
from tests.report_cases import give_up, make_scores

MEANS = pd.DataFrame({"a": [5.0, 1.0, 9.0, np.nan], "b": [7.0, 2.0, np.nan, np.nan]}, index=list("wxyz"))
FAILED = pd.DataFrame({"a": [False] * 4, "b": [False, False, True, False]}, index=list("wxyz"))


def drawn(num_systems: int, num_mixtures: int) -> canvas.Drawing:
    names = {f"system {k:02d}": 5.0 + k for k in range(num_systems)}
    analysis = analyse(make_scores(names, num_mixtures=num_mixtures))
    return report_figures.map_figures(analysis)[0]


def test_mixtures_are_sorted_by_difficulty() -> None:
    """A failure counts as less than any score, and a mixture nobody could score is left out."""
    assert mixture_map.by_difficulty(MEANS, FAILED).index.tolist() == ["x", "y", "w"]


def test_the_caption_is_a_text_alternative() -> None:
    drawing = mixture_map.mixture_map(MEANS, FAILED, "SI-SNRi, dB")
    assert "Hatched: the system failed (b on 1)." in drawing.caption
    assert drawing.caption.endswith("Hardest: x, y, w.")
    assert [name for _, name in drawing.mentions] == ["x", "y", "w"]
    assert all(words in drawing.caption for words, _ in drawing.mentions)


@pytest.mark.parametrize("num_systems", [2, 12])
@pytest.mark.parametrize("num_mixtures", [5, 3000])
def test_it_stays_small_and_its_text_stays_text(num_systems: int, num_mixtures: int) -> None:
    drawing = drawn(num_systems, num_mixtures)
    assert len(drawing.svg) < 60_000
    assert all(f"system {k:02d}" in drawing.svg for k in range(num_systems))
    assert f"{num_mixtures:,} mixtures" in drawing.svg
    assert ("A column is the mean of about 12" in drawing.caption) == (num_mixtures == 3000)


def test_cells_are_drawn_sharp() -> None:
    image = re.search(r"<image[^>]*>", drawn(2, 5).svg)
    assert image is not None
    assert "pixelated" in image[0]


def test_failures_are_hatched_in_the_colours_of_the_page() -> None:
    scores = give_up(make_scores({"steady": 9.0, "quitter": 9.6}, num_mixtures=12), "quitter", 3)
    with_failures = report_figures.map_figures(analyse(scores))[0]
    assert "url(#" in with_failures.svg
    assert "quitter on 3" in with_failures.caption
    themed = canvas.themed(with_failures.svg)
    assert "var(--ground)" in themed
    assert canvas.GROUND not in themed
    assert "url(#mixture-map-h" not in drawn(2, 5).svg


@pytest.mark.parametrize(("num_mixtures", "per_column"), [(250, 1), (251, 2), (301, 2), (3000, 12)])
def test_columns_hold_equal_numbers_of_mixtures(num_mixtures: int, per_column: int) -> None:
    means = pd.DataFrame({"a": np.arange(num_mixtures, dtype=np.float64)}).rename(index=str)
    caption = mixture_map.mixture_map(means, means < 0, "SI-SNRi, dB").caption
    found = re.search(r"mean of about (\d+) neighbouring", caption)
    assert (1 if found is None else int(found[1])) == per_column


def test_groups_of_neighbours_are_averaged() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan], [5.0, 7.0]])
    groups = [np.array([0, 1]), np.array([2])]
    np.testing.assert_array_equal(mixture_map._group_means(values, groups), [[2.0, 5.0], [np.nan, 7.0]])


def test_without_scores_there_is_no_map() -> None:
    scores = make_scores(num_mixtures=5).assign(si_snr_db=np.nan, si_snri_db=np.nan, sdr_db=np.nan, sdri_db=np.nan)
    assert report_figures.map_figures(analyse(scores.assign(status="silent_reference"))) == []
