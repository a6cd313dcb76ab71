"""Finds the respondents nearest to a profile by Jensen-Shannon divergence (Choi et al., 2025).

With p = x/Σx and q = t/Σt for a respondent's and the target's importances and m = (p+q)/2:
JS = ½·KL(p‖m) + ½·KL(q‖m), in nats, from 0 (same shape) to ln 2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


def jensen_shannon(vectors: Matrix, target: Matrix) -> npt.NDArray[np.float64]:
    """Return the divergence [n] of each row of `vectors` [n, 10] from `target` [10]; all entries > 0."""
    p = vectors / vectors.sum(axis=1, keepdims=True)
    q = target / target.sum()
    m = (p + q) / 2
    divergence = (p * np.log(p / m) + q * np.log(q / m)).sum(axis=1) / 2
    result: npt.NDArray[np.float64] = np.maximum(
        divergence, 0.0
    )  # rounding errors can give slightly negative values
    return result


def most_similar(vectors: Matrix, target: Matrix, k: int) -> npt.NDArray[np.int64]:
    """Return the indices [k] of the `k` nearest rows, nearest first.

    Ties (divergences equal to 12 digits) are broken by the order of the rows.
    """
    order = np.argsort(np.round(jensen_shannon(vectors, target), 12), kind="stable")
    return order[:k]
