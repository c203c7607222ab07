"""How long scoring takes, beside mir_eval, fast_bss_eval and torchmetrics (the last two where they are installed).

    TASNET_CORPORA=… python tests/benchmarks/score.py            # about three minutes

Every contender scores the same two-speaker mixtures at 8 kHz, estimates and mixture, one after another in turn and with one BLAS
thread; the figures are medians of CPU time. Then a whole dataset is scored from files, by one process per core.
"""

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.audio import write_audio
from pipeline.metrics import mir_eval_sources
from pipeline.mixture_scores import Heard, Settings, score_heard
from pipeline.parallel import cpu_count
from pipeline.scoring import score_dataset
from tests.separations import Speech, with_interference

RATE = 8000
Case = tuple[np.ndarray, np.ndarray, np.ndarray]
Contender = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def ours(estimates: np.ndarray, references: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """SI-SNR, SDR and their improvements, both permutations."""
    return _scored({"a": estimates}, references, mixture)


def ours_two_systems(estimates: np.ndarray, references: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """The same for two systems at once."""
    return _scored({"a": estimates, "b": 0.9 * estimates + 0.1 * mixture}, references, mixture)


def _scored(systems: dict[str, np.ndarray], references: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    heard = {name: [Heard(one) for one in estimates] for name, estimates in systems.items()}
    rows = score_heard(heard, [Heard(one) for one in references], Heard(mixture), sample_rate=RATE, settings=Settings())
    return np.array([row["sdr_db"] for row in rows["a"]])


def mir_eval_searching(estimates: np.ndarray, references: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """SDR, SIR and SAR; permutations searched for estimates and mixture alike, as most recipes do."""
    mir_eval_sources(np.stack([mixture] * len(references)), references, compute_permutation=True)
    return mir_eval_sources(estimates, references, compute_permutation=True)[0]


def mir_eval_given(estimates: np.ndarray, references: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """SDR, SIR and SAR with the permutation given."""
    mir_eval_sources(np.stack([mixture] * len(references)), references)
    return mir_eval_sources(estimates, references)[0]


def fast_bss_eval_sources(estimates: np.ndarray, references: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """fast_bss_eval in NumPy, exact solver, SDR, SIR and SAR."""
    import fast_bss_eval

    fast_bss_eval.bss_eval_sources(references, np.stack([mixture] * len(references)))
    return fast_bss_eval.bss_eval_sources(references, estimates)[0]


def fast_bss_eval_sdr(estimates: np.ndarray, references: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """fast_bss_eval in NumPy, exact solver, SDR only."""
    import fast_bss_eval

    fast_bss_eval.sdr(references, np.stack([mixture] * len(references)))
    return fast_bss_eval.sdr(references, estimates)


def torchmetrics_sdr(estimates: np.ndarray, references: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """torchmetrics, SDR only, with the search for the best assignment."""
    import torch
    from torchmetrics.functional.audio import permutation_invariant_training, pit_permutate, signal_distortion_ratio

    torch.set_num_threads(1)
    estimated, referred, mixed = (torch.from_numpy(one)[None] for one in (estimates, references, mixture))
    signal_distortion_ratio(mixed[:, None].expand_as(referred).contiguous(), referred)
    _, permutation = permutation_invariant_training(estimated, referred, signal_distortion_ratio)
    return signal_distortion_ratio(pit_permutate(estimated, permutation), referred)[0].numpy()


CONTENDERS: dict[str, tuple[str, Contender]] = {
    "this project": ("", ours),
    "this project, two systems": ("", ours_two_systems),
    "mir_eval, searching": ("", mir_eval_searching),
    "mir_eval, permutation given": ("", mir_eval_given),
    "fast_bss_eval, sources": ("fast_bss_eval", fast_bss_eval_sources),
    "fast_bss_eval, sdr": ("fast_bss_eval", fast_bss_eval_sdr),
    "torchmetrics, sdr": ("torchmetrics", torchmetrics_sdr),
}


def compare(cases: list[Case], title: str) -> None:
    """Time the contenders in turn and print a table."""
    contenders = {name: call for name, (package, call) in CONTENDERS.items() if not package or find_spec(package)}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    deviation = dict.fromkeys(contenders, 0.0)
    for case in [cases[0], *cases]:  # the first one warms up
        expected = None
        for name, call in contenders.items():
            start = time.process_time()
            sdr_db = call(*case)
            seconds[name].append(time.process_time() - start)
            expected = np.sort(sdr_db) if expected is None else expected
            deviation[name] = max(deviation[name], float(np.abs(np.sort(sdr_db) - expected).max()))
    medians = {name: 1e3 * float(np.median(values[1:])) for name, values in seconds.items()}
    rows = [[name, f"{ms:.1f}", f"{ms / medians['this project']:.1f}", f"{deviation[name]:.0e}"] for name, ms in medians.items()]
    headings = ["contender", "CPU ms a mixture", "times ours", "largest difference, dB"]
    print(f"\n{title}\n{pd.DataFrame(rows, columns=headings).to_string(index=False)}")


def score_many(cases: list[Case], num_mixtures: int, folder: Path) -> None:
    """Score a dataset of files by one process and by one per core."""
    mixtures = write_many(cases, num_mixtures, folder)
    for names in ("a", "ab"):
        systems = {name: folder / name for name in names}
        start = time.process_time()
        score_dataset(mixtures[: num_mixtures // 10], folder, systems, out=folder / f"one-{names}.csv", num_workers=1)
        each = 1e3 * (time.process_time() - start) / (num_mixtures // 10)
        start = time.perf_counter()
        score_dataset(mixtures, folder, systems, out=folder / f"all-{names}.csv")
        taken = time.perf_counter() - start
        print(f"files of 4 s, {len(names)} system(s): {each:.1f} ms of CPU a mixture; ", end="")
        print(f"{num_mixtures} mixtures by {cpu_count()} processes in {taken:.1f} s")


def write_many(cases: list[Case], num_mixtures: int, folder: Path) -> pd.DataFrame:
    """Files of the cases over and over, under different names, for systems a and b."""
    rows = []
    for number in range(num_mixtures):
        estimates, references, mixture = cases[number % len(cases)]
        files = {"mix": mixture} | {f"s{k}": one for k, one in enumerate(references, 1)}
        files |= {f"{system}/s{k}": one for system in "ab" for k, one in enumerate(estimates, 1)}
        for name, samples in files.items():
            path, first = (folder / name / f"{each:05d}.wav" for each in (number, number % len(cases)))
            if number < len(cases):
                write_audio(path, samples, RATE, "float32" if "/" in name else "pcm16")
            else:
                os.link(first, path)
        row = {
            "mixture_id": f"{number:05d}",
            "sample_rate": RATE,
            "num_sources": len(references),
            "mixture_path": f"mix/{number:05d}.wav",
        }
        for k in range(1, len(references) + 1):
            row |= {f"source_{k}_path": f"s{k}/{number:05d}.wav", f"source_{k}_speaker_id": "", f"source_{k}_sex": ""}
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """Time everything and print it."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--cases", type=int, default=12, help="mixtures of each length")
    arguments.add_argument("--mixtures", type=int, default=3000, help="mixtures of the dataset; 0 for none")
    options = arguments.parse_args()
    warnings.simplefilter("ignore")
    speech = Speech(Path(os.environ["TASNET_CORPORA"]), seed=0)
    for length in (4, 10):
        cases = []
        for _ in range(options.cases):
            references = speech.utterances(2, length * RATE)
            references *= 0.2 / np.abs(references).max(axis=1, keepdims=True)
            cases.append((with_interference(references, speech.random, 10.0, 20.0), references, references.sum(0)))
        compare(cases, f"two sources, {length} s")
        if length == 4 and options.mixtures:
            with tempfile.TemporaryDirectory() as folder:
                score_many(cases, options.mixtures, Path(folder))


if __name__ == "__main__":
    main()
