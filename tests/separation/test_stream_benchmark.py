"""The benchmark of streaming: its rows, and figures that fit together (how large they are is the machine's affair)."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import ModelError
from pipeline.models.kernels import library
from pipeline.separation import stream_benchmark
from pipeline.separation.stream_benchmark import benchmark_stream
from tests.separation.networks import network


def test_a_row_for_every_length_engine_and_number_of_threads() -> None:
    before = torch.get_num_threads()
    rows = list(benchmark_stream(network(), chunk_ms=[2, 10], threads=[1, 2], seconds=0.0, batch=3))
    engines = ["torch", "onnxruntime"] if library.load() is None else ["torch", "kernels", "onnxruntime"]
    expected = [(length, threads, engine) for length in (2, 10) for threads in (1, 2) for engine in engines]
    assert [(row.chunk_ms, row.threads, row.engine) for row in rows] == expected
    assert torch.get_num_threads() == before
    for row in rows:
        assert row.num_chunks == 20
        assert 0 < row.median_ms <= row.p99_ms <= row.worst_ms
        assert row.median_ms / 20 < row.real_time_factor * row.chunk_ms <= row.worst_ms
        assert 0 <= row.late <= 1


def test_only_the_definition_without_a_compiler_and_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "load", lambda: None)
    monkeypatch.setattr(stream_benchmark, "has_onnxruntime", lambda: False)
    rows = list(benchmark_stream(network(), chunk_ms=[10], threads=[1], seconds=0.0))
    assert [row.engine for row in rows] == ["torch"]


def test_chunks_are_whole_samples() -> None:
    rows = benchmark_stream(network(), chunk_ms=[0.01], threads=[1], seconds=0.0)
    assert next(rows).chunk_ms == 0.125


def test_what_cannot_stream_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot stream"):
        next(benchmark_stream(network(causal=False), seconds=0.0))
