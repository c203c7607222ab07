"""Models on disk, whole or not at all, read without running any code.

A model is a safetensors file: the weights, and in its metadata the settings, as JSON, that build the network for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pipeline.errors import CheckpointError, ModelError, WorkError, first_line
from pipeline.files import parse_json, written_whole
from pipeline.models.build import build_model
from pipeline.models.conv_tasnet import ConvTasNet
from pipeline.models.protocol import Network
from pipeline.recipe.schema import Model

FORMAT = "tasnet-pipeline model 1"
METADATA = "tasnet-pipeline"


def save_model(model: Network, path: str | Path, *, weights: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write a network's weights and settings.

    Args:
        model: the network, which may be wrapped by ``torch.compile`` or ``DistributedDataParallel``.
        path: a ``.safetensors`` file.
        weights: to save in place of the network's own, say their moving average; named as ``model.state_dict()`` names them.
    """
    model = _unwrapped(model)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in (weights or model.state_dict()).items()}
    facts = {
        "format": FORMAT,
        "model": model.settings.model_dump(),
        "num_sources": model.num_sources,
        "sample_rate": model.sample_rate,
    }
    # One entry: safetensors writes several in no fixed order, and equal models are to be equal files.
    write_tensors(Path(path), tensors, {METADATA: json.dumps(facts)})


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        WorkError: the disk is full, or the folder cannot be written.
    """
    with written_whole(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            raise WorkError(f"{path}: cannot be written ({first_line(error)})") from error


def model_name(path: Path, among: Sequence[Path] = ()) -> str:
    """What to call a model: its file, or its folder where the file is ``best``, as of every training, or called like another."""
    alike = sum(other.name == path.name for other in among) > 1
    return path.absolute().parent.name if alike or path.stem == "best" else path.stem


def copy_with_card(model: Path, target: Path, card: str) -> None:
    """Copy a model, with its card in the metadata beside its settings.

    Args:
        model: a ``.safetensors`` file.
        target: the copy, with the same weights.
        card: the text of a model card.

    Raises:
        CheckpointError: it is no model of ours.
        WorkError: the copy cannot be written.
    """
    metadata, weights = _contents(model)
    _network(metadata, model)
    facts = parse_json(metadata[METADATA])
    write_tensors(target, weights, {METADATA: json.dumps(facts | {"card": card})})


def _unwrapped(model: Network) -> Network:
    """The network inside what torch puts around it to compile it or to share its gradients."""
    for attribute in ("_orig_mod", "module"):
        model = getattr(model, attribute, model)
    return model


def load_model(path: str | Path, *, device: str | torch.device = "cpu") -> ConvTasNet:
    """Read a network, ready for inference.

    Raises:
        CheckpointError: when the file is missing, damaged, or not one of ours.
    """
    path = Path(path)
    metadata, weights = _contents(path)
    model = _network(metadata, path)
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise CheckpointError(f"{path}: its weights do not fit the settings in it; the file is damaged") from None
    return model.to(device).eval()


def _contents(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """A model file's metadata and weights."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return file.metadata() or {}, weights
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a model file, or damaged ({error})") from error


def _network(metadata: Mapping[str, str], path: Path) -> ConvTasNet:
    """The network that a file's metadata describes."""
    if METADATA not in metadata:
        raise CheckpointError(f"{path}: not a model of this pipeline")
    try:
        facts = parse_json(metadata[METADATA])
        if facts["format"] != FORMAT:
            raise CheckpointError(f"{path}: its format is {facts['format']!r}, and this version reads {FORMAT!r}")
        settings = Model.model_validate(facts["model"])
        return build_model(settings, num_sources=int(facts["num_sources"]), sample_rate=int(facts["sample_rate"]))
    except (KeyError, TypeError, ValueError, ValidationError, ModelError) as error:
        raise CheckpointError(f"{path}: its settings cannot be read ({first_line(error)})") from error
