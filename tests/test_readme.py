"""What the README says: its commands parse, its recipes exist, its Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

import pipeline
from pipeline.audio.files import write_audio
from pipeline.cli import app
from tests.voices import voice

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "recipes" / "README.md", ROOT / "manifests" / "README.md"]
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_file_it_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for recipe in re.findall(r"recipes/[\w-]+\.toml", text):
        assert (ROOT / recipe).is_file(), recipe


def test_no_placeholder_is_left() -> None:
    assert not re.findall(r"@[A-Z_]+@", "".join(page.read_text(encoding="utf-8") for page in PAGES))


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part without a finished run: names, keywords and shapes as the README has them."""
    code = re.search(r"```python\n(.*?)```", README, re.S)
    assert code is not None
    for name in set(re.findall(r"pipeline\.(\w+)", code[1])):
        assert hasattr(pipeline, name), name
    monkeypatch.chdir(tmp_path)
    references = np.stack([voice(0, 0, seconds=1, sample_rate=8000), voice(5, 1, seconds=1, sample_rate=8000)])
    write_audio(tmp_path / "talk.wav", references.sum(0) / 2, 8000)
    names = {"pipeline": pipeline, "references": references, "model": pipeline.build_model(num_filters=16, hidden_channels=16)}
    part = code[1][code[1].index("mixture, sample_rate") :]
    exec(part, names)
    assert names["estimates"].shape == references.shape  # type: ignore[attr-defined]
    assert "15" in re.search(r"look_ahead\(.*#(.*)", code[1])[1]  # type: ignore[index]
    assert pipeline.look_ahead(names["network"]) == 15
