"""``bench ageing``: what minutes of other mixtures, silence and changes of level do to a causal model's separation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.streaming import parse_numbers
from pipeline.errors import DatasetError, UsageError
from pipeline.files import expand_user, written_whole

if TYPE_CHECKING:
    from pipeline.models import ConvTasNet

_Signals = tuple[list[Any], list[list[Any]], list[Any], int]

Models = Annotated[
    list[Path], typer.Argument(help="Causal models: best.safetensors.", metavar="MODEL…", parser=expand_user, show_default=False)
]
Dataset = Annotated[
    Path,
    typer.Option("--dataset", metavar="DIR", parser=expand_user, help="Mixtures: a folder with mixtures.csv, as work/mix/…."),
]
Split = Annotated[str, typer.Option("--split", help="Which of its mixtures.")]
Mixtures = Annotated[
    int, typer.Option("--mixtures", min=2, max=1_000_000, help="So many are scored; the others are the history.")
]
ForgetList = Annotated[
    str | None,
    typer.Option(
        "--forget-seconds", metavar="SECONDS,…", help="Also with statistics that fade, to 1/e after so long.", show_default=False
    ),
]
Table = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE", parser=expand_user, help="Write every score as CSV.", show_default=False),
]
Figure = Annotated[
    Path | None,
    typer.Option("--figure", metavar="FILE", parser=expand_user, help="Draw the means as SVG.", show_default=False),
]


def bench_ageing(
    models: Models,
    dataset: Dataset,
    split: Split = "test",
    mixtures: Mixtures = 30,
    forget_seconds: ForgetList = None,
    out: Table = None,
    figure: Figure = None,
) -> None:
    """Measure how causal models age: SI-SNRi of the same mixtures after nothing, after minutes of others, after silence, …

    Cumulative norms weigh everything since the start alike, so after minutes they hardly follow a change any more. Each mixture
    is separated by a stream that has just been through a history of other mixtures (other talkers), and compared with itself
    after nothing. With --forget-seconds, models with cumulative norms are also measured with statistics that fade.
    """
    import pandas as pd

    from pipeline.reports.ageing import ageing_figure, ageing_means

    windows = parse_numbers("--forget-seconds", forget_seconds) if forget_seconds else []
    scores = pd.DataFrame(_scores(models, _read(dataset, split, mixtures), windows))
    if out is not None:
        with written_whole(out) as temporary:
            scores.to_csv(temporary, index=False)
    means = ageing_means(scores)
    for system, rows in means.groupby("system", sort=False):
        typer.echo(f"{system}\n  {'after':24} {'SI-SNRi':>8}  change, dB (95% interval)")
        for row in rows.to_dict("records"):
            change = f"{row['change']:+8.2f}  ± {row['change_interval']:.2f}" if row["change_interval"] > 0 else ""
            typer.echo(f"  {row['group']:24} {row['mean']:8.2f}  {change}".rstrip())
    if figure is not None:
        with written_whole(figure) as temporary:
            temporary.write_text(ageing_figure(scores, name=figure.stem).svg, encoding="utf-8")


def _scores(models: Sequence[Path], signals: _Signals, windows: Sequence[float]) -> Iterator[dict[str, Any]]:
    """A row for every model, window, history and mixture."""
    from pipeline.compute.progress import progress_bar
    from pipeline.separation.ageing import HISTORIES, separate_after

    mixed, references, others, sample_rate = signals
    runs = [
        (_name(path, models, window), network, window)
        for path, network in _loaded(models, sample_rate, len(references[0]))
        for window in [None, *(windows if network.settings.norm_kind == "cumulative" else [])]
    ]
    with progress_bar("histories", len(runs) * len(HISTORIES)) as advance:
        for system, network, window in runs:
            for history in HISTORIES:
                found = separate_after(network, history, mixed, others, forget_seconds=window)
                for number, estimates in enumerate(found):
                    improvement = _improvement(estimates, references[number], mixed[number])
                    yield {"system": system, "history": history.name, "mixture": number, "si_snri_db": improvement}
                advance(1)


def _loaded(models: Sequence[Path], sample_rate: int, num_sources: int) -> list[tuple[Path, ConvTasNet]]:
    """The models, which must separate what the mixtures are."""
    from pipeline.models import load_model

    networks = [(path, load_model(path)) for path in models]
    for path, network in networks:
        if (network.sample_rate, network.num_sources) != (sample_rate, num_sources):
            raise UsageError(
                f"{path}: separates {network.num_sources} sources at {network.sample_rate} Hz, and the mixtures have "
                f"{num_sources} at {sample_rate} Hz"
            )
    return networks


def _name(path: Path, models: Sequence[Path], window: float | None) -> str:
    from pipeline.models.checkpoints import model_name

    name = model_name(path, models)
    return name if window is None else f"{name}, forgets in {window:g} s"


def _read(dataset: Path, split: str, count: int) -> _Signals:
    """The mixtures to score, their references, the other mixtures, and the rate of all in Hz."""
    from pipeline.audio.files import read_audio
    from pipeline.tables import MIXTURES, read_table

    if not (dataset / "mixtures.csv").is_file():
        raise UsageError(f"--dataset {dataset}: has no mixtures.csv; give the folder of a run's mixtures, as work/mix/…")
    table = read_table(dataset / "mixtures.csv", MIXTURES)
    rows = table[table["split"] == split].to_dict("records")
    if len(rows) < 2:
        raise DatasetError(f"{dataset}: has {len(rows)} {split} mixtures; there must be some to score and others before them")
    step = max(2, len(rows) // count)
    chosen = rows[::step][:count]

    def read(path: str) -> Any:
        return read_audio(dataset / path, dtype="float32")[0]

    references = [[read(row[f"source_{k}_path"]) for k in range(1, row["num_sources"] + 1)] for row in chosen]
    others = [read(row["mixture_path"]) for row in rows if row not in chosen]
    return [read(row["mixture_path"]) for row in chosen], references, others, int(rows[0]["sample_rate"])


def _improvement(estimates: Any, references: Sequence[Any], mixture: Any) -> float:
    """SI-SNRi in dB, the mean over the sources, in their best order."""
    import numpy as np

    from pipeline.scoring.metrics import pairwise_si_snr
    from pipeline.scoring.permutations import best_permutation

    true = np.stack(references).astype(np.float64)
    scores = pairwise_si_snr(estimates.astype(np.float64), true)
    before = pairwise_si_snr(mixture[None].astype(np.float64), true)[0]
    return float((scores[best_permutation(scores), np.arange(len(true))] - before).mean())
