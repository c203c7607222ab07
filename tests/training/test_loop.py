"""Training: it learns, it obeys its schedule, and an interrupted run ends with the bits of an undisturbed one."""

import math
import os
import re
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.compute.options import Options
from pipeline.errors import CheckpointError, ModelError, TrainingError
from pipeline.models import build_model
from pipeline.models.checkpoints import load_model
from pipeline.recipe.schema import System, Train
from pipeline.training import loop, validation
from pipeline.training.loop import TrainingSets, train
from pipeline.training.losses import pit_loss
from pipeline.training.optimisers import Optimiser
from pipeline.training.segments import Segment
from pipeline.training.state import load_state
from tests.nursery import IN_THE_NURSERY, nursery
from tests.training.trainings import EVERYTHING, QUIET, SETS, TINY, Tones, assert_same_training, spoken, system
from tests.waiting import wait_until


class Killed(BaseException):
    """Stands for kill -9: nothing in the program catches it."""


def killed_after(monkeypatch: pytest.MonkeyPatch, name: str, calls: int, *, before: bool = False) -> None:
    """Die at the ``calls``-th call of a method of Training or a function that training uses."""
    owner = loop.Training if hasattr(loop.Training, name) else loop
    original = getattr(owner, name)
    count = 0

    def dying(*arguments: object, **keywords: object) -> object:
        nonlocal count
        count += 1
        if count == calls and before:
            raise Killed
        result = original(*arguments, **keywords)
        if count == calls:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, dying)


VARIANTS = {
    "plain": {},
    "average": {"ema_decay": 0.9},
    "plateau": {"schedule": "plateau", "plateau_epochs": 1, "learning_rate": 0.5, "clip_norm": 0.1},
    "cosine": {"schedule": "cosine", "warmup_steps": 5},
    "muon": {"optimiser": "muon"},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a variant's training, which is trained when it is first asked for."""
    root = tmp_path_factory.mktemp("undisturbed")

    @cache
    def trained(variant: str) -> Path:
        train(system(**VARIANTS[variant]), SETS, root / variant, seed=1, options=QUIET)
        return root / variant

    return trained


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("where", "calls", "before"),
    [
        ("step", 1, False),  # with nothing saved yet
        ("step", 6, False),  # in the middle of an epoch
        ("save_model", 1, False),  # between best and last
        ("save_model", 1, True),
        ("save", 9, True),
        ("_write_history", 2, True),  # between last and history
    ],
)
def test_a_killed_training_ends_with_the_bits_of_an_undisturbed_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: Callable[[str], Path],
    variant: str,
    where: str,
    calls: int,
    before: bool,
) -> None:
    settings = system(**VARIANTS[variant])
    options = Options(device="cpu", compile="off", num_loaders=1, checkpoint_minutes=0)
    whole = undisturbed(variant)
    with monkeypatch.context() as patch:
        killed_after(patch, where, calls, before=before)
        with pytest.raises(Killed):
            train(settings, SETS, tmp_path / "killed", seed=1, options=options)
    train(settings, SETS, tmp_path / "killed", seed=1, options=options)
    assert_same_training(whole, tmp_path / "killed")


TRAINING = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from pipeline.compute.options import Options
from pipeline.training.loop import train
from tests.training.trainings import EVERYTHING, spoken
options = Options(device="cpu", compile="off", checkpoint_minutes=0.0)
train(EVERYTHING, spoken(Path({speech!r})), Path({folder!r}), seed=1, options=options)
sys.exit()
"""


def killed_after_states(folder: Path, number: signal.Signals, states: int) -> int:
    """Start a training, send it a signal once it has kept so many states, and return its exit code."""
    path = folder / "last.safetensors"

    def changed() -> bool:
        """Whether there is another state than those seen before."""
        if not path.exists() or path.stat().st_mtime_ns in seen:
            return False
        seen.add(path.stat().st_mtime_ns)
        return True

    seen = {path.stat().st_mtime_ns} if path.exists() else set()
    root = str(Path(__file__).parents[2])
    running = nursery()
    running.start(cwd=folder.parent, prelude=TRAINING.format(root=root, speech=str(folder.parent), folder=str(folder)))
    for _ in range(states):
        wait_until(lambda: running.has_ended() or changed(), seen=lambda: running.stderr)
    assert not running.has_ended(), running.stderr
    running.send(number)
    return running.ended()


@IN_THE_NURSERY
@pytest.mark.slow
def test_kill_9_again_and_again_and_sigterm_of_a_real_process_lose_nothing(tmp_path: Path) -> None:
    """With all that has a state or draws at random: averaged weights, plateau, dynamic mixing, speed perturbation."""
    train(EVERYTHING, spoken(tmp_path), tmp_path / "whole", seed=1, options=QUIET)
    reached = [(0, 0)]
    for number, states in [(signal.SIGKILL, 5), (signal.SIGKILL, 2), (signal.SIGTERM, 1)]:
        code = killed_after_states(tmp_path / "killed", number, states)
        assert code == (-number if number == signal.SIGKILL else 128 + number)
        progress = load_state(tmp_path / "killed" / "last.safetensors")["progress"]
        reached.append((progress["epoch"], progress["step"]))
    assert reached == sorted(reached)
    assert reached[-1] < (EVERYTHING.train.epochs, 0)
    train(EVERYTHING, spoken(tmp_path), tmp_path / "killed", seed=1, options=QUIET)
    assert_same_training(tmp_path / "whole", tmp_path / "killed")


def test_ctrl_c_saves_the_state_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, steps = loop.Training.step, []

    def step(self: loop.Training, *arguments: object) -> None:
        original(self, *arguments)  # type: ignore[arg-type]
        steps.append(1)
        if len(steps) == 6:
            os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Training, "step", step)
        with pytest.raises(KeyboardInterrupt):
            train(system(), SETS, tmp_path / "stopped", seed=1, options=QUIET)
    assert signal.getsignal(signal.SIGINT) is handler
    progress = load_state(tmp_path / "stopped" / "last.safetensors")["progress"]
    assert (progress["epoch"], progress["step"]) == (2, 2)
    train(system(), SETS, tmp_path / "whole", seed=1, options=QUIET)
    train(system(), SETS, tmp_path / "stopped", seed=1, options=QUIET)
    assert_same_training(tmp_path / "whole", tmp_path / "stopped")


def test_preemption_signal_saves_the_state_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, saved = loop.Training.save, []
    monkeypatch.setattr(loop.Training, "_update_average", lambda self: os.kill(os.getpid(), signal.SIGUSR1))

    def save(self: loop.Training) -> None:
        saved.append((self.progress.epoch, self.progress.step))
        original(self)

    monkeypatch.setattr(loop.Training, "save", save)
    train(system(epochs=1), SETS, tmp_path, seed=1, options=QUIET)
    assert saved == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 0)]


def test_workers_and_the_callers_random_state_do_not_matter(tmp_path: Path) -> None:
    train(system(epochs=2), SETS, tmp_path / "one", seed=1, options=QUIET)
    torch.manual_seed(99)
    drawn = torch.get_rng_state()
    train(system(epochs=2), SETS, tmp_path / "two", seed=1, options=Options(compile="off", num_loaders=3))
    assert_same_training(tmp_path / "one", tmp_path / "two")
    assert torch.equal(drawn, torch.get_rng_state())


def test_a_done_training_returns_its_history_without_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = train(system(), SETS, tmp_path, seed=1, options=QUIET)
    monkeypatch.setattr(loop.Training, "step", None)
    again = train(system(), SETS, tmp_path, seed=1, options=QUIET)
    pd.testing.assert_frame_equal(history, again)
    assert list(history["epoch"]) == [1, 2, 3]
    assert list(history["step"]) == [4, 8, 12]


def test_a_log_gets_a_line_every_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = train(system(epochs=2), SETS, tmp_path, seed=1, options=QUIET, description="train tiny")
    train(system(epochs=2), SETS, tmp_path, seed=1, options=QUIET, description="train tiny")  # done: nothing to say
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for line, epoch in zip(lines, history.itertuples(), strict=True):
        assert re.match(rf"train tiny: {12 * epoch.epoch}/24 \({50 * epoch.epoch}%\), \d+\.\d/s, ", line)
        assert line.endswith(
            f"epoch {epoch.epoch}/2, loss {epoch.train_loss_db:.2f} dB, valid loss {epoch.valid_loss_db:.2f} dB, "
            f"valid SI-SNRi {epoch.valid_si_snri_db:.2f} dB"
        )


def test_state_of_another_training_is_refused(tmp_path: Path) -> None:
    train(system(epochs=1), SETS, tmp_path, seed=1, options=QUIET)
    with pytest.raises(CheckpointError, match=r"last\.safetensors: belongs to a different training \(train\.batch_size 3 → 4\)"):
        train(system(epochs=1, batch_size=4), SETS, tmp_path, seed=1, options=QUIET)
    with pytest.raises(CheckpointError, match=r"data\.seed 1 → 2"):
        train(system(epochs=1), SETS, tmp_path, seed=2, options=QUIET)
    (tmp_path / "best.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"best\.safetensors is missing"):
        train(system(epochs=1), SETS, tmp_path, seed=1, options=QUIET)


def test_early_stop_waits_as_long_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([-1.0, -2.0, -1.5, -1.0, -9.0])
    monkeypatch.setattr(loop.Training, "_validate", lambda self: (next(losses), 0.0))
    history = train(system(epochs=10, stop_epochs=2), SETS, tmp_path, seed=1, options=QUIET)
    assert list(history["valid_loss_db"]) == [-1.0, -2.0, -1.5, -1.0]


def test_best_is_of_the_best_epoch_and_last_of_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([-1.0, -5.0, -2.0])
    monkeypatch.setattr(loop.Training, "_validate", lambda self: (next(losses), 0.0))
    train(system(), SETS, tmp_path / "long", seed=1, options=QUIET)
    losses = iter([-1.0, -5.0])
    train(system(epochs=2), SETS, tmp_path / "short", seed=1, options=QUIET)
    best = load_model(tmp_path / "long" / "best.safetensors").state_dict()
    second_epoch = load_state(tmp_path / "short" / "last.safetensors")["model"]
    last = load_state(tmp_path / "long" / "last.safetensors")["model"]
    assert all(torch.equal(best[name], second_epoch[name]) for name in best)
    assert not all(torch.equal(best[name], last[name]) for name in best)


class Broken(Tones):
    """From the second epoch on, some segments hold a sample that is not a number."""

    def __init__(self, *indices: int) -> None:
        super().__init__()
        self.indices = indices

    def segment(self, epoch: int, index: int) -> Segment:
        segment = super().segment(epoch, index)
        if epoch >= 2 and index in self.indices:
            segment.mixture[3] = np.nan
        return segment


@pytest.mark.parametrize("optimiser", ["adam", "muon"])
def test_a_step_without_a_finite_gradient_is_skipped_and_counted(tmp_path: Path, optimiser: str) -> None:
    history = train(system(optimiser=optimiser), TrainingSets(Broken(7), Tones(5)), tmp_path, seed=1, options=QUIET)
    assert history["skipped_steps"].tolist() == [0, 1, 1]
    assert np.isfinite(history.to_numpy(dtype=float)).all()
    state = load_state(tmp_path / "last.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())


def test_a_skipped_step_changes_no_weight() -> None:
    torch.manual_seed(0)
    model = build_model(TINY, num_sources=2)
    optimiser = Optimiser(model, system().train)
    for skip in (0.0, 1.0, 0.0):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, math.nan if skip else 1.0)
        optimiser.step(torch.tensor(skip))
        same = [torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True)]
        assert all(same) if skip else not any(same)
        assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_many_skipped_steps_in_a_row_end_the_training_with_what_to_do(tmp_path: Path) -> None:
    said = r"steps in a row stopped being a finite number in epoch .*; lower train\.learning_rate .*--set train\.init=.*best"
    with pytest.raises(TrainingError, match=said):
        train(system(epochs=10), TrainingSets(Broken(*range(12)), Tones(5)), tmp_path, seed=1, options=QUIET)
    state = load_state(tmp_path / "last.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())


def test_silent_sources_do_no_harm(tmp_path: Path) -> None:
    sets = TrainingSets(Tones(silent=True), Tones(5, silent=True))
    history = train(system(), sets, tmp_path, seed=1, options=QUIET)
    assert np.isfinite(history.to_numpy(dtype=float)).all()


def test_micro_batches_give_the_same_training_to_rounding(tmp_path: Path) -> None:
    one = train(system(), SETS, tmp_path / "one", seed=1, options=QUIET)
    parts = train(system(), SETS, tmp_path / "parts", seed=1, options=Options(compile="off", micro_batch=2))
    columns = ["train_loss_db", "valid_loss_db", "gradient_norm"]
    np.testing.assert_allclose(one[columns], parts[columns], rtol=1e-3)


@pytest.mark.parametrize(("precision", "products"), [("tf32", "high"), ("float32", "highest"), ("auto", "highest")])
def test_tf32_is_on_for_the_training_that_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, products: str
) -> None:
    """Every other training, and whatever follows, multiplies float32 matrices exactly."""
    seen = set()
    step, on_device = loop.Training.step, loop.devices.float32_products

    def seeing(*arguments: Any) -> None:
        seen.add(torch.get_float32_matmul_precision())
        step(*arguments)

    monkeypatch.setattr(loop.Training, "step", seeing)
    monkeypatch.setattr(loop.devices, "float32_products", lambda chosen, _: on_device(chosen, torch.device("cuda")))
    train(system(precision=precision, epochs=1), SETS, tmp_path, seed=1, options=QUIET)
    assert seen == {products}
    assert torch.get_float32_matmul_precision() == "highest"


def test_tf32_is_float32_on_a_cpu(tmp_path: Path) -> None:
    for precision in ("float32", "tf32"):
        train(system(precision=precision, epochs=1), SETS, tmp_path / precision, seed=1, options=QUIET)
    assert_same_training(tmp_path / "float32", tmp_path / "tf32")


def test_validation_scores_the_improvement_over_the_mixture(tmp_path: Path) -> None:
    history = train(system(epochs=1), SETS, tmp_path, seed=1, options=QUIET)
    model = load_model(tmp_path / "best.safetensors")
    losses, improvements = [], []
    # Validation cuts the mixtures of a batch to the shortest: 800 samples in the first, 808 and 816 in the second.
    for index, length in [(0, 800), (3, 800), (1, 800), (4, 808), (2, 808)]:
        mixture, sources = (torch.from_numpy(part)[None] for part in Tones(5).read(index, 0, length))
        with torch.no_grad():
            loss = float(pit_loss(model(mixture), sources)[0])
        losses.append(loss)
        improvements.append(float(pit_loss(mixture[:, None].expand_as(sources), sources)[0]) - loss)
    assert history["valid_loss_db"][0] == pytest.approx(np.mean(losses), abs=1e-4)
    assert history["valid_si_snri_db"][0] == pytest.approx(np.mean(improvements), abs=1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_one_batch_can_be_learnt_by_heart(tmp_path: Path, causal: bool) -> None:
    class OneBatch(Tones):
        def segment(self, epoch: int, index: int) -> Segment:
            return super().segment(0, index % 2)

    model = TINY.model_copy(update={"causal": causal, "num_filters": 64, "hidden_channels": 32, "blocks_per_repeat": 3})
    settings = Train(batch_size=2, epochs=1, segments_per_epoch=200, learning_rate=1e-2, schedule="cosine", precision="float32")
    train(System(model=model, train=settings), TrainingSets(OneBatch(), Tones(2)), tmp_path, seed=1, options=QUIET)
    trained = load_model(tmp_path / "best.safetensors")
    mixture, sources = (torch.from_numpy(part)[None] for part in Tones().read(0, 0, 800))
    with torch.no_grad():
        assert float(pit_loss(trained(mixture), sources)[0]) < -15


def test_learning_curves_are_written_for_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: no event files")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = train(system(), SETS, tmp_path, seed=1, options=QUIET)
    curves = EventAccumulator(str(tmp_path / "events")).Reload()
    points = curves.Scalars("valid_si_snri_db")
    assert [point.step for point in points] == [1, 2, 3]
    np.testing.assert_allclose([point.value for point in points], history["valid_si_snri_db"], rtol=1e-6)


@pytest.mark.parametrize(
    ("measured", "words"), [(16, r"16 samples ahead \(allowed: 15\)"), (None, r"the whole signal \(allowed: 15\)")]
)
def test_a_causal_system_that_looks_ahead_is_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: int | None, words: str
) -> None:
    monkeypatch.setattr(validation, "look_ahead", lambda model: measured)
    settings = System(model=TINY.model_copy(update={"causal": True}), train=system(epochs=1).train)
    with pytest.raises(ModelError, match=words):
        train(settings, SETS, tmp_path, seed=1, options=QUIET)
    assert not list(tmp_path.iterdir())
