"""What a network is and how far it looks ahead: measured where a claim could be wrong, counted where it cannot."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.models.protocol import Network

CHANGE = 1e-10
"""An output counts as changed from this share of the largest output on; float64 rounding stays far below."""


@dataclass(frozen=True)
class Causality:
    """What changing the future of a signal did to a network's outputs.

    Attributes:
        look_ahead_samples: see :func:`look_ahead`.
        largest_deviation: the largest change of any output more than L - 1 samples (the rest of the encoder's window) before the
            first change of the input, as a share of the largest output. Zero, or a few 1e-16, proves the network causal.
    """

    look_ahead_samples: int | None
    largest_deviation: float


def causality(model: Network) -> Causality:
    """Replace everything from one sample on by other noise, and measure which outputs change and by how much.

    This is done in float64 at every position within a hop, since the frames make the look-ahead depend on the position. The
    signals are long enough to find anything that the convolutions can reach.
    """
    allowed = model.look_ahead_limit
    first_changes, deviations = [], []
    for position, change in _changes_of_outputs(model):
        changed = (change > CHANGE).nonzero()
        first_changes.append(position - int(changed[0]) if len(changed) else 0)
        deviations.append(float(change[: position - allowed].max()))
        if len(changed) and int(changed[0]) == 0:
            return Causality(None, max(deviations))
    return Causality(max(first_changes), max(deviations))


def look_ahead(model: Network) -> int | None:
    """How many samples beyond its own time an output sample depends on, measured as :func:`causality` does.

    Returns:
        The look-ahead in samples: L - 1 for a causal Conv-TasNet (the rest of the encoder's window, and no more). None when the
        very first output changes already: the network sees the whole signal, as a global norm does.
    """
    return causality(model).look_ahead_samples


def _changes_of_outputs(model: Network) -> Iterator[tuple[int, Tensor]]:
    """(first changed sample, relative change ``[time]`` of the outputs, the largest over the sources) for a hop of positions."""
    copied: Any = copy.deepcopy(model)
    probe = copied.cpu().double().eval()
    generator = torch.Generator().manual_seed(0)
    hop = model.hop_samples
    start = model.receptive_field_samples // 2 + 4 * hop
    signal, other = torch.randn(2, 1, start + hop, dtype=torch.float64, generator=generator)
    with torch.inference_mode():
        before = probe(signal)
        for position in range(start, start + hop):
            yield position, change_by_sample(before, probe(with_other_future(signal, other, position)))


def with_other_future(signal: Tensor, other: Tensor, position: int) -> Tensor:
    """A signal ``[…, time]`` that is another one from a sample on."""
    return torch.cat([signal[..., :position], other[..., position:]], dim=-1)


def change_by_sample(before: Tensor, after: Tensor) -> Tensor:
    """How much outputs ``[…, time]`` have changed, ``[time]``: the largest of all sources, as a share of the largest output."""
    change: Tensor = ((after - before).abs() / before.abs().amax()).flatten(0, -2).amax(0)
    return change


def describe_model(model: Network) -> dict[str, Any]:
    """A network's size, cost and reach, from its settings; the look-ahead is left to :func:`causality`, which takes seconds.

    Returns:
        ``causal``, ``norm``, ``num_parameters``, ``macs_per_second`` (multiply-accumulates per second of audio),
        ``receptive_field_seconds``, and ``latency_seconds``: from a sample's arrival until its estimate can be out, one encoder
        window when causal, None otherwise (the end of the signal must come first, or at least the look-ahead).
    """
    return {
        "causal": model.causal,
        "norm": model.settings.norm_kind,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "macs_per_second": round(model.macs_per_second),
        "receptive_field_seconds": model.receptive_field_samples / model.sample_rate,
        "latency_seconds": (model.look_ahead_limit + 1) / model.sample_rate if model.causal else None,
    }
