"""``tasnet live`` as a person starts and ends it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from pipeline.cli.live import live
from pipeline.errors import TasnetError, UsageError
from pipeline.models import save_model
from tests.separation.networks import network
from tests.waiting import PATIENCE_SECONDS, process


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(network(), tmp_path / "causal.safetensors")
    save_model(network(causal=False), tmp_path / "noncausal.safetensors")
    return tmp_path


def test_it_prints_the_address_and_ends_cleanly_on_ctrl_c(folder: Path) -> None:
    command = [sys.executable, "-P", "-m", "pipeline", "live", "causal.safetensors", "--port", "0", "--forget-seconds", "2"]
    with process(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        with urllib.request.urlopen(f"{address}facts.json", timeout=PATIENCE_SECONDS) as answer:
            facts = json.load(answer)
        server.send_signal(signal.SIGINT)
        rest, errors = server.communicate(timeout=PATIENCE_SECONDS)
    assert (facts["name"], facts["forget_seconds"]) == ("causal", 2)
    assert (server.returncode, rest, errors) == (0, "", "")


@pytest.mark.parametrize(
    ("model", "host", "message"),
    [
        ("noncausal", "127.0.0.1", "^this network cannot stream: its convolutions look .*$"),
        ("none", "127.0.0.1", "none.safetensors: no such file"),
        ("causal", "192.0.2.1", "^cannot listen on 192.0.2.1, port 8765: [^;]*$"),
    ],
)
def test_what_keeps_it_from_starting(
    folder: Path, capsys: pytest.CaptureFixture[str], model: str, host: str, message: str
) -> None:
    with pytest.raises(TasnetError, match=message):
        live(folder / f"{model}.safetensors", host=host)
    warned = "tasnet: --host 192.0.2.1: whoever reaches this machine can use the page\n" if model == "causal" else ""
    assert capsys.readouterr() == ("", warned)


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets", None)
    with pytest.raises(UsageError, match=r"pip install 'tasnet-pipeline\[live\]'"):
        live(folder / "causal.safetensors")
