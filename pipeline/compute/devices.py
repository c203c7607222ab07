"""Where and in what precision torch computes: device, precision and threads are chosen here and nowhere else."""

from __future__ import annotations

import gc
import platform
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch

from pipeline.compute.allocator import keep_freed_memory
from pipeline.compute.torchrun import local_rank, local_world_size
from pipeline.compute.workers import cpu_count, worker_threads
from pipeline.errors import ModelError

Precision = Literal["auto", "float32", "tf32", "bfloat16"]


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
    if kind != "cuda" or not (number or "0").isdecimal() or len(number) > 4:
        raise ModelError(f"--device {name}: no such device; choose auto, cpu or cuda")
    index = int(number) if number else local_rank()
    if index >= torch.cuda.device_count():
        raise ModelError(f"--device {name}: torch {torch.__version__} finds {torch.cuda.device_count()} CUDA devices; use cpu")
    return torch.device("cuda", index)


def choose_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of matrix products; ``auto`` is bfloat16 where the device has instructions for it and need not emulate it.

    ``tf32`` is float32 here: it is a way of multiplying float32 matrices, see :func:`float32_products`.
    """
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


@contextmanager
def float32_products(precision: Precision, device: torch.device) -> Iterator[None]:
    """While the block runs, float32 matrix products on CUDA are exact, or in TF32 (10 bits of mantissa) with ``tf32``.

    Exact on every other device. What was set before returns at the end, so nothing that follows is less exact than asked for.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" and device.type == "cuda" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def device_name(device: torch.device) -> str:
    """What a person calls it: ``cpu``, or the name on the card."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def cpu_name() -> str:
    """The processor's name and the number of threads in use, for figures that depend on them."""
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
    """Set the number of threads, and on CUDA the current device."""
    torch.set_num_threads(worker_threads())
    if device.type == "cpu":
        # Every step asks for the same memory again.
        keep_freed_memory(largest_block=2**30, most_free=2**31 - 1)
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)


def release(device: torch.device) -> None:
    """Free what a finished training leaves on a CUDA device, graphs included; the next has all of it and a peak of its own."""
    if device.type == "cuda":
        torch._dynamo.reset()
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def choose_loaders(num_workers: int | None, device: torch.device) -> int:
    """Threads that make batches: one where a CPU trains, which needs every core itself, and up to eight for a GPU."""
    if num_workers is not None:
        return num_workers
    if device.type != "cuda":
        return 1
    # Not worker_threads(): torchrun's OMP_NUM_THREADS=1 is about torch's own threads, and loaders share the cores they leave.
    return max(1, min(8, cpu_count() // local_world_size() - 1))


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished; a clock that is read before this is wrong."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def room_for_mixtures(device: torch.device) -> int | None:
    """Bytes of activations of whole mixtures that a CUDA device separates at once; None elsewhere, where that is no faster.

    A sixteenth of its memory, not of what happens to be free: what lies in one batch decides the last bits of the results.
    """
    return torch.cuda.get_device_properties(device).total_memory // 16 if device.type == "cuda" else None


def seconds_each(work: Callable[[], object], times: int, device: torch.device) -> list[float]:
    """Seconds of every repetition of some work, by a CUDA device's own clock, without the host's share, or by the host's."""
    if device.type != "cuda":
        return [_host_seconds(work) for _ in range(times)]
    work()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(times + 1)]  # type: ignore[no-untyped-call]
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    synchronise(device)
    return [before.elapsed_time(after) / 1e3 for before, after in pairwise(events)]


def _host_seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_memory_gib(device: torch.device) -> float:
    """Most memory held so far, GiB: of the device on CUDA, of this process elsewhere."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes of what getrusage counts
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
