"""Files that go through in blocks: the estimates of the whole, at the file's own rate, and nothing left behind."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.audio import files as audio_files
from pipeline.audio.files import read_audio, write_audio
from pipeline.errors import ModelError, WorkError
from pipeline.models import layerwise
from pipeline.separation import long_files, recordings, records
from pipeline.separation.long_files import Limits, choose_method, disk_bytes
from pipeline.separation.recordings import Separated, separate_files
from tests.separation.networks import network

NOTHING = Limits(max_memory_gb=0)
KINDS: list[dict[str, Any]] = [
    {"causal": True},
    {"causal": True, "norm": "frame"},
    {"causal": False},
    {"causal": False, "norm": "cumulative"},
    {"causal": False, "norm": "frame"},
]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_files, "BLOCK_SAMPLES", 1000)
    monkeypatch.setattr(long_files, "BLOCK_SECONDS", 0.03)
    monkeypatch.setattr(layerwise, "CHUNK_BYTES", 50_000)


def put(path: Path, num_samples: int = 4001, sample_rate: int = 8000) -> Path:
    samples = np.random.default_rng(0).standard_normal(num_samples) * np.linspace(0.01, 0.3, num_samples)
    write_audio(path, samples, sample_rate, encoding="float32")
    return path


def only(path: Path, out: Path, limits: Limits = NOTHING, **changes: Any) -> Separated:
    options = {name: changes.pop(name) for name in ("forget_seconds", "scratch", "channel") if name in changes}
    (done,) = separate_files(network(**changes), [path], out, convert_rate=True, limits=limits, **options)
    return done


def estimates_of(done: Separated) -> NDArray[Any]:
    return np.stack([read_audio(path)[0] for path in done.estimates])


@pytest.mark.parametrize("sample_rate", [8000, 16000, 11025])
@pytest.mark.parametrize("changes", KINDS)
def test_a_long_file_is_separated_as_a_short_one(changes: dict[str, Any], sample_rate: int, tmp_path: Path) -> None:
    path = put(tmp_path / "talk.wav", sample_rate=sample_rate)
    short = only(path, tmp_path / "short", Limits(), **changes)
    long = only(path, tmp_path / "long", **changes)
    assert (short.method, long.method) == ("whole", "streaming" if changes["causal"] else "layers")
    expected, found = estimates_of(short), estimates_of(long)
    assert expected.shape == found.shape == (2, 4001)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    for path in long.estimates:
        assert len(path.read_bytes()) == len((tmp_path / "short" / path.name).read_bytes())


@pytest.mark.parametrize("num_samples", [1, 7, 1000])
@pytest.mark.parametrize("causal", [True, False])
def test_lengths_that_fit_no_block(num_samples: int, causal: bool, tmp_path: Path) -> None:
    path = put(tmp_path / "talk.wav", num_samples)
    expected = estimates_of(only(path, tmp_path / "short", Limits(), causal=causal))
    found = estimates_of(only(path, tmp_path / "long", causal=causal))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_without_disk_it_goes_in_windows_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = put(tmp_path / "talk.wav", 100_000)
    with caplog.at_level(logging.INFO):
        done = only(path, tmp_path / "out", Limits(max_memory_gb=0, max_disk_gb=0), causal=False)
    assert done.method == "windows"
    assert "overlapping windows of 4 s, which is NOT exact" in caplog.text
    found, mixture = estimates_of(done), read_audio(path)[0]
    rest = mixture - found.sum(0)
    assert np.abs(found @ rest).max() < 1e-3 * (mixture @ mixture)  # at the level of the mixture


@pytest.mark.parametrize(
    ("causal", "words"), [(True, "streamed instead, with the same"), (False, "layer by layer instead, with")]
)
def test_what_is_exact_says_so_too(causal: bool, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        only(put(tmp_path / "talk.wav"), tmp_path / "out", causal=causal)
    assert words in caplog.text


def test_memory_disk_and_the_kind_of_network_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noncausal, second = network(causal=False), 8000
    needed = noncausal.activation_bytes(100 * second) / 1e9
    assert choose_method(noncausal, 100 * second, Limits(max_memory_gb=1.01 * needed), tmp_path) == "whole"
    assert choose_method(noncausal, 100 * second, Limits(max_memory_gb=0.99 * needed), tmp_path) == "layers"
    disk = disk_bytes(noncausal, 100 * second)
    assert choose_method(noncausal, 100 * second, Limits(0, 0.99 * disk / 1e9), tmp_path) == "windows"
    monkeypatch.setattr(long_files, "free_bytes", lambda folder: disk)
    assert choose_method(noncausal, 100 * second, NOTHING, tmp_path) == "windows"
    assert choose_method(network(), 100 * second, NOTHING, tmp_path) == "streaming"


def test_forgetting_streams_short_files_too_and_changes_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = put(tmp_path / "talk.wav")
    with caplog.at_level(logging.INFO):
        forgetful = only(path, tmp_path / "out", Limits(), forget_seconds=0.05)
    assert forgetful.method == "streaming"
    assert "fall to 1/e after 0.05 s" in caplog.text
    assert json.loads((tmp_path / "out" / "separated.jsonl").read_text().splitlines()[1])["forget_seconds"] == 0.05
    expected = estimates_of(only(path, tmp_path / "other", Limits()))
    assert np.abs(estimates_of(forgetful) - expected).max() > 1e-3 * np.abs(expected).max()
    with pytest.raises(ModelError, match="cannot stream"):
        only(path, tmp_path / "out", causal=False, forget_seconds=0.05)


def test_intermediate_results_lie_where_they_are_told_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = set()
    real = long_files.Scratch

    def watched(folder: Path, width: int) -> Any:
        folders.add(folder)
        return real(folder, width)

    monkeypatch.setattr(long_files, "Scratch", watched)
    only(put(tmp_path / "talk.wav"), tmp_path / "out", causal=False, scratch=tmp_path / "scratch")
    assert folders == {tmp_path / "scratch"}
    assert list((tmp_path / "scratch").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["separated.jsonl", "talk_s1.wav", "talk_s2.wav"]


@pytest.mark.parametrize("changes", [{"causal": True}, {"causal": False}])
def test_an_interruption_leaves_nothing(changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = put(tmp_path / "a.wav"), put(tmp_path / "b.wav")
    written = long_files.write_blocks

    def interrupted(target: Path, *arguments: Any) -> None:
        if target.name == "b_s2.wav":
            raise KeyboardInterrupt
        written(target, *arguments)

    monkeypatch.setattr(long_files, "write_blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(separate_files(network(**changes), [first, second], tmp_path / "out", limits=NOTHING))
    names = ["a_s1.wav", "a_s2.wav", "b_s1.wav", "separated.jsonl"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    monkeypatch.undo()
    runs = counted(monkeypatch)
    done = list(separate_files(network(**changes), [first, second], tmp_path / "out", limits=NOTHING))
    assert (runs, [len(one.estimates) for one in done]) == (["b.wav"], [2, 2])


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are separated from now on."""
    runs: list[str] = []
    real = recordings._Separator._write

    def noted(self: Any, long: Any, *arguments: Any) -> None:
        runs.append(long.path.name)
        real(self, long, *arguments)

    monkeypatch.setattr(recordings._Separator, "_write", noted)
    return runs


def test_what_would_change_an_estimate_separates_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = put(tmp_path / "talk.wav"), tmp_path / "out"
    runs = counted(monkeypatch)
    only(path, out)
    only(path, out)
    assert len(runs) == 1
    only(path, out, Limits())  # at once
    only(path, out, Limits(), mask="relu")  # another model
    only(path, out, Limits(), mask="relu", forget_seconds=1)
    assert len(runs) == 4
    put(path, 4002)
    only(path, out, Limits(), mask="relu", forget_seconds=1)
    (out / "talk_s2.wav").unlink()
    only(path, out, Limits(), mask="relu", forget_seconds=1)
    assert len(runs) == 6
    only(path, out, Limits(), mask="relu", forget_seconds=1)
    assert len(runs) == 6
    assert len((out / "separated.jsonl").read_text().splitlines()) >= 2


def test_records_of_another_version_are_replaced_and_foreign_files_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out, runs = put(tmp_path / "talk.wav"), tmp_path / "out", counted(monkeypatch)
    only(path, out)
    with monkeypatch.context() as newer:
        newer.setattr(records, "VERSION", 1000)
        only(path, out)
        only(path, out)
    assert len(runs) == 2
    (out / "separated.jsonl").write_text("mine\n")
    with pytest.raises(WorkError, match=r"separated\.jsonl: was not written by tasnet separate"):
        only(path, out)
    assert (out / "separated.jsonl").read_text() == "mine\n"


def test_a_record_says_what_was_done(tmp_path: Path) -> None:
    only(put(tmp_path / "talk.wav", 4001, 16000), tmp_path / "out", causal=False)
    head, line = (tmp_path / "out" / "separated.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert "identity" in json.loads(head)
    assert record.pop("wall_seconds") > 0
    assert record.pop("modified_ns") > 0
    assert len(record.pop("model")) == 16
    assert record == {
        "name": "talk", "recording": str(tmp_path / "talk.wav"), "num_bytes": 4 * 4001 + 56,
        "estimates": ["talk_s1.wav", "talk_s2.wav"], "method": "layers", "forget_seconds": None, "channel": None,
        "num_samples": 4001, "sample_rate": 16000, "resampler": "torchaudio kaiser_best",
    }  # fmt: skip


def test_the_progress_counts_seconds_of_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    totals: list[int] = []

    class Bar:
        def __init__(self, description: str, total: int) -> None:
            totals.append(total if description else 0)

        def __enter__(self) -> Any:
            return lambda count: steps.append(count)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(recordings, "progress_bar", Bar)
    paths = [put(tmp_path / "a.wav", 20_000), put(tmp_path / "b.wav", 30_001), tmp_path / "gone.wav"]
    list(separate_files(network(causal=False), paths, tmp_path / "out", limits=NOTHING, description="separate"))
    assert (totals, sum(steps)) == ([6], 6)
    assert len([count for count in steps if count]) > 3  # within files too
    assert min(steps) >= 0


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkError, match="file: no intermediate results can be kept there"):
        only(put(tmp_path / "talk.wav"), tmp_path / "out", scratch=tmp_path / "file")
