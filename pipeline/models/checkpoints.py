"""Models and training states on disk, whole or not at all, read without running any code.

Both are safetensors files: of a model the weights, and in its metadata the settings, as JSON, that build the network for them; of
a training state all its tensors, and as JSON the plain values around them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pipeline.errors import CheckpointError, ModelError, first_line
from pipeline.files import written_whole
from pipeline.models.build import build_model
from pipeline.models.conv_tasnet import ConvTasNet
from pipeline.models.protocol import Network
from pipeline.recipe.schema import Model

FORMAT = "tasnet-pipeline model 1"
STATE_FORMAT = "tasnet-pipeline training state 1"
METADATA = "tasnet-pipeline"


def save_model(model: Network, path: str | Path, *, weights: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write a network's weights and settings.

    Args:
        model: the network.
        path: a ``.safetensors`` file.
        weights: to save in place of the network's own, say their moving average; named as ``model.state_dict()`` names them.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in (weights or model.state_dict()).items()}
    facts = {
        "format": FORMAT,
        "model": model.settings.model_dump(),
        "num_sources": model.num_sources,
        "sample_rate": model.sample_rate,
    }
    with written_whole(Path(path)) as temporary:
        # One entry: safetensors writes several in no fixed order, and equal models are to be equal files.
        save_file(tensors, temporary, metadata={METADATA: json.dumps(facts)})


def load_model(path: str | Path, *, device: str | torch.device = "cpu") -> ConvTasNet:
    """Read a network, ready for inference.

    Raises:
        CheckpointError: when the file is missing, damaged, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a model file, or damaged ({error})") from error
    model = _network(metadata, path)
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise CheckpointError(f"{path}: its weights do not fit the settings in it; the file is damaged") from None
    return model.to(device).eval()


def _network(metadata: Mapping[str, str], path: Path) -> ConvTasNet:
    """The network that a file's metadata describes."""
    if METADATA not in metadata:
        raise CheckpointError(f"{path}: not a model of this pipeline")
    try:
        facts = json.loads(metadata[METADATA])
        if facts["format"] != FORMAT:
            raise CheckpointError(f"{path}: its format is {facts['format']!r}, and this version reads {FORMAT!r}")
        settings = Model.model_validate(facts["model"])
        return build_model(settings, num_sources=int(facts["num_sources"]), sample_rate=int(facts["sample_rate"]))
    except (KeyError, TypeError, ValueError, ValidationError, ModelError) as error:
        raise CheckpointError(f"{path}: its settings cannot be read ({first_line(error)})") from error


def save_state(state: Mapping[str, Any], path: str | Path) -> None:
    """Write what a training run needs to go on: tensors and plain values, nested in dictionaries, lists and tuples."""
    tensors: dict[str, torch.Tensor] = {}
    outline = _outline(dict(state), tensors)
    with written_whole(Path(path)) as temporary:
        save_file(tensors, temporary, metadata={METADATA: json.dumps({"format": STATE_FORMAT, "state": outline})})


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a training state.

    Raises:
        CheckpointError: when the file is missing, damaged, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            written = json.loads((file.metadata() or {})[METADATA])
            if written["format"] != STATE_FORMAT:
                raise CheckpointError(f"{path}: not a training state of this version")
            state: dict[str, Any] = _filled(written["state"], file.get_tensor)
    except (SafetensorError, OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{path}: not a training state, or damaged ({first_line(error)})") from error
    return state


def _outline(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """A value as JSON that tells dictionaries with any keys, lists and tuples apart; tensors are moved out, and only named."""
    if isinstance(value, torch.Tensor):
        name = f"tensor {len(tensors)}"
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[key, _outline(inner, tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_outline(inner, tensors) for inner in value]}
    return value


def _filled(outline: Any, tensor: Callable[[str], torch.Tensor]) -> Any:
    """The inverse of :func:`_outline`."""
    if not isinstance(outline, dict):
        return outline
    ((kind, content),) = outline.items()
    if kind == "tensor":
        return tensor(content)
    if kind == "dict":
        return {key: _filled(inner, tensor) for key, inner in content}
    inner = [_filled(each, tensor) for each in content]
    return tuple(inner) if kind == "tuple" else inner
