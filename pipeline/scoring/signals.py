"""Samples as float64 arrays, from whatever holds them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.errors import ScoreError
from pipeline.scoring.bss_eval import Signals


def as_signals(samples: Any, name: str = "samples") -> Signals:
    """Samples of arrays, lists, or torch tensors (on any device, with or without a gradient) as float64.

    Raises:
        ScoreError: they are no numbers, or rows of different lengths.
    """
    try:
        return np.asarray(_without_gradient(samples), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ScoreError(f"{name}: cannot be read as an array of samples ({error})") from error


def _without_gradient(samples: Any) -> Any:
    """Tensors as arrays, also within a list; torch need not be installed."""
    if hasattr(samples, "detach"):
        return samples.detach().cpu().double().numpy()
    return [_without_gradient(one) for one in samples] if isinstance(samples, list | tuple) else samples
