"""Separation: a trained network applied to mixtures."""
