"""From mixtures to estimates: one signal, or a whole dataset; anybody's files are in ``recordings``.

The training loss leaves an estimate's scale and sign open. Here each estimate gets the gain with which all of them together come
closest to the mixture (least squares), so that what is written is at the level it has in the mixture.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.audio.files import read_audio, write_audio
from pipeline.compute import devices
from pipeline.compute.cluster import connected_cluster
from pipeline.compute.progress import progress_bar
from pipeline.compute.workers import chunked, map_parallel
from pipeline.errors import AudioError
from pipeline.models import Network
from pipeline.models.checkpoints import load_model
from pipeline.tables import Column, Schema, read_table, write_table

Estimates = npt.NDArray[np.float32]

TIMING = Schema(
    "timing",
    (
        Column("mixture_id", "text", "as in the plan"),
        Column("num_samples", "integer", "of the mixture"),
        Column("sample_rate", "integer", "Hz"),
        Column(
            "seconds",
            "number",
            "wall time of separating it, without reading and writing; its share by length where several are separated at once",
        ),
    ),
)
TIMING_FILE = "timing.csv"
SAVED_EVERY_SECONDS = 10.0
_CHUNK = 4
"""Mixtures that a cluster's worker separates at once."""


def separate(model: Network, mixture: npt.NDArray[Any] | Tensor, *, sample_rate: int) -> Estimates:
    """Separate one mixture.

    Args:
        model: a trained network, on any device.
        mixture: ``[time]``, at least one sample.
        sample_rate: Hz, which must be the model's; see :func:`pipeline.audio.resampling.resample` for others.

    Returns:
        ``[source, time]`` at the sources' level in the mixture. Silence gives silence.

    Raises:
        AudioError: when the rate is not the model's, or the mixture is empty, not one-dimensional or not finite.
    """
    signal = torch.as_tensor(mixture)
    _check(model, signal, sample_rate)
    parameter = next(model.parameters())
    with torch.inference_mode():
        signal = signal.to(parameter.device, parameter.dtype)
        estimates = _levelled(model(signal[None])[0], signal)
    result: Estimates = estimates.float().cpu().numpy()
    return result


def separate_several(model: Network, mixtures: Sequence[npt.NDArray[Any]], *, sample_rate: int) -> list[Estimates]:
    """Separate mixtures of any lengths as one batch; each as :func:`separate` does, but for rounding.

    Where a device has too little memory for all, one half is separated after the other.
    """
    signals = [torch.as_tensor(mixture) for mixture in mixtures]
    for signal in signals:
        _check(model, signal, sample_rate)
    try:
        return _separated_together(model, signals)
    except torch.OutOfMemoryError:
        if len(signals) == 1:
            raise
    half = len(mixtures) // 2  # out here, where the error no longer holds the memory of its frames
    return [
        each for part in (mixtures[:half], mixtures[half:]) for each in separate_several(model, part, sample_rate=sample_rate)
    ]


def _separated_together(model: Network, signals: Sequence[Tensor]) -> list[Estimates]:
    parameter = next(model.parameters())
    with torch.inference_mode():
        padded = pad_sequence([signal.to(parameter.dtype) for signal in signals], batch_first=True).to(parameter.device)
        lengths = [len(signal) for signal in signals]
        estimates = model(padded, torch.tensor(lengths, device=parameter.device))
        levelled = [_levelled(estimates[k, :, :length], padded[k, :length]).float() for k, length in enumerate(lengths)]
    return [each.cpu().numpy() for each in levelled]


def _check(model: Network, mixture: Tensor, sample_rate: int) -> None:
    if sample_rate != model.sample_rate:
        raise AudioError(
            f"the mixture is at {sample_rate} Hz and the model was trained at {model.sample_rate} Hz; resample the mixture first"
        )
    if mixture.ndim != 1 or not mixture.numel():
        raise AudioError(f"a mixture must be one channel of at least one sample, [time]; this one is {list(mixture.shape)}")
    if not mixture.isfinite().all():
        raise AudioError("the mixture contains samples that are not numbers (NaN or infinite)")


def _levelled(estimates: Tensor, mixture: Tensor) -> Tensor:
    """Estimates ``[source, time]`` times the gains whose sum fits the mixture ``[time]`` best, in float64."""
    estimates, mixture = estimates.double(), mixture.double()
    levelled: Tensor = levelling_gains(estimates @ estimates.T, estimates @ mixture)[:, None] * estimates
    return levelled


def levelling_gains(squares: Tensor, products: Tensor) -> Tensor:
    """The gains, from the products of the estimates with each other, ``[source, source]``, and with the mixture, ``[source]``."""
    # Of estimates that (nearly) equal each other, or are zero, only a combination is defined: the pseudo-inverse shares it out.
    gains: Tensor = torch.linalg.pinv(squares, rtol=1e-9, hermitian=True) @ products
    return gains


def separate_dataset(
    model: Network,
    mixtures: pd.DataFrame,
    dataset_dir: Path,
    out_dir: Path,
    *,
    split: str = "test",
    description: str = "separate",
    model_file: Path | None = None,
) -> pd.DataFrame:
    """Separate every mixture of a split into ``out_dir/s1/MIXTURE_ID.wav``, ``out_dir/s2/…`` (32-bit float wav).

    One by one on a CPU; a CUDA device takes as many at once as it has room for, and each is separated as if it were alone.

    Mixtures whose estimates all exist are skipped, so calling it again after an interruption finishes the rest.

    Args:
        model: a trained network.
        mixtures: a table of the MIXTURES schema.
        dataset_dir: what its paths are relative to.
        out_dir: a folder of its own.
        split: which mixtures.
        description: names the progress bar; empty for none.
        model_file: the same network on disk; on a cluster, workers load it there and separate, instead of this process.

    Returns:
        The TIMING table, a row per mixture, also written to ``out_dir/timing.csv``.

    Raises:
        AudioError: naming the mixture that is missing, damaged, or at another sample rate than the model's.
    """
    chosen = mixtures[mixtures["split"] == split]
    rows = _finished_rows(model, chosen, out_dir)
    saved = time.monotonic()
    paths = zip(chosen["mixture_id"], chosen["mixture_path"], strict=True)
    wanted = [(mixture_id, dataset_dir / path) for mixture_id, path in paths if mixture_id not in rows]
    for batch in _separate_all(model, model_file, wanted, out_dir, description, num_done=len(rows)):
        rows |= batch
        if time.monotonic() - saved > SAVED_EVERY_SECONDS:
            write_table(pd.DataFrame(rows.values()), out_dir / TIMING_FILE, TIMING)
            saved = time.monotonic()
    timing = pd.DataFrame([rows[each] for each in chosen["mixture_id"]], columns=[column.name for column in TIMING.columns])
    write_table(timing, out_dir / TIMING_FILE, TIMING)
    return timing


def real_time_factor(timing: pd.DataFrame) -> float:
    """Seconds of computing per second of audio, of a TIMING table."""
    return float(timing["seconds"].sum() / (timing["num_samples"] / timing["sample_rate"]).sum())


def cpu_real_time_factor(model: Network, timing: pd.DataFrame) -> float:
    """Seconds of computing on the CPU per second of audio: from the timing, or from a copy if the model is on another device."""
    if next(model.parameters()).device.type == "cpu":
        return real_time_factor(timing)
    return timed_on_cpu(copy.deepcopy(model).to("cpu"))


def timed_on_cpu(model: Network, *, seconds: float = 4.0) -> float:
    """The real-time factor of a model on the CPU, on noise of ``seconds``: one run to warm up, one that is timed."""
    noise = torch.randn(round(seconds * model.sample_rate), generator=torch.Generator().manual_seed(0))
    separate(model, noise, sample_rate=model.sample_rate)
    start = time.perf_counter()
    separate(model, noise, sample_rate=model.sample_rate)
    return (time.perf_counter() - start) / seconds


def _finished_rows(model: Network, mixtures: pd.DataFrame, out_dir: Path) -> dict[str, dict[str, Any]]:
    """Rows of the timing table of an earlier call, for mixtures whose estimates all exist."""
    if not (out_dir / TIMING_FILE).exists():
        return {}
    timing = read_table(out_dir / TIMING_FILE, TIMING)
    wanted = set(mixtures["mixture_id"])
    rows = timing.to_dict("records")
    return {
        row["mixture_id"]: {str(key): value for key, value in row.items()}
        for row in rows
        if row["mixture_id"] in wanted and all(path.exists() for path in _targets(model, row["mixture_id"], out_dir))
    }


def _targets(model: Network, mixture_id: str, out_dir: Path) -> list[Path]:
    return [out_dir / f"s{k}" / f"{mixture_id}.wav" for k in range(1, model.num_sources + 1)]


_Rows = dict[str, dict[str, Any]]
"""Of the timing table, by mixture."""


def _separate_all(
    model: Network, model_file: Path | None, wanted: Sequence[tuple[str, Path]], out_dir: Path, description: str, *, num_done: int
) -> Iterator[_Rows]:
    """Separate mixtures, here or on a cluster; yields the rows of some at a time."""
    if model_file is not None and connected_cluster() is not None:
        work = partial(_separate_chunk, model_file, out_dir)
        yield from map_parallel(work, chunked(wanted, _CHUNK), description=description, size=len)
        return
    with progress_bar(description, num_done + len(wanted), done=num_done) as advance:
        for batch in _batches(model, wanted):
            yield _separate_batch(model, batch, out_dir)
            advance(len(batch))


def _separate_chunk(model_file: Path, out_dir: Path, wanted: Sequence[tuple[str, Path]]) -> _Rows:
    """On a cluster's worker."""
    model = _loaded(model_file, model_file.stat().st_mtime_ns)
    rows: _Rows = {}
    for batch in _batches(model, wanted):
        rows |= _separate_batch(model, batch, out_dir)
    return rows


@lru_cache(maxsize=1)
def _loaded(model_file: Path, _modified: int) -> Network:
    torch.set_num_threads(1)
    return load_model(model_file)


@dataclass(frozen=True)
class _Read:
    """A mixture's audio."""

    mixture_id: str
    samples: npt.NDArray[Any]
    sample_rate: int


def _batches(model: Network, wanted: Iterable[tuple[str, Path]]) -> Iterator[list[_Read]]:
    """Mixtures in their order, as many together as the model's device has room for; one by one on a CPU."""
    num_bytes = devices.room_for_mixtures(next(model.parameters()).device)
    batch: list[_Read] = []
    for mixture_id, path in wanted:
        read = _read(model, mixture_id, path)
        longest = max(len(each.samples) for each in [*batch, read])
        if batch and (len(batch) + 1) * model.activation_bytes(longest) > (num_bytes or 0):
            yield batch
            batch = []
        batch.append(read)
        if num_bytes is None:
            yield batch
            batch = []
    if batch:
        yield batch


def _read(model: Network, mixture_id: str, path: Path) -> _Read:
    samples, sample_rate = read_audio(path)
    try:
        _check(model, torch.as_tensor(samples), sample_rate)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from None
    return _Read(mixture_id, samples, sample_rate)


def _separate_batch(model: Network, batch: Sequence[_Read], out_dir: Path) -> dict[str, dict[str, Any]]:
    """Separate and write some mixtures; returns their rows of the timing table, the time shared by length."""
    start = time.perf_counter()
    if len(batch) == 1:
        estimates = [separate(model, batch[0].samples, sample_rate=batch[0].sample_rate)]
    else:
        estimates = separate_several(model, [each.samples for each in batch], sample_rate=batch[0].sample_rate)
    seconds = (time.perf_counter() - start) / sum(len(each.samples) for each in batch)
    rows = {}
    for each, sources in zip(batch, estimates, strict=True):
        for target, estimate in zip(_targets(model, each.mixture_id, out_dir), sources, strict=True):
            write_audio(target, estimate, each.sample_rate, encoding="float32")
        length = len(each.samples)
        rows[each.mixture_id] = {
            "mixture_id": each.mixture_id,
            "num_samples": length,
            "sample_rate": each.sample_rate,
            "seconds": seconds * length,
        }
    return rows
