"""The optimiser of a training: Adam, or Muon for the matrices that mix a frame's channels with Adam for all else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Muon, Optimizer

from pipeline.models import Network
from pipeline.recipe.schema import Train

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

    def __init__(self, model: Network, settings: Train) -> None:
        matrices = list(model.inner_matrices()) if settings.optimiser == "muon" else []
        taken = {id(matrix) for matrix in matrices}
        others = [parameter for parameter in model.parameters() if id(parameter) not in taken]
        rate, decay = settings.learning_rate, settings.weight_decay
        self._parts: list[tuple[Optimizer, float]] = [(Adam(others, lr=rate, weight_decay=decay, fused=True), 1.0)]
        if matrices:
            muon = BatchedMuon(matrices, lr=MUON_RATIO * rate, weight_decay=decay)
            self._parts.append((muon, MUON_RATIO))

    def set_learning_rate(self, rate: float) -> None:
        """Set the rate of the steps to come: Adam's; Muon's is a fixed multiple of it."""
        for optimiser, ratio in self._parts:
            for group in optimiser.param_groups:
                group["lr"] = ratio * rate

    def step(self, skip: Tensor | None = None) -> None:
        """Move the weights and moments, unless ``skip`` [] is 1; nothing waits for a device to know its value."""
        for optimiser, _ in self._parts:
            optimiser.found_inf = skip  # type: ignore[attr-defined]  # what torch's gradient scaler sets to skip a step
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


class BatchedMuon(Muon):
    """torch's Muon, in steps as long as Adam's, for many matrices of few shapes: all of a shape are made orthogonal at once.

    A separator has dozens of matrices that are small for any device; one by one they took a fifth of a training step on CPU.
    """

    def __init__(self, matrices: Sequence[Tensor], *, lr: float, weight_decay: float) -> None:
        # What else torch's takes is not for the caller to choose: the step below follows these settings alone.
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, nesterov=True, adjust_lr_fn="match_rms_adamw")
        self.found_inf: Tensor | None = None
        """1 where a gradient is not finite, so that the step is to change nothing; as torch's fused optimisers take it."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move the matrices that have gradients; a closure is called before, and its loss returned, as torch's optimisers do."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        found = self.found_inf
        if found is None or found.device.type != "cpu":
            self._move(found)
        elif not found:  # a value that is at hand
            self._move(None)
        return loss

    def _move(self, found_inf: Tensor | None) -> None:
        """A step, of length zero where ``found_inf`` is 1; nothing waits for the device to know."""
        kept: Tensor | float = 1.0 if found_inf is None else 1 - found_inf
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(tuple(matrix.shape), []).append(matrix)
            for shape, matrices in alike.items():
                updates = _nearest_orthogonal(self._momenta(matrices, group["momentum"], found_inf), group)
                # An orthogonal update as long as one of Adam's: Liu et al., 2025, "Muon is scalable for LLM training", eq. 4.
                rate = group["lr"] * 0.2 * max(shape) ** 0.5
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"] * kept)
                torch._foreach_add_(matrices, list((updates * kept).unbind()), alpha=-rate)

    def _momenta(self, matrices: Sequence[Tensor], momentum: float, found_inf: Tensor | None) -> Tensor:
        """Gradients, averaged over the steps and looking one ahead (Nesterov), as [matrices, rows, columns]."""
        gradients = torch.stack([matrix.grad for matrix in matrices if matrix.grad is not None])
        for matrix in matrices:
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        averages = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        if found_inf is not None:  # the averages in place of the gradients, so that they stay as they are
            gradients = torch.where(found_inf > 0, torch.stack(averages), gradients)
        torch._foreach_lerp_(averages, list(gradients.unbind()), 1 - momentum)
        return gradients.lerp_(torch.stack(averages), momentum)


def _nearest_orthogonal(matrices: Tensor, settings: dict[str, Any]) -> Tensor:
    """U Vᵀ of every matrix U S Vᵀ in [matrices, rows, columns], roughly: singular values end between 0.7 and 1.2.

    Jordan et al., 2024: five times p(X) = aX + b(XXᵀ)X + c(XXᵀ)²X, on the side on which XXᵀ is smaller.
    """
    a, b, c = settings["ns_coefficients"]
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).to(torch.bfloat16, memory_format=torch.contiguous_format)
    x /= x.norm(dim=(-2, -1), keepdim=True).clamp(min=settings["eps"])
    for _ in range(settings["ns_steps"]):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype, memory_format=torch.contiguous_format)
