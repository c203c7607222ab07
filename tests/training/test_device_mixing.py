"""Mixing on a device: the host's samples but for the last bits, for every rule, speed, overlap and length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.audio.levels import LevelRule
from pipeline.training import device_mixing, loop
from pipeline.training.batches import Batch, collate
from pipeline.training.device_mixing import DeviceMixing, mixed
from pipeline.training.segments import DynamicSegments
from tests.training.trainings import QUIET, Noisy, assert_same_training, spoken, system

CPU = torch.device("cpu")
ROUNDING = 2e-6
"""Of the largest sample, 0.9: float32 of 24 bits, after two dozen terms of a filter, a gain, a sum and a scale."""
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "at other speeds": {"speed_percent": 10},
    "one after the other": {"speed_percent": 3, "overlap": (0.0, 0.3)},
    "padded to the longest": {"speed_percent": 5, "overlap": (0.5,), "mode": "max"},
    "longer than the utterances": {"speed_percent": 5, "num_samples": 12_500},
    "one speaker alone": {"single_speaker_share": 0.5},
}


def on_device(segments: DynamicSegments, **options: Any) -> DeviceMixing:
    return DeviceMixing(segments, torch.from_numpy(np.array(segments.bank.samples)), **{"compiled": False, **options})


def drawn_from(folder: Path, rule: LevelRule = "rms", **changes: Any) -> DynamicSegments:
    made = Noisy(folder, rule)
    for name in ("overlap", "single_speaker_share"):
        if name in changes:
            setattr(made.sampler, name, changes.pop(name))
    return made.segments(**changes)


def deviation(found: Batch, true: Batch) -> float:
    """The largest of all samples; lengths are to be the same."""
    assert torch.equal(found.num_samples, true.num_samples)
    assert found.sources.shape == true.sources.shape
    return max(float((a - b).abs().max()) for a, b in ((found.mixture, true.mixture), (found.sources, true.sources)))


@pytest.mark.parametrize("rule", ["rms", "loudness"])
@pytest.mark.parametrize("case", CASES)
def test_samples_are_the_hosts(tmp_path: Path, case: str, rule: LevelRule) -> None:
    segments = drawn_from(tmp_path, rule, **CASES[case])
    places = range(3, 11)
    true = collate([segments.segment(2, index) for index in places])
    assert deviation(on_device(segments).gather(2, places), true) < ROUNDING
    # In some cases there are sources that are silent, or begin after the shortest has ended.
    assert bool(true.sources.abs().amax(2).min() > 0.01) == (case not in ("one after the other", "one speaker alone"))


WRONG: dict[str, Callable[[Tensor, Tensor], object]] = {
    "a sample later": lambda cuts, gains: cuts[..., 0].add_(1),
    "a shorter cut": lambda cuts, gains: cuts[..., 1].sub_(1),
    "a later start": lambda cuts, gains: cuts[..., 3].add_(1),
    "another filter": lambda cuts, gains: cuts[..., 7].add_(1),
    "another level": lambda cuts, gains: gains[:, 0].mul_(1.0001),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_negative_controls_any_other_draw_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    segments = drawn_from(tmp_path, speed_percent=10)
    true = collate([segments.segment(2, index) for index in range(4)])

    def mixed_otherwise(samples: Tensor, taps: Tensor, cuts: Tensor, gains: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        WRONG[wrong](cuts, gains)
        return mixed(samples, taps, cuts, gains, *rest)

    monkeypatch.setattr(device_mixing, "mixed", mixed_otherwise)
    assert deviation(on_device(segments).gather(2, range(4)), true) > 10 * ROUNDING


def test_a_compiler_takes_the_mixing_as_one(tmp_path: Path) -> None:
    segments = drawn_from(tmp_path, speed_percent=5, num_samples=2000)
    plain, compiled = on_device(segments), on_device(segments)
    compiled._mix._ready = torch.compile(mixed, backend="aot_eager", fullgraph=True, dynamic=False)
    assert deviation(compiled.gather(1, range(3)), plain.gather(1, range(3))) == 0


def test_mixing_stays_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced with fake CUDA tensors: one made on the host by mistake, or a wait for a value, would raise."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch, "from_numpy", torch.tensor)
    segments = drawn_from(tmp_path, speed_percent=5)
    with FakeTensorMode():
        samples = torch.empty(segments.bank.samples.size, device="cuda")
        batch = DeviceMixing(segments, samples, compiled=False).gather(1, range(3))
    assert {part.device.type for part in (batch.mixture, batch.sources, batch.num_samples)} == {"cuda"}
    assert (batch.mixture.shape, batch.sources.shape, batch.mixture.dtype) == ((3, 6000), (3, 2, 6000), torch.float32)


def test_trainings_are_those_of_the_host_and_repeat_their_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first step on, so that a resumed training has the bits of one that was not stopped."""
    sets = spoken(tmp_path)
    settings = system(mixing="dynamic", speed_percent=10)
    host = loop.train(settings, sets, tmp_path / "host", seed=0, options=QUIET)
    monkeypatch.setattr(loop, "resident", lambda segments, device, *, compiled: on_device(segments))
    whole = loop.train(settings, sets, tmp_path / "whole", seed=0, options=QUIET)
    step = loop.Training.step

    def step_or_stop(self: loop.Training, *arguments: Any) -> None:
        if self.steps_done == 6:
            raise KeyboardInterrupt
        step(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Training, "step", step_or_stop)
        loop.train(settings, sets, tmp_path / "stopped", seed=0, options=QUIET)
    loop.train(settings, sets, tmp_path / "stopped", seed=0, options=QUIET)
    assert_same_training(tmp_path / "whole", tmp_path / "stopped")
    for column in ("train_loss_db", "valid_loss_db", "gradient_norm"):
        assert whole[column].to_numpy() == pytest.approx(host[column].to_numpy(), rel=1e-3)
    assert (tmp_path / "host" / "last.safetensors").read_bytes() != (tmp_path / "whole" / "last.safetensors").read_bytes()


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_mixes_the_same(tmp_path: Path, gpu: torch.device, compiled: bool) -> None:
    segments = drawn_from(tmp_path, speed_percent=10, overlap=(1.0, 0.5))
    samples = torch.from_numpy(np.array(segments.bank.samples)).to(gpu)
    device = DeviceMixing(segments, samples, compiled=compiled and gpu.type == "cuda")
    for epoch in (1, 2):
        true = collate([segments.segment(epoch, index) for index in range(8)])
        assert deviation(device.gather(epoch, range(8)).to(CPU), true) < ROUNDING
    assert device._mix.compiled == (compiled and gpu.type == "cuda")
