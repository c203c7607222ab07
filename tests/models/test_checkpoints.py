"""What is written is what is read; anything else is refused in one line, and no file can run code."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import CheckpointError
from pipeline.models import build_model
from pipeline.models.checkpoints import FORMAT, METADATA, load_model, save_model
from pipeline.models.conv_tasnet import ConvTasNet
from pipeline.recipe.schema import Model

TINY = Model(
    causal=True, norm="frame", num_filters=8, filter_length=4, bottleneck_channels=4, skip_channels=4, hidden_channels=6,
    blocks_per_repeat=2, num_repeats=1, mask="relu", encoder="relu",
)  # fmt: skip


class Malice:
    """Pickles to a call that would leave a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def model() -> ConvTasNet:
    torch.manual_seed(0)
    return build_model(TINY, num_sources=3, sample_rate=16000)


def test_a_model_comes_back_whole(model: ConvTasNet, tmp_path: Path) -> None:
    save_model(model, tmp_path / "best.safetensors")
    loaded = load_model(tmp_path / "best.safetensors")
    assert (loaded.settings, loaded.num_sources, loaded.sample_rate) == (TINY, 3, 16000)
    assert not loaded.training
    mixture = torch.randn(1, 50)
    assert torch.equal(loaded(mixture), model(mixture))
    assert [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]


def test_a_compiled_or_shared_model_is_saved_as_what_it_wraps(model: ConvTasNet, tmp_path: Path) -> None:
    for wrapped in (torch.compile(model), torch.nn.DataParallel(model)):
        save_model(wrapped, tmp_path / "m.safetensors")  # type: ignore[arg-type]
        loaded = load_model(tmp_path / "m.safetensors").state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_other_weights_can_be_saved_in_its_place(model: ConvTasNet, tmp_path: Path) -> None:
    averaged = {name: torch.ones_like(tensor) for name, tensor in model.state_dict().items()}
    save_model(model, tmp_path / "m.safetensors", weights=averaged)
    assert all((tensor == 1).all() for tensor in load_model(tmp_path / "m.safetensors").state_dict().values())


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    return text


def test_missing_and_foreign_files(model: ConvTasNet, tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.safetensors")
    (tmp_path / "text").write_text("not a model")
    refusal(tmp_path / "text")
    (tmp_path / "empty").write_bytes(b"")
    refusal(tmp_path / "empty")
    save_file({"weight": torch.ones(2)}, tmp_path / "foreign")
    assert "not a model of this pipeline" in refusal(tmp_path / "foreign")


def test_damaged_files(model: ConvTasNet, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refusal(path)
    facts = {"format": FORMAT, "model": TINY.model_dump(), "num_sources": 2, "sample_rate": 8000}
    save_file(dict(model.state_dict()), path, metadata={METADATA: json.dumps(facts)})
    assert "do not fit" in refusal(path)  # three sources' weights under settings for two
    save_file({}, path, metadata={METADATA: json.dumps({"format": FORMAT, "model": {"colour": "red"}})})
    refusal(path)
    save_file({}, path, metadata={METADATA: "[]"})
    refusal(path)


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "last.safetensors", tmp_path / "trace"
    torch.save({"step": Malice(trace)}, path)
    refusal(path)
    assert not trace.exists()


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        torch.manual_seed(0)
        save_model(build_model(TINY), tmp_path / name)
    assert len({(tmp_path / name).read_bytes() for name in ("a", "b", "c", "d")}) == 1
