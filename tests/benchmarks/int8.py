"""What 8-bit matrices cost: SI-SNRi of a model's ONNX file and of its int8 copy on the same mixtures.

    python tests/benchmarks/int8.py MODEL work/mix/…

Both files are written by `tasnet export --int8` and run by onnxruntime on whole mixtures. The interval is 1.96 standard errors of
the differences between scores of the same mixture.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np

from pipeline.audio.files import read_audio
from pipeline.scoring import score
from pipeline.separation.export import export_model
from pipeline.separation.onnx_files import open_session
from pipeline.tables import MIXTURES, read_table


def main() -> None:
    """Print the means, and the difference with its interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path, help="a folder with mixtures.csv")
    parser.add_argument("--split", default="test")
    parser.add_argument("--mixtures", type=int, default=200)
    given = parser.parse_args()
    table = read_table(given.dataset / "mixtures.csv", MIXTURES)
    rows = table[table["split"] == given.split].head(given.mixtures).to_dict("records")
    found: dict[str, list[float]] = {"float32": [], "int8": []}
    with tempfile.TemporaryDirectory() as folder:
        files = list(export_model(given.model, Path(folder), int8=True))
        sessions = {"float32": "offline.onnx", "int8": "offline.int8.onnx"}
        opened = {kind: open_session(next(path for path in files if path.name == name), 1) for kind, name in sessions.items()}
        for row in rows:
            paths = [row["mixture_path"], *(row[f"source_{k}_path"] for k in range(1, row["num_sources"] + 1))]
            mixture, *references = (read_audio(given.dataset / path, dtype="float32")[0] for path in paths)
            for kind, session in opened.items():
                estimates = session.run(None, {"mixture": mixture[None]})[0][0]
                scores = score(estimates, np.stack(references), mixture=mixture, sample_rate=int(row["sample_rate"]))
                found[kind].append(float(scores["si_snri_db"].mean()))
    changes = np.subtract(found["int8"], found["float32"])
    half = 1.96 * changes.std(ddof=1) / math.sqrt(len(changes))
    print(f"{len(changes)} mixtures: float32 {np.mean(found['float32']):.2f} dB, int8 {np.mean(found['int8']):.2f} dB SI-SNRi")
    print(f"int8 − float32: {changes.mean():+.3f} dB, 95% interval {changes.mean() - half:+.3f} to {changes.mean() + half:+.3f}")


if __name__ == "__main__":
    main()
