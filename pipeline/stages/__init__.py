"""Stages: what a run consists of, in which order, and what of it is done. ``graph`` lists the stages of a recipe; ``data``,
``training`` and ``evaluation`` say what each reads and writes, and share a ``context``; ``runner`` runs a stage once and says why
one would run again, knowing nothing of audio; ``run`` runs a recipe; ``preflight`` says beforehand what that takes. No stage does
its work itself: it calls the wing that does."""

from pipeline.stages.data import plan_in_memory as plan_in_memory
from pipeline.stages.graph import build_stages as build_stages
from pipeline.stages.graph import dependents as dependents
from pipeline.stages.graph import named as named
from pipeline.stages.run import Run as Run
from pipeline.stages.runner import Stage as Stage
