"""What the README says: its commands parse, its recipes exist, its Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import pipeline
from pipeline.cli import app
from pipeline.recipe.writing import format_recipe
from tests.reports.drawing import without_pdfs

ROOT = Path(__file__).parents[1]
NAMES = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/benchmarks.md",
    "docs/export.md",
    "docs/latency.md",
    "docs/live.md",
    "recipes/README.md",
    "manifests/README.md",
)
PAGES = [ROOT / name for name in NAMES]
README = PAGES[0].read_text(encoding="utf-8")
COMMANDS = sorted({line for page in PAGES for line in re.findall(r"^\$ (tasnet .*)$", page.read_text(encoding="utf-8"), re.M)})


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line: str) -> None:
    _, name, *arguments = shlex.split(line, comments=True)
    group = get_command(app.app)
    command = group.get_command(None, name)  # type: ignore[attr-defined, arg-type]
    assert command is not None, line
    if arguments and hasattr(command, "commands"):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context(name, arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_it_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for module in re.findall(r"`((?:pipeline|tests)/[\w/]+\.py)`", text):
        assert (ROOT / module).is_file(), module
    for recipe in re.findall(r"recipes/[\w-]+\.toml", text):
        assert (ROOT / recipe).is_file(), recipe


def test_no_placeholder_is_left() -> None:
    assert not re.findall(r"@[A-Z_]+@", "".join(page.read_text(encoding="utf-8") for page in PAGES))


SMALL = [
    "corpus.num_speakers={ train = 4, valid = 2, test = 2 }",
    "corpus.utterances_per_speaker=2",
    "plan.num_mixtures={ train = 4, valid = 2, test = 2 }",
    "plan.min_seconds=0.5",
    "model.num_filters=16",
    "model.filter_length=8",
    "model.bottleneck_channels=8",
    "model.skip_channels=8",
    "model.hidden_channels=16",
    "model.blocks_per_repeat=2",
    "model.num_repeats=1",
    "train.segment_seconds=0.5",
    "train.segments_per_epoch=8",
    "train.epochs=1",
    "score.verify=1",
]


@pytest.mark.slow
def test_its_python_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo is a small one here, without PDF files; nothing else is given to the sample."""
    code = re.search(r"```python\n(.*?)```", README, re.S)
    assert code is not None
    (tmp_path / "recipes").mkdir()
    demo = pipeline.load_recipe(ROOT / "recipes" / "demo.toml", SMALL)
    (tmp_path / "recipes" / "demo.toml").write_text(format_recipe(demo), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with without_pdfs():
        exec(code[1], names)
    assert names["estimates"].shape == (2, len(names["mixture"]))
    assert set(names["run"].scores["system"]) == {"causal", "noncausal"}
    assert "15" in re.search(r"look_ahead\(.*#(.*)", code[1])[1]  # type: ignore[index]
    assert pipeline.look_ahead(names["network"]) == 15


def test_citation_is_of_this_version() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert version is not None
    assert f"version: {version[1]}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
