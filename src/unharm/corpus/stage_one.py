"""Stage 1 for many profiles at once, as matrices: which arguments would each profile say?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unharm.core.records import Argument, Profile
from unharm.core.values import VALUES

Matrix = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def label_matrix(arguments: list[Argument]) -> Flags:
    """Return [arguments, 10]: whether an argument is labelled with a value."""
    return np.array([[v in a.values for v in VALUES] for a in arguments], dtype=bool).reshape(-1, 10)


def importance_matrix(profiles: list[Profile]) -> Matrix:
    """Return the importances [profiles, 10], from 1 to 6."""
    return np.array([p.importances for p in profiles], dtype=float).reshape(-1, 10)


def argument_scores(importances: Matrix, labels: Flags) -> Matrix:
    """Return [profiles, arguments]: the smallest importance among the labelled values of an argument.

    `vim.would_say` compares the same minimum with the threshold. An argument without a label scores
    infinity.
    """
    by_argument = np.full(
        (len(labels), len(importances)), np.inf
    )  # arguments first: reads and writes contiguous rows
    for value in range(labels.shape[1]):
        labelled = np.flatnonzero(labels[:, value])
        by_argument[labelled] = np.minimum(by_argument[labelled], importances[:, value])
    return by_argument.T
