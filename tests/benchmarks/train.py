"""How fast training steps are, beside torchaudio's Conv-TasNet and Asteroid's (in a virtual environment of its own).

    python tests/benchmarks/train.py                                          # ours and torchaudio's
    python -m venv /tmp/asteroid && /tmp/asteroid/bin/pip install "asteroid==0.7.0" "torchmetrics<0.12" "setuptools<81"
    python tests/benchmarks/train.py --asteroid-python /tmp/asteroid/bin/python

The paper's best network, 4-s segments of two sources at 8 kHz: forward, loss, backward, clipping and Adam. Every contender runs
in a process of its own, with what it offers: ours as `tasnet run` trains (bfloat16 where the processor computes in it), the
others in float32, Asteroid with its PITLossWrapper, torchaudio's network, which has no such loss, with ours. They take turns, and
the figures are medians over all steps but each process's first two, so that whatever else the machine does meets all alike.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SAMPLE_RATE, SEGMENT_SECONDS, LEARNING_RATE, CLIP_NORM = 8000, 4.0, 1e-3, 5.0
WARMUP_STEPS = 2
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def ours(causal: bool) -> tuple[torch.nn.Module, Loss]:
    """This project's network and loss, as training sets them up."""
    from pipeline.compute import devices
    from pipeline.models import build_model
    from pipeline.recipe.schema import Model
    from pipeline.training.losses import pit_loss

    device = torch.device("cpu")
    devices.prepare(device)
    model = build_model(Model(causal=causal))
    precision = devices.choose_precision("auto", device)

    def loss(mixture: torch.Tensor, sources: torch.Tensor) -> torch.Tensor:
        with devices.autocast(device, precision):
            estimates = model(mixture)
        return pit_loss(estimates, sources)[0]

    return model, loss


def ours_plain(causal: bool) -> tuple[torch.nn.Module, Loss]:
    """The readable definition without the compiled kernels."""
    from pipeline.models.kernels import dispatch

    model, loss = ours(causal)

    def plain(mixture: torch.Tensor, sources: torch.Tensor) -> torch.Tensor:
        with dispatch.definition_only():
            return loss(mixture, sources)

    return model, plain


def torchaudio(causal: bool) -> tuple[torch.nn.Module, Loss]:
    """torchaudio's network (non-causal only), our loss."""
    import torchaudio.models

    from pipeline.training.losses import pit_loss

    if causal:
        raise SystemExit("torchaudio has no causal Conv-TasNet")
    model = torchaudio.models.ConvTasNet(msk_activate="sigmoid")
    return model, lambda mixture, sources: pit_loss(model(mixture[:, None]), sources)[0]


def asteroid(causal: bool) -> tuple[torch.nn.Module, Loss]:
    """Asteroid's network with the paper's norm for the case, and its loss."""
    from asteroid.losses import PITLossWrapper, pairwise_neg_sisdr
    from asteroid.models import ConvTasNet

    model = ConvTasNet(n_src=2, causal=causal, norm_type="cgLN" if causal else "gLN", sample_rate=SAMPLE_RATE)
    loss = PITLossWrapper(pairwise_neg_sisdr, pit_from="pw_mtx")
    return model, lambda mixture, sources: loss(model(mixture), sources)


CONTENDERS = {"ours": ours, "ours-plain": ours_plain, "torchaudio": torchaudio, "asteroid": asteroid}


def measure(contender: str, *, causal: bool, batch_size: int, num_steps: int, threads: int) -> dict[str, Any]:
    """Run steps in this process."""
    torch.manual_seed(0)
    model, loss = CONTENDERS[contender](causal)
    if threads:
        torch.set_num_threads(threads)
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=contender.startswith("ours"))
    sources = 0.1 * torch.randn(batch_size, 2, round(SEGMENT_SECONDS * SAMPLE_RATE))
    wall, cpu = [], []
    for _ in range(WARMUP_STEPS + num_steps):
        start = time.perf_counter(), time.process_time()
        value = loss(sources.sum(1), sources)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimiser.step()
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"wall": wall[WARMUP_STEPS:], "cpu": cpu[WARMUP_STEPS:], "first": wall[0], "peak_gb": peak_gb, "loss": value.item()}


def main() -> None:
    """Let the contenders take turns; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--asteroid-python", type=Path, help="interpreter of an environment with asteroid")
    parser.add_argument("--contenders", nargs="*", choices=CONTENDERS, default=[])
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="per turn, after the warm-up")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: one per core")
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        found = measure(
            given.only, causal=given.causal, batch_size=given.batch_size, num_steps=given.steps, threads=given.threads
        )
        print(json.dumps(found))
        return
    _print(_take_turns(given), given.batch_size)


def _take_turns(given: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    names = given.contenders or [
        "ours",
        *([] if given.causal else ["torchaudio"]),
        *(["asteroid"] if given.asteroid_python else []),
    ]
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(given.turns):
        for name in names:
            print(f"turn {turn + 1} of {given.turns}: {name}", file=sys.stderr)
            turns[name].append(_child(name, given))
    return turns


def _child(name: str, given: argparse.Namespace) -> dict[str, Any]:
    interpreter = str(given.asteroid_python if name == "asteroid" else sys.executable)
    sizes = ["--batch-size", str(given.batch_size), "--steps", str(given.steps), "--threads", str(given.threads)]
    command = [interpreter, __file__, "--only", name, *sizes, *(["--causal"] if given.causal else [])]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def _print(turns: dict[str, list[dict[str, Any]]], batch_size: int) -> None:
    print(f"{'':12} segments/s  CPU s/segment  first step s  peak GB")
    for name, results in turns.items():
        wall = statistics.median(second for result in results for second in result["wall"])
        cpu = statistics.median(second for result in results for second in result["cpu"])
        first, peak = (statistics.median(result[key] for result in results) for key in ("first", "peak_gb"))
        print(f"{name:12} {batch_size / wall:10.2f} {cpu / batch_size:14.3f} {first:13.1f} {peak:8.1f}")


if __name__ == "__main__":
    main()
