"""Mixtures: which utterances are mixed (``plans``), how they become audio (``renderers``), and the datasets that come of it."""
