"""The respondents nearest to a profile by Jensen-Shannon divergence (Choi et al., 2025).

With p = x/Σx and q = t/Σt for a respondent's and the target's importances and m = (p+q)/2:
JS = ½·KL(p‖m) + ½·KL(q‖m), in nats, from 0 (same shape) to ln 2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


def jensen_shannon(vectors: Matrix, target: Matrix) -> npt.NDArray[np.float64]:
    """The divergence [n] of every row of `vectors` [n, 10] from `target` [10]; all entries > 0."""
    p = vectors / vectors.sum(axis=1, keepdims=True)
    q = target / target.sum()
    m = (p + q) / 2
    divergence = (p * np.log(p / m) + q * np.log(q / m)).sum(axis=1) / 2
    result: npt.NDArray[np.float64] = np.maximum(divergence, 0.0)  # rounding may fall below 0
    return result


def most_similar(vectors: Matrix, target: Matrix, k: int) -> npt.NDArray[np.int64]:
    """The places of the `k` nearest rows, nearest first.

    Ties (equal to 12 digits) go to the row that stands first in the survey.
    """
    order = np.argsort(np.round(jensen_shannon(vectors, target), 12), kind="stable")
    return order[:k]
