"""Learning rates: pure functions of the step, and the paper's plateau rule as a value that can be saved."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.recipe.schema import Train


@dataclass
class Plateau:
    """Counts epochs against the best validation loss so far.

    The paper (section III-B) halves the learning rate "if the accuracy of validation set is not improved in 3 consecutive
    epochs". Epochs are compared with the best one, not with the one before, and after a halving the count starts again.
    """

    best: float = math.inf
    epochs_without_better: int = 0
    epochs_since_halving: int = 0
    num_halvings: int = 0

    def update(self, loss: float, *, patience: int) -> bool:
        """Take note of an epoch's validation loss; returns whether it is the best so far."""
        if loss < self.best:
            self.best = loss
            self.epochs_without_better = self.epochs_since_halving = 0
            return True
        self.epochs_without_better += 1
        self.epochs_since_halving += 1
        if self.epochs_since_halving == patience:
            self.num_halvings += 1
            self.epochs_since_halving = 0
        return False


def learning_rate(train: Train, *, step: int, num_steps: int, num_halvings: int = 0) -> float:
    """The learning rate of optimiser step ``step`` (from 0) of ``num_steps``.

    It rises linearly over ``warmup_steps`` whatever the schedule, and then follows the cosine to zero, the halvings, or nothing.
    """
    if step < train.warmup_steps:
        return train.learning_rate * (step + 1) / (train.warmup_steps + 1)
    if train.schedule == "cosine":
        done = (step - train.warmup_steps) / max(num_steps - train.warmup_steps, 1)
        return train.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
    if train.schedule == "plateau":
        return train.learning_rate * math.ldexp(1.0, -num_halvings)
    return train.learning_rate
