"""Whether a network is compiled for training, and what happens where compiling fails."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from pipeline.compute.options import Compile
from pipeline.errors import ModelError, first_line
from pipeline.models.kernels import dispatch

logger = logging.getLogger(__name__)

# Compiling costs one to two minutes on a CPU and saves about half of every step, so a short training is sooner done without.
MIN_STEPS_TO_COMPILE = 1000

COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch", "triton")
"""Modules whose errors say that compiling failed."""

Result = TypeVar("Result")


def choose_compile(choice: Compile, device: torch.device, *, num_steps: int) -> bool:
    """Whether to compile: ``auto`` does where the tools are there and ``num_steps`` steps are enough to win the time back.

    Raises:
        ModelError: when ``on`` is asked for and the tools are missing.
    """
    if choice == "off" or (choice == "auto" and num_steps < MIN_STEPS_TO_COMPILE):
        return False
    # On a CPU the network's own kernels are faster than compiled steps, and ready at once.
    if choice == "auto" and device.type == "cpu" and dispatch.available(device):
        return False
    missing = _missing_tool(device)
    if missing and choice == "on":
        raise ModelError(f"--compile on: {missing}; install it or use --compile off")
    if missing:
        logger.warning("training is not compiled and takes about twice as long: %s", missing)
    return not missing


def _missing_tool(device: torch.device) -> str:
    """What torch.compile needs and this machine does not have; empty where nothing is missing."""
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++", "c++")):
        return "there is no C++ compiler (g++ or clang++)"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    return ""


@dataclass
class Compiled:
    """A function that is compiled when it is first called; where ``enabled`` is false it runs as it is.

    Shapes are taken as fixed: every new shape is compiled by itself. ``graphs`` records what runs on a CUDA device and replays it
    whole, without the host's work for every kernel; a result is then valid until the next call.
    """

    function: Callable[..., Any]
    enabled: bool
    strict: bool = False
    """Failing to compile is an error; otherwise the function runs as it is."""
    graphs: bool = False
    compiled: bool = False
    """Whether the calls run compiled; known after the first."""
    _ready: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Run the function."""
        if self._ready is None:
            self._ready = self._compile() if self.enabled else self.function
        return self._ready(*arguments)

    def _compile(self) -> Callable[..., Any]:
        # It warns of the missing CUDA toolkit even where there is no such device, and advises TF32, which the recipe decides.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores .* available but not enabled", category=UserWarning)
        return torch.compile(self.function, dynamic=False, mode="reduce-overhead" if self.graphs else "default")

    def with_fallback(self, work: Callable[[], Result], *, undo: Callable[[], None]) -> Result:
        """The result of ``work``, which calls the function; where compiling fails in it, it is undone and done uncompiled.

        The first call compiles the forward pass only: the backward pass is compiled when it first runs, graphs are recorded at
        the second call, and a new shape is compiled at any. So the work is a whole training step, and every step is guarded.

        Raises:
            ModelError: compiling fails and the function is ``strict``.
        """
        try:
            result = work()
            self.compiled = self.enabled
            return result
        except Exception as error:
            if not (self.enabled and _is_from_compiling(error)):
                raise
            if self.strict:
                raise ModelError(f"--compile on: torch cannot compile here ({first_line(error)}); use --compile off") from error
            logger.warning("training is not compiled and takes about twice as long: %s", first_line(error))
        undo()
        self.enabled = self.compiled = False
        self._ready = None
        return work()


def _is_from_compiling(error: Exception) -> bool:
    """Whether an error comes from torch's compiler, from Triton, or from CUDA while a graph was being recorded."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    if type(error).__module__.startswith(COMPILERS):
        return True
    calls = traceback.extract_tb(error.__traceback__)
    return any(call.name == "_record" and Path(call.filename).name == "cudagraph_trees.py" for call in calls)
