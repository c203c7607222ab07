"""A small causal network to separate with."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.models import ConvTasNet, build_model

SIZES: dict[str, Any] = {
    "causal": True, "num_filters": 16, "filter_length": 8, "bottleneck_channels": 8, "skip_channels": 8, "hidden_channels": 16,
    "blocks_per_repeat": 2, "num_repeats": 1,
}  # fmt: skip


def network(**changes: Any) -> ConvTasNet:
    """Always the same one."""
    torch.manual_seed(0)
    return build_model(**{**SIZES, **changes}).eval()
