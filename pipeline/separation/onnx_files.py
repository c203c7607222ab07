"""ONNX files run by onnxruntime: ours as a stream, and anybody's separator on one mixture."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.errors import CheckpointError, UsageError, first_line
from pipeline.files import parse_json
from pipeline.models import ConvTasNet
from pipeline.separation.export import step_file


def has_onnxruntime() -> bool:
    """Whether files can be written and run."""
    return all(importlib.util.find_spec(package) is not None for package in ("onnx", "onnxruntime"))


def open_session(file: Path | bytes, num_threads: int = 0) -> Any:
    """A session of onnxruntime on the CPU; by default it chooses the number of threads.

    Raises:
        UsageError: onnxruntime is not installed.
        CheckpointError: the file is missing, or onnxruntime cannot run it.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise UsageError("ONNX files need the package onnxruntime: pip install 'tasnet-pipeline[export]'")
    import onnxruntime

    if isinstance(file, Path) and not file.is_file():
        raise CheckpointError(f"{file}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3
    content = file if isinstance(file, bytes) else str(file)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes have no common base
        raise CheckpointError(
            f"{file if isinstance(file, Path) else 'model'}: onnxruntime cannot run it ({first_line(error)})"
        ) from None


class OnnxStreaming:
    """A causal network's step in onnxruntime; see :class:`pipeline.models.protocol.Streaming`.

    Args:
        network: causal.
        batch_size: signals, all in step.
        num_threads: of onnxruntime; by default it chooses.
    """

    def __init__(self, network: ConvTasNet, batch_size: int = 1, *, num_threads: int = 0) -> None:
        self.delay_samples = network.hop_samples
        self._session = open_session(step_file(network), num_threads)
        states = parse_json(self._session.get_modelmeta().custom_metadata_map["state"])
        self._state: dict[str, npt.NDArray[Any]] = {
            each["input"]: np.zeros([batch_size if size == "batch" else size for size in each["shape"]], each["dtype"])
            for each in states
        }

    def __call__(self, piece: Tensor) -> Tensor:
        """Separate whole hops that follow those before."""
        estimates, *after = self._session.run(None, {"mixture": piece.cpu().numpy(), **self._state})
        self._state = dict(zip(self._state, after, strict=True))
        return torch.from_numpy(estimates)

    def memory(self) -> dict[str, Tensor]:
        """A copy of the state, by the names of the inputs."""
        return {name: torch.from_numpy(array.copy()) for name, array in self._state.items()}

    def restore(self, memory: Mapping[str, Tensor]) -> None:
        """Go on from a copy of :meth:`memory`."""
        self._state = {name: memory[name].numpy().copy() for name in self._state}
