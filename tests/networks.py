"""Small networks whose parameters are all away from where they begin, so that none can be left out unnoticed."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

from pipeline.models import ConvTasNet, build_model

SIZES: dict[str, Any] = {
    "num_filters": 16, "filter_length": 8, "bottleneck_channels": 8, "skip_channels": 12, "hidden_channels": 20,
    "blocks_per_repeat": 3, "num_repeats": 2,
}  # fmt: skip
PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-5)]
"""Number types, and how far from the whole signal's estimates those of its parts may be."""

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def unlike_new(module: AnyModule) -> AnyModule:
    """Biases, gains and slopes as training leaves them: none at its first value."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def network(dtype: torch.dtype = torch.float64, num_sources: int = 2, **changes: Any) -> ConvTasNet:
    """A network of these sizes, ready for inference."""
    torch.manual_seed(0)
    return unlike_new(build_model(**{**SIZES, **changes}, num_sources=num_sources)).to(dtype).eval()
