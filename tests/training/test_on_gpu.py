"""Training on a CUDA device: every optimiser and preset, graphs, validation, resident data, resumption, memory.

Without a device these tests are skipped; ``TASNET_TEST_DEVICE=cpu`` runs them on the CPU, to try the tests themselves.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from pipeline.compute import devices
from pipeline.compute.options import Options
from pipeline.errors import TrainingError
from pipeline.mixtures.shards import Shard, Signal, write_shard
from pipeline.models import build_model, load_model
from pipeline.recipe.presets import PRESETS
from pipeline.recipe.schema import Model, System, Train
from pipeline.training import loop
from pipeline.training.loop import TrainingSets, train
from pipeline.training.losses import pit_loss
from pipeline.training.segments import PackedMixtures, StaticSegments
from pipeline.training.validation import batches_on, validation_sums
from tests.training.trainings import SETS, TINY, Tones, system
from tests.waiting import PATIENCE_SECONDS, process

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.gpu, pytest.mark.slow]


def options(gpu: torch.device, *, compiled: bool = False) -> Options:
    return Options(device=str(gpu), compile="on" if compiled and gpu.type == "cuda" else "off", num_loaders=0)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "best.safetensors")


def assert_same_training(one: Path, two: Path) -> None:
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("compiled", [False, True])
def test_every_preset_learns(preset: str, compiled: bool, tmp_path: Path, gpu: torch.device) -> None:
    """Both optimisers, averaged weights where the preset has them, clipping; and its filterbank and precision."""
    sizes = TINY.model_dump(include={"num_filters", "bottleneck_channels", "skip_channels", "hidden_channels"})
    shape = {"blocks_per_repeat": 2, "num_repeats": 1, "filter_length": 8}
    model = Model.model_validate({**PRESETS[preset]["model"], **sizes, **shape})
    settings = {**PRESETS[preset]["train"], "batch_size": 3, "epochs": 8, "segment_seconds": 0.1, "warmup_steps": 0}
    history = train(
        System(model=model, train=Train.model_validate(settings)), SETS, tmp_path, seed=0, options=options(gpu, compiled=compiled)
    )
    assert history["train_loss_db"].iloc[-1] < history["train_loss_db"].iloc[0]
    assert history["valid_si_snri_db"].notna().all()


@pytest.mark.parametrize("causal", [False, True])
def test_graphs_train_as_single_launches_do(causal: bool, tmp_path: Path, gpu: torch.device) -> None:
    """Clipping, averaged weights and Muon after a graph; validation after graphs; the same losses but for rounding."""
    settings = system(optimiser="muon", ema_decay=0.9, clip_norm=5.0, precision="float32")
    settings = System(
        model=TINY.model_copy(update={"causal": causal, "norm": "cumulative" if causal else "global"}), train=settings.train
    )
    histories = [
        train(settings, SETS, tmp_path / name, seed=0, options=options(gpu, compiled=name == "graphs"))
        for name in ("plain", "graphs")
    ]
    for column in ("train_loss_db", "valid_loss_db", "gradient_norm"):
        assert histories[1][column].to_numpy() == pytest.approx(histories[0][column].to_numpy(), rel=1e-3, abs=1e-3)
    trained = load_model(tmp_path / "graphs" / "best.safetensors")
    mixture, sources = map(torch.from_numpy, SETS.valid.read(0, 0, 800))
    with torch.no_grad():
        assert torch.isfinite(pit_loss(trained(mixture[None]), sources[None])[0])


def test_two_trainings_give_the_same_bits(tmp_path: Path, gpu: torch.device) -> None:
    for name in ("one", "two"):
        train(system(), SETS, tmp_path / name, seed=0, options=options(gpu, compiled=True))
    assert_same_training(tmp_path / "one", tmp_path / "two")


def test_a_training_that_was_stopped_ends_with_the_same_bits(
    tmp_path: Path, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = replace(options(gpu, compiled=True), checkpoint_steps=1)
    train(system(), SETS, tmp_path / "whole", seed=0, options=given)
    step = loop.Training.step

    def step_or_stop(self: loop.Training, *arguments: object) -> None:
        if self.steps_done == 5:
            raise KeyboardInterrupt
        step(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Training, "step", step_or_stop)
        train(system(), SETS, tmp_path / "stopped", seed=0, options=given)
    train(system(), SETS, tmp_path / "stopped", seed=0, options=given)
    assert_same_training(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize("compiled", [False, True])
def test_a_batch_in_parts_has_the_same_gradients(compiled: bool, tmp_path: Path, gpu: torch.device) -> None:
    histories = [
        train(
            system(batch_size=4),
            SETS,
            tmp_path / str(micro_batch),
            seed=0,
            options=replace(options(gpu, compiled=compiled), micro_batch=micro_batch),
        )
        for micro_batch in (None, 2)
    ]
    for column in ("train_loss_db", "gradient_norm"):
        assert histories[1][column].to_numpy() == pytest.approx(histories[0][column].to_numpy(), rel=1e-3, abs=1e-3)


TWO = """
import sys
from pathlib import Path
from torch import distributed
from pipeline.training.loop import train
from pipeline.compute.options import Options
from tests.training.trainings import SETS, system
join = distributed.init_process_group
distributed.init_process_group = lambda backend: join("gloo")  # NCCL wants a card for each
device, compile_, folder = sys.argv[1:]
train(system(batch_size=4), SETS, Path(folder), seed=0, options=Options(device=device, compile=compile_, num_loaders=0))
"""


def test_two_processes_with_graphs_train_as_one(tmp_path: Path, gpu: torch.device) -> None:
    """On one card, so over gloo: graphs are recorded and replayed, and their gradients exchanged between two replays."""
    given = options(gpu, compiled=True)
    one = train(system(batch_size=4), SETS, tmp_path / "one", seed=0, options=given)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(listener.getsockname()[1]), "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    command = [sys.executable, "-c", TWO, str(gpu), given.compile, str(tmp_path / "two")]
    environments = [os.environ | place | {"RANK": str(rank), "PYTHONPATH": str(ROOT)} for rank in range(2)]
    with ExitStack() as running:
        both = [running.enter_context(process(command, env=each, stderr=subprocess.PIPE)) for each in environments]
        said = [each.communicate(timeout=PATIENCE_SECONDS)[1] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    two = pd.read_csv(tmp_path / "two" / "history.csv")
    for column in ("train_loss_db", "valid_loss_db", "gradient_norm"):
        assert two[column].to_numpy() == pytest.approx(one[column].to_numpy(), rel=1e-3, abs=1e-3)


def packed(folder: Path) -> TrainingSets:
    """A packed dataset of tones."""
    tones = Tones(8, 1600)
    signals = []
    for index in range(8):
        mixture, sources = tones.read(index, 0, 1600)
        rows = torch.cat([torch.from_numpy(mixture)[None], torch.from_numpy(sources)]) / 4
        signals.append(Signal(f"m{index}", (rows * 2**15).round().to(torch.int16).numpy()))
    write_shard(folder / "train.shard", signals, sample_rate=8000, dtype="int16")
    return TrainingSets(StaticSegments(PackedMixtures(Shard(folder / "train.shard")), num_samples=800, seed=0), SETS.valid)


def test_resident_data_train_as_the_hosts_do(tmp_path: Path, gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    sets, placed = packed(tmp_path), []
    epoch = loop.Training._train_epoch

    def note_and_train(self: loop.Training, *given: object) -> None:
        epoch(self, *given)  # type: ignore[arg-type]
        placed.append(self.on_device is not None)

    monkeypatch.setattr(loop.Training, "_train_epoch", note_and_train)
    for name in ("host", "device"):
        given = replace(options(gpu), resident=name == "device")
        train(system(), sets, tmp_path / name, seed=0, options=given)
    assert placed[:4] == [False] * 4
    assert placed[4:] == [gpu.type == "cuda"] * 2
    assert_same_training(tmp_path / "host", tmp_path / "device")


def test_validation_in_large_batches_is_that_of_a_cpu(gpu: torch.device) -> None:
    """All in one, in bfloat16 as well."""
    torch.manual_seed(0)
    model, tones = build_model(TINY).eval(), Tones(13, silent=True)
    expected = sum(validation_sums(model, each, torch.float32) for each in batches_on(CPU, model, tones, batch_size=2))
    for precision, rel in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        batches = list(batches_on(gpu, model.to(gpu), tones, batch_size=2))
        assert gpu.type == "cpu" or [len(batch) for batch in batches] == [13]
        found = sum(validation_sums(model, each, precision) for each in batches)
        assert found.tolist() == pytest.approx(expected.tolist(), rel=rel)  # type: ignore[union-attr]


def test_a_second_training_finds_the_memory_of_the_first_free(tmp_path: Path, gpu: torch.device) -> None:
    if gpu.type != "cuda":
        pytest.skip("about a device's own memory")
    peaks, held = [], []
    for name in ("large", "small"):
        batch_size = 12 if name == "large" else 2
        history = train(system(batch_size=batch_size), SETS, tmp_path / name, seed=0, options=options(gpu, compiled=True))
        peaks.append(history["peak_memory_gib"].iloc[-1])
        held.append(torch.cuda.memory_allocated(gpu))
    assert peaks[1] < peaks[0]  # each has a peak of its own
    assert max(held) < 2**20


def test_too_large_a_batch_ends_in_one_line_with_a_size_that_fits(tmp_path: Path, gpu: torch.device) -> None:
    if gpu.type != "cuda":
        pytest.skip("about a device's own memory")
    torch.cuda.set_per_process_memory_fraction(0.02, gpu)
    try:
        huge = System(model=Model(), train=Train(batch_size=64, epochs=1, segment_seconds=4.0))
        sets = TrainingSets(Tones(64, 32000), SETS.valid)
        with pytest.raises(TrainingError, match=r"train on 64 segments at once; use --micro-batch 32") as caught:
            train(huge, sets, tmp_path, seed=0, options=options(gpu))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, gpu)
    assert "\n" not in str(caught.value)
    del caught  # the error's frames hold the step's memory
    devices.release(gpu)
    assert torch.cuda.memory_allocated(gpu) < 2**20
