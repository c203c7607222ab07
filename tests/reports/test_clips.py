"""The audio of mixtures, read from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.audio.files import write_audio
from pipeline.errors import AudioError
from pipeline.reports import clips
from pipeline.reports.clips import ClipFiles, Clips, FileLoader
from tests.voices import voice

RATE = 8000
SPEAKERS = np.stack([voice(speaker, 0, seconds=1.0, sample_rate=RATE) for speaker in (1, 5)])


def write_all(folder: Path, name: str, estimates: dict[str, np.ndarray], rate: int = RATE) -> ClipFiles:
    """The files of a mixture and of what each system made of it."""
    for path, samples in (("mix", SPEAKERS.sum(axis=0)), ("s1", SPEAKERS[0]), ("s2", SPEAKERS[1])):
        write_audio(folder / path / f"{name}.wav", samples, RATE, "float32")
    for system, made in estimates.items():
        for k, samples in enumerate(made, 1):
            write_audio(folder / system / f"s{k}" / f"{name}.wav", samples, rate, "float32")
    made_paths = {system: tuple(folder / system / f"s{k}" / f"{name}.wav" for k in (1, 2)) for system in estimates}
    return ClipFiles(folder / "mix" / f"{name}.wav", tuple(folder / f"s{k}" / f"{name}.wav" for k in (1, 2)), made_paths)


def test_estimates_get_the_length_of_the_mixture(tmp_path: Path) -> None:
    files = write_all(tmp_path, "m", {"short": SPEAKERS[:, :-100], "long": np.pad(SPEAKERS, ((0, 0), (0, 50)))})
    found = FileLoader({"m": files})("m")
    assert found.mixture.shape == (RATE,)
    assert {system: made.shape for system, made in found.estimates.items()} == {"short": (2, RATE), "long": (2, RATE)}
    assert not found.estimates["short"][:, -100:].any()
    np.testing.assert_allclose(found.estimates["long"], SPEAKERS, atol=1e-6)


def test_systems_whose_recordings_cannot_be_played_are_left_out(tmp_path: Path) -> None:
    files = write_all(tmp_path, "m", {"whole": SPEAKERS, "missing": SPEAKERS, "broken": SPEAKERS})
    files.estimates["missing"][1].unlink()
    files.estimates["broken"][0].write_bytes(b"RIFF")
    other = write_all(tmp_path, "m", {"fast": SPEAKERS}, rate=2 * RATE)
    both = ClipFiles(files.mixture, files.references, {**files.estimates, **other.estimates, "empty": ()})
    assert list(FileLoader({"m": both})("m").estimates) == ["whole"]


def test_a_missing_reference_is_an_error(tmp_path: Path) -> None:
    files = write_all(tmp_path, "m", {})
    files.references[0].unlink()
    with pytest.raises(AudioError, match="no such file"):
        FileLoader({"m": files})("m")


def test_an_estimate_belongs_to_the_reference_that_its_score_says() -> None:
    found = Clips(RATE, SPEAKERS.sum(axis=0), SPEAKERS, {"a": SPEAKERS[::-1]})
    assert found.estimate_of("a", 0, {"estimate": 1}) is not found.estimate_of("a", 0, {"estimate": 2})
    np.testing.assert_array_equal(found.estimate_of("a", 0, {"estimate": 1}), SPEAKERS[1])


@pytest.mark.parametrize("row", [{}, {"estimate": np.nan}, {"estimate": 0}, {"estimate": 3}])
def test_where_no_score_says_it_an_estimate_belongs_to_what_it_resembles(row: dict[str, float]) -> None:
    """Other tools' tables do not say it; polarity and level do not matter."""
    estimates = np.stack([-0.1 * SPEAKERS[1] + 0.02 * SPEAKERS[0], 3 * SPEAKERS[0] + SPEAKERS[1]])
    found = Clips(RATE, SPEAKERS.sum(axis=0), SPEAKERS, {"a": estimates})
    for k in (0, 1):
        np.testing.assert_array_equal(found.estimate_of("a", k, row), estimates[1 - k])


def test_silent_and_missing_estimates_have_a_place_too() -> None:
    found = Clips(RATE, SPEAKERS.sum(axis=0), SPEAKERS, {"silent": np.zeros((2, RATE)), "one": SPEAKERS[1:]})
    assert {found.estimate_of("silent", k, {}).shape for k in (0, 1)} == {(RATE,)}
    np.testing.assert_array_equal(found.estimate_of("one", 1, {}), SPEAKERS[1])


def test_only_mixtures_with_audio_and_every_score_are_chosen(tmp_path: Path) -> None:
    means = pd.DataFrame({"a": [1.0, 2.0, 3.0, np.nan]}, index=list("wxyz"))
    files = write_all(tmp_path, "m", {})
    loader = FileLoader({"x": files, "z": files, "elsewhere": files})
    assert clips.with_audio(means, loader).index.tolist() == ["x"]
    assert clips.evenly_picked(means, loader) == ["x"]
    assert clips.evenly_picked(means, loader.__call__) == ["w", "x", "y"]
    assert clips.evenly_picked(means, None) == []


def test_clips_are_read_from_a_dataset(tmp_path: Path) -> None:
    write_all(tmp_path, "0003", {"causal": 0.5 * SPEAKERS})
    mixtures = pd.DataFrame(
        {"mixture_id": ["0003"], "num_sources": [2], "mixture_path": ["mix/0003.wav"]}
        | {"source_1_path": ["s1/0003.wav"], "source_2_path": ["s2/0003.wav"]}
    )
    found = clips.clip_loader(tmp_path, mixtures, {"causal": tmp_path / "causal"})("0003")
    np.testing.assert_allclose(found.mixture, SPEAKERS.sum(axis=0), atol=1e-7)
    np.testing.assert_allclose(found.references, SPEAKERS, atol=1e-7)
    np.testing.assert_allclose(found.estimates["causal"], 0.5 * SPEAKERS, atol=1e-7)
