"""Train one system: an open loop over epochs and steps, and a state that can be kept at any step and taken up again.

    train(system, sets, folder, seed=0, num_sources=2, sample_rate=8000)

leaves in ``folder``: ``best.safetensors`` (weights of the best epoch), ``last.safetensors`` (all that is needed to go on),
``history.csv`` (a row per epoch), and ``events`` (the same for TensorBoard, where it is installed). Called again after an
interruption it goes on from ``last.safetensors``; called again when it is done it returns at once. On a CPU the interrupted
training ends with the very bits of an undisturbed one.
"""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.compute import devices
from pipeline.compute.distributed import Group, joined
from pipeline.compute.options import Options
from pipeline.compute.progress import Advance, progress_bar
from pipeline.errors import CheckpointError, ModelError, TrainingError
from pipeline.models import build_model, look_ahead
from pipeline.models.checkpoints import load_state, save_model, save_state
from pipeline.models.conv_tasnet import ConvTasNet
from pipeline.recipe.schema import System
from pipeline.tables import HISTORY, write_table
from pipeline.training import compiling
from pipeline.training.batches import Batch, Mixtures, Segments, epoch_batches, validation_batches
from pipeline.training.events import event_file
from pipeline.training.interruptions import Interruptions, noted_interruptions
from pipeline.training.losses import pit_loss
from pipeline.training.optimisers import Optimiser
from pipeline.training.resident import resident
from pipeline.training.schedules import Plateau, learning_rate

REFRESH_SECONDS = 2.0
"""How often the loss is fetched from the device for the progress bar, and looked at."""


@dataclass(frozen=True)
class TrainingSets:
    """What a system learns from, and the whole mixtures it is validated on."""

    train: Segments
    valid: Mixtures


@dataclass
class Progress:
    """How far a training is, in plain numbers: with weights and optimiser, all there is to keep."""

    epoch: int = 1
    """The epoch being trained, from 1."""
    step: int = 0
    """Steps of this epoch that are done."""
    loss_sum: float = 0.0
    """Of these steps; likewise the norms of their gradients."""
    gradient_norm_sum: float = 0.0
    training_seconds: float = 0.0
    """Spent on these steps, the warm-up included."""
    warmup_seconds: float = 0.0
    """Spent on first steps, in which the network is compiled."""
    plateau: Plateau = field(default_factory=Plateau)
    history: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Progress:
        """The inverse of ``dataclasses.asdict``."""
        return cls(**{**values, "plateau": Plateau(**values["plateau"])})

    def next_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.step = 0
        self.loss_sum = self.gradient_norm_sum = self.training_seconds = self.warmup_seconds = 0.0


def train(
    system: System,
    sets: TrainingSets,
    folder: Path,
    *,
    seed: int,
    num_sources: int = 2,
    sample_rate: int = 8000,
    options: Options | None = None,
    description: str = "",
) -> pd.DataFrame:
    """Train one system, or go on with it.

    Args:
        system: architecture and training settings.
        sets: segments to learn from and mixtures to be validated on.
        folder: takes ``best.safetensors``, ``last.safetensors`` and ``history.csv``.
        seed: of the first weights; the segments bring their own.
        num_sources: sources in every mixture.
        sample_rate: Hz.
        options: device and the like.
        description: names the progress bar; empty for none.

    Returns:
        The history, a row per epoch (``pipeline.tables.HISTORY``).

    Raises:
        CheckpointError: the folder holds the state of a different training.
        TrainingError: the loss stopped being a finite number.
        KeyboardInterrupt, SystemExit: on SIGINT and SIGTERM, after the state was kept.
    """
    options = options or Options()
    device = devices.choose_device(options.device)
    devices.prepare(device)
    # The first weights depend on the seed alone, not on the device or on who called; the caller's random state is left alone.
    with joined(device) as group, noted_interruptions() as interruptions, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(system.model, num_sources=num_sources, sample_rate=sample_rate)
        identity = {
            "model": system.model.model_dump(),
            "train": system.train.model_dump(),
            "data": {"seed": seed, "num_sources": num_sources, "sample_rate": sample_rate, "num_segments": len(sets.train)},
        }
        training = Training(model.to(device), system, sets, folder, identity, options, group, interruptions)
        if not training.take_up():
            _check_causality(model)
        if group.all_reduce_max(training.steps_done) != -group.all_reduce_max(-training.steps_done):
            raise CheckpointError(f"{folder}: not every process sees the same state in it; it must be on a disk that all share")
        training.run(description)
        return training.history


class Training:
    """One training: its settings, what changes in its course, and the steps that change it."""

    def __init__(
        self,
        model: ConvTasNet,
        system: System,
        sets: TrainingSets,
        folder: Path,
        identity: dict[str, Any],
        options: Options,
        group: Group,
        interruptions: Interruptions,
    ) -> None:
        self.settings = system.train
        self.sets = sets
        self.folder = folder
        self.identity = identity
        self.options = options
        self.group = group
        self.interruptions = interruptions
        self.device = next(model.parameters()).device
        self.precision = devices.choose_precision(self.settings.precision, self.device)
        self.steps_per_epoch = max(1, (self.settings.segments_per_epoch or len(sets.train)) // self.settings.batch_size)
        self.num_steps = self.steps_per_epoch * self.settings.epochs
        self.model = model
        self.average = copy.deepcopy(model).requires_grad_(False) if self.settings.ema_decay else None
        self.optimiser = Optimiser(model, self.settings)
        self.progress = Progress()
        # Loss and gradient norm of the epoch are summed on the device, so that no step waits for the one before.
        self.sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        self.warm = False
        self.on_device = resident(sets.train, self.device)
        self.num_workers = devices.choose_loaders(options.num_loaders, self.device)
        self.shared = DistributedDataParallel(model) if group.size > 1 else None
        if self.settings.batch_size < group.size:
            raise ModelError(
                f"train.batch_size = {self.settings.batch_size} is less than the {group.size} processes that share it"
            )

    @property
    def judged(self) -> ConvTasNet:
        """The network that is validated and kept: the average of the weights where one is made."""
        return self.average or self.model

    @property
    def steps_done(self) -> int:
        """Optimiser steps since the beginning."""
        return (self.progress.epoch - 1) * self.steps_per_epoch + self.progress.step

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or as many without a better one as the recipe allows."""
        waited = self.progress.plateau.epochs_without_better
        return self.progress.epoch > self.settings.epochs or waited >= (self.settings.stop_epochs or math.inf)

    @property
    def history(self) -> pd.DataFrame:
        """A row per finished epoch."""
        return pd.DataFrame(self.progress.history, columns=[column.name for column in HISTORY.columns])

    # ---------------------------------------------------------------------------------------------------------- the loop
    def run(self, description: str) -> None:
        """All epochs that are left, with a progress bar where it has a description."""
        if self.finished:
            return
        network = self.network()
        segments = self.settings.batch_size
        description = description if self.group.first else ""
        events = event_file(self.folder / "events", first_epoch=self.progress.epoch, enabled=self.group.first)
        with (
            progress_bar(description, self.num_steps * segments, done=self.steps_done * segments) as advance,
            events as write_events,
        ):
            while not self.finished:
                self._train_epoch(network, advance)
                self._close_epoch()
                advance(0, self._epoch_note(), milestone=True)
                write_events(self.progress.history[-1])
                self._agree()
                self.interruptions.obey()

    def network(self) -> compiling.Compiled:
        """The network as the steps call it: shared between processes, and compiled where that pays."""
        network: nn.Module = self.shared or self.model
        enabled = compiling.choose_compile(self.options.compile, self.device, num_steps=self.num_steps)
        # A graph's gradients are overwritten when it runs again, so nothing can be added to them or exchanged while it does.
        graphs = self.device.type == "cuda" and self.group.size == 1 and self.options.micro_batch is None
        return compiling.Compiled(network, enabled, strict=self.options.compile == "on", graphs=graphs)

    def _train_epoch(self, network: Callable[[Tensor], Tensor], advance: Advance) -> None:
        """The steps of this epoch that are left."""
        timer = Timer(self.options.checkpoint_minutes * 60)
        for batch in self._batches():
            self.step(network, batch.to(self.device))
            advance(self.settings.batch_size)
            if not self.warm:
                self._end_warmup(timer)
            if timer.refresh_is_due():
                advance(0, self._note())
            self._agree()
            if self.interruptions.any or timer.keeping_is_due() or self._steps_are_due():
                self.progress.training_seconds += timer.lap()
                self.keep()
                self.interruptions.obey()
        self._mean_loss()
        self.progress.training_seconds += timer.lap()

    def _batches(self) -> Iterator[Batch]:
        """The batches of this epoch that are left."""
        return epoch_batches(
            self.on_device or self.sets.train,
            epoch=self.progress.epoch,
            steps=range(self.progress.step, self.steps_per_epoch),
            batch_size=self.settings.batch_size,
            share=self.group.share,
            num_workers=self.num_workers,
            pin=self.device.type == "cuda",
        )

    def _agree(self) -> None:
        """What one process is asked for, all do after the same step."""
        stop, keep = self.interruptions.stop or 0, int(self.interruptions.keep)
        if self.group.size > 1:
            stop, keep = self.group.all_reduce_max(stop), self.group.all_reduce_max(keep)
        self.interruptions.stop = signal.Signals(stop) if stop else None
        self.interruptions.keep = bool(keep)

    def _steps_are_due(self) -> bool:
        return self.options.checkpoint_steps is not None and self.progress.step % self.options.checkpoint_steps == 0

    def _note(self) -> str:
        """What stands beside the progress bar."""
        note = f"epoch {self.progress.epoch}/{self.settings.epochs}, loss {self._mean_loss():.2f} dB"
        if self.progress.history:
            note += f", valid SI-SNRi {self.progress.history[-1]['valid_si_snri_db']:.2f} dB"
        return note

    def _epoch_note(self) -> str:
        """What a log says of the last epoch."""
        last = self.progress.history[-1]
        return (
            f"epoch {last['epoch']:.0f}/{self.settings.epochs}, loss {last['train_loss_db']:.2f} dB, "
            f"valid loss {last['valid_loss_db']:.2f} dB, valid SI-SNRi {last['valid_si_snri_db']:.2f} dB"
        )

    def step(self, network: Callable[[Tensor], Tensor], batch: Batch) -> None:
        """One step of the optimiser; nothing in it waits for the device."""
        loss = torch.zeros((), device=self.device)
        size = self.options.micro_batch or len(batch)
        for first in range(0, len(batch), size):
            with self._alone() if first + size < len(batch) else nullcontext():
                loss += self._add_gradients(network, batch[first : first + size])
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm or math.inf)
        self._set_learning_rate()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.progress.step += 1
        self._follow()
        self.sums += torch.stack([self.group.total(loss), norm])

    def _alone(self) -> AbstractContextManager[None]:
        """Gradients stay in this process: only those of a batch's last part are exchanged, with what was added up before."""
        return self.shared.no_sync() if self.shared is not None else nullcontext()

    def _add_gradients(self, network: Callable[[Tensor], Tensor], part: Batch) -> Tensor:
        """Add a part's gradients to those of its batch; returns its share of the batch's loss."""
        with devices.autocast(self.device, self.precision):
            estimates = network(part.mixture)
        mean, _ = pit_loss(estimates, part.sources, part.num_samples)
        loss = mean * (len(part) / self.settings.batch_size)
        # Gradients are averaged over processes; the loss is a share of the whole batch's, so they are to be summed.
        (loss * self.group.size).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _set_learning_rate(self) -> None:
        self.optimiser.set_learning_rate(self._learning_rate(self.steps_done))

    def _learning_rate(self, step: int) -> float:
        return learning_rate(self.settings, step=step, num_steps=self.num_steps, num_halvings=self.progress.plateau.num_halvings)

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average of the weights; early on it forgets faster, so that the random start leaves no trace."""
        if self.average is not None:
            decay = min(self.settings.ema_decay, (1 + self.steps_done) / (10 + self.steps_done))
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def _end_warmup(self, timer: Timer) -> None:
        """Count the first step of this process, in which everything is compiled, by itself."""
        devices.synchronise(self.device)
        seconds = timer.lap()
        self.progress.warmup_seconds += seconds
        self.progress.training_seconds += seconds
        self.warm = True

    # ------------------------------------------------------------------------------------------------ the end of an epoch
    def _close_epoch(self) -> None:
        """Validate, keep what is best, write the epoch down and begin the next one."""
        started = time.perf_counter()
        loss_db, si_snri_db = self._validate()
        if not math.isfinite(loss_db):
            raise TrainingError(self._diverged("validation loss"))
        learning_rate_used = self._learning_rate(self.steps_done - 1)
        if self.progress.plateau.update(loss_db, patience=self.settings.plateau_epochs) and self.group.first:
            save_model(self.judged, self.folder / "best.safetensors")
        self.progress.history.append(
            {
                "epoch": self.progress.epoch,
                "step": self.steps_done,
                "train_loss_db": self.progress.loss_sum / self.progress.step,
                "valid_loss_db": loss_db,
                "valid_si_snri_db": si_snri_db,
                "learning_rate": learning_rate_used,
                "gradient_norm": self.progress.gradient_norm_sum / self.progress.step,
                "segments_per_second": self.progress.step * self.settings.batch_size / self.progress.training_seconds,
                "seconds": self.progress.training_seconds + time.perf_counter() - started,
                "warmup_seconds": self.progress.warmup_seconds,
                "peak_memory_gib": devices.peak_memory_gib(self.device),
            }
        )
        self.progress.next_epoch()
        self.sums.zero_()
        self.keep()
        self._write_history()

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        """Mean loss and mean SI-SNR improvement over the validation mixtures, dB; each process takes its share of them."""
        if self.group.size > 1:
            self.keep()  # having different numbers of batches below, several processes can only stop after them
        self.judged.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)  # loss, loss of the mixture itself, mixtures
        for batch in validation_batches(
            self.sets.valid,
            batch_size=self.settings.batch_size,
            share=self.group.share,
            num_workers=self.num_workers,
            pin=self.device.type == "cuda",
        ):
            sums += _validation_sums(self.judged, batch.to(self.device), self.precision)
            if self.interruptions.stop and self.group.size == 1:
                self.keep()
                self.interruptions.obey()
        self.judged.train()
        loss, mixture_loss, count = self.group.total(sums).tolist()
        return loss / count, (mixture_loss - loss) / count

    def _write_history(self) -> None:
        if self.group.first:
            write_table(self.history, self.folder / "history.csv", HISTORY)

    # ------------------------------------------------------------------------------------------------- keeping the state
    def _mean_loss(self) -> float:
        """Fetch the epoch's sums from the device; returns the mean loss so far.

        Raises:
            TrainingError: when it is not a finite number any more.
        """
        self.progress.loss_sum, self.progress.gradient_norm_sum = self.sums.tolist()
        if not math.isfinite(self.progress.loss_sum + self.progress.gradient_norm_sum):
            raise TrainingError(self._diverged("loss or its gradient"))
        return self.progress.loss_sum / max(self.progress.step, 1)

    def _diverged(self, what: str) -> str:
        return (
            f"{self.folder}: the {what} stopped being a finite number in epoch {self.progress.epoch} before step "
            f"{self.progress.step + 1}; lower train.learning_rate or train.clip_norm (the last state kept is from before)"
        )

    def keep(self) -> None:
        """Write the whole state, after a look that it is finite."""
        self._mean_loss()
        if self.group.first:
            save_state(
                {
                    "identity": self.identity,
                    "progress": asdict(self.progress),
                    "model": self.model.state_dict(),
                    "average": self.average.state_dict() if self.average else None,
                    "optimiser": self.optimiser.state_dict(),
                    "random": torch.get_rng_state(),
                },
                self.folder / "last.safetensors",
            )

    def take_up(self) -> bool:
        """Go on from the state in the folder; returns whether there is one.

        Raises:
            CheckpointError: it belongs to another training, or the best weights beside it are gone.
        """
        path = self.folder / "last.safetensors"
        if not path.exists():
            return False
        state = load_state(path)
        _check_identity(state["identity"], self.identity, path)
        self.progress = Progress.from_dict(state["progress"])
        if self.progress.history and not (self.folder / "best.safetensors").exists():
            raise CheckpointError(f"{path}: best.safetensors is missing beside it; delete the folder to train anew")
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        self.sums[0], self.sums[1] = self.progress.loss_sum, self.progress.gradient_norm_sum
        if self.progress.history:
            self._write_history()
        return True


def _validation_sums(model: ConvTasNet, batch: Batch, precision: torch.dtype) -> Tensor:
    """Summed over a batch: the loss, the loss of taking the mixture itself for every source, and the count."""
    with devices.autocast(batch.mixture.device, precision):
        estimates = model(batch.mixture)
    loss, _ = pit_loss(estimates, batch.sources, batch.num_samples)
    untouched = batch.mixture[:, None].expand_as(batch.sources)
    mixture_loss, _ = pit_loss(untouched, batch.sources, batch.num_samples)
    return torch.stack([loss * len(batch), mixture_loss * len(batch), torch.full_like(loss, len(batch))]).double()


def _check_causality(model: ConvTasNet) -> None:
    """Measure how far a network that is said to be causal looks ahead.

    Raises:
        ModelError: further than the rest of the encoder's window.
    """
    if not model.settings.causal:
        return
    measured, allowed = look_ahead(model), model.settings.filter_length - 1
    if measured is None or measured > allowed:
        seen = "the whole signal" if measured is None else f"{measured} samples ahead"
        raise ModelError(
            f"causal = true, but the network sees {seen}, not at most {allowed} samples; it is not trained as causal"
        )


def _check_identity(kept: dict[str, Any], ours: dict[str, Any], path: Path) -> None:
    """Raise unless the state was made by this very training."""
    changes = [
        f"{table}.{key} {kept.get(table, {}).get(key)!r} → {value!r}"
        for table, settings in ours.items()
        for key, value in settings.items()
        if kept.get(table, {}).get(key) != value
    ]
    if changes:
        raise CheckpointError(f"{path}: belongs to a different training ({', '.join(changes)}); delete it or use another folder")


class Timer:
    """Says when the progress bar and the kept state are due again, and how long since the last question."""

    def __init__(self, keeping_seconds: float) -> None:
        self._keeping_seconds = keeping_seconds
        self._last = self._refreshed = self._kept = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap."""
        before, self._last = self._last, time.perf_counter()
        return self._last - before

    def refresh_is_due(self) -> bool:
        """True once every two seconds."""
        due = time.perf_counter() - self._refreshed >= REFRESH_SECONDS
        if due:
            self._refreshed = time.perf_counter()
        return due

    def keeping_is_due(self) -> bool:
        """True once every so many minutes."""
        due = time.perf_counter() - self._kept >= self._keeping_seconds
        if due:
            self._kept = time.perf_counter()
        return due
