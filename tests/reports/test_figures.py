"""Figures: the same bytes for the same numbers, text kept as text, colours that follow the page."""

from __future__ import annotations

import re
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from pipeline.reports import (
    breakdowns,
    canvas,
    figures,
    report_figures,
)
from pipeline.reports.analysis import analyse
from pipeline.reports.means import mixture_means
from tests.report_cases import make_history, make_scores

NAMES = {"noncausal": 8.0, "$causal$ <b>&": 6.5}


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    return make_scores(NAMES, num_mixtures=40)


def draw_all(scores: pd.DataFrame) -> list[canvas.Drawing]:
    means = mixture_means(scores, "si_snri_db")
    first, second = means.columns
    table = breakdowns.breakdown(scores, "si_snri_db", breakdowns.length_bins(scores))
    time = pd.DataFrame({"system": [first, first, second, second], "seconds": [0.25, 0.75] * 2, "value": [1.0, 2.0, 0.5, 1.5]})
    histories = {name: [make_history(level, epochs=5), make_history(level, seed=1)] for name, level in NAMES.items()}
    return [
        figures.histogram(means, "SI-SNRi, dB"),
        figures.cumulative(means, "SI-SNRi, dB", means.rename(columns=lambda name: f"oracle {name}")),
        figures.overview([figures.Estimate(first, 8, 7, 9, 0), figures.Estimate(second, 12, np.nan, np.nan)], "SI-SNRi, dB"),
        figures.boxes({"F+M": means, "M+M": means.head(5)}, "SI-SNRi, dB", name="boxes", caption="Boxes."),
        figures.input_scatter(scores, "si_snri_db", "SI-SNRi, dB"),
        figures.paired_scatter(means, second, first, "SI-SNRi, dB", name="paired"),
        figures.differences(means[second] - means[first], (-1.5, -1.8, -1.2), "difference, dB", name="difference", index=1),
        figures.grouped_means(table, "SI-SNRi, dB", "length", name="length", caption="By length."),
        figures.learning_curves(histories, "valid_si_snri_db", "SI-SNRi, dB", name="curves", caption="Curves."),
        figures.over_time(time, "SI-SNRi, dB", name="time", caption="Over time."),
    ]


@pytest.fixture(scope="module")
def drawn(scores: pd.DataFrame) -> list[canvas.Drawing]:
    return draw_all(scores)


def test_every_figure_is_deterministic_and_undated(scores: pd.DataFrame, drawn: list[canvas.Drawing]) -> None:
    for first, second in zip(drawn, draw_all(scores), strict=True):
        assert first == second
        assert "<dc:date>" not in first.svg
        assert b"CreationDate" not in first.pdf
        assert first.pdf.startswith(b"%PDF")


def test_names_are_text_and_escaped(drawn: list[canvas.Drawing]) -> None:
    for drawing in drawn:
        assert "<b>" not in drawing.svg
    assert "$causal$ &lt;b&gt;&amp;" in drawn[0].svg


def test_ids_of_one_page_never_clash(drawn: list[canvas.Drawing]) -> None:
    ids = [found for drawing in drawn for found in re.findall(r'id="([^"]*)"', drawing.svg)]
    assert len(ids) == len(set(ids))


def test_every_reference_inside_a_figure_has_a_target(drawn: list[canvas.Drawing]) -> None:
    for drawing in drawn:
        ids = set(re.findall(r'id="([^"]*)"', drawing.svg))
        assert set(re.findall(r'(?:href="|url\()#([^")]*)', drawing.svg)) <= ids


def test_themed_figures_have_no_colour_of_their_own(drawn: list[canvas.Drawing]) -> None:
    for drawing in drawn:
        themed = canvas.themed(drawing.svg)
        assert re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", themed) == []
        assert "var(--ink)" in themed


def test_figures_without_values_are_still_drawn() -> None:
    empty = pd.DataFrame({"a": [np.nan, np.nan], "b": [np.nan, np.nan]}, index=["m1", "m2"])
    assert figures.histogram(empty, "dB").svg.startswith("<svg")
    assert figures.cumulative(empty, "dB").svg.startswith("<svg")
    assert figures.paired_scatter(empty, "b", "a", "dB", name="paired").svg.startswith("<svg")
    assert figures.boxes({"x": empty}, "dB", name="boxes", caption="").svg.startswith("<svg")


def test_the_paired_scatter_names_the_largest_differences() -> None:
    means = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [1.0, 9.0, 3.5, 2.0]}, index=["w", "x", "y", "z"])
    drawing = figures.paired_scatter(means, "b", "a", "dB", name="paired")
    assert "(1) x, (2) z, (3) y" in drawing.caption
    assert drawing.mentions == (("(1) x", "x"), ("(2) z", "z"), ("(3) y", "y"))


def test_no_two_of_many_systems_look_alike() -> None:
    looks = {(canvas.colour_of(k), str(canvas.line_of(k)), canvas.marker_of(k)) for k in range(64)}
    assert len(looks) == 64
    assert len({(canvas.colour_of(k), canvas.hatch_of(k)) for k in range(64)}) == 64, "areas have no line and no marker"


def test_long_names_do_not_run_off_an_axis() -> None:
    scores = make_scores({f"a system with quite a long name and number {k}": 5.0 + k for k in range(2)}, num_mixtures=12)
    scatter, histogram = report_figures.pair_figures(analyse(scores))
    for drawing in (scatter, histogram):
        assert max(map(len, re.findall(r">([^<>]+)</text>", drawing.svg))) <= 60
    assert "a system with quite a long name and number 1 −" in histogram.caption


def test_areas_of_many_systems_are_hatched() -> None:
    means = mixture_means(make_scores({f"s{k}": 5.0 for k in range(12)}, num_mixtures=12), "si_snri_db")
    few = means.iloc[:, :8]
    for draw in (figures.histogram, lambda table, label: figures.boxes({"x": table}, label, name="boxes", caption="")):
        svg = draw(means, "dB").svg
        patterns = re.findall(r'<pattern.*?<rect[^>]*fill="([^"]*)".*?stroke: ([^;"]*)', svg, re.S)
        assert len(patterns) == 4
        assert all(face != lines == canvas.INK for face, lines in patterns), "lines of the face's colour cannot be seen"
        assert "<pattern" not in draw(few, "dB").svg


def test_the_ninth_systems_pair_of_figures_differs_from_the_firsts() -> None:
    differences = pd.Series([0.0, 1.0, 2.0])
    drawn = [figures.differences(differences, (1, 0, 2), "difference, dB", name="x", index=k).svg for k in (0, 8)]
    assert ["<pattern" in svg for svg in drawn] == [False, True]
    means = pd.DataFrame({f"s{k}": [1.0, 2.0] for k in range(10)})
    first, ninth = (figures.paired_scatter(means, f"s{k}", "s9", "dB", name="x").svg for k in (0, 8))
    assert first.replace("s0", "s8") != ninth


def test_a_long_legend_leaves_the_axes_their_height() -> None:
    def size(num_systems: int) -> float:
        names = {f"a system with a long name {k}": 5.0 for k in range(num_systems)}
        svg = figures.cumulative(mixture_means(make_scores(names, num_mixtures=6), "si_snri_db"), "dB").svg
        return float(re.search(r'height="([\d.]+)pt"', svg)[1])  # type: ignore[index]

    assert size(12) - size(2) == pytest.approx(72 * 0.17 * 10, abs=1)


def test_long_names_stay_different() -> None:
    names = [f"conv_tasnet_with_a_very_long_description_{end}" for end in ("causal", "noncausal")]
    assert canvas.short_labels(["a", *names]) == ["a", "conv_tasnet_wi…iption_causal", "conv_tasnet_wi…ion_noncausal"]
    alike = ["x" * 40 + "1" * 20, "x" * 40 + "2" + "1" * 19]
    assert canvas.short_labels(alike) == [f"{k}: {'x' * 14}…{'1' * 13}" for k in (1, 2)]


def test_the_line_of_a_single_mixture_rises_at_its_value() -> None:
    x, y = figures._shares_below(pd.Series([3.0]))
    assert (x.tolist(), y.tolist()) == ([3.0, 3.0], [0.0, 100.0])
    x, y = figures._shares_below(pd.Series([-np.inf, 3.0]))
    assert (x.tolist(), y.tolist()) == ([3.0, 3.0], [50.0, 100.0])


def test_groups_of_many_systems_stay_apart() -> None:
    """With twelve systems the marks of one group must not lie among those of the next."""
    rows = [{"group": group, "system": f"s{k}", "mean": 1.0, "low": 0.5, "high": 1.5} for group in "xy" for k in range(12)]
    with mock.patch("matplotlib.axes.Axes.errorbar", autospec=True, side_effect=Axes.errorbar) as drawn:
        figures.grouped_means(pd.DataFrame(rows), "dB", "group", name="groups", caption="")
    places = np.array([call.args[1] for call in drawn.call_args_list])
    assert places[:, 0].max() < places[:, 1].min()
