"""A rendered dataset as tar shards for the webdataset package: read in sequence, from a disk or through the network.

``train-000000.tar``, ``train-000001.tar``, … hold, for every mixture one after another,

    00000000.mix.wav 00000000.s1.wav 00000000.s2.wav …    the files as they were rendered, noise included where there is any
    00000000.json                                         mixture_id, split, sample_rate, num_samples, and the speakers

Mixtures are numbered, since webdataset takes what follows the first dot of a name for its kind, and ours have dots. The same
dataset gives the same bytes: members have no owner and no date.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import AudioError, DatasetError
from pipeline.files import written_whole

if TYPE_CHECKING:
    from pipeline.mixtures.interchange import ListedMixture

SHARD_BYTES = 2**30
"""A shard is complete once it has so many."""


def write_tar_shards(split: str, mixtures: Sequence[ListedMixture], out: Path, *, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """Write the shards of a split.

    Args:
        split: train, valid or test.
        mixtures: of the split, in the order they are to be read in.
        out: folder of the shards.
        shard_bytes: a shard is complete once it has so many.

    Returns:
        The shards, in order.

    Raises:
        AudioError: a file of the dataset cannot be read.
        DatasetError: the folder has other shards of the split, which would be read with these.
        WorkError: the folder cannot be written.
    """
    shards = {out / f"{split}-{number:06d}.tar": piece for number, piece in enumerate(_pieces(mixtures, shard_bytes))}
    if strange := sorted(set(out.glob(f"{split}-[0-9]*.tar")) - set(shards)):
        raise DatasetError(f"{strange[0]}: is of another dataset and would be read with this one; choose an empty folder")
    for path, piece in shards.items():
        with written_whole(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as shard:
            for number, mixture in piece:
                _add_mixture(shard, f"{number:08d}", mixture)
    return list(shards)


def _pieces(mixtures: Sequence[ListedMixture], shard_bytes: int) -> Iterator[list[tuple[int, ListedMixture]]]:
    """The mixtures of every shard, numbered throughout the split."""
    piece: list[tuple[int, ListedMixture]] = []
    num_bytes = 0
    for number, mixture in enumerate(mixtures):
        piece.append((number, mixture))
        num_bytes += sum(_size(Path(path)) for path in mixture.parts.values())
        if num_bytes >= shard_bytes:
            yield piece
            piece, num_bytes = [], 0
    if piece:
        yield piece


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror or error}); see `tasnet verify`") from error


def _add_mixture(shard: tarfile.TarFile, key: str, mixture: ListedMixture) -> None:
    for part, path in mixture.parts.items():
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise AudioError(f"{path}: cannot be read ({error.strerror or error}); see `tasnet verify`") from error
        _add(shard, f"{key}.{part}{Path(path).suffix}", content)
    _add(shard, f"{key}.json", json.dumps(_facts(mixture), ensure_ascii=False).encode())


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # its date is 0, its owner nobody
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))


def _facts(mixture: ListedMixture) -> dict[str, object]:
    return {
        "mixture_id": mixture.mixture_id,
        "split": mixture.split,
        "sample_rate": mixture.sample_rate,
        "num_samples": mixture.num_samples,
        "sources": [
            {"name": source.name, "speaker_id": source.speaker_id, "sex": source.sex, "start_seconds": source.start_seconds}
            for source in mixture.sources
        ],
    }
