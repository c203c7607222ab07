"""Validation: one speaker alone counts in the loss, and not in the improvement over the mixture."""

from __future__ import annotations

import pytest
import torch

from pipeline.models import build_model
from pipeline.training.batches import Batch
from pipeline.training.losses import pit_loss, sa_sdr_loss
from pipeline.training.validation import validation_sums
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
