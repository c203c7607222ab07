"""A rendered dataset in the list formats of other toolkits: the audio stays where it is, the lists point to it.

asteroid-json   {tr,cv,tt}/{mix,s1,s2}.json: pairs of path and samples, for Asteroid's ``Wsj0mixDataset`` and relatives
asteroid-csv    {train,valid,test}/mixture_SPLIT_mix_clean.csv (or mix_both, mix_single): for Asteroid's ``LibriMix``
speechbrain     {train,valid,test}.csv: ``ID, duration, mix_wav, …``; paths begin with ``$data_root``
kaldi           {train,valid,test}/{wav.scp,spk1.scp,…,utt2spk,spk2utt}: for Kaldi and ESPnet
lhotse          {mix,s1,…}_recordings_SPLIT.jsonl and mix_supervisions_SPLIT.jsonl
webdataset      {train,valid,test}-000000.tar, …: not lists, but the audio itself, see ``tar_shards``
librimix        of a LibriMix tree its own tables, mixture_*.csv and metrics_*.csv, with absolute paths as its script writes them

Noise, where the mixtures have it, is listed like a source: ``noise.json``, ``noise_path``, ``noise_wav``, ``noise1.scp``, ….
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from pipeline.corpora.wsj0 import MERL_SPLITS
from pipeline.errors import DatasetError
from pipeline.files import written_whole
from pipeline.mixtures.tar_shards import write_tar_shards
from pipeline.recipe.schema import SPLITS
from pipeline.tables import read_cells


@dataclass(frozen=True)
class ListedSource:
    """One source of a mixture, with the absolute path of its file."""

    name: str
    path: str
    speaker_id: str
    sex: str
    start_seconds: float = 0.0


@dataclass(frozen=True)
class ListedMixture:
    """One mixture with the absolute paths of its files and of the dataset."""

    mixture_id: str
    split: str
    dataset_path: str
    path: str
    noise_path: str
    """Empty without noise."""
    sample_rate: int
    num_samples: int
    sources: tuple[ListedSource, ...]

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.num_samples / self.sample_rate

    @property
    def parts(self) -> dict[str, str]:
        """The paths of all its files by ``mix``, ``s1``, …, ``noise``."""
        noise = {"noise": self.noise_path} if self.noise_path else {}
        return {"mix": self.path, **{source.name: source.path for source in self.sources}, **noise}


TextFile = tuple[str, str]
"""Name and content of a file to write."""


def export_dataset(mixtures: pd.DataFrame, dataset_dir: Path, out: Path, *, to: str) -> list[Path]:
    """Write the lists of a dataset in another toolkit's format.

    Args:
        mixtures: a table of ``tables.MIXTURES``.
        dataset_dir: where the dataset is, or will be: absolute paths begin with it.
        out: folder for the lists.
        to: a key of ``EXPORTERS``, ``webdataset`` or ``librimix``.

    Returns:
        The files written.

    Raises:
        AudioError: a file cannot be read that a shard needs.
        DatasetError: no such format, mixtures of different numbers of sources, or names the format cannot hold.
        WorkError: the folder cannot be written.
    """
    if to == "librimix":
        return librimix_tables(dataset_dir, out)
    if to not in (*EXPORTERS, "webdataset"):
        raise DatasetError(f"{to}: no such format; choose from {', '.join(EXPORTERS)}, webdataset and librimix")
    listed = list_mixtures(mixtures, dataset_dir)
    written = []
    for split in SPLITS:
        here = sorted((mixture for mixture in listed if mixture.split == split), key=lambda mixture: mixture.mixture_id)
        if to == "webdataset":
            written += write_tar_shards(split, here, out)
            continue
        for name, content in EXPORTERS[to](split, here) if here else ():
            with written_whole(out / name) as temporary:
                temporary.write_text(content, encoding="utf-8", newline="")
            written.append(out / name)
    return written


def librimix_tables(dataset_dir: Path, out: Path) -> list[Path]:
    """Copy the tables of a LibriMix tree, every variant's and type's, each to the same place below ``out``, paths made absolute.

    Raises:
        DatasetError: the dataset has no such tables.
    """
    tables = sorted(dataset_dir.glob("Libri*Mix/*/*/metadata/m*.csv"))
    if not tables:
        raise DatasetError(f"{dataset_dir}: has no Libri2Mix/…/metadata/mixture_*.csv; only LibriMix trees have them")
    root = dataset_dir.absolute()
    for path in tables:
        # As text, so that every number stays as it is.
        table = read_cells(path)
        for name in [name for name in table.columns if name.endswith("_path")]:
            table[name] = [(root / relative).as_posix() for relative in table[name]]
        with written_whole(out / path.relative_to(dataset_dir)) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    return [out / path.relative_to(dataset_dir) for path in tables]


def list_mixtures(mixtures: pd.DataFrame, dataset_dir: Path) -> list[ListedMixture]:
    """The rows of ``mixtures.csv`` with their files' absolute paths.

    Raises:
        DatasetError: mixtures of different numbers of sources.
    """
    counts = sorted(mixtures["num_sources"].unique())
    if len(counts) > 1:
        raise DatasetError(
            f"{dataset_dir}: has mixtures of {' and '.join(map(str, counts))} sources; other toolkits need one number"
        )
    root = dataset_dir.absolute()
    return [_listed(row, root) for row in mixtures.to_dict("records")]


def _listed(row: dict[Any, Any], root: Path) -> ListedMixture:
    sources = []
    for number in range(1, row["num_sources"] + 1):
        path, speaker_id, sex = (str(row[f"source_{number}_{name}"]) for name in ("path", "speaker_id", "sex"))
        start = float(row.get(f"source_{number}_start_seconds", 0.0))
        sources.append(ListedSource(f"s{number}", (root / path).as_posix(), speaker_id, sex, start))
    return ListedMixture(
        mixture_id=row["mixture_id"],
        split=row["split"],
        dataset_path=root.as_posix(),
        path=(root / row["mixture_path"]).as_posix(),
        noise_path=(root / row["noise_path"]).as_posix() if row.get("noise_path") else "",
        sample_rate=row["sample_rate"],
        num_samples=row["num_samples"],
        sources=tuple(sources),
    )


# -------------------------------------------------------------------------------------------------------------- Asteroid
def asteroid_json(split: str, mixtures: Sequence[ListedMixture]) -> Iterator[TextFile]:
    """Lists of ``[path, samples]``: one file for the mixtures and one for each source."""
    folder = MERL_SPLITS[split]
    for name, paths in _columns(mixtures).items():
        pairs = [[path, mixture.num_samples] for path, mixture in zip(paths, mixtures, strict=True)]
        yield f"{folder}/{name}.json", json.dumps(pairs, indent=1, ensure_ascii=False) + "\n"


def asteroid_csv(split: str, mixtures: Sequence[ListedMixture]) -> Iterator[TextFile]:
    """The metadata table of LibriMix's own script."""
    names = [f"source_{name[1:]}" if name.startswith("s") else name for name in mixtures[0].parts if name != "mix"]
    header = ["mixture_ID", "mixture_path", *(f"{name}_path" for name in names), "length"]
    rows = ([m.mixture_id, *m.parts.values(), m.num_samples] for m in mixtures)
    folder = PurePosixPath(mixtures[0].path).parent.name
    kind = folder if folder.startswith("mix_") else "mix_clean"
    yield f"{split}/mixture_{split}_{kind}.csv", _csv(header, rows)


# ----------------------------------------------------------------------------------------------------------- SpeechBrain
def speechbrain(split: str, mixtures: Sequence[ListedMixture]) -> Iterator[TextFile]:
    """The table of SpeechBrain's separation recipes; pass ``replacements={"data_root": DATASET}`` when reading it."""
    header = ["ID", "duration", *(f"{name}_wav{ending}" for name in mixtures[0].parts for ending in ("", "_format", "_opts"))]
    yield f"{split}.csv", _csv(header, map(_speechbrain_row, mixtures))


def _speechbrain_row(mixture: ListedMixture) -> list[object]:
    files = [PurePosixPath(path) for path in mixture.parts.values()]
    inside = [file.is_relative_to(mixture.dataset_path) for file in files]
    paths = [f"$data_root/{f.relative_to(mixture.dataset_path)}" if i else str(f) for f, i in zip(files, inside, strict=True)]
    cells = [(path, file.suffix[1:], "") for path, file in zip(paths, files, strict=True)]
    return [mixture.mixture_id, mixture.seconds, *(cell for three in cells for cell in three)]


# ----------------------------------------------------------------------------------------------------------------- Kaldi
def kaldi(split: str, mixtures: Sequence[ListedMixture]) -> Iterator[TextFile]:
    """A Kaldi data folder for ESPnet's enhancement recipes; every mixture counts as a speaker of its own.

    Raises:
        DatasetError: a name has a space, which separates columns in Kaldi's files.
    """
    blanks = [mixture.mixture_id for mixture in mixtures if len(mixture.mixture_id.split()) != 1]
    if blanks:
        raise DatasetError(f"{blanks[0]!r}: Kaldi's lists cannot have names with spaces; rename the utterances and mix again")
    ordered = sorted(mixtures, key=lambda mixture: mixture.mixture_id.encode())
    names = [mixture.mixture_id for mixture in ordered]
    for name, paths in _columns(ordered).items():
        yield f"{split}/{_kaldi_name(name)}", _lines(names, paths)
    for file in ("utt2spk", "spk2utt"):
        yield f"{split}/{file}", _lines(names, names)


def _kaldi_name(part: str) -> str:
    if part.startswith("s"):
        return f"spk{part[1:]}.scp"
    return "wav.scp" if part == "mix" else "noise1.scp"


def _lines(keys: Sequence[str], values: Sequence[str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in zip(keys, values, strict=True))


# ---------------------------------------------------------------------------------------------------------------- Lhotse
def lhotse(split: str, mixtures: Sequence[ListedMixture]) -> Iterator[TextFile]:
    """Recordings of mixtures and of each source, and a supervision of the mixture for each of its speakers."""
    for name, paths in _columns(mixtures).items():
        records = (_recording(name, path, mixture) for path, mixture in zip(paths, mixtures, strict=True))
        yield f"{name}_recordings_{split}.jsonl", _jsonl(records)
    supervisions = (_supervision(mixture, source) for mixture in mixtures for source in mixture.sources)
    yield f"mix_supervisions_{split}.jsonl", _jsonl(supervisions)


def _recording(name: str, path: str, mixture: ListedMixture) -> dict[str, Any]:
    return {
        "id": mixture.mixture_id if name == "mix" else f"{mixture.mixture_id}-{name}",
        "sources": [{"type": "file", "channels": [0], "source": path}],
        "sampling_rate": mixture.sample_rate,
        "num_samples": mixture.num_samples,
        "duration": mixture.seconds,
        "channel_ids": [0],
    }


def _supervision(mixture: ListedMixture, source: ListedSource) -> dict[str, Any]:
    known = {"gender": source.sex} if source.sex else {}
    return {
        "id": f"{mixture.mixture_id}-{source.name}",
        "recording_id": mixture.mixture_id,
        "start": source.start_seconds,
        "duration": mixture.seconds - source.start_seconds,
        "channel": 0,
        "speaker": source.speaker_id,
        **known,
    }


# ---------------------------------------------------------------------------------------------------------------- common
def _columns(mixtures: Sequence[ListedMixture]) -> dict[str, list[str]]:
    """The paths of all mixtures' files by ``mix``, ``s1``, …, ``noise``."""
    return {name: [mixture.parts[name] for mixture in mixtures] for name in mixtures[0].parts}


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _jsonl(records: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


EXPORTERS: dict[str, Callable[[str, Sequence[ListedMixture]], Iterator[TextFile]]] = {
    "asteroid-json": asteroid_json,
    "asteroid-csv": asteroid_csv,
    "speechbrain": speechbrain,
    "kaldi": kaldi,
    "lhotse": lhotse,
}
"""What ``export_dataset`` can write, by name."""
