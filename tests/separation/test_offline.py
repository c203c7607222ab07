"""Estimates at a defined level, any length, silence included; datasets that continue where they stopped."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audio.files import read_audio, write_audio
from pipeline.compute import devices
from pipeline.errors import AudioError
from pipeline.models import ConvTasNet, build_model
from pipeline.recipe.schema import Model
from pipeline.separation import offline
from pipeline.separation.offline import real_time_factor, separate, separate_dataset

TINY = Model(
    num_filters=16, filter_length=8, bottleneck_channels=4, skip_channels=4, hidden_channels=6, blocks_per_repeat=2, num_repeats=1
)


def tiny(num_sources: int = 2) -> ConvTasNet:
    torch.manual_seed(0)
    return build_model(TINY, num_sources=num_sources).eval()


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(num_samples)


@given(st.integers(1, 300), st.integers(1, 3), st.floats(1e-5, 1e3))
@settings(max_examples=30, deadline=None)
def test_level_and_length(num_samples: int, num_sources: int, gain: float) -> None:
    """No other gains bring the sum nearer to the mixture, and the level follows the mixture's."""
    mixture = noise(num_samples)
    estimates = separate(tiny(num_sources), gain * mixture, sample_rate=8000).astype(float) / gain
    assert estimates.shape == (num_sources, num_samples)
    rest = mixture - estimates.sum(0)
    assert np.abs(estimates @ rest).max() < 1e-3 * (mixture @ mixture)


def test_the_scale_and_sign_of_the_network_do_not_matter() -> None:
    model = tiny()
    expected = separate(model, noise(400), sample_rate=8000)
    with torch.no_grad():
        model.decoder.basis.weight.mul_(-1000.0)
    np.testing.assert_allclose(separate(model, noise(400), sample_rate=8000), expected, rtol=1e-4, atol=1e-6)


def test_silence_in_silence_out() -> None:
    estimates = separate(tiny(), np.zeros(100), sample_rate=8000)
    assert np.array_equal(estimates, np.zeros((2, 100), np.float32))


def test_equal_estimates_share_the_mixture() -> None:
    estimates = offline._levelled(torch.ones(2, 10), torch.full((10,), 3.0))
    torch.testing.assert_close(estimates, torch.full((2, 10), 1.5, dtype=torch.float64))


def test_what_cannot_be_separated() -> None:
    for mixture, words in (
        (np.zeros(0), "at least one sample"),
        (np.zeros((2, 5)), "one channel"),
        (np.array([0.0, np.nan]), "NaN"),
    ):
        with pytest.raises(AudioError, match=words):
            separate(tiny(), mixture, sample_rate=8000)
    with pytest.raises(AudioError, match="16000 Hz"):
        separate(tiny(), np.zeros(10), sample_rate=16000)


@pytest.fixture
def dataset(tmp_path: Path) -> pd.DataFrame:
    rows = []
    for k, split in enumerate(["test", "test", "train", "test"]):
        path = f"mix/{k:03}.wav"
        write_audio(tmp_path / path, noise(500 + k, seed=k), 8000)
        rows.append({"mixture_id": f"{k:03}", "split": split, "mixture_path": path})
    return pd.DataFrame(rows)


def test_a_dataset(dataset: pd.DataFrame, tmp_path: Path) -> None:
    out = tmp_path / "out"
    timing = separate_dataset(tiny(), dataset, tmp_path, out, description="")
    assert list(timing["mixture_id"]) == ["000", "001", "003"]
    assert list(timing["num_samples"]) == [500, 501, 503]
    assert real_time_factor(timing) > 0
    for k in (1, 2):
        assert sorted(path.name for path in (out / f"s{k}").iterdir()) == ["000.wav", "001.wav", "003.wav"]
    expected = separate(tiny(), read_audio(tmp_path / "mix/001.wav")[0], sample_rate=8000)
    assert np.array_equal(read_audio(out / "s2/001.wav")[0].astype(np.float32), expected[1])


@pytest.mark.parametrize(("num_fit", "calls"), [(0, [1, 1, 1]), (2, [2, 1]), (3, [3])])
def test_a_device_with_room_separates_several_at_once(
    dataset: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_fit: int, calls: list[int]
) -> None:
    model, sizes = tiny(), []
    alone = separate_dataset(model, dataset, tmp_path, tmp_path / "alone", description="")
    monkeypatch.setattr(devices, "room_for_mixtures", lambda device: num_fit * model.activation_bytes(503))
    model.register_forward_hook(lambda module, given, estimates: sizes.append(len(estimates)))
    together = separate_dataset(model, dataset, tmp_path, tmp_path / "together", description="")
    assert sizes == calls
    pd.testing.assert_frame_equal(together.drop(columns="seconds"), alone.drop(columns="seconds"))
    assert (together["seconds"] > 0).all()
    for name in ("s1/000.wav", "s2/001.wav", "s1/003.wav"):
        one, other = (read_audio(tmp_path / folder / name)[0] for folder in ("alone", "together"))
        np.testing.assert_allclose(other, one, atol=1e-6 * np.abs(one).max())


def test_a_batch_that_does_not_fit_is_separated_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mixtures, sizes = tiny(), [noise(300 + k, seed=k) for k in range(5)], []
    together, most = offline._separated_together, 2

    def small(model: ConvTasNet, signals: list[torch.Tensor]) -> list[np.ndarray]:
        sizes.append(len(signals))
        if len(signals) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return together(model, signals)

    monkeypatch.setattr(offline, "_separated_together", small)
    found = offline.separate_several(model, mixtures, sample_rate=8000)
    assert sizes == [5, 2, 3, 1, 2]
    for mixture, estimates in zip(mixtures, found, strict=True):
        np.testing.assert_allclose(estimates, separate(model, mixture, sample_rate=8000), atol=1e-6)
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        offline.separate_several(model, mixtures, sample_rate=8000)


def test_in_a_batch_too_errors_name_the_file(dataset: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "room_for_mixtures", lambda device: 10**12)
    write_audio(tmp_path / "mix/001.wav", noise(100), 16000)
    with pytest.raises(AudioError, match=r"001\.wav: .*16000 Hz"):
        separate_dataset(tiny(), dataset, tmp_path, tmp_path / "out", description="")


def test_it_continues_and_then_does_nothing(dataset: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    real, calls = offline.separate, []

    def counted(*arguments: object, **keywords: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(offline, "separate", counted)
    monkeypatch.setattr(offline, "SAVED_EVERY_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        separate_dataset(tiny(), dataset, tmp_path, out, description="")
    separate_dataset(tiny(), dataset, tmp_path, out, description="")
    assert len(calls) == 4  # two, the interrupted third, and that one again
    (out / "s1/000.wav").unlink()
    timing = separate_dataset(tiny(), dataset, tmp_path, out, description="")
    assert len(calls) == 5
    assert sorted(timing["mixture_id"]) == ["000", "001", "003"]


def test_the_factor_on_a_cpu_is_that_of_the_timing(dataset: pd.DataFrame, tmp_path: Path) -> None:
    timing = separate_dataset(tiny(), dataset, tmp_path, tmp_path / "out", description="")
    expected = timing["seconds"].sum() / (timing["num_samples"].sum() / 8000)
    assert offline.cpu_real_time_factor(tiny(), timing) == pytest.approx(expected)


def test_a_model_is_timed_by_separating_it_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    clock = iter([10.0, 13.0])
    monkeypatch.setattr(offline.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(offline, "separate", lambda model, mixture, *, sample_rate: calls.append(len(mixture)))
    assert offline.timed_on_cpu(tiny(), seconds=2.0) == 1.5
    assert calls == [16000, 16000]


def test_errors_name_the_file(dataset: pd.DataFrame, tmp_path: Path) -> None:
    write_audio(tmp_path / "mix/001.wav", noise(100), 16000)
    with pytest.raises(AudioError, match=r"001\.wav: .*16000 Hz"):
        separate_dataset(tiny(), dataset, tmp_path, tmp_path / "out", description="")
    (tmp_path / "mix/001.wav").unlink()
    with pytest.raises(AudioError, match=r"001\.wav"):
        separate_dataset(tiny(), dataset, tmp_path, tmp_path / "out", description="")
