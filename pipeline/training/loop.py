"""Train one system: an open loop over epochs and steps, whose state can be saved at any step and resumed.

    train(system, sets, folder, seed=0, num_sources=2, sample_rate=8000)

leaves in ``folder``: ``best.safetensors`` (weights of the best epoch), ``last.safetensors`` (all that is needed to resume),
``history.csv`` (a row per epoch), and ``events`` (the same for TensorBoard, where it is installed). Called again after an
interruption it resumes from ``last.safetensors``; called again when it is done it returns at once. On a CPU an interrupted
training ends with the same bits as an undisturbed one.
"""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from pipeline.compute import devices
from pipeline.compute.distributed import Group, joined
from pipeline.compute.options import Options
from pipeline.compute.progress import Advance, progress_bar
from pipeline.errors import CheckpointError, ModelError
from pipeline.models import Network, build_model, save_model
from pipeline.recipe.schema import System
from pipeline.tables import HISTORY, write_table
from pipeline.training import BEST, LAST, compiling
from pipeline.training.batches import Batch, Batches, epoch_batches
from pipeline.training.divergence import MAX_SKIPPED_IN_A_ROW, diverged
from pipeline.training.events import event_file
from pipeline.training.gradients import Gradients, Loss
from pipeline.training.interruptions import Interruptions, noted_interruptions
from pipeline.training.losses import LOSSES
from pipeline.training.optimisers import Optimiser
from pipeline.training.resident import placed_at_once, resident
from pipeline.training.schedules import learning_rate
from pipeline.training.segments import Mixtures, Segments
from pipeline.training.starting import adopt, initialise
from pipeline.training.state import Progress, check_identity, identity_of, load_state, save_state
from pipeline.training.timing import Timer
from pipeline.training.validation import batches_on, check_causality, validation_sums


@dataclass(frozen=True)
class TrainingSets:
    """What a system learns from, and the whole mixtures it is validated on."""

    train: Segments
    valid: Mixtures


def train(
    system: System,
    sets: TrainingSets,
    folder: Path,
    *,
    seed: int,
    num_sources: int = 2,
    sample_rate: int = 8000,
    options: Options = Options(),
    description: str = "",
    earlier: Path | None = None,
) -> pd.DataFrame:
    """Train one system, or resume its training.

    Args:
        system: architecture and training settings.
        sets: segments to learn from and mixtures to be validated on.
        folder: where ``last.safetensors`` and the rest are written.
        seed: of the first weights; the segments bring their own.
        num_sources: sources in every mixture, at ``sample_rate`` Hz.
        options: device, workers and how often the state is saved.
        description: names the progress bar; empty for none.
        earlier: folder of a training with fewer epochs, otherwise the same; continued if ``folder`` has no state.

    Returns:
        The history, a row per epoch (``pipeline.tables.HISTORY``).

    Raises:
        CheckpointError: the folder holds the state of a different training.
        TrainingError: too many gradients in a row were not finite, or the device has too little memory.
        KeyboardInterrupt, SystemExit: on SIGINT and SIGTERM, once the state is saved.
    """
    devices.prepare(device := devices.choose_device(options.device))
    # The first weights depend on the seed alone, not on the device or on who called; the caller's random state stays as it was.
    with joined(device) as group, noted_interruptions() as interruptions, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(system.model, num_sources=num_sources, sample_rate=sample_rate)
        initialise(model, system.train.init)
        training = Training(model.to(device), system, sets, folder, seed, options, group, interruptions)
        training.begin(earlier)
        training.run(description)
        history = training.history
    del training, model
    devices.release(device)
    return history


class Training:
    """One training: its settings, what changes in its course, and the steps that change it."""

    def __init__(
        self,
        model: Network,
        system: System,
        sets: TrainingSets,
        folder: Path,
        seed: int,
        options: Options,
        group: Group,
        interruptions: Interruptions,
    ) -> None:
        self.settings = system.train
        self.sets = sets
        self.folder = folder
        self.identity = identity_of(system, model, seed=seed, num_segments=len(sets.train))
        self.options = options
        self.group = group
        self.interruptions = interruptions
        self.device = next(model.parameters()).device
        self.precision = devices.choose_precision(self.settings.precision, self.device)
        self.steps_per_epoch = max(1, (self.settings.segments_per_epoch or len(sets.train)) // self.settings.batch_size)
        self.num_steps = self.steps_per_epoch * self.settings.epochs
        group.copy_from_first(model.parameters())  # other processors may have rounded the first weights otherwise
        self.model = model
        self.average = copy.deepcopy(model).requires_grad_(False) if self.settings.ema_decay else None
        self.optimiser = Optimiser(model, self.settings)
        self.progress = Progress()
        # Sums of the epoch stay on the device, so that no step waits for the one before: loss, gradient norm, skipped steps.
        self.sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        self.skipped_in_a_row = torch.zeros((), dtype=torch.float64, device=self.device)
        self.warm = False
        self.on_device: Batches | None = None
        self.placed = not options.resident
        self.num_workers = devices.choose_loaders(options.num_loaders, self.device)
        self.gradients = Gradients(self.settings.batch_size, options.micro_batch, tuple(model.parameters()), group)
        if (size := self.settings.batch_size) < group.size:
            raise ModelError(f"train.batch_size = {size} is less than the {group.size} processes that share it")

    @property
    def eval_model(self) -> Network:
        """The network to validate and save as the best: the averaged weights where ``ema_decay`` asks for them."""
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
        loss_of = self.loss_function()
        segments = self.settings.batch_size
        description = description if self.group.first else ""
        events = event_file(self.folder / "events", first_epoch=self.progress.epoch, enabled=self.group.first)
        with (
            progress_bar(description, self.num_steps * segments, done=self.steps_done * segments) as advance,
            events as write_events,
            devices.float32_products(self.settings.precision, self.device),
        ):
            while not self.finished:
                self._train_epoch(loss_of, advance)
                self._close_epoch()
                advance(0, self.progress.epoch_note(self.settings.epochs), milestone=True)
                write_events(self.progress.history[-1])
                self._agree()
                self.interruptions.raise_if_stopped()

    def loss_function(self) -> compiling.Compiled:
        """Network and loss as the steps call them, compiled where that pays."""
        enabled = compiling.choose_compile(self.options.compile, self.device, num_steps=self.num_steps)
        loss = Loss(self.model, self.precision, LOSSES[self.settings.loss])
        strict, graphs = self.options.compile == "on", self.device.type == "cuda"
        return compiling.Compiled(loss.compute, enabled, strict=strict, graphs=graphs)

    def _train_epoch(self, loss_of: compiling.Compiled, advance: Advance) -> None:
        """The steps of this epoch that are left."""
        # Once an epoch's steps have shown what they need of a device's memory, the segments are kept in the rest of it.
        if not self.placed and (self.warm or placed_at_once(self.sets.train)):
            self.on_device, self.placed = resident(self.sets.train, self.device, compiled=loss_of.enabled), True
        timer = Timer(self.options.checkpoint_minutes * 60)
        save_steps = self.options.checkpoint_steps or self.num_steps + 1
        for batch in self._batches():
            self.step(loss_of, batch.to(self.device))
            advance(self.settings.batch_size)
            self._count_warmup(timer)
            if timer.refresh_is_due():
                self._fetch_sums()
                advance(0, self.progress.note(self.settings.epochs))
            self._agree()
            if self.interruptions.any or timer.saving_is_due() or self.progress.step % save_steps == 0:
                self.progress.training_seconds += timer.lap()
                self.save()
                self.interruptions.raise_if_stopped()
        self._fetch_sums()
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
        """What one process is told to do, all do after the same step: one number says it, since whoever stops also saves."""
        if self.group.size == 1:
            return
        asked = self.group.all_reduce_max(2 * (self.interruptions.stop or 0) + int(self.interruptions.save))
        self.interruptions.stop = signal.Signals(asked // 2) if asked > 1 else None
        self.interruptions.save = bool(asked % 2)

    def step(self, loss_of: compiling.Compiled, batch: Batch) -> None:
        """One step of the optimiser, skipped where a gradient is not finite; nothing in it waits for the device.

        Raises:
            TrainingError: the device has too little memory for it.
        """
        with self.gradients.explaining_memory(batch):
            # Drop the gradients of a failed attempt, so that the next one starts from none.
            loss = loss_of.with_fallback(lambda: self.gradients.add(loss_of, batch), undo=self.optimiser.zero_grad)
            loss = self.gradients.exchange(loss)
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm or math.inf)
            self.optimiser.set_learning_rate(self._learning_rate(self.steps_done))
            skip = (~norm.isfinite()).float()
            self.optimiser.step(skip)
        self.optimiser.zero_grad()
        self.progress.step += 1
        self._update_average()
        figures = torch.stack([loss, norm, skip])
        self.sums += torch.where(skip.bool(), torch.eye(3, device=self.device)[2], figures)
        self.skipped_in_a_row = (self.skipped_in_a_row + skip) * skip

    def _learning_rate(self, step: int) -> float:
        return learning_rate(self.settings, step=step, num_steps=self.num_steps, num_halvings=self.progress.plateau.num_halvings)

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the average of the weights; early on it forgets faster, so that the random initial weights leave no trace."""
        if self.average is not None:
            decay = min(self.settings.ema_decay, (1 + self.steps_done) / (10 + self.steps_done))
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def _count_warmup(self, timer: Timer) -> None:
        """Time the first step of this process by itself: the network is compiled in it."""
        if not self.warm:
            devices.synchronise(self.device)
            seconds = timer.lap()
            self.progress.warmup_seconds += seconds
            self.progress.training_seconds += seconds
            self.warm = True

    # ------------------------------------------------------------------------------------------------ the end of an epoch
    def _close_epoch(self) -> None:
        """Validate, save the weights if they are the best so far, record the epoch and begin the next one."""
        started = time.perf_counter()
        loss_db, si_snri_db = self._validate()
        if not math.isfinite(loss_db):
            raise diverged("validation loss", self.progress, self.settings, self.folder)
        learning_rate_used = self._learning_rate(self.steps_done - 1)
        if self.progress.plateau.update(loss_db, patience=self.settings.plateau_epochs) and self.group.first:
            save_model(self.eval_model, self.folder / BEST)
        self.progress.history.append(
            {
                "epoch": self.progress.epoch,
                "step": self.steps_done,
                "train_loss_db": self.progress.mean_loss,
                "valid_loss_db": loss_db,
                "valid_si_snri_db": si_snri_db,
                "learning_rate": learning_rate_used,
                "gradient_norm": self.progress.mean_gradient_norm,
                "segments_per_second": self.progress.step * self.settings.batch_size / self.progress.training_seconds,
                "seconds": self.progress.training_seconds + time.perf_counter() - started,
                "warmup_seconds": self.progress.warmup_seconds,
                "skipped_steps": self.progress.skipped,
                "peak_memory_gib": devices.peak_memory_gib(self.device),
            }
        )
        self.progress.next_epoch()
        self.sums.zero_()
        self.save()
        self._write_history()

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        """Mean loss and mean SI-SNR improvement over the validation mixtures, dB; each process takes its share of them."""
        if self.group.size > 1:
            self.save()  # having different numbers of batches below, several processes can only stop after them
        self.eval_model.eval()
        sums = torch.zeros(5, dtype=torch.float64, device=self.device)
        for batch in batches_on(
            self.device,
            self.eval_model,
            self.sets.valid,
            batch_size=self.settings.batch_size,
            share=self.group.share,
            num_workers=self.num_workers,
        ):
            sums += validation_sums(self.eval_model, batch, self.precision, LOSSES[self.settings.loss])
            if self.interruptions.stop and self.group.size == 1:
                self.save()
                self.interruptions.raise_if_stopped()
        self.eval_model.train()
        loss, count, own, untouched, num_compared = self.group.total(sums).tolist()
        return loss / count, (untouched - own) / num_compared if num_compared else math.nan

    def _write_history(self) -> None:
        if self.group.first and self.progress.history:
            write_table(self.history, self.folder / "history.csv", HISTORY)

    # ------------------------------------------------------------------------------------------------------ saving the state
    def _fetch_sums(self) -> None:
        """Fetch the epoch's sums from the device.

        Raises:
            TrainingError: too many steps in a row were skipped.
        """
        self.progress.sums = self.sums.tolist()
        if self.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            what = f"gradient of {int(self.skipped_in_a_row)} steps in a row"
            raise diverged(what, self.progress, self.settings, self.folder)

    def save(self) -> None:
        """Write the whole state, if it is finite."""
        self._fetch_sums()
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
                self.folder / LAST,
            )

    def begin(self, earlier: Path | None) -> None:
        """Resume from the folder, or from an earlier training; a new network that is said to be causal shows that it is.

        Raises:
            CheckpointError: the state belongs to another training, or not every process sees it.
            ModelError: the network is not as causal as its settings say.
        """
        adopt(earlier, self.folder, self.group)
        if not self.resume():
            check_causality(self.model)
        if self.group.all_reduce_max(self.steps_done) != -self.group.all_reduce_max(-self.steps_done):
            raise CheckpointError(f"{self.folder}: not all processes see the same state in it; put it on a disk that they share")

    def resume(self) -> bool:
        """Resume from the state in the folder; returns whether there is one.

        Raises:
            CheckpointError: it belongs to another training, or the best weights beside it are gone.
        """
        if not (path := self.folder / LAST).exists():
            return False
        state = load_state(path)
        check_identity(state["identity"], self.identity, path)
        self.progress = Progress.from_dict(state["progress"])
        if self.progress.history and not (self.folder / BEST).exists():
            raise CheckpointError(f"{path}: {BEST} is missing beside it; delete the folder to train from scratch")
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        self.sums.copy_(torch.tensor(self.progress.sums, dtype=torch.float64))
        self._write_history()
        return True
