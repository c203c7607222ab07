"""From mixtures to estimates: one signal, or a whole dataset; anybody's files are in ``recordings``.

The training loss leaves an estimate's scale and sign open. Here each estimate gets the gain with which all of them together come
closest to the mixture (least squares), so that what is written is at the level it has in the mixture.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from pipeline.audio.files import read_audio, write_audio
from pipeline.compute.progress import progress_bar
from pipeline.errors import AudioError
from pipeline.models import Network
from pipeline.tables import Column, Schema, read_table, write_table

Estimates = npt.NDArray[np.float32]

TIMING = Schema(
    "timing",
    (
        Column("mixture_id", "text", "as in the plan"),
        Column("num_samples", "integer", "of the mixture"),
        Column("sample_rate", "integer", "Hz"),
        Column("seconds", "number", "wall time of separating it, without reading and writing"),
    ),
)
TIMING_FILE = "timing.csv"
SAVED_EVERY_SECONDS = 10.0


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
) -> pd.DataFrame:
    """Separate every mixture of a split into ``out_dir/s1/MIXTURE_ID.wav``, ``out_dir/s2/…`` (32-bit float wav).

    Mixtures whose estimates all exist are skipped, so calling it again after an interruption finishes the rest.

    Args:
        model: a trained network.
        mixtures: a table of the MIXTURES schema.
        dataset_dir: what its paths are relative to.
        out_dir: a folder of its own.
        split: which mixtures.
        description: names the progress bar; empty for none.

    Returns:
        The TIMING table, a row per mixture, also written to ``out_dir/timing.csv``.

    Raises:
        AudioError: naming the mixture that is missing, damaged, or at another sample rate than the model's.
    """
    chosen = mixtures[mixtures["split"] == split]
    rows = _finished_rows(model, chosen, out_dir)
    saved = time.monotonic()
    with progress_bar(description, len(chosen)) as advance:
        for mixture_id, mixture_path in zip(chosen["mixture_id"], chosen["mixture_path"], strict=True):
            if mixture_id not in rows:
                rows[mixture_id] = _separate_one(model, mixture_id, dataset_dir / mixture_path, out_dir)
            if time.monotonic() - saved > SAVED_EVERY_SECONDS:
                write_table(pd.DataFrame(rows.values()), out_dir / TIMING_FILE, TIMING)
                saved = time.monotonic()
            advance(1)
    timing = pd.DataFrame(rows.values(), columns=[column.name for column in TIMING.columns])
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


def _separate_one(model: Network, mixture_id: str, path: Path, out_dir: Path) -> dict[str, Any]:
    """Read, separate and write one mixture; returns its row of the timing table."""
    mixture, sample_rate = read_audio(path)
    start = time.perf_counter()
    try:
        estimates = separate(model, mixture, sample_rate=sample_rate)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from None
    seconds = time.perf_counter() - start
    for target, estimate in zip(_targets(model, mixture_id, out_dir), estimates, strict=True):
        write_audio(target, estimate, sample_rate, encoding="float32")
    return {"mixture_id": mixture_id, "num_samples": len(mixture), "sample_rate": sample_rate, "seconds": seconds}
