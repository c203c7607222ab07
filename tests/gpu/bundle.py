"""Gather what a bare GPU machine without network lacks: wheels, and 8-kHz speech to train on.

    make gpu-bundle SPEECH=/my/speech          writes work/gpu-bundle/{wheels,speech} and says its size

The machine is expected to have Python, torch, torchaudio, triton, numpy, scipy, pandas, matplotlib, joblib, jinja2, rich, typer,
safetensors, threadpoolctl, pytest and hypothesis; everything else the project needs goes along as a wheel.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "annotated-types", "cffi", "decorator", "execnet", "mir_eval>=0.8,<0.9", "platformdirs", "pooch", "pycparser", "pyloudnorm",
    "pytest-timeout", "pytest-xdist", "soundfile", "tomli-w", "typing-extensions", "typing-inspection",
)  # fmt: skip
SPLITS = ("train", "valid")
SAMPLE_RATE = 8000
LIMIT_BYTES = 64 * 2**20
"""What may travel in all to a machine that takes little."""


def download(target: Path, python_version: str, platforms: Sequence[str]) -> None:
    """Wheels of the packages that a bare machine lacks; pydantic names the pydantic-core that fits it."""
    target.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", str(target)]
    where = ["--only-binary", ":all:", "--python-version", python_version, "--implementation", "cp"]
    where += [part for each in platforms for part in ("--platform", each)]
    # pydantic works with one version of its core only; pip would say so if it were let to look at what the wheels need.
    core = next(need for need in metadata.requires("pydantic") or [] if need.startswith(("pydantic-core", "pydantic_core")))
    both = [f"pydantic=={metadata.version('pydantic')}", core.replace(" ", "")]
    subprocess.run([*pip, *where, *PACKAGES, *both], check=True, timeout=600)


def write_speech(speech: Path, target: Path) -> None:
    """The training and validation speakers' utterances at 8 kHz, and the table that says so."""
    rows = [row for row in read_rows(speech / "metadata.csv") if row["split"] in SPLITS]
    for row in rows:
        row["num_samples"] = write_low_rate(speech / row["path"], target / row["path"])
        row["sample_rate"] = SAMPLE_RATE
    with (target / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_low_rate(source: Path, target: Path) -> int:
    """One file at the low rate; returns its length."""
    from pipeline import read_audio, resample, write_audio

    samples, sample_rate = read_audio(source)
    low = resample(samples, sample_rate, SAMPLE_RATE)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_audio(target, low, SAMPLE_RATE, encoding="flac")
    return int(low.shape[-1])


def bytes_below(folders: Sequence[Path]) -> int:
    """Of all files in some folders."""
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Write the bundle; say what it weighs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, help="a folder of speech with a metadata.csv that names the splits")
    parser.add_argument("--out", type=Path, default=Path("work/gpu-bundle"))
    parser.add_argument("--python-version", default="3.12", help="of the GPU machine")
    # soundfile's wheels hold libsndfile only where a platform is named that they were built for.
    parser.add_argument("--platforms", nargs="+", default=["manylinux_2_28_x86_64", "manylinux2014_x86_64"])
    given = parser.parse_args()
    download(given.out / "wheels", given.python_version, given.platforms)
    if given.speech:
        write_speech(given.speech, given.out / "speech")
    root = Path(__file__).parents[2]
    sources = bytes_below([root / name for name in ("pipeline", "recipes", "manifests", "tests")])
    bundle = bytes_below([given.out])
    print(
        f"{given.out}: {bundle / 2**20:.1f} MiB, and {sources / 2**20:.1f} MiB of sources; "
        f"{LIMIT_BYTES / 2**20:.0f} MiB may travel"
    )
    sys.exit(int(bundle + sources > LIMIT_BYTES))


if __name__ == "__main__":
    main()
