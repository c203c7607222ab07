"""Separators of any origin as functions of one mixture: an ONNX file, or a command that reads and writes audio files."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.audio.files import read_audio, write_audio
from pipeline.audio.headers import read_header
from pipeline.errors import AudioError, CheckpointError, UsageError, first_line
from pipeline.separation.onnx_files import open_session
from pipeline.separation.recordings import ENDINGS

INPUT, OUTPUT = "{input}", "{output}"


class OnnxSystem:
    """An ONNX file that maps mixtures ``[time]``, ``[batch, time]`` or ``[batch, 1, time]`` to estimates ``[…, source, time]``.

    Attributes:
        sample_rate: Hz, where the file says so.
        num_samples: where the file takes one length only.

    Raises:
        UsageError: the file has several inputs, as a streaming step has, or another kind of input.
        CheckpointError: onnxruntime cannot load it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session = open_session(path)
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise UsageError(f"{path}: has {len(inputs)} inputs, as the step of a stream has; give the offline file")
        self._name, self._shape = inputs[0].name, inputs[0].shape
        if inputs[0].type not in ("tensor(float)", "tensor(double)") or not 1 <= len(self._shape) <= 3:
            raise UsageError(f"{path}: takes {inputs[0].type} {self._shape}; only floating-point [batch, time] can be measured")
        self._dtype = np.float32 if inputs[0].type == "tensor(float)" else np.float64
        rate = self._session.get_modelmeta().custom_metadata_map.get("sample_rate", "")
        self.sample_rate = int(rate) if rate.isdigit() else None
        self.num_samples = self._shape[-1] if isinstance(self._shape[-1], int) else None

    def __call__(self, mixture: Tensor) -> Tensor:
        """Separate."""
        given = mixture.numpy().astype(self._dtype).reshape([1] * (len(self._shape) - 1) + [-1])
        try:
            found = self._session.run(None, {self._name: given})[0]
        except Exception as error:  # its classes have no common base
            raise CheckpointError(f"{self._path}: onnxruntime cannot run it ({first_line(error)})") from None
        return torch.from_numpy(found).reshape(-1, found.shape[-1])


class CommandSystem:
    """A command that reads the mixture from ``{input}``, a wav file, and writes estimates to ``{output}``.

    ``{output}`` is a name without an ending, which the command may make a folder or the start of file names: ``{output}.wav``,
    ``{output}_1.wav``, or ``{output}/s1.wav``, for which the folder is there already. Every channel of every audio file is a
    source.

    Args:
        command: a program and its arguments, or all of it in one text.
        sample_rate: Hz, of the mixtures.
        timeout: seconds for one mixture.

    Raises:
        UsageError: a placeholder is missing.
    """

    def __init__(self, command: Sequence[str], sample_rate: int, *, timeout: float = 600) -> None:
        self._command = shlex.split(command[0]) if len(command) == 1 else list(command)
        missing = [name for name in (INPUT, OUTPUT) if not any(name in part for part in self._command)]
        if missing:
            raise UsageError(f"the command lacks {' and '.join(missing)}, as in: -- separator {INPUT} {OUTPUT}.wav")
        self._sample_rate = sample_rate
        self._timeout = timeout

    def __call__(self, mixture: Tensor) -> Tensor:
        """Separate."""
        with tempfile.TemporaryDirectory(prefix="tasnet-latency-") as name:
            folder = Path(name)
            write_audio(folder / "input.wav", mixture.numpy(), self._sample_rate, encoding="float32")
            if any(f"{OUTPUT}/" in part for part in self._command):
                (folder / "output").mkdir()
            places = {INPUT: str(folder / "input.wav"), OUTPUT: str(folder / "output")}
            self._run([_filled(part, places) for part in self._command])
            return self._estimates(folder)

    def _run(self, command: list[str]) -> None:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            raise UsageError(f"{command[0]}: cannot be started ({error.strerror or error})") from None
        with process:
            try:
                said, _ = process.communicate(timeout=self._timeout)
            except subprocess.TimeoutExpired:
                raise UsageError(f"{command[0]}: took longer than {self._timeout:g} s; allow more with --timeout") from None
            finally:
                with suppress(ProcessLookupError):  # it, and what it has started, after a timeout or Ctrl-C
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode:
            lines = said.decode(errors="replace").strip().splitlines()
            raise UsageError(f"{command[0]}: ended with exit code {process.returncode} ({lines[-1] if lines else 'no message'})")

    def _estimates(self, folder: Path) -> Tensor:
        """Every channel of every audio file but the input, cut to the shortest."""
        given = folder / "input.wav"
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path != given)
        if not found:
            raise AudioError(f"the command has written no audio to {OUTPUT}; it may need an ending, as in {OUTPUT}.wav")
        sources = []
        for path in found:
            for channel in range(read_header(path).num_channels):
                samples, rate = read_audio(path, channel=channel, finite_only=False)
                if rate != self._sample_rate:
                    raise AudioError(
                        f"the command writes {rate} Hz for an input at {self._sample_rate} Hz; add --sample-rate {rate}"
                    )
                sources.append(torch.from_numpy(samples))
        shortest = min(map(len, sources))
        return torch.stack([source[:shortest] for source in sources])


def _filled(part: str, places: dict[str, str]) -> str:
    for name, path in places.items():
        part = part.replace(name, path)
    return part
