"""What all stages of a run share, and where they find each other's output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from pipeline.compute.options import Options
from pipeline.mixtures.plans.adapter import Roots
from pipeline.recipe.schema import Recipe
from pipeline.stages.runner import Stage
from pipeline.tables import Schema, read_table


@dataclass(frozen=True)
class Context:
    """What every stage of a run may read besides the output of other stages."""

    recipe: Recipe
    options: Options
    inputs: Roots
    """Where speech, noise and published lists lie."""

    def folder(self, stage: Stage) -> Path:
        """Where a stage's output lies."""
        return stage.folder(self.options.work)

    def table(self, stage: Stage, schema: Schema) -> pd.DataFrame:
        """A table that a stage has written.

        Raises:
            TableError: it is not there, or not as the schema says.
        """
        return read_table(table_path(self.folder(stage), schema), schema)


def table_path(folder: Path, schema: Schema) -> Path:
    """The file of a kind of table in a stage's folder: ``plan.csv``."""
    return folder / f"{schema.name}.csv"


def settings_of(table: BaseModel) -> dict[str, Any]:
    """A table of the recipe as JSON values for a fingerprint, its defaults included."""
    return table.model_dump(mode="json")
