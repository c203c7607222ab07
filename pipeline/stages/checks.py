"""What must hold of the files that a stage reads, found before anything is written and said of all of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from pipeline import corpora
from pipeline.corpora.inspection import Sound, inspect_files
from pipeline.corpora.manifests import MAX_EXAMPLES, is_noise, raise_findings, some_of
from pipeline.mixtures import rendering
from pipeline.mixtures.plans import build, finished, librimix_lists
from pipeline.mixtures.plans.planned import needed_rows
from pipeline.mixtures.renderers.base import SILENT
from pipeline.recipe.schema import SyntheticCorpus
from pipeline.stages.context import Context

NOISE_CHANNEL = 0


def check_inputs(context: Context, plan: pd.DataFrame, manifest: pd.DataFrame) -> None:
    """Check every file that a plan needs: its header, that it has not changed, and that it can be given a level.

    Raises:
        TasnetError: a line for each file that rendering would stop at, as far as the beginnings of the files show it.
    """
    recipe = context.recipe
    build.check_audio(recipe, plan, manifest, context.inputs, num_workers=context.options.num_workers)
    rendering.check_inputs(plan, manifest, build.inputs_of(recipe, context.inputs), num_workers=context.options.num_workers)
    needed = needed_rows(plan, manifest, with_noise=recipe.mix.with_noise)
    check_files(context, manifest[manifest["utterance_id"].isin(needed["utterance_id"])], measured=measures_levels(context))


def measures_levels(context: Context) -> bool:
    """Whether mixtures stop at silent files: not LibriMix's, whose gains are applied to whatever there is, nor finished ones."""
    return not {librimix_lists.RULE, finished.RULE} & set(build.ADAPTERS[context.recipe.plan.kind].level_rules)


def check_files(context: Context, manifest: pd.DataFrame, *, measured: bool = True) -> None:
    """Check files: that they have not changed since they were planned, and that they can be given a level.

    Args:
        context: see :mod:`pipeline.stages.context`.
        manifest: the files.
        measured: whether their levels will be measured, which silent files have none of.

    Raises:
        CorpusError: what is written already would be of another corpus than the rest, or a file is damaged or silent.
    """
    check_unchanged(context, manifest)
    raise_findings(fatal_sounds(inspect(context, manifest), measured=measured))


def check_unchanged(context: Context, manifest: pd.DataFrame) -> None:
    """Check that files have not changed since they were planned.

    Raises:
        CorpusError: what was made of them before would be of another corpus than what is made now.
    """
    raise_findings(_changes(context, manifest))


def _changes(context: Context, manifest: pd.DataFrame) -> Iterator[str]:
    """One line for every corpus whose files have changed since they were planned."""
    for rows, root, _ in _by_corpus(context, manifest):
        if changed := corpora.changed_files(rows, root, num_workers=context.options.num_workers):
            is_generated = isinstance(context.recipe.corpus, SyntheticCorpus) and root == context.inputs.speech
            yield (
                f"{root}: {len(changed):,} of {len(rows):,} files have changed since the mixtures were planned "
                f"({some_of(changed, MAX_EXAMPLES)}); restore them, or run the command again "
                + ("with --force corpus to generate the speech again" if is_generated else "to plan what is there now")
            )


def _by_corpus(context: Context, manifest: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, Path, int | None]]:
    """The rows of speech and of noise, where their paths start from, and the channel that is used."""
    noise = is_noise(manifest)
    if (~noise).any():
        yield manifest[~noise], context.inputs.speech, context.recipe.corpus.channel
    if noise.any() and context.inputs.noise is not None:
        yield manifest[noise], context.inputs.noise, NOISE_CHANNEL


# ---------------------------------------------------------------------------------------------------------------- sounds
Sounds = Sequence[tuple[Path, Sound]]
"""What the samples of files say, each with the corpus that it is in."""


def inspect(context: Context, manifest: pd.DataFrame, *, whole: bool = False) -> Sounds:
    """Look at the samples of a manifest's files, or decode all of them: see :mod:`pipeline.corpora.inspection`."""
    workers, description = context.options.num_workers, "decode" if whole else "inspect"
    found: list[tuple[Path, Sound]] = []
    for rows, root, channel in _by_corpus(context, manifest):
        paths = sorted(set(rows["path"]))
        sounds = inspect_files(root, paths, channel=channel, whole=whole, num_workers=workers, description=description)
        found += [(root, sound) for sound in sounds]
    return found


def fatal_sounds(sounds: Sounds, *, measured: bool = True) -> list[str]:
    """One line for every file that rendering would stop at: those that cannot be decoded and, where levels are measured, silent
    ones."""
    damaged = [sound.problem for _, sound in sounds if sound.problem]
    silent = [f"{root / sound.path}: {SILENT}" for root, sound in sounds if sound.is_silent and measured]
    if len(silent) > 1:
        silent.insert(0, f"{len(silent):,} files are silent; to leave out those of the speech corpus: --set corpus.skip=silent")
    return damaged + silent


def sound_warnings(sounds: Sounds) -> Iterator[str]:
    """Lines about files that can be mixed and hardly should be: silent, faint or off centre."""
    by_root: dict[Path, list[Sound]] = {}
    for root, sound in sounds:
        by_root.setdefault(root, []).append(sound)
    for root, found in by_root.items():
        yield from _counted(root, [s.path for s in found if s.is_silent], "are silent")
        faint = [f"{s.path}: {s.loudness_lufs:.0f} LUFS" for s in found if s.is_faint]
        yield from _counted(root, faint, "are so faint that their noise would be amplified to the level of speech")
        centred = [f"{s.path}: {s.offset:+.2f}" for s in found if s.is_off_centre and not s.is_silent]
        yield from _counted(root, centred, "have a constant offset (DC), which counts in levels and scores; remove it")


def _counted(root: Path, names: Sequence[str], what: str) -> Iterator[str]:
    if names:
        yield f"{root}: {len(names):,} files {what} ({some_of(names, MAX_EXAMPLES)})"
