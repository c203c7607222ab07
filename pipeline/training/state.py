"""The state of a training: how far it is, and how it is saved and read without running any code.

It is a safetensors file: all tensors, and in its metadata, as JSON, the plain values around them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pipeline.errors import CheckpointError, first_line
from pipeline.files import parse_json
from pipeline.models import Network
from pipeline.models.checkpoints import METADATA, write_tensors
from pipeline.recipe.schema import System
from pipeline.training import BEST
from pipeline.training.schedules import Plateau

FORMAT = "tasnet-pipeline training state 1"


@dataclass
class Progress:
    """How far a training is, in plain numbers: with weights and optimiser, all there is to save."""

    epoch: int = 1
    """The epoch being trained, from 1."""
    step: int = 0
    """Steps of this epoch that are done."""
    loss_sum: float = 0.0
    """Of these steps, skipped ones left out; likewise the norms of their gradients."""
    gradient_norm_sum: float = 0.0
    skipped: int = 0
    """Steps of this epoch whose gradients were not finite, so that they were skipped."""
    training_seconds: float = 0.0
    """Spent on these steps, the warm-up included."""
    warmup_seconds: float = 0.0
    """Spent on first steps, in which the network is compiled."""
    plateau: Plateau = field(default_factory=Plateau)
    history: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Progress:
        """The inverse of ``dataclasses.asdict``."""
        return cls(**{**values, "plateau": Plateau(**values["plateau"])})

    @property
    def sums(self) -> list[float]:
        """Loss, gradient norm and skipped steps of this epoch so far."""
        return [self.loss_sum, self.gradient_norm_sum, self.skipped]

    @sums.setter
    def sums(self, values: list[float]) -> None:
        self.loss_sum, self.gradient_norm_sum = values[:2]
        self.skipped = int(values[2])

    @property
    def mean_loss(self) -> float:
        """Of this epoch's steps so far, dB."""
        return self._mean(self.loss_sum)

    @property
    def mean_gradient_norm(self) -> float:
        """Of this epoch's steps so far, before clipping."""
        return self._mean(self.gradient_norm_sum)

    def _mean(self, total: float) -> float:
        """NaN where every step was skipped."""
        taken = self.step - self.skipped
        return total / taken if taken else (math.nan if self.step else 0.0)

    def note(self, num_epochs: int) -> str:
        """What stands beside the progress bar."""
        note = f"epoch {self.epoch}/{num_epochs}, loss {self.mean_loss:.2f} dB"
        note += f", {self.skipped} steps skipped" if self.skipped else ""
        if self.history:
            note += f", valid SI-SNRi {self.history[-1]['valid_si_snri_db']:.2f} dB"
        return note

    def epoch_note(self, num_epochs: int) -> str:
        """What a log says of the last finished epoch."""
        last = self.history[-1]
        return (
            f"epoch {last['epoch']:.0f}/{num_epochs}, loss {last['train_loss_db']:.2f} dB, "
            f"valid loss {last['valid_loss_db']:.2f} dB, valid SI-SNRi {last['valid_si_snri_db']:.2f} dB"
            + (f", {last['skipped_steps']:.0f} steps skipped" if last["skipped_steps"] else "")
        )

    def next_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.step = self.skipped = 0
        self.loss_sum = self.gradient_norm_sum = self.training_seconds = self.warmup_seconds = 0.0


def identity_of(system: System, model: Network, *, seed: int, num_segments: int) -> dict[str, Any]:
    """The settings that a state belongs to, which must not change in the course of a training.

    More epochs go on from where fewer ended, unless the schedule counts them beforehand. Where ``init`` lay does not matter after
    the start; what was in it is part of the stage's fingerprint.
    """
    may_change = {"init"} if system.train.schedule == "cosine" else {"init", "epochs"}
    data = {"seed": seed, "num_sources": model.num_sources, "sample_rate": model.sample_rate, "num_segments": num_segments}
    return {"model": system.model.model_dump(), "train": system.train.model_dump(exclude=may_change), "data": data}


def check_identity(saved: dict[str, Any], ours: dict[str, Any], path: Path) -> None:
    """Compare the settings that a state was saved with to those of the training at hand.

    Raises:
        CheckpointError: naming every setting that differs.
    """
    changes = [
        f"{table}.{key} {saved.get(table, {}).get(key)!r} → {value!r}"
        for table, settings in ours.items()
        for key, value in settings.items()
        if saved.get(table, {}).get(key) != value
    ]
    if changes:
        raise CheckpointError(f"{path}: belongs to a different training ({', '.join(changes)}); delete it or use another folder")


def save_state(state: Mapping[str, Any], path: str | Path) -> None:
    """Write what a training needs to resume: tensors and plain values, nested in dictionaries, lists and tuples."""
    tensors: dict[str, torch.Tensor] = {}
    outline = _outline(dict(state), tensors)
    write_tensors(Path(path), tensors, {METADATA: json.dumps({"format": FORMAT, "state": outline})})


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a training state.

    Raises:
        CheckpointError: when the file is missing, damaged, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            written = parse_json((file.metadata() or {})[METADATA])
            if written["format"] != FORMAT:
                raise CheckpointError(f"{path}: not a training state of this version")
            state: dict[str, Any] = _filled(written["state"], file.get_tensor)
    except (SafetensorError, OSError, ValueError, LookupError, TypeError) as error:
        best = path.with_name(BEST)
        onward = f", or go on from its best weights with --set train.init={best}" if best.exists() else ""
        raise CheckpointError(
            f"{path}: not a training state, or damaged ({first_line(error)}); remove it to train again from epoch 1{onward}"
        ) from error
    return state


def _outline(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """A value as JSON that tells dictionaries with any keys, lists and tuples apart; tensors are moved out, and only named."""
    if isinstance(value, torch.Tensor):
        name = f"tensor {len(tensors)}"
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[key, _outline(inner, tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_outline(inner, tensors) for inner in value]}
    return value


def _filled(outline: Any, tensor: Callable[[str], torch.Tensor]) -> Any:
    """The inverse of :func:`_outline`."""
    if not isinstance(outline, dict):
        return outline
    ((kind, content),) = outline.items()
    if kind == "tensor":
        return tensor(content)
    if kind == "dict":
        return {key: _filled(inner, tensor) for key, inner in content}
    inner = [_filled(each, tensor) for each in content]
    return tuple(inner) if kind == "tuple" else inner
