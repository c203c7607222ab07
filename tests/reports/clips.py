"""Made-up audio of mixtures for the tests of players, sums and quality over time."""

from __future__ import annotations

import numpy as np

from pipeline.reports.clips import Clips

EVIL = "<script>alert(1)</script>"
"""A system's name that must never become markup."""


def load_clips(mixture_id: str) -> Clips:
    """Two seconds of noise that depend on the mixture's number alone; the first system swaps its outputs."""
    generator = np.random.default_rng(int(mixture_id[:4]))
    references = generator.normal(0, 0.05, (2, 16000))
    estimates = {
        "noncausal": (references + 0.1 * references[::-1])[::-1],
        "causal": references + 0.3 * references[::-1],
        EVIL: references + 0.5 * references[::-1],
    }
    return Clips(8000, references.sum(axis=0), references, estimates)
