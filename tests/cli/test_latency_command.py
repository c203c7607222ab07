"""``tasnet latency`` from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pipeline.models import save_model
from tests.cli.commands import tasnet
from tests.separation.networks import network

COPY = [sys.executable, "-c", "import shutil, sys; shutil.copy(*sys.argv[1:])", "{input}", "{output}.wav"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(network(), tmp_path / "causal.safetensors")
    save_model(network(causal=False), tmp_path / "noncausal.safetensors")
    return tmp_path


def test_a_causal_model(folder: Path) -> None:
    result = tasnet("latency", "causal.safetensors", "--seconds", 1, "--fail-if", "look_ahead_ms > 20", cwd=folder, check=True)
    figures = dict(line.split(None, 1) for line in result.stdout.splitlines()[:5])
    assert (figures["look_ahead_samples"], figures["look_ahead_ms"], figures["block_samples"]) == ("7", "0.875", "4")
    assert figures["whole_file_gain_db"] == "None"
    assert "the next 7 samples (0.875 ms), and on none later" in result.stdout


def test_a_noncausal_model_fails_any_limit(folder: Path) -> None:
    result = tasnet("latency", "noncausal.safetensors", "--seconds", 1, "--fail-if", "look_ahead_ms > 1e6", "--json", cwd=folder)
    assert result.returncode == 1
    assert json.loads(result.stdout)["look_ahead_samples"] is None
    assert result.stderr.strip() == "tasnet: look_ahead_ms > 1e6: holds"


def test_an_exported_file(folder: Path) -> None:
    tasnet("export", "causal.safetensors", cwd=folder, check=True)
    result = tasnet("latency", "exported/offline.onnx", "--seconds", 1, "--json", cwd=folder, check=True)
    found = json.loads(result.stdout)
    assert (found["look_ahead_samples"], found["sample_rate"]) == (7, 8000)


@pytest.mark.slow
def test_a_command(folder: Path) -> None:
    options = ["--sample-rate", 1000, "--seconds", 0.5, "--json", "--fail-if", "look_ahead_samples > 0"]
    result = tasnet("latency", *options, "--", *COPY, cwd=folder, check=True)
    assert json.loads(result.stdout)["look_ahead_samples"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.safetensors"], "no such file"),
        (["a.safetensors", "b.safetensors"], "give one model, or a command with {input}"),
        (["causal.safetensors", "--fail-if", "look_ahead_ms > soon"], "write a name, <, <=, > or >=, and a number"),
        (["causal.safetensors", "--fail-if", "__class__ > 1"], "the names are look_ahead_samples"),
        (["causal.safetensors", "--sample-rate", "16000"], "is a model for 8000 Hz"),
        (["--", "false", "{input}", "{output}"], "ended with exit code 1"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(folder: Path, arguments: list[str], message: str) -> None:
    result = tasnet("latency", *arguments, cwd=folder)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr
