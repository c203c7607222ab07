"""Import Conv-TasNets trained with torchaudio or Asteroid: their weights under our names, read without running any code.

All three networks compute the same function. Asteroid's first frame starts at the first sample, ours and torchaudio's half a
window earlier; so our output equals Asteroid's for the mixture with L/2 zeros before and after it.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.torch_version import TorchVersion

from pipeline.errors import CheckpointError, ModelError, first_line
from pipeline.models.build import build_model
from pipeline.models.conv_tasnet import INPUT_EPS, ConvTasNet
from pipeline.recipe.schema import Model

Weights = Mapping[str, Tensor]

BUNDLE = "models/conv_tasnet_base_libri2mix.pt"
"""What torchaudio calls its published Conv-TasNet: 8 kHz, two speakers of LibriMix, non-causal."""
THEIR_EPS = 1e-8
"""Epsilon of the first norm in both toolkits; it changes the masks of very quiet mixtures, in training and here."""


@dataclass(frozen=True)
class Layout:
    """The names that a toolkit gives to the parts of the network."""

    encoder: str
    decoder: str
    input_norm: str
    bottleneck: str
    blocks: str
    output_activation: str
    output: str
    norm: tuple[str, str]
    """Weight and bias of its norms."""
    hidden: str
    """Of a block's modules that are numbered: 0 expand, 1 activation, 2 norm, 3 depthwise, 4 activation, 5 norm."""
    residual: str
    skip: str


LAYOUTS = {
    "torchaudio": Layout(
        encoder="encoder.weight",
        decoder="decoder.weight",
        input_norm="mask_generator.input_norm",
        bottleneck="mask_generator.input_conv",
        blocks="mask_generator.conv_layers",
        output_activation="mask_generator.output_prelu",
        output="mask_generator.output_conv",
        norm=("weight", "bias"),
        hidden="conv_layers",
        residual="res_out",
        skip="skip_out",
    ),
    "asteroid": Layout(
        encoder="encoder.filterbank._filters",
        decoder="decoder.filterbank._filters",
        input_norm="masker.bottleneck.0",
        bottleneck="masker.bottleneck.1",
        blocks="masker.TCN",
        output_activation="masker.mask_net.0",
        output="masker.mask_net.1",
        norm=("gamma", "beta"),
        hidden="shared_block",
        residual="res_conv",
        skip="skip_conv",
    ),
}


def import_model(path: str | Path, origin: str, *, given: Mapping[str, Any] | None = None) -> ConvTasNet:
    """Build our network from a published checkpoint.

    Args:
        path: the state dict of torchaudio's ``ConvTasNet``, as its bundle downloads it; or of Asteroid's ``ConvTasNet`` what its
            ``serialize`` returns. Lightning checkpoints of either work too, if the settings are given.
        origin: ``asteroid`` or ``torchaudio``.
        given: settings that the file does not hold, or holds wrongly: fields of a recipe's ``[model]``, and ``sample_rate``.

    Raises:
        CheckpointError: the file is missing, is no checkpoint, holds a network unlike ours, or leaves settings open.
    """
    path = Path(path)
    if origin not in LAYOUTS:
        raise CheckpointError(f"{origin}: unknown toolkit; choose {', '.join(LAYOUTS)}")
    content = _read(path)
    try:
        return _network(content, origin, dict(given or {}))
    except ValidationError as error:
        findings = (f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors())
        raise CheckpointError(f"{path}: {'; '.join(findings)}") from None
    except ModelError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: holds no Conv-TasNet of {origin} ({first_line(error)})") from None


def published_bundle() -> Path:
    """The weights that torchaudio publishes, ``CONVTASNET_BASE_LIBRI2MIX``, where torchaudio keeps what it has downloaded.

    Raises:
        CheckpointError: they are not there; the message says how to get them.
    """
    path = Path(torch.hub.get_dir()) / "torchaudio" / BUNDLE
    if not path.is_file():
        name = "CONVTASNET_BASE_LIBRI2MIX"
        command = f'python -c "from torchaudio.pipelines import {name}; {name}.get_model()"'
        raise CheckpointError(f"{path}: torchaudio has not downloaded its bundle yet; with a connection, run: {command}")
    return path


def _read(path: Path) -> Mapping[str, Any]:
    """What the file holds, by torch's loader of plain values."""
    try:
        with torch.serialization.safe_globals([TorchVersion]):  # a kind of text, which Asteroid keeps beside the weights
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path}: not a checkpoint, or more than weights and plain values; it is not loaded") from None
    except (RuntimeError, OSError, EOFError, ValueError, LookupError) as error:
        raise CheckpointError(f"{path}: is not a checkpoint, or is damaged ({first_line(error)})") from None
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds no weights")
    return content


def _network(content: Mapping[str, Any], origin: str, given: dict[str, Any]) -> ConvTasNet:
    layout = LAYOUTS[origin]
    weights = _bare_weights(content)
    said = _said_by_asteroid(content) if origin == "asteroid" else {"mask": "relu", "norm": "global", "sample_rate": 8000}
    facts = {**_shapes(weights, layout), **said, **given}
    facts["num_repeats"] = given.get("num_repeats", _num_blocks(weights, layout) // facts["blocks_per_repeat"])
    missing = [name for name in ("mask", "norm", "sample_rate") if facts.get(name) is None]
    if missing:
        raise ModelError(f"the file does not hold {', '.join(missing)}; give it with --set {missing[0]}=…")
    sample_rate = facts.pop("sample_rate")
    settings = Model.model_validate(facts)
    num_sources = weights[f"{layout.output}.weight"].shape[0] // settings.num_filters
    model = build_model(settings, num_sources=num_sources, sample_rate=int(sample_rate))
    if settings.blocks_per_repeat * settings.num_repeats != _num_blocks(weights, layout):
        raise ModelError(
            f"it has {_num_blocks(weights, layout)} blocks, not {settings.num_repeats} times {settings.blocks_per_repeat}; "
            "give the number per repeat with --set blocks_per_repeat=…"
        )
    model.load_state_dict(dict(_renamed(weights, layout, settings)))
    return model.eval()


def _bare_weights(content: Mapping[str, Any]) -> dict[str, Any]:
    """The weights out of what trainers put around them: a dictionary, and prefixes of every name."""
    inner = next((content[key] for key in _AROUND if isinstance(content.get(key), Mapping)), content)
    weights = {str(name): value for name, value in inner.items()}
    while prefix := next((one for one in _PREFIXES if weights and all(name.startswith(one) for name in weights)), None):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return {name.removeprefix("model."): value for name, value in weights.items()}


_AROUND = ("state_dict", "model_state_dict", "model", "net", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""Of DistributedDataParallel, torch.compile, and what trainers call a network."""


# ---------------------------------------------------------------------------------------------------------------- settings
_ASTEROIDS_NORMS = {"gLN": "global", "cgLN": "cumulative", "cLN": "frame"}
"""Asteroid's cLN is a norm per frame; its cgLN is the paper's cumulative one."""
_ASTEROIDS_ENCODERS = {None: "linear", "linear": "linear", "relu": "relu"}


def _said_by_asteroid(content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in the arguments of its network, if the file holds them.

    Raises:
        ModelError: an argument that our network has no counterpart for.
    """
    name, arguments = content.get("model_name", "ConvTasNet"), content.get("model_args")
    if arguments is None:
        return {}
    filters, norm, encoder = (arguments.get(key) for key in ("fb_name", "norm_type", "encoder_activation"))
    wrong = [
        (name != "ConvTasNet", f"it is a {name}"),
        (filters not in (None, "free", "FreeFB"), f"its filterbank is {filters!r}, not free"),
        (norm is not None and norm not in _ASTEROIDS_NORMS, f"its norm {norm!r} is none of {', '.join(_ASTEROIDS_NORMS)}"),
        (encoder not in _ASTEROIDS_ENCODERS, f"its encoder's activation {encoder!r} is neither linear nor relu"),
        (2 * arguments.get("stride", 8) != arguments.get("kernel_size", 16), "its windows do not overlap by half"),
        (arguments.get("out_chan") not in (None, arguments.get("in_chan")), "its masks have another size than its frames"),
    ]
    if any(is_wrong for is_wrong, _ in wrong):
        raise ModelError("; ".join(words for is_wrong, words in wrong if is_wrong) + ": our network has no counterpart")
    facts = {
        "mask": arguments.get("mask_act", "sigmoid"),
        "norm": _ASTEROIDS_NORMS[norm or "gLN"],
        "encoder": _ASTEROIDS_ENCODERS[encoder],
        "blocks_per_repeat": arguments.get("n_blocks", 8),
    }
    return facts | ({"sample_rate": arguments["sample_rate"]} if arguments.get("sample_rate") else {})


def _shapes(weights: Weights, layout: Layout) -> dict[str, Any]:
    """The settings that names and shapes of the weights imply; 8 blocks per repeat, the default everywhere."""
    num_filters, _, filter_length = weights[layout.encoder].shape
    block = f"{layout.blocks}.0"
    if f"{block}.{layout.skip}.weight" not in weights:
        raise ModelError("it computes masks from the residual path, without skip connections: our network has no counterpart")
    causal = f"{block}.{layout.hidden}.3.0.weight" in weights  # followed by a cut, within a pair
    hidden_channels, _, kernel_size = weights[f"{block}.{_depthwise(layout, causal)}.weight"].shape
    return {
        "causal": causal,
        "num_filters": num_filters,
        "filter_length": filter_length,
        "bottleneck_channels": weights[f"{layout.bottleneck}.weight"].shape[0],
        "skip_channels": weights[f"{block}.{layout.skip}.weight"].shape[0],
        "hidden_channels": hidden_channels,
        "kernel_size": kernel_size,
        "blocks_per_repeat": 8,
    }


def _num_blocks(weights: Weights, layout: Layout) -> int:
    before = f"{layout.blocks}."
    return len({name.removeprefix(before).split(".")[0] for name in weights if name.startswith(before)})


def _depthwise(layout: Layout, causal: bool) -> str:
    return f"{layout.hidden}.3.0" if causal else f"{layout.hidden}.3"


# ----------------------------------------------------------------------------------------------------------------- weights
def _renamed(weights: Weights, layout: Layout, settings: Model) -> Iterator[tuple[str, Tensor]]:
    """Every weight under our name and in our shape.

    The epsilon of our first norm is smaller than theirs. Scaling the encoder down and the decoder up by its root makes up for it.
    """
    scale = math.sqrt(INPUT_EPS / THEIR_EPS)
    yield "encoder.filters.weight", weights[layout.encoder][:, 0] * scale
    yield "decoder.basis.weight", weights[layout.decoder][:, 0].T / scale
    yield from _norm(weights, layout, layout.input_norm, "separator.input_norm")
    yield from _dense(weights, layout.bottleneck, "separator.bottleneck")
    last = settings.blocks_per_repeat * settings.num_repeats - 1
    for i in range(last + 1):
        outputs = [layout.skip] if i == last else [layout.residual, layout.skip]
        for name, tensor in _block(weights, layout, f"{layout.blocks}.{i}", outputs, causal=settings.causal):
            yield f"separator.blocks.{i}.{name}", tensor
    yield "separator.output_activation.slope", weights[f"{layout.output_activation}.weight"]
    yield from _dense(weights, layout.output, "separator.output")


def _block(weights: Weights, layout: Layout, block: str, outputs: list[str], *, causal: bool) -> Iterator[tuple[str, Tensor]]:
    hidden, depthwise = f"{block}.{layout.hidden}", f"{block}.{_depthwise(layout, causal)}"
    yield from _dense(weights, f"{hidden}.0", "expand")
    yield "activation_1.slope", weights[f"{hidden}.1.weight"]
    yield from _norm(weights, layout, f"{hidden}.2", "norm_1")
    yield "depthwise.taps", weights[f"{depthwise}.weight"][:, 0].T
    yield "depthwise.bias", weights[f"{depthwise}.bias"]
    yield "activation_2.slope", weights[f"{hidden}.4.weight"]
    yield from _norm(weights, layout, f"{hidden}.5", "norm_2")
    yield "residual_and_skip.weight", torch.cat([weights[f"{block}.{name}.weight"][..., 0] for name in outputs])
    yield "residual_and_skip.bias", torch.cat([weights[f"{block}.{name}.bias"] for name in outputs])


def _dense(weights: Weights, theirs: str, ours: str) -> Iterator[tuple[str, Tensor]]:
    """A 1×1 convolution as a matrix."""
    yield f"{ours}.weight", weights[f"{theirs}.weight"][..., 0]
    yield f"{ours}.bias", weights[f"{theirs}.bias"]


def _norm(weights: Weights, layout: Layout, theirs: str, ours: str) -> Iterator[tuple[str, Tensor]]:
    for name, their_name in zip(("weight", "bias"), layout.norm, strict=True):
        yield f"{ours}.{name}", weights[f"{theirs}.{their_name}"]
