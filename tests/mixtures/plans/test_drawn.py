"""Drawn plans: rules, balance, names, and independence of everything but the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio.levels import LevelRule
from pipeline.errors import PlanError
from pipeline.mixtures.plans.drawn import MAX_ID_LENGTH, MixtureSampler, draw_plan, mixture_name, unique_id
from pipeline.recipe.schema import RandomPlan
from pipeline.tables import PLAN, check_table


def _manifest(num_speakers: int = 6, num_utterances: int = 4, seconds: float = 4.0, split: str = "train") -> pd.DataFrame:
    rows = [
        (f"{split}-{s:02}-{u}", f"{split}{s:02}", "F", split, f"{s}/{u}.wav", 16000, int(16000 * (seconds + u / 10)))
        for s in range(num_speakers)
        for u in range(num_utterances)
    ]
    return pd.DataFrame(rows, columns=["utterance_id", "speaker_id", "sex", "split", "path", "sample_rate", "num_samples"])


def _plan(num_mixtures: int = 20, **settings: Any) -> RandomPlan:
    return RandomPlan(kind="random", num_mixtures={"train": num_mixtures}, **settings)


def _grouped(plan: pd.DataFrame) -> Any:
    return plan.groupby("mixture_id", sort=False)


@given(st.integers(2, 6), st.sampled_from(["active", "rms", "loudness"]), st.integers(0, 10))
def test_every_mixture_has_different_speakers(num_sources: int, level: LevelRule, seed: int) -> None:
    manifest = _manifest()
    plan = draw_plan(manifest, _plan(num_sources=num_sources, level=level), seed=seed)
    check_table(plan, PLAN, origin="plan")
    speakers = plan.merge(manifest, on="utterance_id")
    assert len(plan) == 20 * num_sources
    assert (_grouped(speakers)["speaker_id"].nunique() == num_sources).all()
    assert (_grouped(plan)["source"].agg(list).map(tuple) == tuple(f"s{k + 1}" for k in range(num_sources))).all()


@given(st.integers(0, 1000))
def test_the_order_of_the_listing_does_not_matter(seed: int) -> None:
    manifest = _manifest()
    shuffled = manifest.sample(frac=1, random_state=seed)
    assert draw_plan(manifest, _plan(), seed=7).equals(draw_plan(shuffled, _plan(), seed=7))


def test_a_seed_is_a_plan_and_another_seed_another() -> None:
    manifest = _manifest()
    assert draw_plan(manifest, _plan(), seed=1).equals(draw_plan(manifest, _plan(), seed=1))
    assert not draw_plan(manifest, _plan(), seed=1).equals(draw_plan(manifest, _plan(), seed=2))


def test_a_longer_plan_begins_with_the_shorter() -> None:
    manifest = _manifest()
    longer = draw_plan(manifest, _plan(30), seed=1)
    assert draw_plan(manifest, _plan(10), seed=1).equals(longer.iloc[:20])


def test_splits_keep_to_themselves() -> None:
    manifest = pd.concat([_manifest(split="train"), _manifest(split="test")])
    plan = draw_plan(manifest, RandomPlan(kind="random", num_mixtures={"train": 5, "test": 5}), seed=0)
    assert (plan["utterance_id"].str.split("-").str[0] == plan["split"]).all()


def test_no_utterance_of_a_speaker_is_used_twice_more_than_another() -> None:
    plan = draw_plan(_manifest(num_speakers=8, num_utterances=5), _plan(200), seed=0)
    uses = plan.groupby("utterance_id").size()
    by_speaker = uses.groupby(uses.index.str[:-2])
    # Redrawing a pair that was already drawn may skip a turn.
    assert (by_speaker.max() - by_speaker.min()).max() <= 2


def test_mixtures_differ_while_they_can() -> None:
    plan = draw_plan(_manifest(num_speakers=4, num_utterances=4), _plan(40), seed=0)
    assert not _grouped(plan)["utterance_id"].agg(frozenset).duplicated().any()


def test_more_mixtures_than_pairs_repeat_under_new_names() -> None:
    plan = draw_plan(_manifest(num_speakers=2, num_utterances=1), _plan(30), seed=0)
    assert plan["mixture_id"].nunique() == 30


@pytest.mark.parametrize(("num_sources", "signs"), [(2, [1, -1]), (3, [1, -1, 0]), (4, [1, 1, -1, -1]), (5, [1, 1, -1, -1, 0])])
def test_relative_levels_follow_the_published_lists(num_sources: int, signs: list[int]) -> None:
    plan = draw_plan(_manifest(), _plan(200, num_sources=num_sources), seed=0)
    levels = np.array(_grouped(plan)["level"].agg(list).tolist())
    assert (np.sign(levels) == signs).all()
    assert np.allclose(levels.sum(axis=1), 0)
    assert levels.max() <= 2.5
    assert levels[:, 0].mean() == pytest.approx(1.25, abs=0.2)
    assert levels[:, 0].max() > 2.3


def test_loudness_is_drawn_for_every_source() -> None:
    levels = draw_plan(_manifest(), _plan(300, level="loudness"), seed=0)["level"]
    assert levels.between(-33, -25).all()
    assert levels.mean() == pytest.approx(-29, abs=0.3)


def test_names_are_those_of_wsj0_mix() -> None:
    assert mixture_name(["40na010x", "01xo031a"], [1.9857, -1.9857]) == "40na010x_1.9857_01xo031a_-1.9857"
    assert mixture_name(["01uo030v", "01bc020i", "012c020s"], [0.73299, -0.73299, 0.0]) == (
        "01uo030v_0.73299_01bc020i_-0.73299_012c020s_0"
    )
    assert mixture_name(["a", "b"], [6.9829e-05, -6.9829e-05]) == "a_6.9829e-05_b_-6.9829e-05"


@given(st.lists(st.text(min_size=1, max_size=120), min_size=2, max_size=5))
def test_names_fit_any_file_system(utterance_ids: list[str]) -> None:
    name = mixture_name(utterance_ids, [0.0] * len(utterance_ids))
    assert 0 < len(name) <= MAX_ID_LENGTH
    assert name.isascii()
    assert not set(name) & set('/\\:*?"<>| \n\0')
    assert not name.startswith(".")


def test_names_that_differ_only_in_case_are_kept_apart() -> None:
    taken: set[str] = set()
    assert [unique_id(name, taken) for name in ("a", "A", "a", "b")] == ["a", "A_2", "a_3", "b"]


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (_manifest(num_speakers=1), "split train: mixtures of 2 need 2 speakers .* 1 of its 1 speakers"),
        (_manifest(seconds=1.0), r"at least 3 s, and only 0 of its 6 speakers have one \(24 utterances, the longest 1.30 s\)"),
        (_manifest(split="test"), "split train: .* 0 of its 0 speakers"),
    ],
)
def test_too_few_speakers_is_said_with_the_counts(manifest: pd.DataFrame, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        draw_plan(manifest, _plan(), seed=0)


def test_dynamic_draws_are_keyed_by_place_alone() -> None:
    manifest = _manifest()
    sampler = MixtureSampler(manifest, _plan(), split="train", seed=3)
    forwards = [sampler.draw(1, k) for k in range(50)]
    again = MixtureSampler(manifest.sample(frac=1, random_state=0), _plan(), split="train", seed=3)
    backwards = [again.draw(1, k) for k in reversed(range(50))]
    assert forwards == backwards[::-1]
    assert forwards != [sampler.draw(2, k) for k in range(50)]
    speaker_of = dict(zip(manifest["utterance_id"], manifest["speaker_id"], strict=True))
    assert all(len({speaker_of[u] for u in draw.utterance_ids}) == 2 for draw in forwards)


def test_dynamic_draws_give_every_speaker_an_equal_share() -> None:
    sampler = MixtureSampler(_manifest(num_speakers=5, num_utterances=3), _plan(), split="train", seed=0)
    drawn = [u for k in range(3000) for u in sampler.draw(0, k).utterance_ids]
    uses = pd.Series(drawn).value_counts()
    assert len(uses) == 15
    assert uses.between(400 * 0.8, 400 * 1.2).all()


@pytest.mark.parametrize("share", [0.1, 0.25, 0.3, 0.5, 0.9])
def test_the_share_of_single_speakers_is_exact_and_evenly_spread(share: float) -> None:
    plan = draw_plan(_manifest(), _plan(40, num_sources=3, single_speaker_share=share), seed=1)
    silent = np.isneginf(plan["level"]).to_numpy().reshape(40, 3)
    alone = silent.all(axis=1, where=[False, True, True])
    assert not silent[:, 0].any()
    assert (silent[:, 1] == silent[:, 2]).all()
    counts = np.cumsum(alone)
    assert counts[-1] == round(40 * share)
    assert (np.abs(counts - share * np.arange(1, 41)) < 1).all()


def test_single_speakers_change_levels_alone() -> None:
    """The same utterances in the same places at the same levels; a shorter plan begins a longer one."""
    mixed, plain = (draw_plan(_manifest(), _plan(20, single_speaker_share=share), seed=2) for share in (0.5, 0.0))
    pd.testing.assert_frame_equal(mixed.drop(columns=["mixture_id", "level"]), plain.drop(columns=["mixture_id", "level"]))
    sounds = np.isfinite(mixed["level"])
    pd.testing.assert_series_equal(mixed["level"][sounds], plain["level"][sounds])
    shorter = draw_plan(_manifest(), _plan(10, single_speaker_share=0.5), seed=2)
    pd.testing.assert_frame_equal(shorter, mixed.iloc[:20])


def test_mixing_on_the_fly_draws_the_same_share() -> None:
    sampler = MixtureSampler(_manifest(), _plan(single_speaker_share=0.2), split="train", seed=0)
    plain = MixtureSampler(_manifest(), _plan(), split="train", seed=0)
    alone = 0
    for index in range(50):
        drawn, other = sampler.draw(3, index), plain.draw(3, index)
        assert (drawn.utterance_ids, drawn.levels_db[0]) == (other.utterance_ids, other.levels_db[0])
        assert drawn.levels_db[1] in (other.levels_db[1], -np.inf)
        alone += drawn.levels_db[1] == -np.inf
    assert alone == 10
