"""A training of the paper's network on the device, as many epochs as its measured rate allows, by the real command line.

Writes `SYSTEM-history.csv` and the weights, in parts that may travel, to OUT; `cat SYSTEM.part.* > best.safetensors` joins them.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.gpu.common import TOY, arguments, say

ROOT = Path(__file__).parents[2]
PAPER = {"filter_length": 16, "hidden_channels": 512, "blocks_per_repeat": 8, "num_repeats": 3}
"""What own-speech.toml has smaller, for a CPU."""
WHOLE = ["plan.num_mixtures={ train = 1000, valid = 100 }"]
SMALL = [
    "plan.num_mixtures={ train = 8, valid = 4 }",
    "plan.min_seconds=0.5",
    "corpus.valid_share=0.25",
    "corpus.test_share=0.25",
    "train.segments_per_epoch=16",
    "train.segment_seconds=0.5",
]
SEGMENTS_PER_EPOCH, SEGMENT_SECONDS = 4800, 3.0
KEPT = ("epoch", "valid_si_snri_db", "segments_per_second", "warmup_seconds", "peak_memory_gib")
PART_BYTES = 15_000_000
RESERVE_SECONDS = 45
"""For generating and packing, compiling, validation, and copying what came of it."""


def num_epochs(seconds: float, rate: float) -> int:
    """As many as fit, at a measured rate of 4-second segments a second; a fifth of the time is for validation."""
    return max(2, int(0.8 * seconds * rate * (4.0 / SEGMENT_SECONDS) / SEGMENTS_PER_EPOCH))


def command(system: str, device: str, work: Path, speech: Path, epochs: int, small: bool) -> list[str]:
    """What a person would type."""
    model = {**TOY, "filter_length": 8} if small else PAPER
    settings = [
        *(f"model.{name}={value}" for name, value in model.items()),
        f"train.epochs={epochs}",
        *(SMALL if small else WHOLE),
    ]
    overrides = [part for setting in settings for part in ("--set", setting)]
    run = [sys.executable, "-m", "pipeline", "run", str(ROOT / "recipes" / "own-speech.toml"), f"train:{system}"]
    return [*run, "--work", str(work), "--corpus", f"folder={speech}", "--device", device, *overrides]


def made_up_speech(folder: Path) -> Path:
    """For the toy: a few seconds of made-up voices."""
    from tests.voices import write_voices

    write_voices(folder)
    return folder


def main() -> None:
    """Train; print the last epoch."""
    given = arguments(__doc__, out=Path)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        speech = given.speech or made_up_speech(Path(place) / "speech")
        epochs = 2 if given.small else num_epochs(given.seconds - RESERVE_SECONDS, given.rate or 100.0)
        run = command(given.system, given.device, Path(place) / "work", speech, epochs, given.small)
        exit_code, said = run_for(run, given.seconds - (time.monotonic() - started) - 10)
        trained = next((Path(place) / "work" / "train").glob(f"{given.system}-*"), None)
        if trained is None or not (trained / "history.csv").is_file():
            say(failed="train", epochs=epochs, said=said[-300:])
            sys.exit(1)
        shutil.copy(trained / "history.csv", given.out / f"{given.system}-history.csv")
        split(trained / "best.safetensors", given.out, given.system)
        with (trained / "history.csv").open(encoding="utf-8") as file:
            last = list(csv.DictReader(file))[-1]
        kept = ("epoch", "valid_si_snri_db", "segments_per_second", "warmup_seconds", "peak_memory_gib")
        say(
            system=given.system,
            epochs=epochs,
            seconds=time.monotonic() - started,
            exit_code=exit_code,
            **{name: last.get(name, "") for name in kept},
        )


def run_for(run: list[str], seconds: float) -> tuple[int | None, str]:
    """Exit code and last words; None where the training was ended because its time was up. The best weights so far are there."""
    try:
        ended = subprocess.run(run, cwd=ROOT, timeout=max(1, seconds), capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        return None, "its time was up"
    return ended.returncode, ended.stderr.strip()


def split(path: Path, out: Path, name: str) -> None:
    """Copy a file in parts that begin with a name."""
    whole = path.read_bytes()
    for number, start in enumerate(range(0, len(whole), PART_BYTES)):
        (out / f"{name}.part.{number}").write_bytes(whole[start : start + PART_BYTES])


if __name__ == "__main__":
    main()
