"""LibriMix's noise at 0.8 and 1.2 times the speed: how much of it has the samples that SoX, which its script calls, gives it.

python tests/benchmarks/speed.py FOLDER          # of .wav or .flac files; needs the program sox
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.audio.files import quantise_down, read_audio
from pipeline.audio.resampling import at_speed

RAW = ["-t", "f32", "-r", "44100", "-c", "1"]


def played_by_sox(samples: npt.NDArray[np.float32], speed: float) -> npt.NDArray[np.float32]:
    """What SoX's effect ``speed`` makes of samples [time], handed to it as LibriMix's script does."""
    command = ["sox", "-V1", *RAW, "-", *RAW, "-", "speed", str(speed)]
    done = subprocess.run(command, input=samples.tobytes(), capture_output=True, check=True, timeout=600)
    return np.frombuffer(done.stdout, np.float32)


def main() -> None:
    """Print a line for each speed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    files = [path for path in sorted(parser.parse_args().folder.rglob("*")) if path.suffix in (".wav", ".flac")]
    for speed in (0.8, 1.2):
        differences = []
        for path in files:
            samples, _ = read_audio(path, channel=0, dtype="float32")
            ours, theirs = (quantise_down(play(samples, speed)) for play in (at_speed, played_by_sox))
            differences.append(np.abs(ours.astype(int) - theirs))
        found = np.concatenate(differences)
        unequal = np.count_nonzero(found)
        print(f"{speed:g}: {len(files)} files, {len(found):,} samples, {unequal:,} differ, at most by {found.max()} of 32768")


if __name__ == "__main__":
    main()
