"""Separation: a trained network applied to mixtures."""

VERSION = 1
"""Raise it when the same model would give other estimates or facts.

Stages read it before any torch is needed: this file must not import torch."""
