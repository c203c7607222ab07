"""What the live page consists of: its files, and the facts about the model that it shows."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path, PurePath
from typing import Any

from pipeline.compute.version import package_version
from pipeline.models import Network, describe_model
from pipeline.models.checkpoints import model_name

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
}
"""MIME types by ending: browsers run no JavaScript of another type."""
INDEX, FACTS = "index.html", "facts.json"


def page_files() -> dict[str, bytes]:
    """The page's files by name, without the facts."""
    folder = files(__package__) / "page"
    return {each.name: each.read_bytes() for each in sorted(folder.iterdir(), key=lambda each: each.name) if _is_shown(each.name)}


def _is_shown(name: str) -> bool:
    return PurePath(name).suffix in TYPES


def describe(model: Network, checkpoint: Path, engine: str) -> dict[str, Any]:
    """The facts that the page needs and shows.

    Args:
        model: a causal network.
        checkpoint: its file, for a name.
        engine: ``socket``, where a server separates, or ``onnx``, where the browser does.
    """
    described = describe_model(model)
    return {
        "engine": engine,
        "name": model_name(checkpoint),
        "version": package_version(),
        "sample_rate": model.sample_rate,
        "num_sources": model.num_sources,
        "latency_samples": model.look_ahead_limit + 1,
        "hop_samples": model.hop_samples,
        "norm": described["norm"],
        "num_parameters": described["num_parameters"],
    }
