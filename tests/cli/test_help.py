"""What ``tasnet`` says of itself: quickly, in any terminal, and in the order in which a user needs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
import typer
from typer.models import OptionInfo

from pipeline.cli.app import app

ROOT = Path(__file__).parents[2]
MAIN = "import sys; sys.argv[0] = 'tasnet'; from pipeline.cli.app import main; main()"
COMMANDS = [
    "run",
    "check",
    "status",
    "show",
    "recipes",
    "separate",
    "import",
    "export",
    "latency",
    "live",
    "publish",
    "bench",
    "score",
    "compare",
    "report",
]
COMMANDS += ["fetch", "lint", "verify", "stats", "lists"]


def python(code: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=250, check=False)


def test_help_loads_neither_torch_nor_pandas_nor_pydantic(tmp_path: Path) -> None:
    heavy = "('torch', 'pandas', 'numpy', 'pydantic', 'scipy')"
    probe = f"import atexit, sys; atexit.register(lambda: print([m for m in {heavy} if m in sys.modules])); {MAIN}"
    result = python(probe, "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"


def test_the_help_lists_every_command_in_order(tmp_path: Path) -> None:
    lines = python(MAIN, "--help", cwd=tmp_path, COLUMNS="130").stdout.splitlines()
    listed = [found[1] for line in lines if (found := re.match(r"\W ([a-z]+)  +[A-Z]", line))]
    assert listed == COMMANDS
    assert list(typer.main.get_command(app).commands) != []  # type: ignore[attr-defined]
    assert sorted(typer.main.get_command(app).commands) == sorted(COMMANDS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["", "run", "separate", "score", "compare", "report"])
def test_help_works_in_an_ascii_terminal(tmp_path: Path, command: str) -> None:
    result = python(MAIN, *command.split(), "--help", cwd=tmp_path, PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="0")
    assert result.returncode == 0, result.stderr
    assert result.stdout.isascii()
    assert "--help" in result.stdout


def test_what_ascii_lacks_is_replaced(tmp_path: Path) -> None:
    code = "from pipeline.cli import terminal; terminal.set_up(); print('a → b … − ü \\udcff')"
    result = python(code, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert result.stdout == "a -> b ... - \\xfc \\udcff\n"


def test_the_version_is_printed_with_and_without_installation(tmp_path: Path) -> None:
    result = python(MAIN, "--version", cwd=tmp_path)
    assert re.fullmatch(r"tasnet-pipeline \S+\n", result.stdout)
    hidden = "import importlib.metadata as m\ndef missing(name): raise m.PackageNotFoundError(name)\nm.version = missing\n"
    bare = python(hidden + "import pipeline; print(pipeline.__version__)", cwd=tmp_path)
    assert bare.stdout == "0+unknown\n"


def numeric_options() -> list[tuple[str, OptionInfo]]:
    """Every option that takes a number, under its command and name."""
    apps = [app, *(group.typer_instance for group in app.registered_groups)]
    found = []
    for command in (command for each in apps if each is not None for command in each.registered_commands):
        assert command.callback is not None
        for name, annotation in get_type_hints(command.callback, include_extras=True).items():
            kind, *facts = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
            is_number = {int, float} & {kind, *get_args(kind)}
            found += [
                (f"{command.callback.__name__}-{name}", fact) for fact in facts if is_number and isinstance(fact, OptionInfo)
            ]
    return found


@pytest.mark.parametrize("option", [pytest.param(option, id=name) for name, option in numeric_options()])
def test_no_option_takes_a_number_beyond_all_use(option: OptionInfo) -> None:
    if option.parser is None:
        assert option.max is not None
        assert option.max <= 10**9
        return
    for text in ("99999999999999999999", "nan", "inf", "-1e300", "x"):
        with pytest.raises(typer.BadParameter, match=r"is no number from \S+ to \S+"):
            option.parser(text)


def test_the_options_that_are_numbers_are_found() -> None:
    names = {name for name, _ in numeric_options()}
    assert {"run-jobs", "latency-seconds", "separate-chunk_ms", "bench_train-steps", "live-max_minutes"} < names
