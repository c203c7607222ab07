"""Gradients of a batch in parts, and what a user reads when a step needs more memory than there is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.errors import TrainingError
from pipeline.training import loop
from pipeline.training.compiling import Compiled
from tests.training.trainings import QUIET, SETS, system


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
