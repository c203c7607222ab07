"""Decides call by call whether a device's kernels compute a part of the network, or the readable definition does.

Kernels are invisible: whatever they cannot do exactly as the definition does it, they leave to the definition. That is another
device or number type, a compiler or tracer that wants to see torch's operators, and modules that somebody has replaced, hooked
or patched.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.modules import module as torch_module

from pipeline.models.kernels import cpu, library, ops
from pipeline.models.layers import DepthwiseConv, PReLU
from pipeline.models.norms import NORMS

Function = TypeVar("Function", bound=Callable[..., bool])

AMPERE = (8, 0)
"""The first CUDA cards that multiply in bfloat16, for which the kernels are made."""


def _asked_once(function: Function) -> Function:
    """A compiler calls the function once a graph and takes what it returns for a constant.

    This is ``torch.compiler.assume_constant_result``, which imports the compiler: seconds that most commands can do without.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@functools.cache
def _has_triton(index: int) -> bool:
    """Whether Triton is there and makes code for the card."""
    if importlib.util.find_spec("triton") is None or not torch.cuda.is_available():
        return False
    return torch.cuda.get_device_capability(index) >= AMPERE


_AVAILABLE: dict[str, Callable[[torch.device], bool]] = {
    "cpu": lambda device: library.load() is not None,
    "cuda": lambda device: _has_triton(device.index or 0),
}
"""Whether the kernels of a type of device can run on this machine."""

_COMPILED = ("cuda",)
"""Types of device whose kernels a compiler keeps as they are, and makes what is around them; on a CPU it makes all."""
_PADDED = ("cuda",)
"""Types of device whose kernels take members of different lengths."""
_TAPS, _MAX_CHANNELS = 3, 4096
"""What the CUDA kernels are written for: a convolution's taps, and whole rows in registers."""

_DTYPES = (torch.float32, torch.bfloat16)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_NORM_TYPES = tuple(NORMS.values())
_BLOCK_TYPES = ((nn.Linear,), (PReLU,), _NORM_TYPES, (DepthwiseConv,), (PReLU,), _NORM_TYPES)

_wanted = SimpleNamespace(definition_only=False)
"""An attribute of a plain object: one that every version of the compiler can look at."""


@_asked_once
def available(device: torch.device) -> bool:
    """Whether there are kernels for a device, and they run on this machine."""
    return device.type in _AVAILABLE and _AVAILABLE[device.type](device)


@contextmanager
def definition_only() -> Iterator[None]:
    """Calls within use the readable definition, in all threads of the process; for comparisons."""
    before, _wanted.definition_only = _wanted.definition_only, True
    try:
        yield
    finally:
        _wanted.definition_only = before


def hidden(block: Any, x: Tensor, num_frames: Tensor | None = None) -> Tensor | None:
    """A block's normalised hidden activations ``[batch, frames, H]``, ready for its last product.

    Args:
        block: a ``Block`` of ``conv_tasnet.py``.
        x: ``[batch, frames, B]``.
        num_frames: ``[batch]`` frames that count, where members are padded; by default all.

    Returns:
        None where the definition has to compute them.
    """
    ready = _expanded(block, x) if _can_be_padded(x, num_frames) else None
    if ready is None:
        return None
    y, parameters, eps = ready
    place = (block.norm_1.kind, eps, block.depthwise.dilation, block.depthwise.padding[0])
    activations: Tensor
    if num_frames is not None:
        activations = ops.hidden_of_padded(y, parameters, *place, num_frames)
    else:
        activations = ops.hidden(y, parameters, *place)[0]
    return activations


def hidden_in_steps(block: Any, x: Tensor) -> cpu.HiddenInSteps | None:
    """The same on a CPU, in steps between which the caller merges statistics; None where the definition has to do it."""
    ready = _expanded(block, x) if x.device.type == "cpu" else None
    return None if ready is None else cpu.HiddenInSteps(*ready, block.depthwise.dilation, block.depthwise.padding[0])


def _expanded(block: Any, x: Tensor) -> tuple[Tensor, list[Tensor], list[float]] | None:
    """The expanded input without its bias, a block's parameters in the order of their use, and the eps of its norms."""
    parts = (block.expand, block.activation_1, block.norm_1, block.depthwise, block.activation_2, block.norm_2)
    if not _suits(x) or not all(map(_is_plain, parts, _BLOCK_TYPES)):
        return None
    expand, activation_1, norm_1, depthwise, activation_2, norm_2 = parts
    parameters = [
        expand.bias, activation_1.slope, norm_1.weight, norm_1.bias, depthwise.taps, depthwise.bias,
        activation_2.slope, norm_2.weight, norm_2.bias,
    ]  # fmt: skip
    channels = (expand.out_features,)
    shapes = [channels, (1,), channels, channels, (len(depthwise.taps), *channels), channels, (1,), channels, channels]
    if type(norm_1) is not type(norm_2) or (x.device.type == "cuda" and len(depthwise.taps) != _TAPS):
        return None
    if not _fit(x, [expand.weight, *parameters], [expand.weight.shape, *shapes]):
        return None
    return functional.linear(x, expand.weight).contiguous(), parameters, [norm_1.eps, norm_2.eps]


def normalised(norm: Any, x: Tensor, num_frames: Tensor | None = None) -> Tensor | None:
    """What a norm of ``norms.py`` makes of ``[batch, frames, channels]``; None where the norm has to do it itself."""
    if not _can_be_padded(x, num_frames) or not _suits(x) or not _is_plain(norm, _NORM_TYPES):
        return None
    if not _fit(x, [norm.weight, norm.bias], [x.shape[-1:], x.shape[-1:]]):
        return None
    normal: Tensor
    if num_frames is not None:
        normal = ops.normalised_of_padded(x.contiguous(), norm.weight, norm.bias, norm.kind, norm.eps, num_frames)
    else:
        normal = ops.normalised(x.contiguous(), norm.weight, norm.bias, norm.kind, norm.eps)[0]
    return normal


def _can_be_padded(x: Tensor, num_frames: Tensor | None) -> bool:
    """Whether kernels know where each member ends: those of CUDA cards do, and have no gradient then."""
    return num_frames is None or (x.device.type in _PADDED and not torch.is_grad_enabled())


def suits_streaming(weight: Tensor) -> bool:
    """Whether a network with such weights can be streamed by a CPU's kernels, and nobody wants to see torch's operators."""
    return weight.device.type == "cpu" and _suits(weight.detach()) and not torch.is_autocast_enabled("cpu")


def _suits(x: Tensor) -> bool:
    """Whether kernels can take an input, in float32 or under bfloat16 autocast, and nobody wants to see torch's operators."""
    if _wanted.definition_only:
        return False
    if torch.compiler.is_compiling():
        if _is_exporting() or x.device.type not in _COMPILED:
            return False
    elif type(x) is not Tensor or _is_watched():
        return False
    if not available(x.device):
        return False
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    return dtype in _DTYPES and x.dtype in _DTYPES


@_asked_once
def _is_exporting() -> bool:
    """Asked while a graph is made, not within it: torch 2.11's compiler takes the question itself to be true."""
    return torch.compiler.is_exporting()


def _is_watched() -> bool:
    """Whether calls are traced, hooked for all modules, transformed by ``torch.func`` or differentiated forwards."""
    return (
        any(getattr(torch_module, f"_global{name}") for name in _HOOKS)
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def _is_plain(part: nn.Module, types: Iterable[type]) -> bool:
    """Whether a module does what its class says: not replaced by another, hooked, or patched."""
    if type(part) not in types or "forward" in vars(part):
        return False
    return not any(getattr(part, name) for name in _HOOKS)


def _fit(x: Tensor, parameters: list[Tensor], shapes: list[Any]) -> bool:
    """Whether parameters are plain float32 tensors on the input's device, of the shapes that kernels count on."""
    if x.device.type == "cuda" and max(shape[-1] for shape in shapes) > _MAX_CHANNELS:
        return False
    return all(
        type(each) in (nn.Parameter, Tensor) and each.dtype == torch.float32 and each.device == x.device and each.shape == shape
        for each, shape in zip(parameters, shapes, strict=True)
    )
