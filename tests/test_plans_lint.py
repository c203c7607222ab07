"""Lint of plans: the faults of published lists are found, sound lists are not accused."""

import pandas as pd

from pipeline.plans import wsj0mix
from pipeline.plans.lint import lint
from pipeline.recipe import Wsj0MixPlan


def _plan(*mixtures):
    """Mixtures given as (split, name, utterance, utterance); the first letter of an utterance is its speaker."""
    rows = [(split, name, f"s{k}", u) for split, name, *utterances in mixtures for k, u in enumerate(utterances, 1)]
    plan = pd.DataFrame(rows, columns=["split", "mixture_id", "source", "utterance_id"])
    ids = sorted(set(plan["utterance_id"]))
    return plan, pd.DataFrame({"utterance_id": ids, "speaker_id": [name[0] for name in ids]})


def test_a_sound_plan_has_no_findings():
    assert lint(*_plan(("train", "m1", "a1", "b1"), ("train", "m2", "a2", "b1"), ("test", "m3", "c1", "d1"))) == []


def test_every_fault_is_named():
    findings = lint(
        *_plan(
            ("train", "m1", "a1", "a2"),
            ("train", "m2", "b1", "c1"),
            ("train", "m3", "c1", "b1"),
            ("test", "m4", "c1", "d1"),
        )
    )
    assert findings == [
        "split train: 1 mixtures hold one speaker more than once (first m1)",
        "split train: 1 mixtures repeat the utterances of another (first m3)",
        "splits train and test share 1 utterances (first c1)",
        "splits train and test share 1 speakers (first c)",
    ]


def test_the_published_lists_share_speakers_and_repeat_pairs_as_they_are_known_to(corpora):
    plan, utterances = wsj0mix.read_lists(corpora / "wsj0", Wsj0MixPlan(kind="wsj0mix"))
    findings = [text.split(" (first")[0] for text in lint(plan, utterances)]
    assert findings == [
        "split train: 6 mixtures repeat the utterances of another",
        "split valid: 1 mixtures repeat the utterances of another",
        "split test: 4 mixtures repeat the utterances of another",
        "splits train and valid share 101 speakers",
    ]
