"""Gradients of a batch in parts, and what a user reads when a step needs more memory than there is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.compute.distributed import Group
from pipeline.errors import TrainingError
from pipeline.models import build_model
from pipeline.training import loop
from pipeline.training.batches import Batch
from pipeline.training.benchmark import training_on_noise
from pipeline.training.compiling import Compiled
from pipeline.training.gradients import Gradients, Loss
from tests.training.trainings import QUIET, SETS, TINY, system


def test_gradients_of_parts_add_up_where_a_graph_writes_each_to_the_same_place() -> None:
    """In place of a graph: every part's gradient is written to one tensor, over the last part's."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(5))
    place = torch.empty(5)

    class Recorded(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, weight: Tensor, mixture: Tensor) -> Tensor:
            ctx.save_for_backward(mixture)
            return (weight * mixture.mean(0)).sum()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
            torch.mul(ctx.saved_tensors[0].mean(0), grad, out=place)
            return place.detach(), None  # a tensor of its own on the same memory, as graphs return

    mixture = torch.randn(6, 5)
    batch = Batch(mixture, mixture[:, None], torch.full((6,), 5))
    for graphs, expected in ((True, mixture.mean(0)), (False, None)):
        loss_of = Compiled(lambda mixture, sources, lengths: Recorded.apply(weight, mixture), enabled=False, graphs=graphs)
        weight.grad = None
        Gradients(6, 2, (weight,), Group()).add(loss_of, batch)
        assert weight.grad is not None
        if expected is not None:
            torch.testing.assert_close(weight.grad, expected)
        else:  # the control: without keeping them apart, earlier parts are lost
            assert not torch.allclose(weight.grad, mixture.mean(0))


class Both(Group):
    """The first of two processes; the other's flat array is known beforehand."""

    theirs = torch.zeros(())

    def total(self, values: Tensor) -> Tensor:
        return values + self.theirs


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_gradients_of_two_processes_add_up_to_those_of_the_whole_batch(micro_batch: int | None) -> None:
    torch.manual_seed(0)
    model = build_model(TINY)
    parameters = tuple(model.parameters())
    sources = torch.randn(5, 2, 400)
    batch = Batch(sources.sum(1), sources, torch.full((5,), 400))
    loss_of = Compiled(Loss(model, torch.float32).compute, enabled=False, graphs=True)  # gradients are kept as with graphs

    def added(group: Group, part: Batch) -> list[Tensor]:
        """The loss and all gradients, after they were exchanged."""
        model.zero_grad()
        gradients = Gradients(5, micro_batch, parameters, group)
        loss = gradients.exchange(gradients.add(loss_of, part))
        return [loss, *(each.grad for each in model.parameters() if each.grad is not None)]

    whole, theirs = added(Group(), batch), added(Group(), batch[1::2])
    both = Both(rank=0, size=2)
    alone = added(both, batch[::2])
    object.__setattr__(both, "theirs", torch.cat([each.flatten() for each in theirs]))
    together = added(both, batch[::2])
    for one, other in zip(together, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(alone[1], whole[1], rtol=0.1)  # the control: one process's share is not the whole
    assert len(together) == len(parameters) + 1


def test_several_processes_record_graphs_too() -> None:
    training = training_on_noise(system(), 2, 8000, 3, QUIET)
    for size, kind, graphs in ((1, "cuda", True), (2, "cuda", True), (2, "cpu", False)):
        training.group, training.device = Group(size=size), torch.device(kind)
        assert training.loss_function().graphs == graphs


@pytest.mark.parametrize(
    ("micro_batch", "advice"),
    [
        (None, r"train on 6 segments at once; use --micro-batch 3 .* or train\.batch_size = 3, and half of that"),
        (3, r"train on 3 segments at once; use --micro-batch 1 .* or train\.batch_size = 1,"),
        (1, r"a single segment at a time; lower train\.segment_seconds"),
    ],
)
def test_too_little_memory_for_a_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, micro_batch: int | None, advice: str
) -> None:
    def loss_of(mixture: Tensor, sources: Tensor, num_samples: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(loop.Training, "loss_function", lambda self: Compiled(loss_of, enabled=True))
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    with pytest.raises(TrainingError, match="^cpu has too little memory to .*" + advice) as caught:
        loop.train(system(batch_size=6), SETS, tmp_path, seed=1, options=replace(QUIET, micro_batch=micro_batch))
    assert "\n" not in str(caught.value)
