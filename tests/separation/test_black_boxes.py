"""Separators of any origin: what they may look like, and what is said where they do not work."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from pipeline.errors import AudioError, CheckpointError, TasnetError, UsageError
from pipeline.models import save_model
from pipeline.separation.black_boxes import CommandSystem, OnnxSystem
from pipeline.separation.export import export_model
from pipeline.separation.latency import measure_latency
from tests.separation.networks import network

MIXTURE = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 10
READ = "import sys, time, soundfile as sf; x, rate = sf.read(sys.argv[1]); out = sys.argv[2]; "


def command(code: str, output: str = "{output}", **options: float) -> CommandSystem:
    return CommandSystem([sys.executable, "-c", READ + code, "{input}", output], 1000, **options)


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("sf.write(out, x, rate, 'FLOAT')", "{output}.wav"),
        ("import numpy as np; sf.write(out, np.stack([x, x / 2], 1), rate, 'FLOAT')", "{output}.wav"),
        ("sf.write(out, x, rate, 'FLOAT')", "{output}/s1.wav"),
        ("sf.write(out, x, rate, 'FLOAT')", "{output}/input.wav"),
        ("[sf.write(f'{out}_{k}.wav', x / k, rate, 'FLOAT') for k in (1, 2)]", "{output}"),
        ("import os; os.mkdir(out); [sf.write(f'{out}/s{k}.wav', x / k, rate, 'FLOAT') for k in (1, 2)]", "{output}"),
    ],
)
def test_commands_write_files_folders_or_channels(code: str, output: str) -> None:
    found = command(code, output)(MIXTURE)
    assert found.shape == (1 if "np" not in code and "for" not in code else 2, 1000)
    for k, source in enumerate(found, 1):
        assert (source - MIXTURE.float() / k).abs().max() < 1e-7


def test_a_command_in_one_text() -> None:
    text = f"{sys.executable} -c 'import sys, shutil; shutil.copy(sys.argv[1], sys.argv[2])' {{input}} {{output}}.wav"
    assert CommandSystem([text], 1000)(MIXTURE).shape == (1, 1000)


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("sys.exit('no model')", UsageError, r"ended with exit code 1 \(no model\)"),
        ("pass", AudioError, r"written no audio to \{output\}"),
        ("sf.write(out + '.wav', x, 16000)", AudioError, "--sample-rate 16000"),
        ("time.sleep(200)", UsageError, "longer than 0.5 s"),
    ],
)
def test_what_goes_wrong_with_a_command_is_one_line(code: str, error: type[TasnetError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        command(code, timeout=0.5 if "sleep" in code else 60)(MIXTURE)
    assert "\n" not in str(caught.value)


def test_placeholders_and_programs_must_be_there() -> None:
    with pytest.raises(UsageError, match=r"lacks \{output\}"):
        CommandSystem(["sox", "{input}"], 1000)
    with pytest.raises(UsageError, match="no-such-program: cannot be started"):
        CommandSystem(["no-such-program", "{input}", "{output}"], 1000)(MIXTURE)


# --------------------------------------------------------------------------------------------------------------------- ONNX
def test_our_own_file_is_measured_as_the_network_is(tmp_path: Path) -> None:
    save_model(network(), tmp_path / "best.safetensors")
    offline, step = export_model(tmp_path / "best.safetensors", tmp_path)
    system = OnnxSystem(offline)
    assert (system.sample_rate, system.num_samples) == (8000, None)
    found = measure_latency(system, 8000, num_samples=4000)
    assert (found.look_ahead_samples, found.block_samples, found.whole_file_gain_db) == (7, 4, None)
    with pytest.raises(UsageError, match="give the offline file"):
        OnnxSystem(step)


def shifted(path: Path, shape: list[int | str], kind: int = TensorProto.FLOAT) -> Path:
    """Somebody's file: every output is the input five samples later."""
    last = len(shape) - 1
    nodes = [helper.make_node("Slice", ["x", "start", "end", "axis"], ["y"])]
    constants = [("start", 5), ("end", 2**31), ("axis", last)]
    weights = [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in constants]
    ends = [helper.make_tensor_value_info(name, kind, shape if name == "x" else None) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "shifted", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.mark.parametrize("shape", [["time"], ["batch", "time"], [1, 1, "time"], [1, 2000]])
def test_somebodys_file_of_any_shape(tmp_path: Path, shape: list[int | str]) -> None:
    system = OnnxSystem(shifted(tmp_path / "theirs.onnx", shape))
    assert (system.sample_rate, system.num_samples) == (None, 2000 if shape[-1] == 2000 else None)
    assert measure_latency(system, 1000, num_samples=2000).look_ahead_samples == 5


def test_files_that_cannot_be_measured(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only floating-point"):
        OnnxSystem(shifted(tmp_path / "ints.onnx", ["time"], TensorProto.INT64))
    system = OnnxSystem(shifted(tmp_path / "fixed.onnx", [1, 7]))
    with pytest.raises(CheckpointError, match="cannot run it"):
        system(torch.from_numpy(np.zeros(9)))
