"""Whether score tables are about the same mixtures, and why not."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pandas as pd

from pipeline.errors import TableError
from pipeline.reports.formatting import LABELS
from pipeline.reports.means import metrics_in

logger = logging.getLogger(__name__)


def check_mixtures(tables: Mapping[str, pd.DataFrame]) -> None:
    """Log what each table has alone, and refuse tables that share nothing with the others.

    Args:
        tables: score tables by their names in messages, usually files.

    Raises:
        TableError: a table has no mixture in common with any other.
    """
    mixtures = {name: set(table["mixture_id"]) for name, table in tables.items()}
    for name, own in mixtures.items():
        others = set().union(*(found for other, found in mixtures.items() if other != name))
        alone = own - others
        if not others or not alone:
            continue
        if alone == own:
            raise TableError(f"{name}: has no mixture in common with {_listed(mixtures, name)}: {_why(own, others)}")
        logger.info(
            "%s: %d of %d mixtures are in no other table, for example %s; they are not compared",
            name,
            len(alone),
            len(own),
            min(alone),
        )


def check_metrics(tables: Mapping[str, pd.DataFrame]) -> None:
    """Raise TableError if no metric has values in all tables."""
    metrics = {name: metrics_in(table) for name, table in tables.items()}
    if not set.intersection(*(set(found) for found in metrics.values())):
        found = "; ".join(f"{name} has {', '.join(LABELS[metric] for metric in each)}" for name, each in metrics.items())
        raise TableError(f"the tables have no metric in common, so there is nothing to compare: {found}")


def _listed(mixtures: Mapping[str, set[str]], name: str) -> str:
    return ", ".join(other for other in mixtures if other != name)


def _why(own: set[str], others: set[str]) -> str:
    """Why the names of mixtures differ."""
    examples = f"it has {min(own)}, there are {min(others)}"
    if _are_numbers(own) != _are_numbers(others):
        numbered = "it numbers" if _are_numbers(own) else "the others number"
        return (
            f"{examples}. Here {numbered} the mixtures in the order they were scored in, as SpeechBrain does, which does not say "
            "which they are; replace the numbers by the mixtures' names in a column mixture_id"
        )
    if {_bare(name) for name in own} & {_bare(name) for name in others}:
        return f"{examples}. The names differ in case, endings or folders only; write them in the same way"
    return (
        f"{examples}. These are scores of different test sets, or the mixtures have other names; compare tables of one test set"
    )


def _are_numbers(names: set[str]) -> bool:
    return all(name.isdigit() for name in names)


def _bare(name: str) -> str:
    """A mixture's name without what tools add to it: folders, file endings, ``_mix``, and in its case."""
    return name.replace("\\", "/").rsplit("/", 1)[-1].casefold().removesuffix(".wav").removesuffix(".flac").removesuffix("_mix")
