"""The stages of a run, in order: the table of contents of the project.

    corpus → scan → plan → mix → pack → train → separate → score → report

``corpus`` exists for synthetic speech only; ``train``, ``separate`` and ``score`` exist once per system, so that a new or changed
system leaves the others' work alone; ``oracles`` scores what ideal masks would reach. Each stage is a function in ``data``,
``training`` or ``evaluation`` that reads the folders of the stages it needs, calls the wing that does the work, and leaves the
result in its own folder.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.compute.options import Options
from pipeline.errors import RecipeError
from pipeline.recipe.schema import Recipe
from pipeline.stages import data, evaluation, training
from pipeline.stages.runner import Stage, ordered


def build_stages(recipe: Recipe, options: Options = Options()) -> list[Stage]:
    """All stages of a recipe, each after what it needs; nothing is run.

    Raises:
        CorpusError: the corpus is not where the options say.
        ScoreError: a metric needs a package that is not installed.
    """
    context, corpus = data.prepare(recipe, options)
    plans = data.plan_stages(context, corpus)
    mix = data.mix_stage(context, plans)
    packs = data.pack_stages(context, plans, mix)
    trained = tuple(training.train_stage(context, plans, packs, name) for name in recipe.systems)
    separated = tuple(evaluation.separate_stage(context, mix, train) for train in trained)
    scored = tuple(evaluation.score_stage(context, mix, separate) for separate in separated)
    oracles = evaluation.oracles_stage(context, mix) if recipe.report.oracles else None
    return ordered([evaluation.report_stage(context, evaluation.Evaluated(plans, mix, trained, separated, scored, oracles))])


def named(stages: Sequence[Stage], names: Sequence[str]) -> list[Stage]:
    """The stages called by ``names``: ``train`` for all systems, ``train:causal`` for one.

    Raises:
        RecipeError: no stage of this recipe has that name.
    """
    known = list(dict.fromkeys([*(stage.name for stage in stages), *(stage.id for stage in stages)]))
    for name in names:
        if name not in known:
            raise RecipeError(f"no stage is called {name!r}; there are {', '.join(known)}")
    return [stage for stage in stages if {stage.name, stage.id} & set(names)]


def dependents(stages: Sequence[Stage], roots: Sequence[Stage]) -> list[Stage]:
    """The roots and every stage that reads, directly or not, what they write."""
    found = {stage.id for stage in roots}
    for stage in stages:
        if any(need.id in found for need in stage.needs):
            found.add(stage.id)
    return [stage for stage in stages if stage.id in found]
