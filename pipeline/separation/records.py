"""What a folder of estimates says of how each was made; recordings that are separated already are not separated again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.audio.headers import why_unreadable
from pipeline.compute.journal import Journal
from pipeline.errors import AudioError, WorkError
from pipeline.models import Network
from pipeline.separation import VERSION

RECORDS_FILE = "separated.jsonl"
IDENTITY = "tasnet separate"
_NOT_COMPARED = ("wall_seconds",)


class Records:
    """A line of JSON for every separated recording, in ``out/separated.jsonl``, appended once its estimates are written.

    Args:
        out: folder of the estimates; it is made when the first record is added.

    Raises:
        WorkError: there is another file of that name.
    """

    def __init__(self, out: Path) -> None:
        self._out, path = out, out / RECORDS_FILE
        self._journal = Journal(path, f"{IDENTITY} {VERSION}", ("name",))
        self._is_open = False
        self._known: dict[str, dict[str, Any]] = {}
        if path.exists():
            _check_ours(path)
            if not self._journal.is_foreign():
                self._known = {record["name"]: record for record in self._journal.records()}

    def __contains__(self, record: dict[str, Any]) -> bool:
        """Whether a recording was separated in just that way, and its estimates are still there."""
        known = self._known.get(record["name"], {})
        facts = {key: value for key, value in known.items() if key not in _NOT_COMPARED}
        return facts == record and all((self._out / name).exists() for name in record["estimates"])

    def add(self, record: dict[str, Any], wall_seconds: float) -> None:
        """Append what is known of a recording whose estimates are all written.

        Raises:
            WorkError: the folder cannot be written.
        """
        if not self._is_open:
            if self._journal.is_foreign():  # of a version that gave other estimates
                self._journal.remove()
            self._journal.resume(lambda known: known == self._known.get(known["name"], known))
            self._is_open = True
        self._known[record["name"]] = record | {"wall_seconds": round(wall_seconds, 3)}
        self._journal.append([self._journal.entry(self._known[record["name"]])])


def _check_ours(path: Path) -> None:
    """Raise a WorkError unless a file holds records, of whatever version."""
    with path.open("rb") as file:
        head = file.read(len(IDENTITY) + 64)
    if head and not head.startswith(b'{"identity":"' + IDENTITY.encode()):
        raise WorkError(f"{path}: was not written by tasnet separate; move it, or choose another folder with --out")


def facts_of(recording: Path, name: str, targets: Sequence[Path], out: Path) -> dict[str, Any]:
    """Which recording it is, by its size and time of change, and where its estimates are.

    Raises:
        AudioError: it is no longer there.
    """
    try:
        state = recording.stat()
    except OSError as error:
        raise AudioError(why_unreadable(recording, error)) from None
    return {
        "name": name,
        "recording": str(recording.absolute()),
        "num_bytes": state.st_size,
        "modified_ns": state.st_mtime_ns,
        "estimates": [target.relative_to(out).as_posix() for target in targets],
    }


def model_digest(model: Network) -> str:
    """Of all that decides a network's estimates."""
    digest = hashlib.sha256(json.dumps(model.settings.model_dump(), sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
