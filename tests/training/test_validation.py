"""Validation: one speaker alone counts in the loss, and not in the improvement over the mixture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.compute import devices
from pipeline.models import build_model
from pipeline.training.batches import Batch
from pipeline.training.losses import Loss, pit_loss, sa_sdr_loss
from pipeline.training.validation import batches_on, validation_sums
from tests.training.trainings import TINY, Tones


def batch_of(tones: Tones) -> Batch:
    pairs = [tones.read(index, 0, 800) for index in range(4)]
    mixture, sources = (torch.stack([torch.as_tensor(pair[k]) for pair in pairs]) for k in (0, 1))
    return Batch(mixture, sources, torch.full((4,), 800))


@pytest.mark.parametrize("loss", [pit_loss, sa_sdr_loss])
@pytest.mark.parametrize("silent", [False, True])
def test_the_sums_of_a_batch(loss: object, silent: bool) -> None:
    torch.manual_seed(0)
    model, batch = build_model(TINY).eval(), batch_of(Tones(silent=silent))
    criterion = {pit_loss: pit_loss, sa_sdr_loss: sa_sdr_loss}[loss]  # type: ignore[index]
    estimates = model(batch.mixture).detach()
    heard = slice(0, 4, 2) if silent else slice(0, 4)
    number = len(batch.sources[heard])
    untouched = batch.mixture[:, None].expand_as(batch.sources)
    expected = [
        4 * criterion(estimates, batch.sources, batch.num_samples)[0].item(),
        4,
        number * pit_loss(estimates[heard], batch.sources[heard])[0].item(),
        number * pit_loss(untouched[heard], batch.sources[heard])[0].item(),
        number,
    ]
    assert validation_sums(model, batch, torch.float32, criterion).tolist() == pytest.approx(expected, rel=1e-5)


def test_a_batch_of_single_speakers_alone_has_nothing_to_improve() -> None:
    batch = batch_of(Tones(silent=True))
    alone = Batch(batch.mixture[1::2], batch.sources[1::2], batch.num_samples[1::2])
    sums = validation_sums(build_model(TINY).eval(), alone, torch.float32, sa_sdr_loss)
    assert sums[1:].tolist() == [2, 0, 0, 0]


CPU = torch.device("cpu")


def validated(room: int | None, monkeypatch: pytest.MonkeyPatch, tones: Tones, loss: Loss, *, told: bool = True) -> list[float]:
    """Sums over all mixtures, on a device with so much room; where the network is not told of padding, it hears it."""
    torch.manual_seed(0)
    model = build_model(TINY).eval()
    monkeypatch.setattr(devices, "room_for_mixtures", lambda device: room)
    batches = [replace(each, padded=each.padded and told) for each in batches_on(CPU, model, tones, batch_size=2)]
    sizes = {None: [2, 2, 2, 2, 2, 2, 1], 0: [1] * 13, 10**12: [13]}
    assert room not in sizes or [len(each) for each in batches] == sizes[room]
    return [float(each) for each in torch.stack([validation_sums(model, each, torch.float32, loss) for each in batches]).sum(0)]


@pytest.mark.parametrize("loss", [pit_loss, sa_sdr_loss])
def test_results_depend_neither_on_the_room_nor_on_what_lies_in_one_batch(loss: Loss, monkeypatch: pytest.MonkeyPatch) -> None:
    tones = Tones(13, silent=True)
    one_by_one = validated(0, monkeypatch, tones, loss)
    for room in (None, 3 * build_model(TINY).activation_bytes(816), 10**12):
        assert validated(room, monkeypatch, tones, loss) == pytest.approx(one_by_one, rel=1e-5)
    # The control: a network that hears the padding scores otherwise.
    assert validated(10**12, monkeypatch, tones, loss, told=False) != pytest.approx(one_by_one, rel=1e-5)


def test_a_batch_that_does_not_fit_is_taken_in_halves() -> None:
    model, batch, sizes = build_model(TINY).eval(), batch_of(Tones()), []

    class Small(torch.nn.Module):
        def forward(self, mixture: Tensor, *given: Tensor) -> Any:
            sizes.append(len(mixture))
            if len(mixture) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
            return model(mixture, *given)

    most = 4
    expected = validation_sums(Small(), batch, torch.float32)  # type: ignore[arg-type]
    most = 1
    torch.testing.assert_close(validation_sums(Small(), batch, torch.float32), expected)  # type: ignore[arg-type]
    assert sizes == [4, 4, 2, 1, 1, 2, 1, 1]
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        validation_sums(Small(), batch, torch.float32)  # type: ignore[arg-type]
