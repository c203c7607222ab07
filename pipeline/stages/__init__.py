"""Stages: what a run consists of, in which order, and what of it is done."""
