"""Recipes: every setting that decides a result, checked when it is read."""
