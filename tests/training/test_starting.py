"""Where a training starts: a model's weights as far as they fit, or a shorter training, whose bits it continues."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import CheckpointError
from pipeline.models import build_model, save_model
from pipeline.stages import runner
from pipeline.stages.training import shorter_training
from pipeline.training.loop import train
from pipeline.training.starting import initialise
from pipeline.training.state import load_state
from tests.training.trainings import QUIET, SETS, TINY, assert_same_training, system


def stage(epochs: int, **changes: Any) -> runner.Stage:
    settings = {"train": {"epochs": epochs, "schedule": "constant", "learning_rate": 0.1} | changes, "seed": 1}
    return runner.Stage("train", {"training": 1}, settings, lambda folder: None, label="a")


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_more_epochs_go_on_where_fewer_ended_with_the_same_bits(tmp_path: Path, schedule: str) -> None:
    short, long = (system(epochs=epochs, schedule=schedule, plateau_epochs=1, ema_decay=0.9) for epochs in (1, 2))
    train(short, SETS, tmp_path / "short", seed=1, options=QUIET)
    history = train(long, SETS, tmp_path / "long", seed=1, options=QUIET, earlier=tmp_path / "short")
    train(long, SETS, tmp_path / "at once", seed=1, options=QUIET)
    assert history["epoch"].tolist() == [1, 2]
    assert_same_training(tmp_path / "long", tmp_path / "at once")


def test_the_longest_training_that_differs_in_epochs_alone_is_continued(tmp_path: Path) -> None:
    others = [stage(1), stage(3), stage(9), stage(4, learning_rate=0.2), replace(stage(4), label="b")]
    for other in others:
        runner.run_stage(other, tmp_path)
    assert shorter_training(stage(5), tmp_path) == stage(3).folder(tmp_path)
    assert shorter_training(stage(1), tmp_path) is None


def test_a_cosine_schedule_is_not_continued_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner.run_stage(stage(3, schedule="cosine"), tmp_path)
    with caplog.at_level(logging.INFO, logger="pipeline"):
        assert shorter_training(stage(5, schedule="cosine"), tmp_path) is None
    assert "train:a starts from epoch 1: a cosine schedule of 3 epochs leads to no longer one" in caplog.text


def test_fine_tuning_starts_from_the_models_weights(tmp_path: Path) -> None:
    first = train(system(epochs=2), SETS, tmp_path / "first", seed=1, options=QUIET)
    tuned = system(epochs=1, learning_rate=1e-9, init=str(tmp_path / "first" / "best.safetensors"))
    history = train(tuned, SETS, tmp_path / "second", seed=7, options=QUIET)
    assert history["valid_loss_db"][0] == pytest.approx(first["valid_loss_db"].min(), abs=1e-3)


def test_what_does_not_fit_is_named_and_stays_as_drawn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "two.safetensors"
    save_model(two := build_model(TINY, num_sources=2), path)
    three = build_model(TINY, num_sources=3)
    drawn = {name: tensor.clone() for name, tensor in three.state_dict().items()}
    initialise(three, path)
    for name, tensor in three.state_dict().items():
        fits = two.state_dict()[name].shape == tensor.shape
        assert torch.equal(tensor, two.state_dict()[name] if fits else drawn[name])
    assert "has other settings: num_sources 2 → 3" in caplog.text
    assert "weights start at random, as they do not fit: " in caplog.text
    with pytest.raises(CheckpointError, match="no such file"):
        initialise(three, tmp_path / "none.safetensors")


def test_a_damaged_state_names_its_remedies(tmp_path: Path) -> None:
    (tmp_path / "last.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"remove it to train again from epoch 1$"):
        load_state(tmp_path / "last.safetensors")
    (tmp_path / "best.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"from epoch 1, or go on from its best weights with --set train.init=.*best"):
        load_state(tmp_path / "last.safetensors")
