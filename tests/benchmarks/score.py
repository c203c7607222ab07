"""How near scoring is to mir_eval, and how long it takes beside mir_eval, fast_bss_eval and torchmetrics.

    TASNET_CORPORA=… python tests/benchmarks/score.py                      # about four minutes
    TASNET_CORPORA=… python tests/benchmarks/score.py --sets 0 --cases 0   # only the dataset: under a minute

First the largest differences to mir_eval on sets of real speech, the same that the tests check. Then every contender that is
installed scores the same two-speaker mixtures at 8 kHz, estimates and mixture, one after another in turn and with one BLAS
thread; the figures are medians of CPU time. Last, a whole dataset is scored from files to its table, by one process per core.
"""

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.audio.files import write_audio
from pipeline.compute.workers import cpu_count
from pipeline.scoring.metrics import References, mir_eval_sources
from pipeline.scoring.mixture import Settings, score_mixture
from pipeline.scoring.recordings import Recording
from pipeline.scoring.scoring import score_dataset
from tests.separations import ILL_CONDITIONED, Speech, ill_conditioned_set, realistic_set, with_interference

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
    recordings = {name: [Recording(one) for one in estimates] for name, estimates in systems.items()}
    expected, mixed = [Recording(one) for one in references], Recording(mixture)
    rows = score_mixture(recordings, expected, mixed, sample_rate=RATE, settings=Settings())
    return np.array([row["sdr_db"] for row in rows["a"]])


def mir_eval_searching(estimates: np.ndarray, references: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """SDR, SIR and SAR; the permutation is searched for, of the estimates and of the mixture alike, as SpeechBrain does."""
    mir_eval_sources(np.stack([mixture] * len(references)), references, compute_permutation=True)
    return mir_eval_sources(estimates, references, compute_permutation=True)[0]


def mir_eval_given(estimates: np.ndarray, references: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """SDR, SIR and SAR with the permutation given, as Asteroid does."""
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


def agree(corpora: Path, num_sets: int) -> None:
    """Print the largest differences to mir_eval on realistic and on ill-conditioned sets, and whether permutations are equal."""
    realistic = (realistic_set(corpora, number, 12000 + 90 * (number % 200)) for number in range(num_sets))
    odd = [(spoil, seed) for spoil in ILL_CONDITIONED for seed in range(3)]
    rows = [_agreement(f"{num_sets} of real speech, 2 and 3 sources", realistic)]
    rows += [_agreement(f"{len(odd)} ill-conditioned", (ill_conditioned_set(corpora, seed, spoil, 16000) for spoil, seed in odd))]
    headings = ["sets", "largest SDR difference, dB", "of SIR and SAR", "equal permutations"]
    print(f"agreement with mir_eval\n{pd.DataFrame(rows, columns=headings).to_string(index=False)}")


def _agreement(title: str, sets: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[str]:
    largest, largest_of_parts, num_equal, num_sets = 0.0, 0.0, 0, 0
    for estimates, references in sets:
        sdr_db, sir_db, sar_db, permutation = mir_eval_sources(estimates, references, compute_permutation=True)
        projections = References(references).project(estimates)
        num_sets, num_equal = num_sets + 1, num_equal + np.array_equal(projections.sir_permutation(slice(0, None)), permutation)
        for reference, estimate in enumerate(permutation):
            largest = max(largest, abs(projections.sdr_db(estimate, reference) - sdr_db[reference]))
            ours, theirs = projections.sir_sar_db(estimate, reference), (sir_db[reference], sar_db[reference])
            parts = np.minimum(ours, 200) - np.minimum(theirs, 200)  # beyond, only rounding is left
            largest_of_parts = max(largest_of_parts, float(np.abs(parts).max()))
    return [title, f"{largest:.0e}", f"{largest_of_parts:.0e}", f"{num_equal} of {num_sets}"]


def compare(cases: list[Case], title: str) -> None:
    """Time the contenders in turn and print a table."""
    contenders = {name: call for name, (package, call) in CONTENDERS.items() if not package or find_spec(package)}
    absent = {package for package, _ in CONTENDERS.values() if package and not find_spec(package)}
    print("".join(f"\n{package} is not installed: left out" for package in sorted(absent)), end="")
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
        print(f"{num_mixtures} mixtures by {cpu_count()} processes in {taken:.1f} s; {peak_memory()}")


def peak_memory() -> str:
    """The most memory this process and its largest worker have held, where the system tells."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    if not children.is_file():
        return "memory unknown"
    peaks = []
    for process in ("self", *children.read_text().split()):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        peaks += [int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")]
    return f"peak memory {peaks[0]} MiB, a worker {max(peaks[1:], default=0)} MiB"


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
    arguments.add_argument("--sets", type=int, default=210, help="realistic sets to compare with mir_eval; 0 for none at all")
    arguments.add_argument("--cases", type=int, default=12, help="mixtures of each length; 0 for no comparison of times")
    arguments.add_argument("--mixtures", type=int, default=3000, help="mixtures of the dataset; 0 for none")
    options = arguments.parse_args()
    warnings.simplefilter("ignore")
    corpora = Path(os.environ["TASNET_CORPORA"])
    if options.sets:
        agree(corpora, options.sets)
    if options.cases:
        for length in (4, 10):
            compare(make_cases(corpora, options.cases, length), f"two sources, {length} s")
    if options.mixtures:
        with tempfile.TemporaryDirectory() as folder:
            score_many(make_cases(corpora, 12, 4), options.mixtures, Path(folder))


def make_cases(corpora: Path, number: int, seconds: int) -> list[Case]:
    """Estimates, references and mixture of pairs of talkers."""
    speech, cases = Speech(corpora, seed=0), []
    for _ in range(number):
        references = speech.utterances(2, seconds * RATE)
        references *= 0.2 / np.abs(references).max(axis=1, keepdims=True)
        cases.append((with_interference(references, speech.random, 10.0, 20.0), references, references.sum(0)))
    return cases


if __name__ == "__main__":
    main()
