"""Exported models equal the network they come from, for anybody who follows the files' metadata and nothing else."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch

import pipeline
from pipeline.errors import ModelError, UsageError, WorkError
from pipeline.models import ConvTasNet, save_model
from pipeline.separation.export import METADATA_FILE, export_model
from pipeline.separation.live.web import RUNTIME_FILES
from tests.networks import unlike_new
from tests.separation.networks import network

Samples = npt.NDArray[np.float32]

KINDS: dict[str, dict[str, Any]] = {
    "global": {"causal": False},
    "centred-cumulative": {"causal": False, "norm": "cumulative", "mask": "softmax"},
    "cumulative": {},
    "frame": {"norm": "frame", "mask": "relu", "encoder": "relu"},
    "no-context": {"kernel_size": 1, "filter_length": 2},
    "global-small": {"causal": False, "blocks_per_repeat": 1, "num_repeats": 1},
    "cumulative-small": {"blocks_per_repeat": 1, "num_repeats": 1},
}
CAUSAL = ("cumulative", "frame", "no-context")
LENGTHS = (1, 3, 4, 5, 8, 801, 4000)


def trained(kind: str) -> ConvTasNet:
    """All parameters away from where they begin, so that none can be left out unnoticed."""
    return unlike_new(network(**KINDS[kind])).requires_grad_(False)


def noise(batch: int, length: int) -> Samples:
    return np.random.default_rng(length).standard_normal((batch, length)).astype(np.float32)


def exported(folder: Path, kind: str = "cumulative", **options: Any) -> list[Path]:
    save_model(trained(kind), folder / "best.safetensors")
    return list(export_model(folder / "best.safetensors", folder / "out", **options))


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def zeros(state: dict[str, Any], batch: int) -> npt.NDArray[Any]:
    return np.zeros([batch if size == "batch" else size for size in state["shape"]], state["dtype"])


def facts_of(ort: onnxruntime.InferenceSession) -> dict[str, str]:
    facts: dict[str, str] = ort.get_modelmeta().custom_metadata_map
    return facts


def deviation(found: npt.NDArray[Any], model: ConvTasNet, mixture: Samples) -> float:
    expected = model(torch.from_numpy(mixture)).numpy()
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def streamed(
    ort: onnxruntime.InferenceSession, mixture: Samples, num_hops: Sequence[int], forgetting: str = ""
) -> npt.NDArray[np.float32]:
    """As the metadata say, in steps of so many hops again and again; ``forgetting`` names a state that begins anew each step."""
    facts = facts_of(ort)
    hop, delay, states = int(facts["hop_samples"]), int(facts["delay_samples"]), json.loads(facts["state"])
    start_state = {each["input"]: zeros(each, len(mixture)) for each in states}
    waiting = np.pad(mixture, ((0, 0), (0, delay + hop * max(num_hops))))
    state, estimates, start = start_state, [], 0
    while start < mixture.shape[1] + delay:
        stop = start + hop * num_hops[len(estimates) % len(num_hops)]
        found, *after = ort.run(None, {"mixture": waiting[:, start:stop], **state})
        state = {each["input"]: tensor for each, tensor in zip(states, after, strict=True)}
        state |= {name: start_state[name] for name in state if name == forgetting}
        estimates.append(found)
        start = stop
    return np.concatenate(estimates, axis=2)[..., delay:][..., : mixture.shape[1]]


# ---------------------------------------------------------------------------------------------------------------- equality
@pytest.mark.parametrize("kind", KINDS)
def test_the_offline_file_equals_the_network(tmp_path: Path, kind: str) -> None:
    ort = session(exported(tmp_path, kind)[0])
    for batch in (1, 3):
        for length in LENGTHS:
            mixture = noise(batch, length)
            assert deviation(ort.run(None, {"mixture": mixture})[0], trained(kind), mixture) < 2e-6


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_step_equals_the_network(tmp_path: Path, kind: str, batch: int) -> None:
    ort = session(exported(tmp_path, kind)[1])
    for length in LENGTHS:
        mixture = noise(batch, length)
        for num_hops in ([1], [10], [3, 1, 50]):
            assert deviation(streamed(ort, mixture, num_hops), trained(kind), mixture) < 1e-5


def test_negative_control_no_state_may_be_forgotten(tmp_path: Path) -> None:
    ort, mixture = session(exported(tmp_path)[1]), noise(1, 801)
    names = [each["input"] for each in json.loads(facts_of(ort)["state"])]
    assert len(names) == 10
    for name in names:
        assert deviation(streamed(ort, mixture, [10], forgetting=name), trained("cumulative"), mixture) > 1e-4, name


def test_statistics_stay_exact_after_an_offset_and_many_frames(tmp_path: Path) -> None:
    """Silence, then a thousand times its level: float32 sums would lose the quiet part's digits."""
    ort, mixture = session(exported(tmp_path)[1]), noise(1, 40_000)
    mixture[:, :20_000] *= 1e-3
    assert deviation(streamed(ort, mixture, [100]), trained("cumulative"), mixture) < 1e-5
    assert {each["dtype"] for each in json.loads(facts_of(ort)["state"]) if "norm" in each["name"]} == {"float64"}


def test_a_step_of_fixed_length(tmp_path: Path) -> None:
    ort, mixture = session(exported(tmp_path, num_hops=5)[1]), noise(2, 801)
    assert ort.get_inputs()[0].shape == ["batch", 20]
    assert deviation(streamed(ort, mixture, [5]), trained("cumulative"), mixture) < 1e-5
    assert facts_of(ort)["latency_samples"] == "24"


# ---------------------------------------------------------------------------------------------------------------- metadata
def test_the_metadata_tell_a_stranger_what_is_needed(tmp_path: Path) -> None:
    offline, step = exported(tmp_path)
    facts = facts_of(session(step))
    digest = hashlib.sha256((tmp_path / "best.safetensors").read_bytes()).hexdigest()
    assert facts["checkpoint_sha256"] == digest
    assert (facts["sample_rate"], facts["num_sources"], facts["norm"], facts["causal"]) == ("8000", "2", "cumulative", "true")
    assert (facts["look_ahead_samples"], facts["latency_samples"], facts["latency_ms"]) == ("7", "8", "1")
    assert facts["version"] == pipeline.__version__
    assert json.loads(facts["model"])["num_filters"] == 16
    assert facts_of(session(offline))["kind"] == "offline"
    for each, given, made in zip(
        json.loads(facts["state"]), session(step).get_inputs()[1:], session(step).get_outputs()[1:], strict=True
    ):
        assert (each["input"], each["output"], each["shape"], each["initial"]) == (given.name, made.name, given.shape, 0)


def test_a_noncausal_model_has_no_step(tmp_path: Path) -> None:
    assert [path.name for path in exported(tmp_path, "global")] == ["offline.onnx"]
    assert facts_of(session(tmp_path / "out" / "offline.onnx"))["look_ahead_samples"] == "not limited"
    with pytest.raises(UsageError, match="only causal models"):
        exported(tmp_path, "global", num_hops=1)


def test_the_graphs_are_valid_and_the_same_each_time(tmp_path: Path) -> None:
    paths = exported(tmp_path)
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in exported(tmp_path)] == before
    for path in paths:
        onnx.checker.check_model(onnx.load(path), full_check=True)


# -------------------------------------------------------------------------------------------------------------------- int8
def test_int8_files_run_keep_the_metadata_and_leave_the_filterbanks_alone(tmp_path: Path) -> None:
    paths = exported(tmp_path, int8=True)
    assert [path.name for path in paths] == ["offline.onnx", "offline.int8.onnx", "step.onnx", "step.int8.onnx"]
    mixture = noise(1, 801)
    for path in paths[1::2]:
        ort = session(path)
        assert facts_of(ort)["sample_rate"] == "8000"
        found = ort.run(None, {"mixture": mixture})[0] if "offline" in path.name else streamed(ort, mixture, [10])
        assert 1e-5 < deviation(found, trained("cumulative"), mixture) < 0.3
        kept = {each.name: each.data_type for each in onnx.load(path).graph.initializer}
        assert kept["encoder.filters.weight"] == kept["decoder.basis.weight"] == onnx.TensorProto.FLOAT
        assert onnx.TensorProto.INT8 in kept.values()


# ------------------------------------------------------------------------------------------------------------------- torch
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["global-small", "cumulative-small"])  # a frame norm depends on no length
def test_the_torch_program_takes_any_length(tmp_path: Path, kind: str) -> None:
    path, *steps = exported(tmp_path, kind, to="torch")
    content = zipfile.ZipFile(path)
    assert not any(b"conv_tasnet.py" in content.read(name) for name in content.namelist())  # nor the folder it is in
    program = torch.export.load(path).module()
    for batch in (1, 3):
        for length in LENGTHS:
            mixture = noise(batch, length)
            assert deviation(program(torch.from_numpy(mixture)).numpy(), trained(kind), mixture) < 2e-6
    for step in steps:
        files = {METADATA_FILE: ""}
        program = torch.export.load(step, extra_files=files).module()
        states = json.loads(json.loads(files[METADATA_FILE])["state"])
        mixture = noise(1, 40)
        state = [torch.from_numpy(zeros(each, 1)) for each in states]
        found = []
        for chunk in torch.from_numpy(np.pad(mixture, ((0, 0), (0, 4)))).split([4, 12, 20, 8], dim=1):
            estimates, *state = program(chunk, *state)
            found.append(estimates)
        assert deviation(torch.cat(found, dim=2)[..., 4:].numpy(), trained(kind), mixture) < 1e-5


# ------------------------------------------------------------------------------------------------------------------ refusals
def test_what_cannot_be_done_is_said_before_anything_is_written(tmp_path: Path) -> None:
    for options, message in (
        ({"to": "tflite"}, "choose onnx, torch or web"),
        ({"to": "torch", "int8": True}, "--format onnx only"),
        ({"to": "web", "int8": True}, "--format onnx only"),
        ({"to": "web", "num_hops": 3}, "--hops is for --format onnx and torch"),
        ({"runtime": Path()}, "--runtime is for --format web only"),
        ({"to": "web", "runtime": tmp_path}, "not in it; get the package by: npm pack onnxruntime-web"),
        ({"to": "web", "runtime": tmp_path / "none"}, "not in it"),
        ({"to": "web", "runtime": tmp_path / "best.safetensors"}, "cannot be read"),
    ):
        with pytest.raises(UsageError, match=message):
            exported(tmp_path, **options)
    assert not (tmp_path / "out").exists()


def test_the_page_of_a_model_that_is_not_causal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot stream: its convolutions look"):
        exported(tmp_path, "global", to="web")


def test_the_runtime_is_taken_from_the_npm_package_however_it_lies(tmp_path: Path) -> None:
    dist = tmp_path / "package" / "dist"
    dist.mkdir(parents=True)
    for name in ("other.js", *RUNTIME_FILES):
        (dist / name).write_text(name)
    with tarfile.open(tmp_path / "onnxruntime-web-1.0.0.tgz", "w:gz") as archive:
        archive.add(tmp_path / "package", "package")
    for runtime in (dist, dist.parent, tmp_path / "onnxruntime-web-1.0.0.tgz"):
        exported(tmp_path, to="web", runtime=runtime)
        found = {path.name: path.read_text() for path in (tmp_path / "out" / "runtime").iterdir()}
        assert found == {name: name for name in RUNTIME_FILES}


@pytest.mark.parametrize(("missing", "options"), [("onnx", {}), ("onnxruntime", {"int8": True})])
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, options: dict[str, Any]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else "there")
    with pytest.raises(UsageError, match=rf"needs the package {missing}: pip install 'tasnet-pipeline\[export\]'"):
        list(export_model(tmp_path / "best.safetensors", tmp_path / "out", **options))


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    (tmp_path / "out" / "offline.onnx").mkdir(parents=True)
    with pytest.raises(WorkError, match=r"offline\.onnx"):
        exported(tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["offline.onnx"]
