"""The compiled kernels of ``cpu.cpp`` and ``stream.cpp``: built at first use, loaded once, called with tensors and numbers."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

SOURCES = tuple(Path(__file__).with_name(name) for name in ("cpu.cpp", "stream.cpp", "vectors.h"))
FLAGS = ("-O3", "-shared", "-fPIC", "-fopenmp", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
FRAMES_PER_PIECE = 256
"""Over so many frames the gradients of parameters are summed before these sums are added up."""

_POINTERS = ("y", "d", "m", "grad_m", "grad_d", "grad_y", "mean", "variance", "sum", "product", "constant", "linear", "columns")
_PARAMETERS = ("bias_0", "weight_1", "bias_1", "taps", "bias_2", "weight_2", "bias_3")
_NORMALS = tuple(f"{part}_{k}" for k in (1, 2) for part in ("mean", "scale", "shift"))
_SIZES = ("batch", "frames", "channels", "piece", "threads", "num_taps", "dilation", "before")


class _Arguments(ctypes.Structure):
    """The struct of the same name in ``cpu.cpp``."""

    _fields_ = (
        *((name, ctypes.c_long) for name in _SIZES),
        *((name, ctypes.c_float) for name in ("slope_1", "slope_2")),
        *((name, ctypes.c_void_p) for name in (*_PARAMETERS, *_NORMALS, *_POINTERS)),
    )


class Passes:
    """Passes over the activations of one block, with the arguments that they share."""

    def __init__(self, y: Tensor, **arguments: Any) -> None:
        self.batch, self.frames, self.channels = y.shape
        self.arguments: dict[str, Any] = {}
        self._suffix = "bfloat16" if y.dtype == torch.bfloat16 else "float32"
        sizes = {"batch": self.batch, "frames": self.frames, "channels": self.channels}
        self.add(y=y, **sizes, piece=FRAMES_PER_PIECE, threads=torch.get_num_threads(), **arguments)

    def add(self, **arguments: Any) -> None:
        """Give all further passes more arguments; tensors are contiguous, and are kept alive here."""
        self.arguments.update(arguments)

    def run(self, name: str, **arguments: Any) -> None:
        """Run one pass."""
        given = {**self.arguments, **arguments}
        values = {key: value.data_ptr() if isinstance(value, Tensor) else value for key, value in given.items()}
        getattr(load(), f"{name}_{self._suffix}")(ctypes.byref(_Arguments(**values)))

    def sums(self, name: str, num_parameters: int, **arguments: Any) -> Tensor:
        """Run one pass that also sums gradients over frames; returns ``[parameter, channels]``."""
        pieces = self.batch * -(-self.frames // FRAMES_PER_PIECE)
        columns = torch.zeros(pieces, num_parameters, self.channels)
        self.run(name, columns=columns, **arguments)
        return columns.sum(0)

    def per_frame(self, count: int) -> Tensor:
        """Room for so many numbers per frame, ``[count, batch, frames, 1]``."""
        return torch.empty(count, self.batch, self.frames, 1)


@functools.cache
def load() -> ctypes.CDLL | None:
    """The library; None where it cannot be compiled."""
    try:
        return ctypes.CDLL(str(_build()))
    except (OSError, subprocess.SubprocessError) as error:
        logger.info("the compiled kernels are not used: %s", error)
        return None


def _build() -> Path:
    """Compile once per source, compiler and processor, into the user's cache."""
    compiler = _compiler()
    tuned = ("-march=native", "-mprefer-vector-width=512") if platform.machine() == "x86_64" else ("-mcpu=native",)
    text = "".join(source.read_text() for source in SOURCES)
    identity = f"{text}{compiler}{FLAGS}{tuned}{_processor()}{torch.__version__}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tasnet-pipeline"
    target = cache / f"kernels-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        translated = [source for source in SOURCES if source.suffix == ".cpp"]
        subprocess.run([compiler, *FLAGS, *tuned, "-o", temporary, *translated], check=True, capture_output=True, timeout=300)
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
