"""Commands about scores and reports: ``score``, ``compare`` and ``report``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.arguments import ClusterName, Jobs, NoLock, named_folders, working_on
from pipeline.errors import DatasetError, ScoreError
from pipeline.files import expand_user

if TYPE_CHECKING:
    from pipeline.reports.clips import ClipFiles, FileLoader
    from pipeline.scoring.tasks import Matched, Task

Verify = Annotated[
    int,
    typer.Option(
        "--verify", metavar="N", min=0, max=1_000_000_000, help="Recompute N random rows with mir_eval and print the difference."
    ),
]
Also = Annotated[
    list[str] | None,
    typer.Option("--also", metavar="METRIC,…", help="More metrics: sir, sar, sa_sdr, stoi, estoi, pesq.", show_default=False),
]
Estimates = Annotated[
    list[str],
    typer.Option(
        "--estimates", metavar="[SYSTEM=]DIR", help="Estimates: a folder with s1/, s2/ …, or NAME_s1.wav … Can be repeated."
    ),
]
References = Annotated[
    Path, typer.Option("--references", metavar="DIR", parser=expand_user, help="References: a folder of the same form.")
]
Mixtures = Annotated[
    Path | None,
    typer.Option(
        "--mixtures",
        metavar="DIR",
        parser=expand_user,
        help="Mixtures, for the improvements; by default those beside the references.",
    ),
]
Patterns = Annotated[
    list[str] | None,
    typer.Option(
        "--pattern", metavar="KIND=PATTERN", help="File names, e.g. estimates={mixture_id}_est{source}. Can be repeated."
    ),
]
OracleTable = Annotated[
    Path | None,
    typer.Option("--oracles", metavar="FILE", parser=expand_user, help="Also score ideal masks, into this table."),
]
Channel = Annotated[
    int | None,
    typer.Option("--channel", metavar="N", min=0, max=1023, help="Score this channel of files with several; 0 is the first."),
]

# What ``report`` takes for its players.
PlayedEstimates = Annotated[
    list[str] | None,
    typer.Option("--estimates", metavar="[SYSTEM=]DIR", help="A system's estimates, for players. Can be repeated."),
]
PlayedReferences = Annotated[
    Path | None,
    typer.Option(
        "--references", metavar="DIR", parser=expand_user, help="Without a dataset: the references, in folders as for `score`."
    ),
]
PlayedMixtures = Annotated[
    Path | None,
    typer.Option("--mixtures", metavar="DIR", parser=expand_user, help="The mixtures; by default those beside the references."),
]
PlayedDataset = Annotated[
    Path | None,
    typer.Option("--dataset", metavar="DIR", parser=expand_user, help="The dataset, for listening examples and plots over time."),
]
Baseline = Annotated[str | None, typer.Option("--baseline", help="The system the others are compared with.")]
Repeats = Annotated[
    bool, typer.Option("--repeats", help="The tables are repeated trainings of the same systems: show their mean and spread.")
]
ReportedRecipe = Annotated[
    str | None,
    typer.Option("--recipe", metavar="RECIPE", help="Take title, baseline and published results from this recipe."),
]
ShownOracles = Annotated[
    Path | None, typer.Option("--oracles", metavar="SCORES", parser=expand_user, help="Scores of ideal masks, for context.")
]
History = Annotated[
    list[str] | None, typer.Option("--history", metavar="SYSTEM=FILE", help="A system's history.csv. Can be repeated.")
]
Ageing = Annotated[
    Path | None,
    typer.Option("--ageing", metavar="FILE", parser=expand_user, help="What `bench ageing -o FILE` has measured."),
]
NumExamples = Annotated[
    int, typer.Option("--examples", metavar="N", min=0, max=50, help="Players at most; fewer if the page became too large.")
]


def score(
    estimates: Estimates,
    references: References,
    mixtures: Mixtures = None,
    patterns: Patterns = None,
    permutation: Annotated[
        str, typer.Option("--permutation", help="Metric that assigns estimates to references: si_snr, or sir as in mir_eval.")
    ] = "si_snr",
    also: Also = None,
    verify: Verify = 0,
    oracles: OracleTable = None,
    channel: Channel = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Convert recordings at another sample rate than their reference's.")
    ] = False,
    align: Annotated[bool, typer.Option("--align", help="Remove a constant delay and DC offset of the estimates first.")] = False,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", parser=expand_user, help="The table; it keeps the rows of other systems."),
    ] = Path("scores.csv"),
    jobs: Jobs = None,
    cluster: ClusterName = None,
    no_lock: NoLock = False,
) -> None:
    """Score estimates: SI-SNR, SI-SNRi, SDR and SDRi of every source; an interrupted run continues.

    Exits with 1 if some estimates have no references and were not scored.
    """
    from pipeline.compute.locks import without_locks

    tasks, left_out = _match(_system_folders(estimates), references, mixtures, patterns or [])
    metrics = [metric for text in also or [] for metric in text.replace(",", " ").split()]
    how = {"also": metrics, "permutation": permutation, "channel": channel, "resample": resample, "align": align}
    with without_locks() if no_lock else nullcontext(), working_on(cluster, jobs):
        _score(tasks, out, oracles, verify, how | {"num_workers": jobs})
    for line in left_out:
        typer.echo(line)
    raise typer.Exit(int(bool(left_out)))


def compare(
    a: Annotated[Path, typer.Argument(help="scores.csv of the first system.", metavar="A", parser=expand_user)],
    b: Annotated[Path, typer.Argument(help="scores.csv of the second system.", metavar="B", parser=expand_user)],
    fail_if: Annotated[
        str | None,
        typer.Option("--fail-if", metavar="CONDITION", help='Exit with 1 if the interval shows it, e.g. "si_snri_db < -0.1".'),
    ] = None,
    allow: Annotated[
        str,
        typer.Option("--allow", metavar="failures,missing", help="What --fail-if accepts in B: more failures, missing mixtures."),
    ] = "",
) -> None:
    """Compare two score tables, mixture by mixture: the mean difference B − A with its confidence interval."""
    from pipeline import reports

    tables = reports.read_scores([a]), reports.read_scores([b])
    text, failed = reports.compare(*tables, fail_if=fail_if, allow=allow.replace(",", " ").split())
    typer.echo(text)
    raise typer.Exit(int(failed))


def report(
    scores: Annotated[
        list[Path], typer.Argument(help="Score tables of this or another tool.", metavar="SCORES…", parser=expand_user)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", parser=expand_user, help="Folder for the report.")] = Path(
        "report"
    ),
    baseline: Baseline = None,
    repeats: Repeats = False,
    recipe: ReportedRecipe = None,
    oracles: ShownOracles = None,
    history: History = None,
    ageing: Ageing = None,
    dataset: PlayedDataset = None,
    estimates: PlayedEstimates = None,
    references: PlayedReferences = None,
    mixtures: PlayedMixtures = None,
    patterns: Patterns = None,
    examples: NumExamples = 5,
) -> None:
    """Write a report that compares systems by their score tables."""
    from pipeline import reports
    from pipeline.reports.ageing import read_ageing
    from pipeline.scoring import cross_checks

    table = reports.read_scores(scores, repeats=repeats)
    systems = set(table["system"])
    folders = _system_folders(estimates or [])
    _check_systems(folders, systems)
    beside = _from_recipe(recipe, systems) | {"histories": _histories(history), "num_examples": examples}
    if dataset is not None:
        beside["examples"] = _dataset_clips(dataset, folders, references or mixtures)
    elif folders or references or mixtures:
        beside["examples"] = _folder_clips(folders, references, mixtures, patterns or [], set(table["mixture_id"]))
    beside |= {"baseline": baseline} if baseline is not None else {}
    beside |= {"ageing": read_ageing(ageing)} if ageing is not None else {}
    beside |= {"oracles": reports.read_scores([oracles]) if oracles else None, "verification": cross_checks.read_checks(scores)}
    typer.echo(f"Report: {reports.write_report(table, out, **beside)}")


def _match(folders: Mapping[str, Path], references: Path, mixtures: Path | None, patterns: Sequence[str]) -> Matched:
    """The recordings of every mixture, and what has no references."""
    from pipeline.scoring import match_folders

    kinds = ("estimates", "references", "mixtures")
    named = [text.partition("=") for text in patterns]
    for kind, _, pattern in named:
        if kind not in kinds or not pattern:
            raise ScoreError(f"--pattern {kind}: write it as KIND=PATTERN, where KIND is {', '.join(kinds[:2])} or {kinds[2]}")
    layout = {kind: pattern for kind, _, pattern in named}
    return match_folders(folders, references, mixtures, patterns=layout, search_mixtures=True)


def _system_folders(texts: Sequence[str]) -> dict[str, Path]:
    """Folders by system; one without a name takes that of its folder."""
    folders: dict[str, Path] = {}
    for text in texts:
        name, separator, folder = text.partition("=")
        unnamed = not separator or expand_user(text).is_dir()
        path = expand_user(text if unnamed else folder)
        name = path.resolve().name if unnamed else name
        if not name or name in folders:
            raise ScoreError(f"--estimates {text}: give every system a name of its own: --estimates NAME={path}")
        folders[name] = path
    return folders


def _score(tasks: Sequence[Task], out: Path, oracles: Path | None, verify: int, how: dict[str, Any]) -> None:
    """Write the tables, and print their means and what mir_eval found."""
    from pipeline import reports, scoring

    scores = scoring.score_tasks(tasks, out=out, **how)
    if oracles is not None:
        scoring.score_tasks(scoring.with_oracles(tasks), out=oracles, **how)
    typer.echo(reports.format_comparison(scores))
    new = scores[scores["system"].isin(list(tasks[0].estimates))]
    settings = scoring.Settings.of(sample_rate=tasks[0].sample_rate, **{name: how[name] for name in how.keys() - {"num_workers"}})
    problems = scoring.explain_problems(new, tasks, settings)
    typer.echo("\n".join(["", *scoring.score_warnings(scores), *problems, f"Scores: {out}"]))
    scoring.check_path(out).unlink(missing_ok=True)
    if verify:
        check = scoring.cross_check(new, tasks, verify, num_workers=how["num_workers"])
        scoring.write_check(check, out)
        typer.echo(scoring.format_check(check))


def _from_recipe(name: str | None, systems: set[str]) -> dict[str, Any]:
    """Title, published results and baseline, if the recipe is given and the tables hold its baseline."""
    if name is None:
        return {"title": "Speech separation", "published": {}}
    from pipeline.recipe.reading import load_recipe

    recipe = load_recipe(name)
    published = {system: figures.model_dump() for system, figures in recipe.report.published.items()}
    return {"title": recipe.name, "published": published, "baseline": recipe.baseline if recipe.baseline in systems else None}


def _histories(texts: Sequence[str] | None) -> dict[str, Any]:
    from pipeline.tables import HISTORY, read_table

    return {name: read_table(path, HISTORY) for name, path in named_folders("--history", texts, "SYSTEM=PATH").items()}


def _check_systems(folders: Mapping[str, Path], systems: set[str]) -> None:
    """Raise ScoreError where estimates are named after a system that the tables do not have."""
    if unknown := sorted(set(folders) - systems):
        raise ScoreError(
            f"--estimates {unknown[0]}=…: the tables have no system of that name; there are {', '.join(sorted(systems))}"
        )


def _dataset_clips(dataset: Path, folders: Mapping[str, Path], beside: Path | None) -> FileLoader:
    """The audio of a dataset's test mixtures and what the systems made of them."""
    from pipeline import reports
    from pipeline.tables import MIXTURES, read_table

    if beside is not None:
        raise DatasetError("--dataset has the mixtures and references; leave out --references and --mixtures")
    mixtures = read_table(dataset / "mixtures.csv", MIXTURES)
    return reports.clip_loader(dataset, mixtures[mixtures["split"] == "test"], folders)


def _folder_clips(
    folders: Mapping[str, Path], references: Path | None, mixtures: Path | None, patterns: Sequence[str], scored: set[str]
) -> FileLoader:
    """The audio of anybody's folders, of mixtures whose own recording and references exist.

    Raises:
        DatasetError: a folder that is needed was not given.
        ScoreError: the folders have no mixture of the tables.
    """
    from pipeline import reports

    if references is None or not folders:
        missing = "--estimates SYSTEM=DIR" if references else "--references DIR and --mixtures DIR, or --dataset DIR"
        given = "--references" if references else "--estimates" if folders else "--mixtures"
        raise DatasetError(f"{given} needs {missing}: players have mixtures, references and estimates")
    tasks = _match(folders, references, mixtures, patterns).tasks
    if all(task.mixture is None for task in tasks):
        raise DatasetError(f"{references}: there are no mixtures beside the references; give --mixtures DIR")
    found = {task.mixture_id: _files_of(task) for task in tasks if task.mixture_id in scored and _can_be_heard(task)}
    if not found:
        raise ScoreError(
            f"{references}: has none of the mixtures of the tables: it has {tasks[0].mixture_id}, they have {min(scored)}; "
            "use the same names, or give a pattern that matches them"
        )
    return reports.FileLoader(found)


def _can_be_heard(task: Task) -> bool:
    return task.mixture is not None and all(path.is_file() for path in (task.mixture, *task.references))


def _files_of(task: Task) -> ClipFiles:
    from pipeline import reports

    assert task.mixture is not None
    made = {system: paths for system, paths in task.estimates.items() if not isinstance(paths, str)}
    return reports.ClipFiles(task.mixture, task.references, made)
