"""Training: batches, losses, optimisers, and the loop that can be stopped anywhere."""

VERSION = 1
"""Raise it when the same settings and segments would train other weights.

Stages read it before any torch is needed: this file must not import torch."""
