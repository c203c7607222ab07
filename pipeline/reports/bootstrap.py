"""Confidence intervals by a bootstrap over speakers.

A test set of thousands of mixtures often holds only tens of speakers, and mixtures that share a speaker are not independent.
The intervals therefore resample speakers rather than mixtures; if the speakers are not known, they resample mixtures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse, stats
from scipy.sparse.linalg import lsqr

from pipeline.reports.means import WHOLE_MIXTURE

Floats: TypeAlias = npt.NDArray[np.float64]
Codes: TypeAlias = npt.NDArray[np.int64]

LEVEL = 0.95
NUM_RESAMPLES = 10_000

_CHUNK = 500
_FEWEST = 3


def mixture_speakers(scores: pd.DataFrame) -> pd.DataFrame | None:
    """Who speaks in every mixture: rows by mixture_id, a column per source; None if any speaker is unknown."""
    if "speaker_id" not in scores.columns:
        return None
    named = scores.assign(speaker_id=scores["speaker_id"].where(scores["speaker_id"] != ""))
    sources = named[named["source"] != WHOLE_MIXTURE]
    speakers = sources.groupby(["mixture_id", "source"], sort=True)["speaker_id"].first()
    if speakers.empty or speakers.isna().any():
        return None
    return speakers.unstack("source")


def clusters_of(scores: pd.DataFrame, mixture_ids: pd.Index) -> Codes:
    """Numbers of what the bootstrap draws: each mixture's speakers ``[mixture, source]``, or the mixture itself ``[mixture, 1]``.

    -1 fills up a mixture that has fewer sources than others, or the same speaker twice.
    """
    speakers = mixture_speakers(scores)
    if speakers is None or len(pd.unique(speakers.to_numpy().ravel())) < _FEWEST:
        return np.arange(len(mixture_ids), dtype=np.int64)[:, None]
    table = speakers.reindex(mixture_ids)
    codes = np.sort(pd.factorize(table.to_numpy().ravel(), sort=True)[0].reshape(table.shape), axis=1)
    codes[:, 1:][np.diff(codes, axis=1) == 0] = -1
    return codes.astype(np.int64)


def resampled_unit(clusters: Codes) -> str:
    """What the clusters are: ``speakers`` or ``mixtures``."""
    return "mixtures" if clusters.shape[1] == 1 else "speakers"


def intervals(values: Floats, clusters: Codes, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> tuple[Floats, Floats]:
    """95% bootstrap intervals of the mean of every column.

    Pigeonhole bootstrap (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007): speakers are drawn with
    replacement, and a mixture's weight is the product of how often its speakers were drawn. The distance of the percentiles from
    the mean is then corrected. The product counts variance that belongs to one mixture or one set of speakers 2^K - 1 times for
    K sources, instead of once. With few speakers, the variance between speakers comes out too small, and percentiles need
    Student's t instead of the normal distribution (Hesterberg, The American Statistician 69(4), 2015).

    Args:
        values: ``[mixture, column]``, NaN where a mixture does not count.
        clusters: ``[mixture, source]`` numbers of the speakers, as ``clusters_of`` gives them.
        seed: of the random draws.
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
    """Means ``[resample, column]`` over mixtures weighted by how often their clusters were drawn; NaN if none was."""
    valid = np.isfinite(values)
    filled = np.where(valid, values, 0.0)
    means = np.empty((num_resamples, values.shape[1]))
    for rows, weights in _drawn_weights(clusters, seed, num_resamples):
        size = weights @ valid.astype(np.float64)
        means[rows] = np.divide(weights @ filled, size, out=np.full_like(size, np.nan), where=size > 0)
    return means


def _drawn_weights(clusters: Codes, seed: int, num_resamples: int) -> Iterator[tuple[slice, Floats]]:
    """Weights ``[resample, mixture]``, in chunks of some hundred resamples to bound memory."""
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
    """Factor by which the distance of one column's percentiles from the mean must change."""
    num_clusters, num_sources = len(np.unique(clusters[clusters >= 0])), clusters.shape[1]
    drawn_variance = drawn.var()
    if drawn_variance <= 0:
        return 1.0
    noise = _noise_variance(values, clusters)
    by_speaker = max(drawn_variance - (2**num_sources - 1) * noise, 0.0)
    # n - 1 for n; and no mixture pairs a speaker with themselves, so the weight of one drawn twice is too small.
    by_speaker *= num_clusters * (num_clusters - 1) / max(num_clusters - num_sources, 1) ** 2
    few = stats.t.ppf((1 + LEVEL) / 2, num_clusters - 1) / stats.norm.ppf((1 + LEVEL) / 2)
    return float(few * np.sqrt((noise + by_speaker) / drawn_variance))


def _noise_variance(values: Floats, clusters: Codes) -> float:
    """Variance of the mean that belongs to single mixtures or sets of speakers, not to individual speakers.

    The residuals of a least-squares fit of speaker effects are summed over the mixtures of each set of speakers, since those are
    not independent of each other, and the squares of the sums give the variance.
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
