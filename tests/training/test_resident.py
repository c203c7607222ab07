"""A dataset on the device: the batches that the host would make of it, bit by bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.mixtures.shards import Shard, Signal, write_shard
from pipeline.training import resident as module
from pipeline.training.batches import epoch_batches
from pipeline.training.resident import ResidentSegments, placed_at_once, resident
from pipeline.training.segments import PackedMixtures, StaticSegments
from tests.training.trainings import Noisy, drawn, equal

CPU = torch.device("cpu")


def segments(folder: Path, dtype: str) -> StaticSegments:
    """Mixtures shorter and longer than a segment, of every sample value there is."""
    random = np.random.default_rng(0)
    signals = []
    for number, length in enumerate([50, 30, 90, 20, 40, 60, 70]):
        samples = random.integers(-(2**15), 2**15, (3, length))
        signals.append(Signal(f"m{number}", (samples / 2**15 if dtype == "float32" else samples).astype(dtype)))
    write_shard(folder / "train.shard", signals, sample_rate=8000, dtype=dtype)
    return StaticSegments(PackedMixtures(Shard(folder / "train.shard")), num_samples=40, seed=3)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("piece", [7, 2**26])
def test_batches_are_those_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, piece: int) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    host = segments(tmp_path, dtype)
    device = ResidentSegments(host, CPU)
    half = slice(1, None, 2)
    assert equal(drawn(host), drawn(device))
    assert equal(drawn(host, steps=range(2, 5), share=half), drawn(device, steps=range(2, 5), share=half))


def test_only_what_has_room_on_a_gpu_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts of mixtures take what is free but for a quarter; utterances a quarter of everything, whatever is free."""
    host, noisy, gpu = segments(tmp_path, "int16"), Noisy(tmp_path, "rms"), torch.device("cuda")
    mixing, noise = noisy.segments(), noisy.segments(noise=noisy.shard("noise", [("n", 0.1, 9000)], "rms"))
    mixtures, utterances = host.shard.samples.nbytes, mixing.bank.samples.nbytes
    monkeypatch.setattr(module, "ResidentSegments", lambda *_: "mixtures")
    monkeypatch.setattr(module, "DeviceMixing", lambda *_, compiled: f"utterances {compiled}")
    monkeypatch.setattr(module, "copied", lambda *_: None)

    def found(given: object, free: int, total: int) -> object:
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (free, total))
        return resident(given, gpu, compiled=True)

    assert resident(host, CPU, compiled=True) is None
    assert found(host, 2 * mixtures - 1, 4 * mixtures) is None
    assert found(host, 2 * mixtures, 4 * mixtures) == "mixtures"
    assert found(mixing, 0, 4 * utterances - 1) is None
    assert found(mixing, 0, 4 * utterances) == "utterances True"
    assert found(noise, 10**12, 10**12) is None
    assert found(object(), 10**12, 10**12) is None
    assert [placed_at_once(each) for each in (mixing, noise, host)] == [True, True, False]


def test_gathering_stays_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced with fake CUDA tensors: one made on the host by mistake, or a wait for a value, would raise."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    host = segments(tmp_path, "int16")
    with FakeTensorMode():
        batch = next(iter(epoch_batches(ResidentSegments(host, torch.device("cuda")), epoch=1, steps=range(1), batch_size=3)))
    assert {part.device.type for part in (batch.mixture, batch.sources, batch.num_samples)} == {"cuda"}
    assert (batch.mixture.shape, batch.sources.shape, batch.mixture.dtype) == ((3, 40), (3, 2, 40), torch.float32)


@pytest.mark.gpu
def test_a_gpu_gathers_the_same_batches(tmp_path: Path, gpu: torch.device) -> None:
    host = segments(tmp_path, "int16")
    on_gpu = ResidentSegments(host, gpu)
    assert equal(drawn(host), [batch.to(CPU) for batch in drawn(on_gpu)])
