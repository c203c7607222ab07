"""Which estimate belongs to which reference: the best assignment, from a table of pairwise scores.

Direction, everywhere in this project: ``scores[estimate, reference]``, higher is better, and ``permutation[reference]`` is the
estimate assigned to that reference, so ``estimates[permutation]`` is in the order of the references.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations

import numpy as np
import numpy.typing as npt
import scipy

Permutation = npt.NDArray[np.int64]

_ENUMERATED = 3
"""Up to this many estimates every assignment is tried; beyond, the Hungarian method finds the best in polynomial time."""

_LIMIT_DB = 1e5
"""What an infinite score counts as: beyond what float64 can express in dB, but finite, so that the other pairs still count."""


def best_permutation(scores: npt.ArrayLike) -> Permutation:
    """The assignment with the highest sum of scores.

    Args:
        scores: [estimate, reference], higher is better (dB); at least as many estimates as references. Infinities count as
            ±100,000 dB and NaN as the worst, so that a silent or broken signal never affects how the others are assigned.

    Returns:
        [reference]: the estimate assigned to each reference. Of equally good assignments the first in lexicographic order wins
        (with more than three estimates: the one that the Hungarian method finds, always the same one).

    Raises:
        ValueError: ``scores`` is not a matrix, or has fewer estimates than references.
    """
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] < matrix.shape[1]:
        raise ValueError(f"scores must be [estimate, reference] with at least one estimate a reference, not {matrix.shape}")
    finite = np.clip(np.nan_to_num(matrix, nan=-_LIMIT_DB), -_LIMIT_DB, _LIMIT_DB)
    if len(finite) > _ENUMERATED:
        return _hungarian(finite)
    candidates = all_permutations(*finite.shape)
    totals = finite[candidates, np.arange(finite.shape[1])].sum(axis=1)
    return np.asarray(candidates[np.argmax(totals)])


@cache
def all_permutations(num_estimates: int, num_references: int) -> Permutation:
    """Every assignment in lexicographic order: [assignment, reference]. Read-only."""
    candidates = np.array(list(permutations(range(num_estimates), num_references)), dtype=np.int64)
    candidates.setflags(write=False)
    return candidates


def _hungarian(scores: npt.NDArray[np.float64]) -> Permutation:
    references, estimates = scipy.optimize.linear_sum_assignment(scores.T, maximize=True)
    return np.asarray(estimates[np.argsort(references)], dtype=np.int64)
