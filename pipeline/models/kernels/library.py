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
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from pipeline.files import cache_folder

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
        return _loaded()
    except (OSError, subprocess.SubprocessError) as error:
        logger.info("the compiled kernels are not used: %s%s", error, _said_by_compiler(error))
        return None


def _loaded() -> ctypes.CDLL:
    """The library from the user's cache, or compiled into it; users without a home compile for this process alone."""
    cache = cache_folder()
    if cache is not None:
        return ctypes.CDLL(str(find_built(cache) or _build(cache)))
    with TemporaryDirectory() as folder:
        return ctypes.CDLL(str(_build(Path(folder))))


def find_built(cache: Path) -> Path | None:
    """A whole library in a cache, for this source and processor; by any compiler where there is none to compile it again.

    The last part of a library's name is a digest of its content: one that was cut short would kill the process that loads it.
    """
    compiler = _compiler()
    built_by = _short_digest(compiler) if compiler else "*"
    for path in sorted(cache.glob(f"kernels-{_identity()}-{built_by}-*.so")):
        if path.stem.rpartition("-")[2] == _short_digest(path.read_bytes()):
            return path
    return None


def _build(cache: Path) -> Path:
    """Compile the library into a cache."""
    compiler = _compiler()
    if compiler is None:
        raise OSError("there is no C++ compiler (g++ or clang++)")
    cache.mkdir(parents=True, exist_ok=True)
    temporary = cache / f"kernels-{os.getpid()}.tmp"
    try:
        translated = [source for source in SOURCES if source.suffix == ".cpp"]
        subprocess.run([compiler, *FLAGS, *_tuning(), "-o", temporary, *translated], check=True, capture_output=True, timeout=300)
        name = f"kernels-{_identity()}-{_short_digest(compiler)}-{_short_digest(temporary.read_bytes())}.so"
        return temporary.replace(cache / name)
    finally:
        temporary.unlink(missing_ok=True)


def _said_by_compiler(error: Exception) -> str:
    """The first of the compiler's own words, where it has failed."""
    words = error.stderr if isinstance(error, subprocess.CalledProcessError) else None
    text = words.decode(errors="replace").strip() if isinstance(words, bytes) else ""
    return "; the compiler says: " + " ".join(text.splitlines()[:3]) if text else ""


def _identity() -> str:
    """A digest of what decides the code, the compiler apart."""
    text = "".join(source.read_text() for source in SOURCES)
    return _short_digest(f"{text}{FLAGS}{_tuning()}{_processor()}{torch.__version__}")


def _short_digest(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


def _tuning() -> tuple[str, ...]:
    return ("-march=native", "-mprefer-vector-width=512") if platform.machine() == "x86_64" else ("-mcpu=native",)


def _compiler() -> str | None:
    names = (os.environ.get("CXX", ""), "g++", "clang++", "c++")
    return next((path for path in map(shutil.which, filter(None, names)) if path), None)


def _processor() -> str:
    """What the code is tuned to: a home folder may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
