"""Learning curves for TensorBoard."""

import logging
from pathlib import Path

import pytest

from pipeline.training.events import event_file

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    """As TensorBoard reads it."""
    read = accumulator.EventAccumulator(str(folder))
    read.Reload()
    return [(point.step, point.value) for point in read.Scalars(name)]


def test_a_row_is_a_point_of_every_curve(tmp_path: Path) -> None:
    with event_file(tmp_path, first_epoch=1) as write:
        write({"epoch": 1, "loss": -1.5, "rate": 0.25})
        write({"epoch": 2, "loss": -2.5, "rate": 0.125})
    assert curve(tmp_path, "loss") == [(1, -1.5), (2, -2.5)]
    assert curve(tmp_path, "rate") == [(1, 0.25), (2, 0.125)]


def test_points_of_an_interrupted_run_are_replaced(tmp_path: Path) -> None:
    for first, loss in ((1, -1.0), (2, -3.0)):
        with event_file(tmp_path, first_epoch=first) as write:
            for epoch in range(first, 4):
                write({"epoch": epoch, "loss": loss})
    assert curve(tmp_path, "loss") == [(1, -1.0), (2, -3.0), (3, -3.0)]


def test_where_events_cannot_be_written_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "events").write_text("a file where the folder belongs")
    with caplog.at_level(logging.WARNING), event_file(tmp_path / "events", first_epoch=1) as write:
        write({"epoch": 1, "loss": -1.5})
    assert caplog.text.count("cannot be written") == 1
