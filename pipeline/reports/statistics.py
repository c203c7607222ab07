"""What scores say: summaries, paired differences and breakdowns, each with an interval that respects the speakers.

Every number here starts from a table of means: one row per mixture, one column per system, the sources of a mixture averaged
first. A mixture counts only where each of its sources has a finite value; what is left out is counted, never averaged.

A test set of thousands of mixtures often holds only tens of speakers, and mixtures that share a speaker are not independent.
The intervals therefore resample speakers, not mixtures (see ``intervals``); where nobody is named they resample mixtures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse, stats
from scipy.sparse.linalg import lsqr

Floats: TypeAlias = npt.NDArray[np.float64]
Codes: TypeAlias = npt.NDArray[np.int64]

METRICS = ("si_snri_db", "sdri_db", "si_snr_db", "sdr_db")
EXTRA_METRICS = ("sir_db", "sar_db", "sa_sdr_db", "stoi", "estoi", "pesq")
LEVEL = 0.95
NUM_RESAMPLES = 10_000
MARGIN_DB = 0.1
"""Differences below this are ties: no listener hears them, and published gains of this size rarely survive a rerun."""

_CHUNK = 500
_FEWEST = 3
_FEWEST_OF_A_GROUP = 6


# ------------------------------------------------------------------------------------------------------ means per mixture
def mixture_means(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean over the sources of every mixture: rows by mixture_id, a column per system in the order of the scores.

    NaN where a source of the mixture has no row or no finite value for that system.
    """
    values = scores[metric].where(np.isfinite(scores[metric]))
    groups = values.groupby([scores["mixture_id"], scores["system"]], sort=True)
    num_valid = groups.count().unstack("system", fill_value=0)
    num_sources = scores.groupby("mixture_id")["source"].nunique()
    complete = num_valid.eq(num_sources, axis="index")
    means = groups.mean().unstack("system").where(complete)
    return means[list(dict.fromkeys(scores["system"]))]


def metrics_in(scores: pd.DataFrame) -> list[str]:
    """The metrics that a table holds values of; of a table without any value, the four that all should have."""
    known = [metric for metric in (*METRICS, *EXTRA_METRICS) if metric in scores.columns]
    return [metric for metric in known if np.isfinite(scores[metric]).any()] or list(METRICS)


def headline_metrics(scores: pd.DataFrame) -> tuple[str, ...]:
    """The improvements; where mixtures were not at hand for any of them, the plain SI-SNR and SDR; one where the other lacks."""
    known = metrics_in(scores)
    pairs = (("si_snri_db", "sdri_db"), ("si_snr_db", "sdr_db"))
    return next(found for pair in pairs if (found := tuple(metric for metric in pair if metric in known)))


def seconds_of(scores: pd.DataFrame) -> pd.Series:
    """Length of every row's mixture; NaN where it is not known."""
    return scores["num_samples"] / scores["sample_rate"]


def mixture_speakers(scores: pd.DataFrame) -> pd.DataFrame | None:
    """Who speaks in every mixture: rows by mixture_id, a column per source; None where any speaker is unknown."""
    if "speaker_id" not in scores.columns:
        return None
    named = scores.assign(speaker_id=scores["speaker_id"].where(scores["speaker_id"] != ""))
    speakers = named.groupby(["mixture_id", "source"], sort=True)["speaker_id"].first()
    if speakers.isna().any():
        return None
    return speakers.unstack("source")


def clusters_of(scores: pd.DataFrame, mixture_ids: pd.Index) -> Codes:
    """What the bootstrap draws, by number: each mixture's speakers ``[mixture, source]``, or the mixture itself ``[mixture, 1]``.

    -1 stands where a mixture has fewer sources than others, or the same speaker twice.
    """
    speakers = mixture_speakers(scores)
    if speakers is None or len(pd.unique(speakers.to_numpy().ravel())) < _FEWEST:
        return np.arange(len(mixture_ids), dtype=np.int64)[:, None]
    table = speakers.reindex(mixture_ids)
    codes = np.sort(pd.factorize(table.to_numpy().ravel(), sort=True)[0].reshape(table.shape), axis=1)
    codes[:, 1:][np.diff(codes, axis=1) == 0] = -1
    return codes.astype(np.int64)


def resampled_unit(clusters: Codes) -> str:
    """What the clusters are, in a word for the reader: ``speakers`` or ``mixtures``."""
    return "mixtures" if clusters.shape[1] == 1 else "speakers"


# ------------------------------------------------------------------------------------------------------------- intervals
def intervals(values: Floats, clusters: Codes, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> tuple[Floats, Floats]:
    """95 % bootstrap intervals of the mean of every column.

    Pigeonhole bootstrap (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007): speakers are drawn with
    replacement and a mixture weighs as much as the product of its speakers' draws. The percentiles' distance from the mean
    is then corrected. The product counts what belongs to one mixture or one set of speakers 2^K - 1 times for K sources; it is
    to count once. What belongs to the speakers comes out too small when they are few, and so do percentiles where Student's t
    should stand for the normal (Hesterberg, The American Statistician 69(4), 2015); both are stretched by their ratio.

    Args:
        values: ``[mixture, column]``, NaN where a mixture does not count.
        clusters: ``[mixture, source]`` numbers of the speakers, as ``clusters_of`` gives them.
        seed: of the draws.
        num_resamples: how many draws.

    Returns:
        Lower and upper ends ``[column]``; NaN for columns with fewer than three mixtures or three speakers.
    """
    low, high = np.full((2, values.shape[1]), np.nan)
    means = resampled_means(values, clusters, seed=seed, num_resamples=num_resamples)
    for column in range(values.shape[1]):
        valid = np.isfinite(values[:, column])
        drawn = means[np.isfinite(means[:, column]), column]
        if len(np.unique(clusters[valid])) < _FEWEST or valid.sum() < _FEWEST:
            continue
        mean = values[valid, column].mean()
        ends = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        low[column], high[column] = mean + _correction(values[valid, column], clusters[valid], drawn) * (ends - mean)
    return low, high


def resampled_means(values: Floats, clusters: Codes, *, seed: int, num_resamples: int) -> Floats:
    """Means ``[resample, column]`` over mixtures weighted by their clusters' draws; NaN where no mixture was drawn."""
    valid = np.isfinite(values)
    filled = np.where(valid, values, 0.0)
    means = np.empty((num_resamples, values.shape[1]))
    for rows, weights in _drawn_weights(clusters, seed, num_resamples):
        size = weights @ valid.astype(np.float64)
        means[rows] = np.divide(weights @ filled, size, out=np.full_like(size, np.nan), where=size > 0)
    return means


def _drawn_weights(clusters: Codes, seed: int, num_resamples: int) -> Iterator[tuple[slice, Floats]]:
    """Weights ``[resample, mixture]``, some hundred resamples at a time to keep memory flat."""
    generator = np.random.default_rng(seed)
    num_clusters = int(clusters.max()) + 1
    for start in range(0, num_resamples, _CHUNK):
        rows = slice(start, min(start + _CHUNK, num_resamples))
        draws = np.ones((rows.stop - start, num_clusters + 1))  # the last column is what -1 points at
        draws[:, :-1] = generator.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=len(draws))
        weights = draws[:, clusters[:, 0]]
        for source in range(1, clusters.shape[1]):
            weights *= draws[:, clusters[:, source]]
        yield rows, weights


def _correction(values: Floats, clusters: Codes, drawn: Floats) -> float:
    """How far the percentiles of one column are to be moved from the mean, as a factor."""
    num_clusters, num_sources = len(np.unique(clusters[clusters >= 0])), clusters.shape[1]
    drawn_variance = drawn.var()
    if drawn_variance <= 0:
        return 1.0
    noise = _noise_variance(values, clusters)
    by_speaker = max(drawn_variance - (2**num_sources - 1) * noise, 0.0)
    # n - 1 for n; and a speaker drawn often meets himself, for which there are no mixtures, so his weight grows too little.
    by_speaker *= num_clusters * (num_clusters - 1) / max(num_clusters - num_sources, 1) ** 2
    few = stats.t.ppf((1 + LEVEL) / 2, num_clusters - 1) / stats.norm.ppf((1 + LEVEL) / 2)
    return float(few * np.sqrt((noise + by_speaker) / drawn_variance))


def _noise_variance(values: Floats, clusters: Codes) -> float:
    """Variance of the mean due to what belongs neither to all nor to a speaker, but to one mixture or one set of speakers.

    Residuals of the speakers' effects (least squares) are summed over the mixtures of each set of speakers, which are not
    independent of each other either, and the sums' squares give the variance.
    """
    sets, of_set = np.unique(clusters, axis=0, return_inverse=True)
    freedom = len(sets) - len(np.unique(clusters[clusters >= 0]))
    if freedom < 1:
        freedom, residuals = len(sets) - 1, values - values.mean()
    else:
        rows, _ = np.nonzero(clusters >= 0)
        spoken = sparse.csr_array((np.ones(len(rows)), (rows, clusters[clusters >= 0])))
        residuals = values - spoken @ lsqr(spoken, values, atol=1e-9, btol=1e-9)[0]
    sums = np.bincount(of_set.ravel(), residuals)
    return float(sums @ sums / len(values) ** 2 * len(sets) / max(freedom, 1))


# ------------------------------------------------------------------------------------------------------------- summaries
def summaries(scores: pd.DataFrame, metrics: Sequence[str] | None = None, *, seed: int = 0) -> pd.DataFrame:
    """One row per system and metric (by default all): how many mixtures, their mean with its 95 % interval, and their spread.

    Columns: system, metric, n, n_valid, mean, low, high, median, std, p5, p25, p75, p95, share_below_0, share_below_5,
    resampled (speakers or mixtures).
    """
    rows: list[dict[str, Any]] = []
    for metric in metrics_in(scores) if metrics is None else metrics:
        means = mixture_means(scores, metric)
        clusters = clusters_of(scores, means.index)
        low, high = intervals(means.to_numpy(), clusters, seed=seed)
        for column, system in enumerate(means.columns):
            ends = {"low": low[column], "high": high[column], "resampled": resampled_unit(clusters)}
            rows.append({"system": system, "metric": metric, **describe(means[system]), **ends})
    order = ["system", "metric", "n", "n_valid", "mean", "low", "high"]
    table = pd.DataFrame(rows)
    return table[order + [name for name in table.columns if name not in order]]


def describe(values: pd.Series) -> dict[str, float]:
    """Count, mean, median, standard deviation (n - 1), percentiles and shares of one system's mixtures, NaN left out."""
    valid = values.dropna().to_numpy(np.float64)
    found: dict[str, float] = {"n": len(values), "n_valid": len(valid)}
    if not len(valid):
        empty = ("mean", "median", "std", "p5", "p25", "p75", "p95", "share_below_0", "share_below_5")
        return found | dict.fromkeys(empty, np.nan)
    p5, p25, median, p75, p95 = np.percentile(valid, [5, 25, 50, 75, 95])
    found |= {"mean": valid.mean(), "median": median, "std": valid.std(ddof=1) if len(valid) > 1 else np.nan}
    found |= {"p5": p5, "p25": p25, "p75": p75, "p95": p95}
    return found | {"share_below_0": float((valid < 0).mean()), "share_below_5": float((valid < 5).mean())}


# ----------------------------------------------------------------------------------------------------- paired comparison
def paired_differences(
    scores: pd.DataFrame, metric: str, *, baseline: str | None = None, margin_db: float = MARGIN_DB, seed: int = 0
) -> pd.DataFrame:
    """Every two systems compared on the mixtures that are valid for both, the baseline's pairs first.

    Columns: system, baseline (what is subtracted), metric, n, difference (mean, dB), low, high (95 % interval), std,
    p (Wilcoxon signed-rank over mixtures, two-sided), p_holm (Holm over all pairs of this table), win, tie, loss (shares of
    mixtures above, within and below ``margin_db``), resampled.
    """
    means = mixture_means(scores, metric)
    pairs = _ordered_pairs([str(name) for name in means.columns], baseline)
    if not pairs:
        return pd.DataFrame(columns=PAIR_COLUMNS)
    clusters = clusters_of(scores, means.index)
    differences = np.stack([(means[system] - means[other]).to_numpy() for system, other in pairs], axis=1)
    low, high = intervals(differences, clusters, seed=seed)
    rows = [
        {"system": system, "baseline": other, "metric": metric, "low": low[column], "high": high[column]}
        | _compared(differences[:, column], margin_db)
        for column, (system, other) in enumerate(pairs)
    ]
    table = pd.DataFrame(rows).assign(resampled=resampled_unit(clusters))
    return table.assign(p_holm=holm(table["p"].to_numpy()))[PAIR_COLUMNS]


PAIR_COLUMNS = ["system", "baseline", "metric", "n", "difference", "low", "high", "std", "p", "p_holm"]
PAIR_COLUMNS += ["win", "tie", "loss", "resampled"]


def _ordered_pairs(systems: list[str], baseline: str | None) -> list[tuple[str, str]]:
    """(system, what it is compared with) for every two systems; the baseline is always the second."""
    if baseline in systems:
        systems = [str(baseline), *(name for name in systems if name != baseline)]
    return [(second, first) for first, second in combinations(systems, 2)]


def _compared(differences: Floats, margin_db: float) -> dict[str, float]:
    """Mean, spread, test and win rate of one pair's differences, NaN left out."""
    valid = differences[np.isfinite(differences)]
    if not len(valid):
        return {"n": 0} | dict.fromkeys(("difference", "std", "p", "win", "tie", "loss"), np.nan)
    win, loss = float((valid > margin_db).mean()), float((valid < -margin_db).mean())
    spread = valid.std(ddof=1) if len(valid) > 1 else np.nan
    found = {"n": len(valid), "difference": valid.mean(), "std": spread, "p": wilcoxon(valid)}
    return found | {"win": win, "tie": 1 - win - loss, "loss": loss}


def wilcoxon(differences: Floats) -> float:
    """Two-sided p of the Wilcoxon signed-rank test, zeros dropped; 1 where nothing differs."""
    changed = differences[differences != 0]
    return float(stats.wilcoxon(changed).pvalue) if len(changed) else 1.0


def holm(p_values: Floats) -> Floats:
    """Holm's step-down adjustment (Scandinavian Journal of Statistics 6(2), 1979); NaN stays NaN and does not count."""
    adjusted = np.full(len(p_values), np.nan)
    order = [k for k in np.argsort(p_values) if np.isfinite(p_values[k])]
    largest = 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * float(p_values[k])))
        adjusted[k] = largest
    return adjusted


# ------------------------------------------------------------------------------------------------------------ breakdowns
def breakdown(scores: pd.DataFrame, metric: str, groups: pd.Series, *, seed: int = 0) -> pd.DataFrame:
    """Means by group, for example by sex pair: one row per group and system, in the order of the groups' categories.

    Args:
        scores: one row per system, mixture and source.
        metric: column to average; the sources of a mixture that fall into the same group are averaged first.
        groups: the group of every row of ``scores``; rows without one are left out.
        seed: of the bootstrap.

    Returns:
        Columns group, system, n (mixtures), mean, low, high; no interval for a group of fewer than six speakers, which would
        say nothing.
    """
    named, systems = groups.notna(), dict.fromkeys(scores["system"])
    tables = {str(group): mixture_means(scores[named & (groups == group)], metric) for group in _in_order(groups[named])}
    rows: list[dict[str, Any]] = []
    for group, means in tables.items():
        means = means[[system for system in systems if system in means.columns]]
        clusters = clusters_of(scores, means.index)
        low, high = intervals(means.to_numpy(), clusters, seed=seed, num_resamples=2000)
        if resampled_unit(clusters) == "speakers" and clusters.max() + 1 < _FEWEST_OF_A_GROUP:
            low, high = np.full((2, len(low)), np.nan)
        for column, system in enumerate(means.columns):
            found = describe(means[system])
            ends = {"low": low[column], "high": high[column]}
            rows.append({"group": group, "system": system, "n": found["n_valid"], "mean": found["mean"], **ends})
    return pd.DataFrame(rows, columns=["group", "system", "n", "mean", "low", "high"])


def _in_order(groups: pd.Series) -> list[Any]:
    if isinstance(groups.dtype, pd.CategoricalDtype):
        return [category for category in groups.cat.categories if (groups == category).any()]
    return sorted(groups.unique())


def input_bins(scores: pd.DataFrame) -> pd.Series:
    """Input SI-SNR of every row in bins of about equal size."""
    return _binned(scores["input_si_snr_db"], "dB")


def length_bins(scores: pd.DataFrame) -> pd.Series:
    """Length of every row's mixture in bins of about equal size."""
    return _binned(seconds_of(scores), "s")


def overlap_bins(scores: pd.DataFrame) -> pd.Series:
    """How far the speakers of every row's mixture overlap, in per cent: as planned, or where ratios are many, in fifths."""
    if "overlap" not in scores.columns:
        return pd.Series(np.nan, index=scores.index, dtype=object)
    percent = (100 * scores["overlap"]).round()
    if percent.nunique() > _MOST_OVERLAPS:
        percent = 20 * (percent // 20).clip(upper=4)
        labels = {value: f"{value:.0f} to {value + 20:.0f} %" for value in sorted(percent.dropna().unique())}
    else:
        labels = {value: f"{value:.0f} %" for value in sorted(percent.dropna().unique())}
    return percent.map(labels).astype(pd.CategoricalDtype(list(labels.values()), ordered=True))


_MOST_OVERLAPS = 6


def _binned(values: pd.Series, unit: str, num_bins: int = 5) -> pd.Series:
    """Values in about equally filled half-open bins [low, high) with edges on halves, labelled in words."""
    finite = values[np.isfinite(values)]
    if finite.empty:
        return pd.Series(np.nan, index=values.index, dtype=object)
    inner = np.unique(np.round(2 * np.quantile(finite, np.arange(1, num_bins) / num_bins)) / 2)
    edges = [-np.inf, *inner[(inner > finite.min()) & (inner <= finite.max())], np.inf]
    labels = [_bin_label(low, high, unit) for low, high in pairwise(edges)]
    return pd.cut(values.where(np.isfinite(values)), edges, right=False, labels=labels)


def _bin_label(low: float, high: float, unit: str) -> str:
    if not np.isfinite(low):
        label = f"below {high:g} {unit}" if np.isfinite(high) else "all"
    else:
        label = f"{low:g} to {high:g} {unit}" if np.isfinite(high) else f"{low:g} {unit} and more"
    return label.replace("-", "\N{MINUS SIGN}")


def sex_pairs(scores: pd.DataFrame) -> pd.Series:
    """Sexes of every row's mixture, as ``F+M``; missing where any is unknown."""
    if "sex" not in scores.columns:
        return pd.Series(np.nan, index=scores.index, dtype=object)
    sexes = scores.assign(sex=scores["sex"].where(scores["sex"] != "")).groupby(["mixture_id", "source"])["sex"].first()
    pairs = sexes.groupby("mixture_id").agg(lambda found: "+".join(sorted(found)) if found.notna().all() else np.nan)
    return scores["mixture_id"].map(pairs)


# ------------------------------------------------------------------------------------------------------- test-set health
def excluded(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rows whose status is not ``ok`` or that have no finite value: columns system, status, rows, mixtures, counted.

    ``counted`` says whether those rows have values and so count in the means.
    """
    finite = np.isfinite(scores[metric])
    odd = scores.assign(counted=finite)[(scores["status"] != "ok") | ~finite]
    groups = odd.groupby(["system", "status", "counted"], sort=True)
    table = groups.agg(rows=("source", "size"), mixtures=("mixture_id", "nunique")).reset_index()
    return pd.DataFrame(table, columns=["system", "status", "rows", "mixtures", "counted"])


def health(scores: pd.DataFrame, metric: str = "si_snri_db") -> pd.DataFrame:
    """What looks wrong with the test set itself, from the scores alone: columns finding, mixture_id, detail.

    Mixtures that some system lacks, different audio of one name, mixtures that seem to be there twice, mixtures whose level
    against their sources does not fit a sum of them, and speakers far from all others.
    """
    findings = [
        *_missing(scores),
        *strangers(scores),
        *_duplicates(scores),
        *_no_sums(scores),
        *_outlying_speakers(scores, metric),
    ]
    return pd.DataFrame(findings, columns=["finding", "mixture_id", "detail"])


def _missing(scores: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    present = pd.crosstab(scores["mixture_id"], scores["system"]) > 0
    for mixture_id, row in present[~present.all(axis=1)].iterrows():
        yield "missing", str(mixture_id), f"no rows for {', '.join(str(name) for name in present.columns[~row])}"


def strangers(scores: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Findings of mixtures that are not the same audio for every system: one has one length and one input SI-SNR."""
    groups = scores.groupby(["mixture_id", "source"])
    lengths = groups["num_samples"].nunique()
    levels = groups["input_si_snr_db"].max() - groups["input_si_snr_db"].min()
    odd = (lengths > 1) | (levels > _SAME_INPUT_DB)
    for mixture_id in dict.fromkeys(mixture_id for mixture_id, _ in odd.index[odd]):
        yield "other audio", str(mixture_id), "the systems' scores are of mixtures of different length or level under this name"


_SAME_INPUT_DB = 0.1


def _duplicates(scores: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Two mixtures of one length whose input SI-SNRs agree to the last bit are the same audio under two names."""
    first = scores[scores["system"] == scores["system"].iloc[0]] if len(scores) else scores
    prints = first.sort_values("source").groupby("mixture_id")[["num_samples", "input_si_snr_db"]].agg(tuple)
    seen: dict[Any, str] = {}
    for mixture_id, row in prints.iterrows():
        if not np.isfinite(row["input_si_snr_db"]).all():
            continue
        twin = seen.setdefault(tuple(row), str(mixture_id))
        if twin != mixture_id:
            yield "duplicate", str(mixture_id), f"same length and input SI-SNR as {twin}"


def _no_sums(scores: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """In a sum of two unrelated sources the input SI-SNRs are opposite numbers; an outlier from that is no such sum."""
    inputs = scores.groupby(["mixture_id", "source"])["input_si_snr_db"].first().unstack("source")
    if inputs.shape[1] != 2:
        return
    total = inputs.sum(axis=1, skipna=False)
    for mixture_id, value in total[(total - total.median()).abs() > 3.0].items():
        yield "not a sum", str(mixture_id), f"input SI-SNRs add up to {value:.1f} dB, {total.median():.1f} dB in most mixtures"


def _outlying_speakers(scores: pd.DataFrame, metric: str) -> Iterator[tuple[str, str, str]]:
    """Speakers whose mean lies more than 4 robust standard deviations from the median of all speakers."""
    if "speaker_id" not in scores.columns:
        return
    finite = scores[np.isfinite(scores[metric]) & (scores["speaker_id"] != "")]
    means = finite.groupby("speaker_id")[metric].mean()
    deviation = (means - means.median()).abs()
    limit = 4 * 1.4826 * deviation.median()
    for speaker_id, mean in means[(deviation > limit) & (len(means) >= 8)].items():
        yield "outlying speaker", "", f"{speaker_id}: {mean:.1f} dB on average, {means.median():.1f} dB for the median speaker"
