"""How fast a causal network streams on this machine: chunk by chunk, with the times of single chunks, measured on noise."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from pipeline.models import ConvTasNet, Network
from pipeline.models.kernels import dispatch
from pipeline.separation.onnx_files import OnnxStreaming, has_onnxruntime
from pipeline.separation.streaming import Stream, stream

CHUNK_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 100.0)
MIN_CHUNKS = 20


@dataclass(frozen=True)
class StreamBenchmark:
    """One way of streaming, at one length of chunk."""

    chunk_ms: float
    engine: str
    """``torch``, the readable definition; ``kernels``, the same compiled; or ``onnxruntime``, the exported step."""
    threads: int
    real_time_factor: float
    """Time of computing per time of audio, and with several signals per time of each of them; below 1 keeps up."""
    median_ms: float
    p99_ms: float
    worst_ms: float
    jitter_ms: float
    """Standard deviation of the chunks' times."""
    late: float
    """Share of chunks that took longer than they last."""
    num_chunks: int


def benchmark_stream(
    model: Network,
    *,
    chunk_ms: Sequence[float] = CHUNK_MS,
    threads: Sequence[int] = (1, 2),
    seconds: float = 2.0,
    batch: int | None = None,
) -> Iterator[StreamBenchmark]:
    """Stream noise in chunks of each length, with each number of threads, in every engine that there is on this machine.

    Args:
        model: causal, on any device.
        chunk_ms: lengths of chunks, each rounded to whole samples, at least one.
        threads: of torch and onnxruntime. The kernels give each signal of a batch to one thread.
        seconds: to measure for each row, and at least 20 chunks.
        batch: so many signals in step.

    Raises:
        ModelError: when the network cannot stream.
    """
    for length in chunk_ms:
        for num_threads in threads:
            for engine in _engines(model):
                with _num_threads(num_threads), dispatch.definition_only() if engine == "torch" else nullcontext():
                    network = cast(Network, _InOnnxruntime(model, num_threads)) if engine == "onnxruntime" else model
                    yield _measured(stream(network, batch), model.sample_rate, length, engine, num_threads, seconds, batch)


def _engines(model: Network) -> list[str]:
    with dispatch.definition_only():
        definition = type(model.streaming())
    compiled = [] if type(model.streaming()) is definition else ["kernels"]
    return ["torch", *compiled, *(["onnxruntime"] if has_onnxruntime() and isinstance(model, ConvTasNet) else [])]


class _InOnnxruntime:
    """A network in all but its streaming."""

    def __init__(self, network: Network, num_threads: int) -> None:
        self._network = network
        self._num_threads = num_threads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def streaming(self, batch_size: int = 1, **_: Any) -> OnnxStreaming:
        return OnnxStreaming(self._network, batch_size, num_threads=self._num_threads)  # type: ignore[arg-type]


@contextmanager
def _num_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measured(
    live: Stream, sample_rate: int, length: float, engine: str, threads: int, seconds: float, batch: int | None
) -> StreamBenchmark:
    num_samples = max(1, round(length / 1000 * sample_rate))
    chunk = torch.randn((num_samples,) if batch is None else (batch, num_samples), generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        live.push(chunk)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < MIN_CHUNKS or time.perf_counter() < end:
        started = time.perf_counter()
        live.push(chunk).cpu()
        taken.append(1000 * (time.perf_counter() - started))
    times, lasts = np.array(taken), 1000 * num_samples / sample_rate
    median, p99 = np.quantile(times, [0.5, 0.99])
    return StreamBenchmark(
        chunk_ms=lasts,
        engine=engine,
        threads=threads,
        real_time_factor=float(times.mean() / lasts),
        median_ms=float(median),
        p99_ms=float(p99),
        worst_ms=float(times.max()),
        jitter_ms=float(times.std()),
        late=float((times > lasts).mean()),
        num_chunks=len(times),
    )
