"""How fast a system trains and separates on this device, measured on noise, so no corpus is needed."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.compute import devices
from pipeline.compute.distributed import Group
from pipeline.compute.options import Options
from pipeline.models import build_model, describe_model
from pipeline.recipe.schema import System
from pipeline.training.batches import Batch
from pipeline.training.compiling import Compiled
from pipeline.training.interruptions import Interruptions
from pipeline.training.loop import Training, TrainingSets
from pipeline.training.segments import Samples, Segment

MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the matrices whose product gives the peak rate that training steps are compared with."""


@dataclass(frozen=True)
class TrainBenchmark:
    """What a training step costs: forward, loss, backward and optimiser, exactly as a training runs them."""

    seconds_per_step: float
    """Median, after the warm-up."""
    segments_per_second: float
    warmup_seconds: float
    """The first step, in which the network is compiled."""
    peak_memory_gib: float
    """Of the device on CUDA, of the whole process elsewhere."""
    gflops_per_second: float
    """Matrix products of the network alone: three times the forward pass, two operations per multiply-accumulate."""
    gemm_gflops_per_second: float
    """A large matrix product on this device, in the same precision: the peak."""
    share_of_gemm_peak: float
    batch_size: int
    segment_seconds: float
    num_parameters: int
    num_steps: int
    device: str
    precision: str
    compiled: bool
    num_threads: int


@dataclass(frozen=True)
class InferBenchmark:
    """What separating one mixture costs."""

    seconds_per_mixture: float
    """Median, after the first."""
    real_time_factor: float
    """Seconds of work per second of audio."""
    first_seconds: float
    peak_memory_gib: float
    mixture_seconds: float
    num_parameters: int
    num_steps: int
    device: str
    num_threads: int


def benchmark_training(
    system: System,
    *,
    num_sources: int = 2,
    sample_rate: int = 8000,
    batch_size: int | None = None,
    num_steps: int = 20,
    options: Options = Options(),
) -> TrainBenchmark:
    """Time ``num_steps`` training steps on noise.

    Args:
        system: architecture and training settings.
        num_sources: sources in every mixture, at ``sample_rate`` Hz.
        batch_size: in place of the recipe's.
        num_steps: after the first one.
        options: device, compile and micro-batch; ``compile="auto"`` compiles as for a long training.
    """
    training = training_on_noise(system, num_sources, sample_rate, batch_size, options)
    noise = Noise(num_sources, round(system.train.segment_seconds * sample_rate))
    batch = noise.batch(training.settings.batch_size).to(training.device)
    loss_of = training.loss_function()
    seconds = _step_seconds(training, loss_of, batch, num_steps + 1)
    median = statistics.median(seconds[1:])
    facts = describe_model(training.model)
    # Two operations per multiply-accumulate; the backward pass costs twice the forward pass.
    gflops = 3 * 2e-9 * facts["macs_per_second"] * system.train.segment_seconds * len(batch) / median
    peak = gemm_gflops_per_second(training.device, system.train.precision)
    return TrainBenchmark(
        seconds_per_step=median,
        segments_per_second=len(batch) / median,
        warmup_seconds=seconds[0],
        peak_memory_gib=devices.peak_memory_gib(training.device),
        gflops_per_second=gflops,
        gemm_gflops_per_second=peak,
        share_of_gemm_peak=gflops / peak,
        batch_size=len(batch),
        segment_seconds=system.train.segment_seconds,
        num_parameters=facts["num_parameters"],
        num_steps=num_steps,
        device=devices.device_name(training.device),
        precision=_precision_name(training),
        compiled=loss_of.compiled,
        num_threads=torch.get_num_threads(),
    )


def training_on_noise(system: System, num_sources: int, sample_rate: int, batch_size: int | None, options: Options) -> Training:
    """A training whose steps can be timed; it is never run, and so long that compiling pays."""
    device = devices.choose_device(options.device)
    devices.prepare(device)
    changes = {"batch_size": batch_size or system.train.batch_size, "epochs": 10**9}
    system = System(model=system.model, train=system.train.model_copy(update=changes))
    model = build_model(system.model, num_sources=num_sources, sample_rate=sample_rate).to(device)
    noise = Noise(num_sources, 1)
    return Training(model, system, TrainingSets(noise, noise), Path(os.devnull), 0, options, Group(), Interruptions())


def _step_seconds(training: Training, loss_of: Compiled, batch: Batch, num_steps: int) -> list[float]:
    with devices.float32_products(training.settings.precision, training.device):
        return _timed(lambda: training.step(loss_of, batch), num_steps, training.device)


def _precision_name(training: Training) -> str:
    """``float32``, ``tf32`` or ``bfloat16``: what ``auto`` became on this device."""
    is_tf32 = training.settings.precision == "tf32" and training.device.type == "cuda"
    return "tf32" if is_tf32 else str(training.precision).removeprefix("torch.")


def benchmark_inference(
    system: System,
    *,
    num_sources: int = 2,
    sample_rate: int = 8000,
    mixture_seconds: float = 4.0,
    num_steps: int = 10,
    device: str = "auto",
) -> InferBenchmark:
    """Time the separation of one mixture of noise after another, as ``tasnet separate`` runs it.

    Args:
        system: only its architecture is used.
        num_sources: sources in every mixture.
        sample_rate: Hz.
        mixture_seconds: length of the mixture.
        num_steps: mixtures after the first one.
        device: ``auto``, ``cpu`` or ``cuda``.
    """
    place = devices.choose_device(device)
    devices.prepare(place)
    model = build_model(system.model, num_sources=num_sources, sample_rate=sample_rate).to(place).eval()
    mixture = torch.randn(1, round(mixture_seconds * sample_rate), device=place)
    with torch.inference_mode():
        seconds = _timed(lambda: model(mixture), num_steps + 1, place)
    median = statistics.median(seconds[1:])
    return InferBenchmark(
        seconds_per_mixture=median,
        real_time_factor=median / mixture_seconds,
        first_seconds=seconds[0],
        peak_memory_gib=devices.peak_memory_gib(place),
        mixture_seconds=mixture_seconds,
        num_parameters=describe_model(model)["num_parameters"],
        num_steps=num_steps,
        device=devices.device_name(place),
        num_threads=torch.get_num_threads(),
    )


class Noise:
    """One mixture of white noise, as segments and as a whole, to time steps on."""

    def __init__(self, num_sources: int, num_samples: int) -> None:
        self._sources = np.random.default_rng(0).standard_normal((num_sources, num_samples)).astype(np.float32)

    def __len__(self) -> int:
        return 1

    def num_samples(self, index: int) -> int:
        """Length of the mixture."""
        return int(self._sources.shape[1])

    def read(self, index: int, start: int, stop: int) -> tuple[Samples, Samples]:
        """A cut of it."""
        sources = self._sources[:, start:stop]
        return sources.sum(0), sources

    def segment(self, epoch: int, index: int) -> Segment:
        """All of it."""
        return Segment(self._sources.sum(0), self._sources, self.num_samples(0))

    def batch(self, size: int) -> Batch:
        """Different noise in every row."""
        num_sources, num_samples = self._sources.shape
        sources = torch.randn(size, num_sources, num_samples, generator=torch.Generator().manual_seed(0))
        return Batch(sources.sum(1), sources, torch.full((size,), num_samples))


def gemm_gflops_per_second(device: torch.device, precision: devices.Precision, *, num_products: int = 10) -> float:
    """The fastest of several large square matrix products, in 10⁹ operations per second."""
    dtype = devices.choose_precision(precision, device)
    size = MATRIX_SIZE[device.type]
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    with devices.float32_products(precision, device):
        best = min(devices.seconds_each(lambda: left @ right, num_products, device))
    return 2e-9 * size**3 / best


def _timed(work: Callable[[], Any], times: int, device: torch.device) -> list[float]:
    """Seconds of every repetition, until the device has finished."""
    seconds = []
    for _ in range(times):
        devices.synchronise(device)
        started = time.perf_counter()
        work()
        devices.synchronise(device)
        seconds.append(time.perf_counter() - started)
    return seconds
