"""Made-up scores for the tests of statistics, figures and reports: speakers, sexes and levels as in a real test set."""

from __future__ import annotations

import numpy as np
import pandas as pd


def make_scores(
    systems: dict[str, float] | None = None, *, num_mixtures: int = 60, num_speakers: int = 12, seed: int = 0
) -> pd.DataFrame:
    """Scores of two-speaker mixtures: each system's mean SI-SNRi is given; speakers and mixtures add what they add to all."""
    systems = {"noncausal": 8.0, "causal": 6.5} if systems is None else systems
    generator = np.random.default_rng(seed)
    speaker_effect = generator.normal(0, 1.0, num_speakers)
    rows = []
    for number in range(num_mixtures):
        pair = generator.permutation(num_speakers)[:2]
        level = generator.uniform(-2.5, 2.5)
        num_samples = int(generator.integers(24000, 56000))
        same_sex = -2.0 if pair[0] % 2 == pair[1] % 2 else 0.0
        shared = same_sex + generator.normal(0, 1.5)
        mixture_id = f"{number:04d}_spk{pair[0]:02d}_spk{pair[1]:02d}"
        for system, mean in systems.items():
            common = mean + shared + generator.normal(0, 0.8)
            for k, speaker in enumerate(pair):
                input_db = level if k == 0 else -level
                improvement = common + speaker_effect[speaker] - 0.25 * input_db + generator.normal(0, 0.3)
                sdr_improvement = improvement + generator.normal(0.3, 0.1)
                rows.append(
                    {
                        "system": system,
                        "mixture_id": mixture_id,
                        "source": f"s{k + 1}",
                        "estimate": k + 1,
                        "si_snr_db": input_db + improvement,
                        "si_snri_db": improvement,
                        "sdr_db": input_db + 0.15 + sdr_improvement,
                        "sdri_db": sdr_improvement,
                        "status": "ok",
                        "permutation": "si_snr",
                        "permutations_agree": bool(number % 17),
                        "num_samples": num_samples,
                        "sample_rate": 8000,
                        "speaker_id": f"spk{speaker:02d}",
                        "sex": "FM"[speaker % 2],
                        "input_si_snr_db": input_db + 0.01 * shared,
                        "input_sdr_db": input_db + 0.15,
                        "seconds": 0.05 + 0.01 * k,
                    }
                )
    return pd.DataFrame(rows)


def make_history(final: float, *, epochs: int = 20, seed: int = 0) -> pd.DataFrame:
    """A training history that rises towards ``final`` dB."""
    generator = np.random.default_rng(seed)
    epoch = np.arange(1, epochs + 1)
    improvement = final * (1 - np.exp(-epoch / 5)) + generator.normal(0, 0.1, epochs)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "step": epoch * 250,
            "train_loss_db": -improvement - 0.6,
            "valid_loss_db": -improvement,
            "valid_si_snri_db": improvement,
            "learning_rate": 1e-3,
            "gradient_norm": 2.0,
            "segments_per_second": 21.0,
            "seconds": 95.0,
        }
    )


def spoil(scores: pd.DataFrame, rows: dict[int, str]) -> pd.DataFrame:
    """The scores with some rows made invalid: by row number, the status they get."""
    spoiled = scores.copy()
    metrics = ["si_snr_db", "si_snri_db", "sdr_db", "sdri_db"]
    for row, status in rows.items():
        spoiled.loc[row, metrics] = np.nan
        spoiled.loc[row, "status"] = status
    return spoiled


def give_up(scores: pd.DataFrame, system: str, num_mixtures: int, status: str = "silent_estimate") -> pd.DataFrame:
    """The scores with a system that failed on the first mixtures."""
    ids = scores["mixture_id"].unique()[:num_mixtures]
    rows = scores.index[(scores["system"] == system) & scores["mixture_id"].isin(ids)]
    return spoil(scores, dict.fromkeys(rows, status))
