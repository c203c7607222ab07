"""Where a result comes from: versions, commit, machine and command, for the last section of a report."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "numpy", "scipy", "pandas", "mir_eval", "pyloudnorm", "soundfile")


def provenance(*, device: str) -> dict[str, str]:
    """Names and values of what helps to reproduce a result; the recipe itself is shown beside them."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return {
        "tasnet-pipeline": metadata.version("tasnet-pipeline"),
        "commit": _commit(Path(__file__).parent),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "device": device,
        "python": platform.python_version(),
        "packages": versions,
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _commit(folder: Path) -> str:
    """The commit of the code that runs, marked if files differ from it; empty outside a checkout of this project."""
    try:
        top = _git(folder, "rev-parse", "--show-toplevel")
        if not (Path(top) / "pipeline" / "reports" / "provenance.py").is_file():
            return ""
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
        return _git(folder, "rev-parse", "HEAD") + (" with local changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
