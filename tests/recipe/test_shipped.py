"""Shipped recipes are found by name, described, and installed with the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.reading import load_recipe
from pipeline.recipe.shipped import find_recipe, shipped_recipes
from tests.recipe.recipes import SHIPPED, SMALL

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_found_and_described(path: Path) -> None:
    assert find_recipe(path.stem) == path
    assert load_recipe(path.stem) == load_recipe(path)
    recipe = shipped_recipes()[path.stem]
    assert min(map(len, (recipe.summary, recipe.needs, recipe.time))) > 10
    assert f"| `{path.stem}` |" in (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")


def test_a_file_comes_before_a_shipped_recipe(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    (place / "demo.toml").write_text(SMALL)
    (place / "own-speech").mkdir()
    assert load_recipe("demo.toml").name == "small"
    assert not caplog.messages
    assert load_recipe("own-speech").name == "own-speech"
    assert load_recipe("demo").name == "demo"
    assert caplog.messages == ["demo: using the recipe shipped under this name; to use the file in this folder, give demo.toml"]
    (place / "demo").write_text(SMALL)
    assert load_recipe("demo").name == "small"


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("dmo", "; did you mean demo?"),
        ("recipes/demo.toml", "; did you mean demo?"),
        ("mien.toml", "; did you mean mine.toml?"),
        ("/nowhere/xyz", "; `tasnet recipes` lists those that have"),
    ],
)
def test_an_unknown_name_is_one_line_with_similar_ones(place: Path, name: str, suggestion: str) -> None:
    (place / "mine.toml").write_text(SMALL)
    with pytest.raises(RecipeError) as raised:
        load_recipe(name)
    assert str(raised.value) == f"{name}: no such file, and no shipped recipe has this name{suggestion}"


def test_an_installed_package_runs_its_recipes_from_an_empty_folder(tmp_path: Path) -> None:
    """A wheel, built of what the repository holds and installed where nothing else is."""
    source, installed, empty = tmp_path / "source", tmp_path / "installed", tmp_path / "empty"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("pipeline", "recipes", "manifests"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    empty.mkdir()
    offline = ("--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "-w", tmp_path, source], check=True, timeout=250)
    wheel = next(tmp_path.glob("tasnet_pipeline-*.whl"))
    subprocess.run([*pip, "install", *offline, "--target", installed, wheel], check=True, timeout=250)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), sysconfig.get_path("purelib")])}

    def tasnet(*arguments: str) -> str:
        command = [sys.executable, installed / "bin" / "tasnet", *arguments]
        result = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, timeout=250, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert "would run report" in tasnet("run", "demo", "--dry-run")
    tasnet("recipes", "copy", "ablation")
    assert (empty / "ablation.toml").read_bytes() == (ROOT / "recipes" / "ablation.toml").read_bytes()
    assert {path.name for path in (installed / "pipeline/recipe/shipped").iterdir()} == {path.name for path in SHIPPED}
    assert "librispeech" in tasnet("fetch")
