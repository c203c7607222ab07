"""Benchmarks: the figures fit together (how large they are is the machine's affair)."""

import math
from dataclasses import asdict

import pytest
import torch

from pipeline.compute.options import Options
from pipeline.recipe.schema import System, Train
from pipeline.training.benchmark import Noise, benchmark_inference, benchmark_training, gemm_gflops_per_second
from tests.training.trainings import TINY

SYSTEM = System(model=TINY, train=Train(segment_seconds=0.2, batch_size=3))


@pytest.fixture
def result() -> dict[str, object]:
    return asdict(benchmark_training(SYSTEM, num_steps=3, batch_size=2, options=Options(device="cpu", compile="off")))


def test_training_figures_fit_together(result: dict[str, float]) -> None:
    assert all(math.isfinite(value) for value in result.values() if isinstance(value, float))
    assert result["segments_per_second"] == pytest.approx(2 / result["seconds_per_step"])
    assert result["share_of_gemm_peak"] == pytest.approx(result["gflops_per_second"] / result["gemm_gflops_per_second"])
    assert (result["batch_size"], result["num_steps"], result["compiled"], result["device"]) == (2, 3, False, "cpu")


def test_inference_figures_fit_together() -> None:
    result = benchmark_inference(SYSTEM, mixture_seconds=0.5, num_steps=2, device="cpu")
    assert result.real_time_factor == pytest.approx(result.seconds_per_mixture / 0.5)
    assert result.num_parameters > 1000


def test_peak_counts_two_operations_per_multiply_accumulate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.compute.devices.seconds_each", lambda work, times, device: [0.5, 0.25])
    assert gemm_gflops_per_second(torch.device("cpu"), "float32") == pytest.approx(2 * 2048**3 / 0.25 / 1e9)


def test_noise_is_a_mixture_of_its_sources() -> None:
    batch = Noise(3, 100).batch(4)
    assert batch.sources.shape == (4, 3, 100)
    torch.testing.assert_close(batch.sources.sum(1), batch.mixture)
