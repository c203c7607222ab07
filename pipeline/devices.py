"""Where and in which arithmetic torch computes: device, precision, threads and compilation are chosen here and nowhere else."""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from pipeline.errors import ModelError
from pipeline.memory import keep_freed_memory
from pipeline.models import kernels
from pipeline.parallel import worker_threads
from pipeline.torchrun import local_rank

if sys.platform != "win32":
    import resource

Precision = Literal["auto", "float32", "bfloat16"]
Compile = Literal["auto", "on", "off"]

log = logging.getLogger(__name__)

# Compiling costs one to two minutes on a CPU and saves about half of every step, so a short training is sooner done without.
MIN_STEPS_TO_COMPILE = 1000


def choose_device(name: str = "auto") -> torch.device:
    """The device called ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; ``auto`` is CUDA where there is one.

    Raises:
        ModelError: when the name is unknown or the device is not there.
    """
    if name == "auto":
        return torch.device("cuda", local_rank()) if torch.cuda.is_available() else torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise ModelError(f"--device {name}: no such device; choose auto, cpu or cuda")
    index = int(number) if number else local_rank()
    if index >= torch.cuda.device_count():
        raise ModelError(f"--device {name}: torch {torch.__version__} finds {torch.cuda.device_count()} CUDA devices; use cpu")
    return torch.device("cuda", index)


def choose_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """Arithmetic of the matrix products; ``auto`` is bfloat16 where the device has instructions for it, not an emulation."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    return torch.bfloat16 if _computes_bfloat16(device) else torch.float32


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """A context in which matrix products run in ``dtype``; it does nothing for float32."""
    return torch.autocast(device.type, dtype=dtype if dtype != torch.float32 else None, enabled=dtype != torch.float32)


def device_name(device: torch.device) -> str:
    """What a person calls it: ``cpu``, or the name on the card."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def cpu_name() -> str:
    """The processor's name and the threads in use, for figures that depend on them."""
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' if threads > 1 else ''}"


def _processor() -> str:
    """What Linux calls the processor; elsewhere its architecture."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine() or "CPU"


def prepare(device: torch.device) -> None:
    """Set threads, and on CUDA the current device and TF32 for the matrix products that stay in float32."""
    torch.set_num_threads(worker_threads())
    if device.type == "cpu":
        # Every step asks for the same memory again.
        keep_freed_memory(largest_block=2**30, most_free=2**31 - 1)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")


def choose_loaders(num_workers: int | None, device: torch.device) -> int:
    """Threads that make batches: one beside a CPU's training, which has use for every core itself, up to eight for a GPU."""
    if num_workers is not None:
        return num_workers
    return max(1, min(8, worker_threads() - 1)) if device.type == "cuda" else 1


def synchronise(device: torch.device) -> None:
    """Wait for what the device still has to do; a clock read before this is wrong."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def choose_compile(choice: Compile, device: torch.device, *, num_steps: int) -> bool:
    """Whether to compile: ``auto`` does where the tools are there and ``num_steps`` steps are enough to win the time back.

    Raises:
        ModelError: when ``on`` is asked for and the tools are missing.
    """
    if choice == "off" or (choice == "auto" and num_steps < MIN_STEPS_TO_COMPILE):
        return False
    # On a CPU the network has kernels of its own, faster than compiled steps and ready at once.
    if choice == "auto" and device.type == "cpu" and kernels.library() is not None:
        return False
    missing = _missing_tool(device)
    if missing and choice == "on":
        raise ModelError(f"--compile on: {missing}; install it or use --compile off")
    if missing:
        log.warning("training is not compiled and takes about twice as long: %s", missing)
    return not missing


def _missing_tool(device: torch.device) -> str:
    """What torch.compile lacks on this machine; empty when nothing."""
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++", "c++")):
        return "there is no C++ compiler (g++ or clang++)"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    return ""


@dataclass
class Compiled:
    """A function compiled at its first call, or run as it is where ``enabled`` is false or (unless ``strict``) compiling fails.

    Shapes are taken as fixed: every new shape compiles anew. ``graphs`` records what runs on a CUDA device and replays it whole,
    without the host's work for every kernel; a result is then valid until the next call.
    """

    function: Callable[..., Any]
    enabled: bool
    strict: bool = False
    graphs: bool = False
    compiled: bool = False
    """Whether the calls run compiled; known after the first."""
    _ready: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Run the function."""
        if self._ready is not None:
            return self._ready(*arguments)
        return self._first_call(*arguments)

    def _first_call(self, *arguments: Any) -> Any:
        if not self.enabled:
            self._ready = self.function
            return self.function(*arguments)
        # It warns of the missing CUDA toolkit even where there is no such device.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        compiled = torch.compile(self.function, dynamic=False, mode="reduce-overhead" if self.graphs else "default")
        try:
            result = compiled(*arguments)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            if self.strict:
                raise ModelError(f"--compile on: torch cannot compile here ({_first_line(error)}); use --compile off") from error
            log.warning("training is not compiled and takes about twice as long: %s", _first_line(error))
            self._ready = self.function
            return self.function(*arguments)
        self._ready = compiled
        self.compiled = True
        return result


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def peak_memory_gib(device: torch.device) -> float:
    """Most memory held so far, GiB: of the device on CUDA, of this process elsewhere (NaN where the system does not say)."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**30
    if sys.platform == "win32":
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
