"""``tasnet report``: players for anybody's folders; mistakes end in a line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.files import write_audio
from pipeline.cli.app import app
from pipeline.errors import DatasetError, ScoreError
from pipeline.tables import SCORES, write_table
from tests.report_cases import make_scores
from tests.reports.drawing import without_pdfs
from tests.reports.pages import read_page
from tests.voices import voice

RATE = 8000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of two systems on eight mixtures, and audio of four: a tree, flat files, and mixtures apart."""
    home = tmp_path_factory.mktemp("anybody")
    scores = make_scores({"ours": 8.0, "theirs": 6.5}, num_mixtures=8)
    write_table(scores, home / "scores.csv", SCORES)
    for number, name in enumerate(scores["mixture_id"].unique()[:4]):
        sources = [voice(speaker, number, seconds=1.0, sample_rate=RATE) for speaker in (1, 5)]
        write_audio(home / "noisy" / f"{name}.wav", sum(sources), RATE, "float32")
        for k, source in enumerate(sources, 1):
            write_audio(home / "clean" / f"s{k}" / f"{name}.wav", source, RATE, "float32")
            write_audio(home / "ours" / f"s{k}" / f"{name}.wav", source, RATE, "float32")
            if number:
                write_audio(home / "theirs" / f"{name}_est{k}.flac", 0.5 * source, RATE, "flac")
    return home


@pytest.fixture
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def report(*arguments: str) -> None:
    with without_pdfs():
        app(["report", "scores.csv", "-o", "page", *arguments], standalone_mode=False)


OURS = ("--estimates", "ours")
FOLDERS = (*OURS, "--estimates", "theirs=theirs", "--references", "clean")


def test_anybodys_folders_have_players(place: Path) -> None:
    report(*FOLDERS, "--mixtures", "noisy", "--examples", "3")
    page = read_page(place / "page")
    assert "Players for 3 of the 4 mixtures with audio and a score from every system." in page.text
    html = (place / "page" / "report.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<article class="example"', html)) == 3
    assert len(page.images) == sum(address.startswith("data:audio/flac") for address in page.addresses)
    assert all(text.startswith("Spectrogram of ") for text in page.images)


def test_a_mixture_without_an_estimate_says_so(place: Path) -> None:
    report(*FOLDERS, "--mixtures", "noisy", "--examples", "50")
    text = read_page(place / "page").text
    assert "Players for 4 of the 4 mixtures" in text
    assert text.count("No recording to play from theirs.") == 1


def test_without_examples_there_are_no_players(place: Path) -> None:
    report(*FOLDERS, "--mixtures", "noisy", "--examples", "0")
    assert not read_page(place / "page").images


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (OURS, DatasetError, "--estimates needs --references DIR and --mixtures DIR, or --dataset DIR"),
        (("--references", "clean"), DatasetError, "--references needs --estimates SYSTEM=DIR"),
        (("--mixtures", "noisy"), DatasetError, "--mixtures needs --references DIR"),
        ((*OURS, "--references", "clean"), DatasetError, "no mixtures beside the references; give --mixtures DIR"),
        (("--estimates", "other=ours", "--references", "clean"), ScoreError, "no system of that name; there are ours, theirs"),
        ((*OURS, "--references", "clean", "--dataset", "."), DatasetError, "leave out --references and --mixtures"),
        (("--estimates", "ours", "--references", "nowhere"), ScoreError, "no such folder"),
    ],
)
def test_mistakes_say_what_to_do(place: Path, arguments: tuple[str, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        report(*arguments)


def test_folders_of_other_mixtures_are_refused(place: Path, tmp_path: Path) -> None:
    samples = np.stack([voice(1, 0, seconds=0.5, sample_rate=RATE)] * 2)
    for path in ("mix", "s1", "s2", "made/s1", "made/s2"):
        write_audio(tmp_path / path / "elsewhere.wav", samples[0], RATE, "float32")
    with pytest.raises(ScoreError, match="has none of the mixtures of the tables: it has elsewhere, they have 0000"):
        report("--estimates", f"ours={tmp_path / 'made'}", "--references", str(tmp_path))
