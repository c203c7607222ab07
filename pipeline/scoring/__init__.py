"""Scoring: estimates against references, in SI-SNR, SDR and their improvements."""
