"""Packed files: what goes in comes out, from any process, and a damaged file is refused."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DatasetError
from pipeline.mixtures.shards import Shard, Signal, write_shard

shapes = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 50)), max_size=8)


def _signals(shapes: list[tuple[int, int]], dtype: npt.DTypeLike) -> list[Signal]:
    generator = np.random.default_rng(0)
    return [
        Signal(f"signal {k}", generator.integers(-(2**15), 2**15, shape).astype(dtype), {"level_db": -k / 3, "sex": "F"})
        for k, shape in enumerate(shapes)
    ]


@given(shapes=shapes, dtype=st.sampled_from([np.int16, np.float32]))
@settings(max_examples=50)
def test_signals_survive(tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, int]], dtype: npt.DTypeLike) -> None:
    path = tmp_path_factory.mktemp("shard") / "train.shard"
    signals = _signals(shapes, dtype)
    write_shard(path, iter(signals), sample_rate=8000, dtype=dtype)
    shard = Shard(path)
    assert len(shard) == len(signals)
    assert shard.sample_rate == 8000
    assert shard.num_samples.tolist() == [shape[1] for shape in shapes]
    for k, signal in enumerate(signals):
        assert shard.read(k).dtype == dtype
        assert np.array_equal(shard.read(k), signal.samples)
        assert np.array_equal(shard.read(k, 3, 7), signal.samples[:, 3:7])
        assert shard.facts[k] == signal.facts
        assert shard.index_of()[signal.name] == k


def test_a_shard_goes_to_another_process_as_its_path(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.shard", _signals([(2, 100_000)], np.int16), sample_rate=8000, dtype=np.int16)
    shard = Shard(tmp_path / "a.shard")
    sent = pickle.dumps(shard)
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent).read(0), shard.read(0))


def test_samples_cannot_be_changed(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.shard", _signals([(2, 10)], np.int16), sample_rate=8000, dtype=np.int16)
    with pytest.raises(ValueError, match="read-only"):
        Shard(tmp_path / "a.shard").read(0)[0, 0] = 1


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    def signals() -> Iterator[Signal]:
        yield from _signals([(1, 10)], np.int16)
        raise RuntimeError("the decoder gave up")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "a.shard", signals(), sample_rate=8000, dtype=np.int16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "foreign", "footer"])
def test_a_damaged_shard_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.shard"
    write_shard(path, _signals([(2, 1000), (2, 500)], np.int16), sample_rate=8000, dtype=np.int16)
    whole = path.read_bytes()
    footer = whole.rindex(b'{"sample_rate"')
    damaged = {
        "missing": None,
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "foreign": b"RIFFRIFF" + whole[8:],
        "footer": whole[:footer] + whole[footer:].replace(b"[2,500]", b"[2,501]"),
    }[damage]
    path.unlink()
    if damaged is not None:
        path.write_bytes(damaged)
    with pytest.raises(DatasetError, match=r"a.shard: "):
        Shard(path)
