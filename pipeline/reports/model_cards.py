"""A model card for every trained system: what it is, what it was trained on, how well it does and where it must not be trusted.

Cards are Markdown with the front matter of the Hugging Face hub. Everything in them comes from the run itself; what a run cannot
know, the licence above all, is left to the person who publishes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.recipe.schema import Recipe
from pipeline.reports.formatting import interval, large, number

VERSION = 1
"""Raise it when the same run would give other cards."""

CARD = "MODEL_CARD.md"
NO_LICENCE = "No licence is given. The terms of the speech that the model was trained on may limit what it can be used for."
_LANGUAGE_LIMIT = "Languages, accents, rooms, microphones and noises other than those of the training data were not tried."
_NAMES = {"si_snri_db": "SI-SNRi, dB", "sdri_db": "SDRi, dB", "si_snr_db": "SI-SNR, dB", "sdr_db": "SDR, dB"}


@dataclass(frozen=True)
class Trained:
    """A trained system of a run.

    Attributes:
        name: of the system, with ``@SEED`` where there are several runs of it.
        recipe: the run's.
        facts: of the network and its speed, as the report has them.
        scores: rows of ``reports.statistics.summaries`` for this system.
        history: a row per epoch, of the HISTORY schema.
        num_mixtures: by split.
    """

    name: str
    recipe: Recipe
    facts: Mapping[str, Any]
    scores: Sequence[Mapping[str, Any]]
    history: pd.DataFrame
    num_mixtures: Mapping[str, int]


def model_card(trained: Trained) -> str:
    """The card's text."""
    sections = {
        f"{trained.recipe.name}: {trained.name}": _introduction(trained),
        "Use": _use(trained),
        "Data": _data(trained),
        "Training": _training(trained),
        "Scores": _scores(trained),
        "Latency and cost": _latency(trained),
        "Limits": _limits(trained),
        "Licence": NO_LICENCE,
    }
    parts = [f"{'#' if k == 0 else '##'} {heading}\n\n{text}\n" for k, (heading, text) in enumerate(sections.items())]
    return "\n".join([_front_matter(trained), *parts])


def with_licence(card: str, licence: str) -> str:
    """A card whose front matter and last section give a licence."""
    return card.replace("---\n", f"---\nlicense: {json.dumps(licence)}\n", 1).replace(NO_LICENCE, licence)


def _front_matter(trained: Trained) -> str:
    """YAML; JSON's way of writing texts and lists is YAML too."""
    tags = ["speech-separation", "source-separation", "conv-tasnet", "causal" if trained.facts["causal"] else "non-causal"]
    metrics = [
        {"type": row["metric"], "name": _NAMES[row["metric"]], "value": round(float(row["mean"]), 2)}
        for row in trained.scores
        if row["metric"] in _NAMES and np.isfinite(row["mean"])
    ]
    result = {
        "task": {"type": "audio-to-audio", "name": "speech separation"},
        "dataset": {"type": trained.recipe.name, "name": f"{trained.recipe.name}, test mixtures"},
        "metrics": metrics,
    }
    index = [{"name": f"{trained.recipe.name}-{trained.name}", "results": [result]}]
    entries: dict[str, Any] = {"library_name": "tasnet-pipeline", "pipeline_tag": "audio-to-audio", "tags": tags}
    entries |= {"model-index": index} if metrics else {}
    return "\n".join(["---", *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in entries.items()), "---\n"])


def _introduction(trained: Trained) -> str:
    recipe, facts = trained.recipe, trained.facts
    sources = recipe.num_outputs
    what = f"separates a mono mixture at {recipe.mix.sample_rate:,} Hz into {sources} source{'s' if sources > 1 else ''}"
    kind = "causal" if facts["causal"] else "non-causal"
    return f"A {kind} Conv-TasNet with {facts['norm']} layer norm and {large(facts['num_parameters'])} parameters, which {what}."


def _use(trained: Trained) -> str:
    rate = trained.recipe.mix.sample_rate
    return (
        '```python\nimport pipeline  # of the package tasnet-pipeline\n\nmodel = pipeline.load_model("model.safetensors")\n'
        'mixture, sample_rate = pipeline.read_audio("talk.wav")\n'
        f"estimates = pipeline.separate(model, mixture, sample_rate=sample_rate)  # [source, time]; {rate} Hz\n```"
    )


def _data(trained: Trained) -> str:
    recipe = trained.recipe
    counts = ", ".join(f"{count:,} for {split}" for split, count in trained.num_mixtures.items())
    return (
        f"Corpus: `{recipe.corpus.kind}`. Mixtures: `{recipe.plan.kind}`, {', '.join(recipe.mix.types)}, "
        f"mode `{recipe.mix.mode}`, {counts}. The speech itself is not part of the model."
    )


def _training(trained: Trained) -> str:
    train, history = trained.recipe.systems[trained.name].train, trained.history
    best = history.sort_values("valid_loss_db").to_dict("records")[0]
    return (
        f"{len(history)} of at most {train.epochs} epochs, of {train.segment_seconds:g}-s segments in batches of "
        f"{train.batch_size}, by {train.optimiser} with a learning rate of {train.learning_rate:g}. The weights are those of "
        f"epoch {best['epoch']}, which had the best validation loss, {number(best['valid_loss_db'])} dB."
    )


def _scores(trained: Trained) -> str:
    rows = [row for row in trained.scores if row["metric"] in _NAMES]
    if not rows:
        return "None."
    lines = [f"On {rows[0]['n']:,} test mixtures:\n", "| metric | mean | 95% interval | failed |", "|:--|--:|--:|--:|"]
    lines += [
        f"| {_NAMES[row['metric']]} | {number(row['mean'])} | {interval(row['low'], row['high'])} | {row['num_failed']} |"
        for row in rows
    ]
    return "\n".join([*lines, f"\nIntervals resample {rows[0]['resampled']}; improvements are over the unprocessed mixture."])


def _latency(trained: Trained) -> str:
    return " ".join(_latency_sentences(trained.facts, trained.recipe.mix.sample_rate))


def _latency_sentences(facts: Mapping[str, Any], sample_rate: int) -> Iterator[str]:
    ahead = facts.get("look_ahead_samples")
    if ahead is None:
        yield "The model needs the whole signal before it can answer: measured, every output depends on all of the input."
    else:
        yield f"Measured look-ahead: {ahead:,} samples, {number(1000 * ahead / sample_rate, 2)} ms."
    if facts.get("latency_seconds") is not None:
        yield f"Algorithmic latency when streamed: {number(1000 * facts['latency_seconds'], 2)} ms."
    yield f"{large(facts['macs_per_second'])} multiply-accumulates per second of audio."
    if facts.get("cpu_real_time_factor") is not None:
        yield f"Real-time factor of whole files: {number(facts['cpu_real_time_factor'], 3)} on {facts['cpu']}."


def _limits(trained: Trained) -> str:
    recipe = trained.recipe
    count = recipe.num_outputs
    worst = next((row for row in trained.scores if row["metric"] == "si_snri_db"), None)
    lines = [f"It always returns {count} estimate{'s' if count > 1 else ''}, however many people speak, in no fixed order."]
    lines += [f"{worst['share_below_0']:.1%} of the test mixtures came out worse than they went in."] if worst else []
    lines += [_LANGUAGE_LIMIT, "The level of an estimate is fitted to the mixture afterwards; the model leaves it open."]
    return "\n".join(f"* {line}" for line in lines)
