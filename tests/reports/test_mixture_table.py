"""The table of every mixture, and links to its rows and to players."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.reports import health, mixture_table
from pipeline.reports.analysis import analyse
from pipeline.reports.means import WHOLE_MIXTURE
from pipeline.reports.mixture_table import Places, linked
from tests.report_cases import make_scores

PLACES = Places({"a": 0, "b": 1, '<"': 2}, {"b": 4})


def test_a_mixture_links_to_its_player_or_else_to_its_row() -> None:
    assert PLACES.link("b") == '<a href="#example-4">b</a>'
    assert PLACES.link("a") == '<a href="#mixtures" data-row="0">a</a>'
    assert PLACES.row_link("b", "scores") == '<a href="#mixtures" data-row="1">scores</a>'
    assert PLACES.link("–") == "–"
    assert PLACES.link('<"') == '<a href="#mixtures" data-row="2">&lt;&#34;</a>'


def test_only_the_mentions_of_a_sentence_are_links() -> None:
    """``a`` is also a word, and ``b`` is part of others."""
    text = "a is below b. Largest: (1) b, (2) a & (3) z."
    found = linked(text, [("(1) b", "b"), ("(2) a", "a"), ("(3) z", "z")], PLACES)
    assert found == (
        'a is below b. Largest: (1) <a href="#example-4">b</a>, (2) <a href="#mixtures" data-row="0">a</a> &amp; (3) z.'
    )


def test_the_twin_of_a_duplicate_is_a_link() -> None:
    scores = make_scores({"one": 8.0}, num_mixtures=6)
    copy = scores[scores["mixture_id"] == scores["mixture_id"].iloc[0]].assign(mixture_id="9999_copy")
    table = health.findings(pd.concat([scores, copy], ignore_index=True))
    row = table[table["finding"] == "duplicate"].iloc[0]
    assert [name for _, name in health.mentioned(row["detail"])] == [scores["mixture_id"].iloc[0]]
    assert health.mentioned("no scores for a") == []


@pytest.mark.parametrize("num_systems", [2, 4])
def test_values_of_the_sources_are_the_scores(num_systems: int) -> None:
    scores = make_scores({f"s{k}": 5.0 + k for k in range(num_systems)}, num_mixtures=10)
    scores.loc[3, "si_snri_db"] = np.nan
    analysis = analyse(scores)
    table = mixture_table.mixture_rows(analysis)
    shown = [column for column in table["columns"] if column["system"]]
    assert len(shown) == 4, "two metrics of two systems, or one of four"
    metrics = {"SI-SNRi": "si_snri_db", "SDRi": "sdri_db"}
    for row, sources in zip(table["rows"], table["sources"], strict=True):
        mine = scores[scores["mixture_id"] == row[0]].set_index(["system", "source"])
        assert [source[0] for source in sources] == ["s1", "s2"]
        for name, speaker, values in sources:
            assert speaker == ", ".join(mine.loc[analysis.systems[0], name][["speaker_id", "sex"]])
            for column, value in zip(shown, values, strict=True):
                system, label = column["name"].rsplit(" ", 1)
                expected = mine.loc[system, name][metrics[label]]
                assert (value is None) if np.isnan(expected) else value == pytest.approx(expected, abs=0.0051)
                assert analysis.systems[column["system"] - 1] == system


def test_rows_are_numbered_as_links_number_them() -> None:
    analysis = analyse(make_scores(num_mixtures=12).sample(frac=1, random_state=0))
    numbers = mixture_table.row_numbers(analysis)
    assert [row[0] for row in mixture_table.mixture_rows(analysis)["rows"]] == sorted(numbers, key=numbers.__getitem__)


def test_means_over_a_mixture_have_no_sources() -> None:
    scores = make_scores(num_mixtures=6).query("source == 's1'").assign(source=WHOLE_MIXTURE)
    assert mixture_table.mixture_rows(analyse(scores))["sources"] == [[]] * 6
