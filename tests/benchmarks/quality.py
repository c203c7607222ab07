"""Separation after equal training time: this project's recipe against Asteroid's, on the same speech and the same two cores.

    python -m venv /tmp/asteroid && /tmp/asteroid/bin/pip install "asteroid==0.7.0" "torchmetrics<0.12" "setuptools<81"
    python tests/benchmarks/quality.py --speech DIR --asteroid-python /tmp/asteroid/bin/python

For each system of the recipe: ours is trained as `tasnet run` trains it. Asteroid's ConvTasNet with its PITLossWrapper is trained
by the settings of its LibriMix recipe (Adam 1e-3, batch 6, random 3-s cuts of rendered mixtures, clipped at 5, halved on
a plateau of 5 epochs, best validation epoch kept), at the size of the paper or, as that learns little in so short a time, at one
for a CPU (`--asteroid-size`). Ours are minutes by the clock, validation included, and have to be no more than `--minutes`.
Asteroid's gets as many of every core in CPU time, spent on one thread, so that nothing is lost to threads that wait for each
other or to other work on the machine; its systems train side by side. Both are scored by the same code on the same mixtures of
speakers that neither has heard. What is done already is not done again.
"""

import argparse
import csv
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

RECIPE = Path(__file__).parents[2] / "recipes/own-speech.toml"
SIZES = {
    "paper": {},
    "small": {"n_filters": 256, "bn_chan": 64, "skip_chan": 64, "hid_chan": 256, "n_blocks": 7, "n_repeats": 2},
}
SEGMENT_SECONDS, BATCH_SIZE, LEARNING_RATE, CLIP_NORM, PATIENCE = 3.0, 6, 1e-3, 5.0, 5
Example = tuple[np.ndarray, np.ndarray]


def main() -> None:
    """Train ours, then Asteroid's for as long, score both, print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True, help="a corpus of kind folder")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--set", action="append", default=[], help="override a setting of the recipe")
    parser.add_argument("--systems", nargs="*", help="of the recipe; all by default")
    parser.add_argument("--asteroid-python", type=Path, required=True, help="interpreter of an environment with asteroid")
    parser.add_argument("--asteroid-size", choices=SIZES, default="small")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training that Asteroid's gets, on every core")
    parser.add_argument("--work", type=Path, default=Path("work-quality"))
    given = parser.parse_args()

    from pipeline import reports
    from pipeline.compute.options import Options
    from pipeline.recipe.reading import load_recipe
    from pipeline.scoring import scoring
    from pipeline.stages.run import run

    recipe = load_recipe(given.recipe, given.set)
    names = given.systems or list(recipe.systems)
    options = Options(work=given.work, named_corpora={"folder": given.speech})
    found = run(recipe, ["mix", *(f"separate:{name}" for name in names)], options=options)
    theirs = {name: given.work / "asteroid" / f"{name}-{given.asteroid_size}" for name in names}
    dataset = found.folders["mix"]
    trainings = [
        subprocess.Popen([given.asteroid_python, __file__, "--asteroid", dataset, theirs[name], str(given.minutes),
                          given.asteroid_size, str(int(recipe.systems[name].model.causal))])
        for name in names if not (theirs[name] / "finished").exists()
    ]  # fmt: skip
    codes = [training.wait() for training in trainings]
    if any(codes):
        sys.exit("asteroid's training failed")
    test = found.mixtures[found.mixtures["split"] == "test"]
    for name in names:
        systems = {f"ours {name}": found.folders[f"separate:{name}"], f"asteroid {name}": theirs[name]}
        scores = scoring.score_dataset(test, dataset, systems, out=given.work / f"scores-{name}-{given.asteroid_size}.csv")
        print(f"ours: {_trained(found.folders[f'train:{name}'] / 'history.csv', recipe.systems[name].train.batch_size)}")
        print(f"asteroid: {(theirs[name] / 'finished').read_text()}")
        print(reports.format_comparison(scores, baseline=f"asteroid {name}"))


def _trained(history: Path, batch_size: int) -> str:
    with history.open() as file:
        rows = list(csv.DictReader(file))
    minutes = sum(float(row["seconds"]) for row in rows) / 60
    return f"{minutes:.1f} minutes by the clock, {int(rows[-1]['step']) * batch_size:,} segments"


# -------------------------------------------------------------------------------------------- in Asteroid's environment
def train_asteroid(dataset: Path, out: Path, minutes: float, size: str, causal: bool) -> None:
    """Train for so many minutes of every core, separate the test mixtures into ``out``, say in ``out/finished`` how it went."""
    from asteroid.losses import PITLossWrapper, pairwise_neg_sisdr
    from asteroid.models import ConvTasNet

    budget = 60 * minutes * torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keyed = random.Random(0)
    rows = list(csv.DictReader((dataset / "mixtures.csv").open()))
    sets = {split: [_read(dataset, row) for row in rows if row["split"] == split] for split in ("train", "valid")}
    rate = int(rows[0]["sample_rate"])
    norm = "cgLN" if causal else "gLN"
    model = ConvTasNet(n_src=2, causal=causal, norm_type=norm, mask_act="relu", sample_rate=rate, **SIZES[size])
    loss = PITLossWrapper(pairwise_neg_sisdr, pit_from="pw_mtx")
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=PATIENCE)
    best, state, segments = float("inf"), model.state_dict(), 0
    started, before = time.perf_counter(), time.process_time()
    while time.process_time() - before < budget:
        for mixture, sources in _epoch(sets["train"], round(SEGMENT_SECONDS * rate), keyed):
            value = loss(model(mixture), sources)
            optimiser.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimiser.step()
            segments += len(mixture)
            if time.process_time() - before >= budget:
                break
        valid = _validate(model, loss, sets["valid"], round(SEGMENT_SECONDS * rate))
        schedule.step(valid)
        print(f"asteroid: {segments} segments, valid {valid:.2f} dB", file=sys.stderr, flush=True)
        if valid < best:
            best, state = valid, {name: value.clone() for name, value in model.state_dict().items()}
    elapsed = time.perf_counter() - started
    model.load_state_dict(state)
    _separate(model, dataset, [row for row in rows if row["split"] == "test"], out)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    (out / "finished").write_text(
        f"{budget / 60:.1f} minutes of one core ({elapsed / 60:.1f} by the clock), {segments:,} segments, "
        f"{parameters:,} parameters, best validation loss {best:.2f} dB\n"
    )


def _read(dataset: Path, row: dict[str, str]) -> Example:
    paths = [row["mixture_path"], row["source_1_path"], row["source_2_path"]]
    signals = [soundfile.read(dataset / path, dtype="float32")[0] for path in paths]
    return signals[0], np.stack(signals[1:])


def _epoch(examples: list[Example], length: int, keyed: random.Random) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of random cuts; what is shorter is left out, as Asteroid's loader does."""
    long_enough = [example for example in examples if len(example[0]) >= length]
    keyed.shuffle(long_enough)
    for first in range(0, len(long_enough) - BATCH_SIZE + 1, BATCH_SIZE):
        part = long_enough[first : first + BATCH_SIZE]
        starts = [keyed.randrange(len(mixture) - length + 1) for mixture, _ in part]
        cuts = [[signal[..., k : k + length] for signal in example] for example, k in zip(part, starts, strict=True)]
        mixtures, sources = zip(*cuts, strict=True)
        yield torch.from_numpy(np.stack(mixtures)), torch.from_numpy(np.stack(sources))


@torch.no_grad()
def _validate(model: torch.nn.Module, loss: torch.nn.Module, examples: list[Example], length: int) -> float:
    model.eval()
    batches = _epoch(list(examples), length, random.Random(0))
    losses = [loss(model(mixture), sources).item() for mixture, sources in batches]
    model.train()
    return float(np.mean(losses))


@torch.no_grad()
def _separate(model: torch.nn.Module, dataset: Path, rows: list[dict[str, str]], out: Path) -> None:
    model.eval()
    for row in rows:
        mixture, rate = soundfile.read(dataset / row["mixture_path"], dtype="float32")
        for number, estimate in enumerate(model(torch.from_numpy(mixture)[None])[0].numpy(), start=1):
            path = out / f"s{number}" / f"{row['mixture_id']}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, estimate, rate, subtype="FLOAT")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--asteroid"]:
        dataset, out, minutes, size, causal = sys.argv[2:]
        train_asteroid(Path(dataset), Path(out), float(minutes), size, causal == "1")
    else:
        main()
