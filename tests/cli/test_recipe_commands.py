"""``tasnet show`` and ``tasnet recipes``; recipes by name, and paths with ``~``."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.app import app
from pipeline.errors import RecipeError, UsageError
from pipeline.recipe.reading import load_recipe
from tests.cli.commands import RECIPE
from tests.recipe.recipes import SHIPPED
from tests.voices import write_voices


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, which is the home folder too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def tasnet(*arguments: str) -> None:
    app(list(arguments), standalone_mode=False)


@pytest.mark.parametrize("name", [path.stem for path in SHIPPED])
def test_show_prints_a_recipe_that_run_reads(name: str, place: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    more = "plan.limit=7" if name == "own-mixtures" else "mix.also=[{sample_rate = 16000, mode = 'max'}]"
    settings = ("--set", "seed=5", "--set", more)
    tasnet("show", name, *settings)
    shown = capfdbinary.readouterr().out
    (place / "shown.toml").write_bytes(shown)
    recipe = load_recipe("shown.toml")
    assert recipe == load_recipe(name, settings[1::2])
    tasnet("show", "shown.toml")
    assert capfdbinary.readouterr().out == shown


def test_recipes_lists_each_with_its_needs_and_time(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasnet("recipes")
    blocks = capsys.readouterr().out.split("\n\n")
    assert [block.split()[0] for block in blocks[:-1]] == [path.stem for path in SHIPPED]
    assert all(f"\n{'':13}needs: " in block and f"\n{'':13}time:  " in block for block in blocks[:-1])


def test_a_recipe_is_copied_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasnet("recipes", "copy", "own-speech")
    copy = place / "own-speech.toml"
    original = next(path for path in SHIPPED if path.stem == "own-speech")
    assert copy.read_bytes() == original.read_bytes()
    assert "tasnet run own-speech.toml" in capsys.readouterr().out
    copy.write_text(RECIPE)
    with pytest.raises(RecipeError, match=r"^own-speech\.toml: exists already"):
        tasnet("recipes", "copy", "own-speech")
    assert copy.read_text() == RECIPE
    with pytest.raises(RecipeError, match=r"^nothing: no shipped recipe has this name; choose from ablation, demo"):
        tasnet("recipes", "copy", "nothing")


def test_a_home_folder_in_a_path_is_found(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "tiny.toml").write_text(RECIPE)
    write_voices(place / "speech")
    tasnet("run", "~/tiny.toml", "scan", "--corpus", "folder=~/speech", "--work=~/results", "-j", "1")
    assert f"scan: {place}/results/scan/" in capsys.readouterr().out
    assert not (place / "~").exists()


@pytest.mark.parametrize("text", ["folder", "=speech", "folder="])
def test_a_corpus_is_given_by_kind_and_folder(place: Path, text: str) -> None:
    with pytest.raises(UsageError, match=f"^--corpus {text}: write it as KIND=DIR$"):
        tasnet("check", "demo", "--corpus", text)
