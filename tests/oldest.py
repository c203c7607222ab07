"""The oldest versions that pyproject.toml allows, as pip's constraints: python -m tests.oldest > constraints.txt"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def constraints() -> list[str]:
    """For every requirement ``name>=version``, of the project and of its extras, the first series that satisfies it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    found = [re.match(r"([\w.-]+)(?:\[.*\])?>=([\d.]+)", requirement) for requirement in requirements]
    return [f"{each[1]}=={each[2]}.*" for each in found if each]


if __name__ == "__main__":
    print("\n".join(constraints()))
