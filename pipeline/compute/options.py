"""Runtime options: where things lie and what they run on. They never decide a result, so no fingerprint holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Compile = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class Options:
    """What does not decide the result, from the command line down to the training step.

    Attributes:
        work: folder of all stages.
        corpora_dir: folder that holds corpora under their usual names.
        named_corpora: ``{"folder": Path("/my/speech")}``; looked at before ``corpora_dir``.
        num_workers: processes for scanning, mixing and scoring; one per core by default.
        cluster: whose workers do that instead, as in :func:`pipeline.compute.cluster.on_cluster`; none by default.
        num_loaders: threads that prepare batches while the network trains, 0 for none; by default as many as the device can use.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        compile: ``auto``, ``on`` or ``off``: whether the network is compiled for training.
        checkpoint_minutes: time between the training states saved in the middle of an epoch.
        checkpoint_steps: the same, in steps of the epoch.
        micro_batch: segments that go through the network at once, per process; the gradients of a batch are accumulated. All of
            the process's segments by default.
        lock: whether stages lock their folders; not every file system can.
        resident: keep packed mixtures, or utterances to be mixed on the fly, in a CUDA device's memory where there is room.
    """

    work: Path = Path("work")
    corpora_dir: Path | None = None
    named_corpora: Mapping[str, Path] = field(default_factory=dict)
    num_workers: int | None = None
    cluster: str | None = None
    num_loaders: int | None = None
    device: str = "auto"
    compile: Compile = "auto"
    checkpoint_minutes: float = 5.0
    checkpoint_steps: int | None = None
    micro_batch: int | None = None
    lock: bool = True
    resident: bool = True
