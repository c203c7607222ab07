"""Anybody's recordings: names that never overwrite one another, their own rate and length, and failures that stop nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import typer

from pipeline.audio.files import read_audio, write_audio
from pipeline.cli.models import report_problems
from pipeline.errors import AudioError
from pipeline.models import ConvTasNet, build_model
from pipeline.recipe.schema import Model
from pipeline.separation.offline import separate
from pipeline.separation.recordings import Separated, name_recordings, separate_files


@pytest.fixture(scope="module")
def model() -> ConvTasNet:
    torch.manual_seed(0)
    settings = Model(
        num_filters=16, bottleneck_channels=4, skip_channels=4, hidden_channels=6, blocks_per_repeat=2, num_repeats=1
    )
    return build_model(settings, num_sources=2).eval()


def put(path: Path, sample_rate: int = 8000, num_samples: int = 400) -> Path:
    write_audio(path, 0.1 * np.random.default_rng(0).standard_normal(num_samples), sample_rate)
    return path


def only(model: ConvTasNet, path: Path, **how: int) -> Separated:
    (done,) = separate_files(model, [path], path.parent / "out", **how)  # type: ignore[arg-type]
    return done


# ----------------------------------------------------------------------------------------------------------------- names
def names_of(folder: Path, *inputs: str) -> list[str]:
    return list(name_recordings([folder / name for name in inputs], folder / "out").values())


def test_a_broken_link_in_a_folder_is_not_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.wav")
    (tmp_path / "in" / "b.wav").symlink_to("nowhere.wav")
    assert list(name_recordings([tmp_path / "in"], tmp_path / "out").values()) == ["a", "b"]


def test_files_are_called_by_themselves(tmp_path: Path) -> None:
    assert names_of(tmp_path, "talk.wav", "a/Other.talk.flac") == ["talk", "Other.talk"]


def test_two_files_of_one_stem_are_told_apart(tmp_path: Path) -> None:
    assert names_of(tmp_path, "a/x.wav", "b/X.wav", "b/y.wav") == ["a/x", "b/X", "y"]
    assert names_of(tmp_path, "a/x.wav", "a/x.flac") == ["x-wav", "x-flac"]
    assert names_of(tmp_path, "a/x.wav", "a/x.wav") == ["x"]


def test_folders_keep_their_subfolders_and_leave_out_estimates_and_hidden_files(tmp_path: Path) -> None:
    for name in ("in/1.wav", "in/day/1.WAV", "in/.hidden/2.wav", "in/out/1_s1.wav"):
        put(tmp_path / name)
    (tmp_path / "in" / "notes.txt").touch()
    found = name_recordings([tmp_path / "in"], tmp_path / "in" / "out")
    assert {path.name: name for path, name in found.items()} == {"1.wav": "1", "1.WAV": "day/1"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match="empty: holds no audio files"):
        name_recordings([tmp_path / "empty"], tmp_path / "out")


# ----------------------------------------------------------------------------------------------------------------- audio
def test_estimates_are_those_of_the_signal(model: ConvTasNet, tmp_path: Path) -> None:
    done = only(model, put(tmp_path / "talk.wav"))
    assert [path.name for path in done.estimates] == ["talk_s1.wav", "talk_s2.wav"]
    mixture, sample_rate = read_audio(tmp_path / "talk.wav")
    expected = separate(model, mixture, sample_rate=sample_rate)
    for path, estimate in zip(done.estimates, expected, strict=True):
        assert np.array_equal(read_audio(path, dtype="float32")[0], estimate)


@pytest.mark.parametrize("sample_rate", [48000, 16000, 11025, 4000])
def test_another_rate_is_converted_when_asked_for_and_back(model: ConvTasNet, tmp_path: Path, sample_rate: int) -> None:
    path = put(tmp_path / "talk.wav", sample_rate, num_samples=1601)
    refused = only(model, path)
    assert f"is at {sample_rate} Hz and the model at 8000 Hz; --resample" in refused.problem
    assert not refused.estimates
    for estimate in only(model, path, convert_rate=True).estimates:
        samples, own_rate = read_audio(estimate)
        assert (len(samples), own_rate) == (1601, sample_rate)


def test_a_channel_is_chosen(model: ConvTasNet, tmp_path: Path) -> None:
    left, right = np.random.default_rng(0).standard_normal((2, 400)) * 0.1
    soundfile.write(tmp_path / "talk.wav", np.stack([left, right], axis=1), 8000, subtype="FLOAT")
    assert only(model, tmp_path / "talk.wav").problem.endswith(
        "has 2 channels; choose one with --channel 0 (the first), or --channel each"
    )
    chosen = read_audio(only(model, tmp_path / "talk.wav", channel=1).estimates[0], dtype="float32")[0]
    np.testing.assert_array_equal(chosen, separate(model, right.astype(np.float32), sample_rate=8000)[0])


def test_each_channel_is_separated_by_itself(model: ConvTasNet, tmp_path: Path) -> None:
    channels = np.random.default_rng(0).standard_normal((3, 400)) * 0.1
    soundfile.write(tmp_path / "talk.wav", channels.T, 8000, subtype="FLOAT")
    put(tmp_path / "mono.wav")
    done = list(separate_files(model, [tmp_path / "talk.wav", tmp_path / "mono.wav"], tmp_path / "out", channel="each"))
    names = [[path.name for path in one.estimates] for one in done]
    assert names == [[f"talk_ch{c}_s{k}.wav" for c in range(3) for k in (1, 2)], ["mono_s1.wav", "mono_s2.wav"]]
    for number, path in enumerate(done[0].estimates):
        expected = separate(model, channels[number // 2].astype(np.float32), sample_rate=8000)[number % 2]
        np.testing.assert_array_equal(read_audio(path, dtype="float32")[0], expected)


def test_channels_are_never_called_like_another_recording(model: ConvTasNet, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "talk.wav", np.random.default_rng(0).standard_normal((400, 2)) * 0.1, 8000)
    put(tmp_path / "talk_CH1.wav")
    refused, done = separate_files(model, [tmp_path / "talk.wav", tmp_path / "talk_CH1.wav"], tmp_path / "out", channel="each")
    assert refused.problem.endswith(f"channel 1 would be called like those of {tmp_path / 'talk_CH1.wav'}; rename one")
    assert len(done.estimates) == 2


def test_one_bad_file_does_not_stop_the_others(model: ConvTasNet, tmp_path: Path) -> None:
    good, cut, other = (put(tmp_path / name) for name in ("a.wav", "b.wav", "c.wav"))
    cut.write_bytes(cut.read_bytes()[:500])
    done = list(separate_files(model, [good, cut, tmp_path / "gone.wav", other], tmp_path / "out"))
    assert [bool(one.estimates) for one in done] == [True, False, False, True]
    assert "is cut short" in done[1].problem
    assert "gone.wav: no such file" in done[2].problem


def test_the_exit_code_and_the_last_line_say_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    report_problems([], 3)
    with pytest.raises(typer.Exit) as ended:
        report_problems(["b.wav: is cut short"], 19)
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err.splitlines() == [
        "tasnet: b.wav: is cut short",
        "tasnet: 19 of 20 files separated, 1 failed (above)",
    ]
    with pytest.raises(AudioError, match="is cut short"):
        report_problems(["b.wav: is cut short"], 0)
