"""The one build step that pyproject.toml cannot express: recipes/ is installed with the package, as pipeline/recipe/shipped/."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Copies recipes/ into the package that is being built; an editable install reads the folder itself."""

    def run(self) -> None:
        """Build the package, then add the recipes."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "pipeline", "recipe", "shipped")
            self.mkpath(str(target))
            for recipe in sorted(Path("recipes").glob("*.toml")):
                self.copy_file(str(recipe), str(target / recipe.name))


setup(cmdclass={"build_py": BuildWithRecipes})
