"""Stage 1 for many profiles at once: which arguments each would say, as matrices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unharm.core.records import Argument, Profile
from unharm.core.values import VALUES

Matrix = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def label_matrix(arguments: list[Argument]) -> Flags:
    """[arguments, 10]: whether an argument is labelled with a value."""
    return np.array([[v in a.values for v in VALUES] for a in arguments], dtype=bool).reshape(-1, 10)


def importance_matrix(profiles: list[Profile]) -> Matrix:
    """[profiles, 10] in [1, 6]."""
    return np.array([p.importances for p in profiles], dtype=float).reshape(-1, 10)


def argument_scores(importances: Matrix, labels: Flags) -> Matrix:
    """[profiles, arguments]: the minimum of a profile over an argument's labelled values.

    Equal to `vim.would_say`'s minimum. An argument without a label scores infinity.
    """
    by_argument = np.full((len(labels), len(importances)), np.inf)  # whole rows are read and written
    for place in range(labels.shape[1]):
        labelled = np.flatnonzero(labels[:, place])
        by_argument[labelled] = np.minimum(by_argument[labelled], importances[:, place])
    return by_argument.T
