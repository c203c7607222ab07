"""Scores of other tools that are no CSV tables: ESPnet's score files, museval's JSON and VERSA's JSON lines, as tables of text.

scoring/{SI_SNR,SDR,STOI,…}_spk1      ESPnet: a file for each metric and speaker, lines of ``UTTERANCE VALUE``
TRACK.json                            museval: BSS-Eval v4 by frames, of which the median counts
scores.jsonl                          VERSA: an object a line, with ``key`` and a value for each metric
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import TableError
from pipeline.files import parse_json

_ESPNET = re.compile(r"(sdr|sir|sar|si_snr|stoi|estoi|pesq)_spk(\d+)", re.IGNORECASE)
_MUSEVAL = ("SDR", "SIR", "SAR")


def read_other(path: Path) -> pd.DataFrame | None:
    """The scores in a folder of ESPnet's or museval's files, or in a file of museval's or VERSA's; None for all else.

    Returns:
        Text: a row per mixture and source, with ``mixture_id``, ``source`` if known, and the metrics by their tool's names.

    Raises:
        TableError: a file is not as its tool writes it.
    """
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if _ESPNET.fullmatch(file.name)]
        return _espnet(files) if files else _museval(path, sorted(path.rglob("*.json")))
    if path.suffix == ".jsonl":
        return _table(path, (_values(path, line) for line in _lines(path) if line.strip()))
    return _museval(path, [path]) if path.suffix == ".json" else None


def _espnet(files: list[Path]) -> pd.DataFrame:
    rows: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for file in files:
        metric, number = _ESPNET.fullmatch(file.name).groups()  # type: ignore[union-attr]  # chosen by it
        for line in filter(str.strip, _lines(file)):
            words = line.split()
            if len(words) != 2:
                raise TableError(f"{file}: {line.strip()!r} is no line of an utterance and its score")
            rows[words[0], f"s{number}"][metric.lower()] = words[1]
    return pd.DataFrame([{"mixture_id": key[0], "source": key[1], **values} for key, values in rows.items()], dtype="str")


def _museval(path: Path, files: list[Path]) -> pd.DataFrame:
    if not files:
        raise TableError(f"{path}: holds neither score files of ESPnet (SI_SNR_spk1 …) nor JSON of museval")
    return _table(path, (row for file in files for row in _tracks(file)))


def _tracks(file: Path) -> Iterator[dict[str, str]]:
    content = _values(file, "".join(_lines(file)))
    try:
        for target in content["targets"]:
            frames = pd.DataFrame([frame["metrics"] for frame in target["frames"]])
            medians = {
                name.lower(): str(float(np.nanmedian(frames[name].astype("float64")))) for name in _MUSEVAL if name in frames
            }
            yield {"mixture_id": file.stem, "source": str(target["name"]), **medians}
    except (LookupError, TypeError, ValueError) as error:
        raise TableError(f"{file}: is no JSON of museval (targets, frames, metrics): {error!r}") from error


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except (OSError, ValueError) as error:
        raise TableError(f"{path}: cannot be read as text ({error})") from error


def _values(path: Path, text: str) -> Mapping[str, Any]:
    try:
        found = parse_json(text)
    except ValueError as error:
        raise TableError(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(found, dict):
        raise TableError(f"{path}: a JSON object was expected, and there is {text.strip()[:40]!r}")
    return found


def _table(path: Path, rows: Iterator[Mapping[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(
        [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows], dtype="str"
    )
    if table.empty:
        raise TableError(f"{path}: holds no scores")
    return table.fillna("")
