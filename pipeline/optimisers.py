"""The optimiser of a training: Adam, or Muon for the matrices that mix a frame's channels with Adam for all else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim import Adam, Muon, Optimizer

from pipeline.models.conv_tasnet import ConvTasNet
from pipeline.recipe import Train

MUON_RATIO = 10.0
"""Muon's learning rate over Adam's. An orthogonalised step spreads over all directions alike, so that it may be longer."""


class Optimiser:
    """What a step of the training calls, whichever optimisers do it.

    Muon (Jordan et al., 2024) replaces a matrix's momentum by the nearest orthogonal matrix, so that rare directions learn as
    fast as frequent ones. It is meant for the matrices inside the network; filterbanks, masks, norms and biases stay with Adam.

    Args:
        model: the network, on its device.
        settings: ``optimiser``, ``learning_rate`` and ``weight_decay`` count.
    """

    def __init__(self, model: ConvTasNet, settings: Train) -> None:
        matrices = list(_inner_matrices(model)) if settings.optimiser == "muon" else []
        taken = {id(matrix) for matrix in matrices}
        others = [parameter for parameter in model.parameters() if id(parameter) not in taken]
        rate, decay = settings.learning_rate, settings.weight_decay
        self._parts: list[tuple[Optimizer, float]] = [(Adam(others, lr=rate, weight_decay=decay, fused=True), 1.0)]
        if matrices:
            muon = Muon(matrices, lr=MUON_RATIO * rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            self._parts.append((muon, MUON_RATIO))

    def set_learning_rate(self, rate: float) -> None:
        """Set the rate of the steps to come: Adam's; Muon's is a fixed multiple of it."""
        for optimiser, ratio in self._parts:
            for group in optimiser.param_groups:
                group["lr"] = ratio * rate

    def step(self) -> None:
        """Move the weights."""
        for optimiser, _ in self._parts:
            optimiser.step()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for optimiser, _ in self._parts:
            optimiser.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Moments and step counts, as plain values and tensors."""
        return {type(optimiser).__name__: optimiser.state_dict() for optimiser, _ in self._parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of an equal optimiser."""
        for optimiser, _ in self._parts:
            optimiser.load_state_dict(state[type(optimiser).__name__])


def _inner_matrices(model: ConvTasNet) -> Iterator[Tensor]:
    """The weights of the 1×1 convolutions between the encoder and the masks."""
    separator = model.separator
    for part in (separator.bottleneck, *separator.blocks):
        yield from (module.weight for module in part.modules() if isinstance(module, nn.Linear))
