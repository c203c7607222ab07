"""``tasnet export`` from the command line, and the example that runs its file without this package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.models import load_model, save_model
from pipeline.separation import separate
from tests.cli.commands import tasnet
from tests.separation.networks import network
from tests.waiting import PATIENCE_SECONDS

EXAMPLE = Path(__file__).parents[2] / "docs" / "stream_onnx.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(network(), tmp_path / "best.safetensors")
    return tmp_path


def test_it_prints_the_files(folder: Path) -> None:
    made = tasnet("export", "best.safetensors", "--int8", "-o", "new/folder", cwd=folder, check=True)
    names = ["offline.onnx", "offline.int8.onnx", "step.onnx", "step.int8.onnx"]
    assert made.stdout.splitlines() == [f"new/folder/{name}" for name in names]
    assert made.stderr == ""
    assert sorted(path.name for path in (folder / "new" / "folder").iterdir()) == sorted(names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.safetensors"], "none.safetensors: no such file"),
        (["best.safetensors", "--format", "tflite"], "--format tflite: choose onnx, torch or web"),
        (["best.safetensors", "-o", "best.safetensors"], "cannot be written"),
    ],
)
def test_mistakes_are_one_line(folder: Path, arguments: list[str], message: str) -> None:
    result = tasnet("export", *arguments, cwd=folder)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr


def test_the_page_lacks_its_runtime_until_it_is_given(folder: Path) -> None:
    made = tasnet("export", "best.safetensors", "--format", "web", "-o", "page", cwd=folder, check=True)
    assert {"page/index.html", "page/step.onnx", "page/facts.json"} < set(made.stdout.splitlines())
    assert "npm pack onnxruntime-web" in made.stderr
    assert json.loads((folder / "page" / "facts.json").read_text())["engine"] == "onnx"


@pytest.mark.parametrize("options", [[], ["--hops", "3"]])
def test_the_example_streams_with_onnxruntime_alone(folder: Path, options: list[str]) -> None:
    tasnet("export", "best.safetensors", *options, cwd=folder, check=True)
    mixture = 0.1 * np.random.default_rng(0).standard_normal(8005)
    soundfile.write(folder / "talk.wav", mixture, 8000, subtype="FLOAT")
    blind = "import sys; sys.modules['torch'] = sys.modules['pipeline'] = None; import runpy; runpy.run_path(sys.argv.pop(1))"
    command = [sys.executable, "-c", blind, str(EXAMPLE), "exported/step.onnx", "talk.wav"]
    subprocess.run(command, cwd=folder, check=True, timeout=PATIENCE_SECONDS)
    expected = separate(load_model(folder / "best.safetensors"), mixture.astype(np.float32), sample_rate=8000)
    found = np.stack([soundfile.read(folder / f"talk_s{k}.wav")[0] for k in (1, 2)])
    assert np.abs(found - expected).max() < 1e-4  # 16 bits
