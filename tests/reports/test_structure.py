"""The page as a document: every link has a target, every picture a text, and every number that is marked is the best."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from pipeline import reports
from tests.report_cases import give_up, make_history, make_scores
from tests.reports.clips import EVIL, load_clips
from tests.reports.pages import Page, read_page

pytestmark = pytest.mark.usefixtures("no_pdfs")


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    made = make_scores({"noncausal": 8.0, "causal": 6.5, EVIL: 7.9}, num_mixtures=40)
    twin = made[made["mixture_id"] == made["mixture_id"].iloc[0]].assign(mixture_id="9999 copy")
    return pd.concat([give_up(made, "causal", 2), twin], ignore_index=True)


@pytest.fixture(scope="module")
def folder(scores: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    histories = {"noncausal": make_history(8.0)}
    page = {"title": "structure", "histories": histories, "examples": load_clips, "num_examples": 3}
    return reports.write_report(scores, tmp_path_factory.mktemp("structure"), **page).parent  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return read_page(folder)


def test_every_link_has_a_target(html: str, page: Page) -> None:
    targets = [address[1:] for address in page.addresses if address.startswith("#")]
    assert len([target for target in targets if target.startswith("example-")]) >= 1
    assert set(targets) <= set(page.ids)
    num_rows = len(json.loads(page.scripts["mixture-rows"])["rows"])
    rows = [int(number) for number in re.findall(r'data-row="(\d+)"', html)]
    assert rows
    assert max(rows) < num_rows == 41


def test_rows_and_players_know_each_other(html: str, page: Page) -> None:
    table = json.loads(page.scripts["mixture-rows"])
    headings = re.findall(
        r'id="example-(\d+)".*?<h3>\w[\w ]* <span>([^<]*)</span> <a href="#mixtures" data-row="(\d+)">', html, re.S
    )
    assert len(headings) == 3
    for example, name, row in headings:
        assert table["rows"][int(row)][0] == name
        assert table["players"][row] == int(example)


def test_mixtures_that_sentences_name_are_links(html: str) -> None:
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html, re.S)
    named = [caption for caption in captions if "Largest differences" in caption or "Hardest:" in caption]
    assert len(named) == 3
    for caption in named:
        assert len(re.findall(r"<a href=", caption)) == 3
    assert re.search(r"same length and input SI-SNR as <a href=[^>]*>0000_", html)


def test_every_figure_and_picture_has_a_text(html: str, page: Page) -> None:
    figures = re.findall(r"<figure>(<svg[^>]*>)", html)
    assert len(figures) >= 8
    assert all(re.search(r'role="img" aria-label="[^"]{20,}"', figure) for figure in figures)
    assert page.images
    assert all(text.startswith("Spectrogram of ") for text in page.images)


def test_spectrograms_have_axes_and_a_scale(html: str) -> None:
    num_pictures = html.count('<span class="picture">')
    assert num_pictures == 3 * (1 + 2 * 4)
    assert html.count('<span class="khz"') == html.count('<span class="seconds"') == num_pictures
    assert '<i style="bottom:50.0%">2</i><i style="bottom:100.0%">4</i>' in html
    assert '<i style="left:75.0%">1.5</i><i style="left:100.0%">2 s</i>' in html
    assert html.count('<p class="level"><span>−65 dB</span>') == 3


def test_the_best_values_are_marked_in_more_than_colour(scores: pd.DataFrame, html: str) -> None:
    """The mean that counts failures ranks; nobody is marked for a mean that leaves failures out."""
    table = html[html.index('aria-label="Results of every system"') :].split("</table>")[0]
    rows = [re.findall(r"<td[^>]*>.*?</td>", row, re.S) for row in table.split("<tr>")[2:]]
    marked = [(k, column) for k, row in enumerate(rows) for column, cell in enumerate(row) if 'class="best"' in cell]
    means = scores.groupby(["system", "mixture_id"])["si_snri_db"].agg(lambda values: values.mean(skipna=False))
    best = means.fillna(0).groupby("system").mean().idxmax()
    assert (["noncausal", "causal", EVIL].index(best), 6) in marked
    assert not {2, 4, 8} & {column for _, column in marked}
    assert all("<strong>" in cell for row in rows for cell in row if 'class="best"' in cell)
    assert re.search(r'\.best::after \{ content: "[^"]+" / "best"', html)
