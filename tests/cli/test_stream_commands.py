"""``separate - --stream`` and ``bench stream``, as processes between pipes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.files import write_audio
from pipeline.models import save_model
from tests.cli.commands import RECIPE, tasnet
from tests.separation.networks import network
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(network(), tmp_path / "causal.safetensors")
    save_model(network(causal=False), tmp_path / "noncausal.safetensors")
    (tmp_path / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def test_raw_audio_goes_through_and_forgetting_is_named_and_changes_what_comes_out(folder: Path) -> None:
    samples = (3000 * np.random.default_rng(0).standard_normal(4003)).astype("<i2").tobytes()
    command = [sys.executable, "-P", "-m", "pipeline", "separate", "causal.safetensors", "-", "--stream", "--device", "cpu"]
    whole, forgetful = (
        subprocess.run([*command, *more], cwd=folder, input=samples, capture_output=True, check=True, timeout=PATIENCE_SECONDS)
        for more in ([], ["--forget-seconds", "0.05", "--rate", "16000"])
    )
    assert whole.stderr == b""
    assert b"fall to 1/e after 0.05 s" in forgetful.stderr
    assert len(whole.stdout) == len(forgetful.stdout) == 2 * len(samples)
    assert whole.stdout != forgetful.stdout


@pytest.mark.parametrize(("model", "method"), [("causal", "streamed instead"), ("noncausal", "done layer by layer instead")])
def test_files_beyond_the_memory_go_through_in_pieces(folder: Path, model: str, method: str) -> None:
    write_audio(folder / "talk.wav", 0.1 * np.random.default_rng(0).standard_normal(9000), 8000)
    command = ("separate", f"{model}.safetensors", "talk.wav", "--device", "cpu", "--max-memory", "0")
    result = tasnet(*command, cwd=folder, check=True)
    assert f"talk.wav: too long to separate at once (0.0 GB of memory; --max-memory is 0); {method}" in result.stderr
    assert result.stdout.split() == ["separated/talk_s1.wav", "separated/talk_s2.wav"]
    again = tasnet(*command, cwd=folder, check=True)
    assert (again.stdout, again.stderr) == (result.stdout, "")


@pytest.mark.parametrize("arguments", [["-"], ["a.wav", "--stream"], ["-", "a.wav", "--stream"]])
def test_the_dash_and_the_option_belong_together(folder: Path, arguments: list[str]) -> None:
    result = tasnet("separate", "causal.safetensors", *arguments, cwd=folder)
    assert result.returncode == 2
    assert "give both - and --stream" in result.stderr


def test_a_noncausal_model_is_refused_with_the_reason(folder: Path) -> None:
    result = tasnet("separate", "noncausal.safetensors", "-", "--stream", "--device", "cpu", cwd=folder)
    assert result.returncode == 2
    assert "cannot stream: its convolutions look" in result.stderr
    assert result.stderr.count("\n") == 1


def test_bench_of_a_model_as_a_table(folder: Path) -> None:
    chosen = ("--chunk-ms", "2,10", "--threads", "1", "--seconds", 0)
    lines = tasnet("bench", "stream", "causal.safetensors", *chosen, cwd=folder, check=True).stdout.splitlines()
    assert lines[0].split()[:3] == ["chunk", "ms", "engine"]
    assert [line.split()[0] for line in lines[1:]] in (["2", "2", "10", "10"], 3 * ["2"] + 3 * ["10"])
    assert {line.split()[1] for line in lines[1:]} >= {"torch", "onnxruntime"}


def test_bench_of_a_recipe_takes_its_causal_system(folder: Path) -> None:
    chosen = ("--chunk-ms", "10", "--threads", "1", "--seconds", 0, "--json")
    rows = json.loads(tasnet("bench", "stream", "tiny.toml", *chosen, cwd=folder, check=True).stdout)
    assert {row["chunk_ms"] for row in rows} == {10}
    result = tasnet("bench", "stream", "tiny.toml", "--system", "noncausal", cwd=folder)
    assert (result.returncode, "cannot stream" in result.stderr) == (2, True)
    for wrong in (("--chunk-ms", "a"), ("--threads", "0"), ("--system", "none")):
        result = tasnet("bench", "stream", "tiny.toml", *wrong, cwd=folder)
        assert (result.returncode, wrong[0] in result.stderr) == (2, True)
