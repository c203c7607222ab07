"""A training state is read as it was written; anything else is refused in one line, and no file can run code."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import CheckpointError
from pipeline.models import build_model, save_model
from pipeline.models.checkpoints import METADATA
from pipeline.training.schedules import Plateau
from pipeline.training.state import Progress, load_state, save_state


class Malice:
    """Pickles to a call that would leave a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "last.safetensors", tmp_path / "trace"
    torch.save({"step": Malice(trace)}, path)
    with pytest.raises(CheckpointError, match="not a training state"):
        load_state(path)
    assert not trace.exists()


def test_progress_survives_as_a_dictionary() -> None:
    progress = Progress(epoch=3, step=2, plateau=Plateau(best=-1.0, num_halvings=2), history=[{"epoch": 1.0}])
    assert Progress.from_dict(dataclasses.asdict(progress)) == progress


def test_a_state_comes_back_whole(tmp_path: Path) -> None:
    state = {"step": 7, "weights": {"a": torch.arange(3)}, "order": [1, None, "x"], 3: (0.9, 0.1 + 0.2), "best": float("inf")}
    save_state(state, tmp_path / "last.safetensors")
    loaded = load_state(tmp_path / "last.safetensors")
    assert loaded["weights"]["a"].dtype == torch.int64
    assert torch.equal(loaded["weights"].pop("a"), state["weights"].pop("a"))
    assert loaded == state


def test_a_state_keeps_scalars_views_and_shared_tensors(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    state = {"step": torch.tensor(7.0), "turned": whole.T, "twice": [whole, whole], "random": torch.get_rng_state()}
    save_state(state, tmp_path / "last.safetensors")
    loaded = load_state(tmp_path / "last.safetensors")
    assert loaded["step"].shape == ()
    assert torch.equal(loaded["turned"], whole.T)
    assert all(torch.equal(each, whole) for each in loaded["twice"])
    assert torch.equal(loaded["random"], state["random"])


def test_damaged_states(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        load_state(path)
    save_state({"weights": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError):
        load_state(path)
    save_model(build_model(num_filters=8, hidden_channels=8, blocks_per_repeat=1), path)
    with pytest.raises(CheckpointError, match="not a training state"):
        load_state(path)
    save_file({}, path, metadata={METADATA: "[]"})
    with pytest.raises(CheckpointError):
        load_state(path)
