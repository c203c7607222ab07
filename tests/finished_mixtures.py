"""Finished mixtures in tests: small trees of somebody else's making, and lists of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from tests.voices import voice

RATE = 8000
SECONDS = 0.6
SIZES = {"train": 4, "valid": 2, "test": 2}

Signals = dict[str, npt.NDArray[np.float64]]


def signals(number: int, names: Sequence[str] = ("mix", "s1", "s2")) -> Signals:
    """Voices under the names of all sources, and their sum under the first; with one source there is noise in the sum."""
    mixture, *sources = names
    parts = {name: 0.4 * voice(3 * number + k, k, seconds=SECONDS, sample_rate=RATE) for k, name in enumerate(sources)}
    noise = 0.05 * np.random.default_rng(number).standard_normal(round(SECONDS * RATE)) * (len(sources) == 1)
    return {mixture: sum(parts.values()) + noise} | parts


def write_mixtures(
    root: Path,
    names: Sequence[str] = ("mix", "s1", "s2"),
    *,
    folders: Mapping[str, str] | None = None,
    subtype: str = "PCM_16",
    sample_rate: int = RATE,
) -> Path:
    """``root/SPLIT/NAME/m3.wav`` for every name; the first is the mixture's. ``folders`` calls the splits otherwise."""
    number = 0
    for split, size in SIZES.items():
        for _ in range(size):
            for name, samples in signals(number, names).items():
                path = root / (folders or {}).get(split, split) / name / f"m{number}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, samples, sample_rate, subtype=subtype)
            number += 1
    return root


def write_lists(root: Path, columns: Mapping[str, str], *, top: str = "", id_column: str = "") -> dict[str, str]:
    """A list of each split of a tree, ``root/SPLIT.csv``; ``columns`` says which folder a column lists. Returns their names."""
    for split in SIZES:
        names = sorted(path.name for path in (root / split / next(iter(columns.values()))).iterdir())
        rows = [
            [*([Path(name).stem] if id_column else []), *(f"{top}{split}/{folder}/{name}" for folder in columns.values())]
            for name in names
        ]
        header = [*([id_column] if id_column else []), *columns]
        (root / f"{split}.csv").write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n", encoding="utf-8")
    return {split: f"{split}.csv" for split in SIZES}


def write_json_lists(root: Path, names: Sequence[str] = ("mix", "s1", "s2"), *, top: str = "") -> dict[str, str]:
    """Asteroid's lists of a tree: ``root/lists/SPLIT/NAME.json`` for every name. Returns those of the mixtures."""
    for split in SIZES:
        for name in names:
            files = sorted(path.name for path in (root / split / name).iterdir())
            path = root / "lists" / split / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps([[f"{top}{split}/{name}/{file}", 4800] for file in files]), encoding="utf-8")
    return {split: f"lists/{split}/{names[0]}.json" for split in SIZES}
