"""Whether a network is compiled for training, and what happens where compiling fails."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.compute.options import Compile
from pipeline.errors import ModelError, first_line
from pipeline.models.kernels import dispatch

logger = logging.getLogger(__name__)

# Compiling costs one to two minutes on a CPU and saves about half of every step, so a short training is sooner done without.
MIN_STEPS_TO_COMPILE = 1000


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
                raise ModelError(f"--compile on: torch cannot compile here ({first_line(error)}); use --compile off") from error
            logger.warning("training is not compiled and takes about twice as long: %s", first_line(error))
            self._ready = self.function
            return self.function(*arguments)
        self._ready = compiled
        self.compiled = True
        return result
