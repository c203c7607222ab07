"""The build step that pyproject.toml cannot express: data files written at the top level are installed with the package."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = {"recipes/*.toml": "pipeline/recipe/shipped", "manifests/sources.toml": "pipeline/corpora"}


class BuildWithData(build_py):
    """Copies data files into the package that is being built; an editable install reads them where they are."""

    def run(self) -> None:
        """Build the package, then add the data."""
        super().run()
        for pattern, folder in FOLDERS.items() if not self.editable_mode else ():
            target = Path(self.build_lib, folder)
            self.mkpath(str(target))
            for path in sorted(Path().glob(pattern)):
                self.copy_file(str(path), str(target / path.name))


setup(cmdclass={"build_py": BuildWithData})
