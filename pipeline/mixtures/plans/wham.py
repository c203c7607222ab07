"""Noisy mixtures as WHAM! makes them: WSJ0-2mix's rules for the speech, and a noise under it (Wichern et al., Interspeech 2019).

The first speaker is U(-3, 6) dB louder (ITU-R BS.1770-4) than the noise.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.audio.mixing import Signal, Utterance, mix_at_levels
from pipeline.errors import PlanError
from pipeline.mixtures.dynamic import SpeechCuts, uniform
from pipeline.mixtures.plans.adapter import Adapter, Roots
from pipeline.mixtures.plans.drawn import draw_plan
from pipeline.mixtures.plans.planned import NOISE
from pipeline.mixtures.renderers.wham import WhamRenderer, noise_gain, peak_scale
from pipeline.recipe.schema import Recipe, WhamPlan

RULE = "wham"
SNR_DB = (-3.0, 6.0)


def under_first_speaker(speech: SpeechCuts, noise: Utterance, keyed: random.Random) -> tuple[Signal, Signal]:
    """Mix on the fly: the first speaker U(-3, 6) dB over the noise, one scale where anything would exceed 0.95."""
    mixed = mix_at_levels(speech.utterances, speech.levels_db, rule=speech.rule, mode=speech.mode, starts=speech.starts)
    over_noise_db = uniform(SNR_DB, keyed)
    gain = noise_gain(speech_lufs=speech.first_lufs, noise_lufs=noise.level_db, over_noise_db=over_noise_db)
    under = noise.samples[: len(mixed.mixture)] * np.float32(gain * mixed.scale)
    scale = np.float32(peak_scale([mixed.mixture + under, mixed.mixture, under, mixed.sources]))
    return mixed.sources * scale, under * scale


class WhamDataset(Adapter[WhamPlan]):
    """WHAM!'s rules for any corpus of speech and of noise."""

    renderer = WhamRenderer
    level_rules = (RULE,)
    needs_noise = True
    noise_rule = staticmethod(under_first_speaker)

    def needs_audio(self, plan: WhamPlan) -> bool:
        """Always: every mixture has noise."""
        return True

    def draw_with_audio(
        self,
        plan: WhamPlan,
        recipe: Recipe,
        manifest: pd.DataFrame,
        roots: Roots,
        *,
        noises: pd.DataFrame | None,
        num_workers: int | None = None,
    ) -> pd.DataFrame:
        """See :func:`draw_lists`."""
        assert noises is not None, "needs_noise says so"
        return draw_lists(manifest, plan, seed=recipe.seed, noises=noises)


def draw_lists(manifest: pd.DataFrame, plan: WhamPlan, *, seed: int, noises: pd.DataFrame) -> pd.DataFrame:
    """Draw mixtures and a noise for each.

    Args:
        manifest: of the speech, see ``tables.MANIFEST``.
        plan: number of sources and mixtures, shortest utterance.
        seed: of the recipe.
        noises: of the noise, with the same columns.

    Returns:
        A plan (``tables.PLAN``); the level of noise is the first speaker's loudness over it in dB; its start, zero or
        negative, says how much of it is skipped.

    Raises:
        PlanError: a split has fewer speakers than a mixture needs, or no noise.
    """
    speech = draw_plan(manifest, plan.drawing, seed=seed).assign(level_rule=RULE)
    stock = {str(split): _Stock(rows) for split, rows in noises.sort_values("utterance_id").groupby("split")}
    seconds_of = dict(zip(manifest["utterance_id"], manifest["num_samples"] / manifest["sample_rate"], strict=True))
    rows: list[dict[str, Any]] = []
    for (split, name), mixture in speech.groupby(["split", "mixture_id"], sort=False):
        if split not in stock:
            raise PlanError(f"split {split}: there is no noise for it; add some or ask for mix.types = ['mix_clean'] alone")
        sources = [{str(column): value for column, value in row.items()} for row in mixture.to_dict("records")]
        seconds = max(source["start_seconds"] + seconds_of[source["utterance_id"]] for source in sources)
        keyed = random.Random(f"{seed}/{split}/{name}/noise")
        rows += [*sources, sources[0] | stock[split].row(seconds, keyed)]
    return pd.DataFrame(rows, columns=speech.columns)


class _Stock:
    """The noises of a split, the least used drawn first."""

    def __init__(self, noises: pd.DataFrame) -> None:
        self._ids: Sequence[str] = list(noises["utterance_id"])
        self._seconds = dict(zip(self._ids, noises["num_samples"] / noises["sample_rate"], strict=True))
        self._left: list[str] = []

    def row(self, seconds: float, keyed: random.Random) -> dict[str, Any]:
        """The cells of a noise in the plan, for a mixture of this length."""
        self._left = self._left or list(self._ids)
        noise = self._left.pop(int(keyed.random() * len(self._left)))
        spare = max(self._seconds[noise] - seconds, 0.0)
        return {
            "source": NOISE,
            "utterance_id": noise,
            "level": uniform(SNR_DB, keyed),
            "start_seconds": -spare * keyed.random(),
        }
