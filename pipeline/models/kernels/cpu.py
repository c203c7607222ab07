"""The fast path of blocks and norms on a CPU, all but their matrix products, compiled from ``cpu.cpp`` at first use.

torch's own operators take some twenty passes over memory for it, and torch.compile spends most of its time in the gradients of
per-channel parameters. Here it is three passes forward and four back, at any length, without a warm-up. The definition remains
the readable one in ``conv_tasnet.py``, which is used wherever this is not: other devices and types, no compiler, export. The
norms are merged by the very functions of ``norms.py``, differentiated by autograd.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-O3", "-shared", "-fPIC", "-fopenmp", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
PIECE = 256
"""Frames over which the gradients of parameters are summed before the sums are added up."""

_POINTERS = ("y", "d", "m", "grad_m", "grad_d", "grad_y", "mean", "variance", "sum", "product", "constant", "linear", "columns")
_PARAMETERS = ("bias_0", "weight_1", "bias_1", "taps", "bias_2", "weight_2", "bias_3")
_NORMALS = tuple(f"{part}_{k}" for k in (1, 2) for part in ("mean", "scale", "shift"))
_SIZES = ("batch", "frames", "channels", "piece", "threads", "num_taps", "dilation", "before")

_enabled = True


class _Arguments(ctypes.Structure):
    """The list of the same name in ``cpu.cpp``."""

    _fields_ = (
        *((name, ctypes.c_long) for name in _SIZES),
        *((name, ctypes.c_float) for name in ("slope_1", "slope_2")),
        *((name, ctypes.c_void_p) for name in (*_PARAMETERS, *_NORMALS, *_POINTERS)),
    )


def usable(x: Tensor) -> bool:
    """Whether the fast path can take this input: a plain CPU tensor in float32 or under bfloat16 autocast."""
    if not _enabled or type(x) is not Tensor or x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return dtype in (torch.float32, torch.bfloat16) and x.dtype in (torch.float32, torch.bfloat16) and library() is not None


@contextmanager
def disabled() -> Iterator[None]:
    """Compute by the readable definition only."""
    global _enabled  # one switch for the process, for tests and comparisons
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


def hidden(block: Any, x: Tensor) -> Tensor:
    """A block's normalised hidden activations, ready for the second product.

    Args:
        block: a ``Block`` of ``conv_tasnet.py`` with float32 parameters.
        x: ``[batch, frames, B]``, as :func:`usable` allows.

    Returns:
        ``[batch, frames, H]``.
    """
    result: Tensor = _Hidden.apply(
        functional.linear(x, block.expand.weight).contiguous(),
        block.expand.bias,
        block.activation_1.slope,
        block.norm_1.weight,
        block.norm_1.bias,
        block.depthwise.taps,
        block.depthwise.bias,
        block.activation_2.slope,
        block.norm_2.weight,
        block.norm_2.bias,
        block,
    )
    return result


class _Hidden(torch.autograd.Function):
    """The passes of ``cpu.cpp`` in order, and the merging of statistics between them."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, *parameters: Any) -> Tensor:
        bias_0, slope_1, weight_1, bias_1, taps, bias_2, slope_2, weight_2, bias_3, block = parameters
        call = _Call(
            y,
            bias_0=bias_0, weight_1=weight_1, bias_1=bias_1, taps=taps, bias_2=bias_2, weight_2=weight_2, bias_3=bias_3,
            slope_1=slope_1.item(), slope_2=slope_2.item(), num_taps=len(taps), dilation=block.depthwise.dilation,
            before=block.depthwise.padding[0],
        )  # fmt: skip
        differentiable = any(ctx.needs_input_grad)
        mean, variance = call.per_frame(2)
        call("statistics", mean=mean, variance=variance)
        merged_1 = _Merged(block.norm_1, mean, variance, differentiable)
        call.keep(**merged_1.normal(1), d=torch.empty_like(y))
        m, merged_2 = _normalise(call, block.norm_2, "convolve", differentiable)
        ctx.call, ctx.merged = call, (merged_1, merged_2)
        return m

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_m: Tensor) -> tuple[Tensor | None, ...]:
        call, (merged_1, merged_2) = _taken(ctx)
        _, norm_2, second = _normalise_back(call, merged_2, grad_m)
        norm_1 = call.columns("convolve_back_sums", 2 + call.kept["num_taps"])
        grad_y = torch.empty_like(grad_m)
        first = call.columns("convolve_back", 2, **merged_1.back(call), grad_y=grad_y)
        slope_1, slope_2 = first[1].sum().reshape(1), second[1].sum().reshape(1)
        return grad_y, first[0], slope_1, norm_1[0], norm_1[1], norm_1[2:], second[0], slope_2, norm_2[0], norm_2[1], None


def normalised(norm: Any, x: Tensor) -> Tensor:
    """What a norm of ``norms.py`` makes of its input, in fewer passes over memory.

    Args:
        norm: with float32 parameters.
        x: ``[batch, frames, channels]``, as :func:`usable` allows.

    Returns:
        The same shape and type.
    """
    result: Tensor = _Normalised.apply(x.contiguous(), norm.weight, norm.bias, norm)
    return result


class _Normalised(torch.autograd.Function):
    """A block's second norm, after a rectifier that lets everything through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Any) -> Tensor:
        weight, bias, norm = parameters
        none = torch.zeros_like(bias)
        call = _Call(x, d=x, bias_0=none, weight_2=weight, bias_3=bias, slope_1=1.0, slope_2=1.0)
        m, merged = _normalise(call, norm, "statistics", any(ctx.needs_input_grad))
        ctx.call, ctx.merged = call, merged
        return m

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_m: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, (weight, bias), _ = _normalise_back(*_taken(ctx), grad_m)
        return grad_x, weight, bias, None


def _normalise(call: _Call, norm: Any, statistics: str, differentiable: bool) -> tuple[Tensor, _Merged]:
    """The last norm: the pass that leaves the statistics of ``d``'s frames, their merging, and the pass that normalises."""
    mean, variance = call.per_frame(2)
    call(statistics, mean=mean, variance=variance)
    merged = _Merged(norm, mean, variance, differentiable)
    m = torch.empty_like(call.kept["d"])
    call.keep(**merged.normal(2))
    call("normalise", m=m)
    return m, merged


def _normalise_back(call: _Call, merged: _Merged, grad_m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of ``d``, of the last norm's weight and bias, and of the bias and slope before it, by channels."""
    sums = call.per_frame(2)
    grad_d = torch.empty_like(grad_m)
    call.keep(grad_m=grad_m.contiguous(), sum=sums[0], product=sums[1], grad_d=grad_d)
    of_norm = call.columns("normalise_back_sums", 2)
    return grad_d, of_norm, call.columns("normalise_back", 2, **merged.back(call))


def _taken(ctx: Any) -> tuple[_Call, Any]:
    """What the forward pass kept. The graph may outlive the backward pass; its memory should not."""
    if ctx.call is None:
        raise RuntimeError("the backward pass has used up what the forward pass kept: it runs once")
    kept = ctx.call, ctx.merged
    ctx.call = ctx.merged = None
    return kept


class _Call:
    """Calls into the library on one set of arguments, which it keeps alive."""

    def __init__(self, y: Tensor, **arguments: Any) -> None:
        self.batch, self.frames, self.channels = y.shape
        self.suffix = "bfloat16" if y.dtype == torch.bfloat16 else "float32"
        self.kept: dict[str, Any] = {}
        sizes = {"batch": self.batch, "frames": self.frames, "channels": self.channels}
        self.keep(y=y, **sizes, piece=PIECE, threads=torch.get_num_threads(), **arguments)

    def keep(self, **arguments: Any) -> None:
        """Add arguments for all further calls."""
        self.kept.update(arguments)

    def __call__(self, name: str, **arguments: Any) -> None:
        """Run one pass."""
        given = {**self.kept, **arguments}
        values = {key: value.data_ptr() if isinstance(value, Tensor) else value for key, value in given.items()}
        getattr(library(), f"{name}_{self.suffix}")(ctypes.byref(_Arguments(**values)))

    def columns(self, name: str, num_parameters: int, **arguments: Any) -> Tensor:
        """Run one pass that also sums gradients over frames; returns ``[parameter, channels]``."""
        pieces = self.batch * -(-self.frames // PIECE)
        columns = torch.zeros(pieces, num_parameters, self.channels)
        self(name, columns=columns, **arguments)
        return columns.sum(0)

    def per_frame(self, count: int) -> tuple[Tensor, ...]:
        """Room for so many numbers per frame."""
        return torch.empty(count, self.batch, self.frames, 1).unbind()


class _Merged:
    """A norm's statistics, merged over frames as the norm does, with the graph to differentiate that."""

    def __init__(self, norm: Any, frame_mean: Tensor, frame_variance: Tensor, differentiable: bool) -> None:
        self.frame_mean = frame_mean
        with torch.set_grad_enabled(differentiable):
            self.statistics = [each.double().requires_grad_(differentiable) for each in (frame_mean, frame_variance)]
            mean, variance = norm.merge(*self.statistics)
            self.mean, self.scale = (each.expand_as(frame_mean) for each in (mean, torch.rsqrt(variance + norm.eps)))

    def normal(self, k: int) -> dict[str, Tensor]:
        """The numbers of norm ``k`` with which each frame is normalised, as ``cpu.cpp`` takes them."""
        mean, scale = self.mean.detach(), self.scale.detach()
        shift = (self.statistics[0].detach() - mean) * scale
        return {f"mean_{k}": self.frame_mean, f"scale_{k}": scale.float().contiguous(), f"shift_{k}": shift.float().contiguous()}

    def back(self, call: _Call) -> dict[str, Tensor]:
        """From the sums over channels of xhat's gradient, what the statistics add to that of the normalised values."""
        total, product = call.kept["sum"], call.kept["product"]
        scale = self.scale.detach()
        outer = [-scale * total, product / scale]  # gradients of mean and scale in xhat = (p - mean) scale
        grad_mean, grad_variance = torch.autograd.grad([self.mean, self.scale], self.statistics, outer)
        constant, linear = grad_mean / call.channels, 2 * grad_variance / call.channels
        return {"constant": constant.float().contiguous(), "linear": linear.float().contiguous()}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they cannot be compiled."""
    try:
        built = ctypes.CDLL(str(_build()))
    except (OSError, subprocess.SubprocessError) as error:
        log.info("the compiled kernels are not used: %s", error)
        return None
    return built


def _build() -> Path:
    """Compile once per source, compiler and processor, into the user's cache."""
    compiler = _compiler()
    tuned = ("-march=native", "-mprefer-vector-width=512") if platform.machine() == "x86_64" else ("-mcpu=native",)
    identity = f"{SOURCE.read_text()}{compiler}{FLAGS}{tuned}{_processor()}{torch.__version__}"
    target = _cache() / f"kernels-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        subprocess.run([compiler, *FLAGS, *tuned, "-o", temporary, SOURCE], check=True, capture_output=True, timeout=300)
        temporary.replace(target)
    return target


def _compiler() -> str:
    names = (os.environ.get("CXX", ""), "g++", "clang++", "c++")
    found = next((path for path in map(shutil.which, filter(None, names)) if path), None)
    if found is None:
        raise OSError("there is no C++ compiler (g++ or clang++)")
    return found


def _processor() -> str:
    """What the code is tuned to: a home folder may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tasnet-pipeline"
