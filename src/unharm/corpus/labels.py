"""What all profiles are taught, as matrices: stage 1 and stage 2 in one pass each.

Stage 1 has one label per argument: whether the person would say it. Stage 2 has one rating per argument and
labelled value. Two profiles and three arguments:

    importances     power security      labels      power security     would say (threshold 3)
      p1              6      1            a1          1      0           p1   1  0  0
      p2              4      3            a2          0      1           p2   1  1  1
                                          a3          1      1

a3 needs both values, so the smaller importance decides. The texts of the examples are not made here: an
example is worded when it is read (`vim.ag_example`, `vim.qa_example`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unharm.core.draws import uniform
from unharm.core.records import Argument, Profile
from unharm.core.values import VALUES
from unharm.corpus.vim import shift_labels

Matrix = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ratings = npt.NDArray[np.uint8]


def label_matrix(arguments: list[Argument]) -> Flags:
    """Return whether each argument is labelled with each value, [arguments, 10]."""
    return np.array([[v in a.values for v in VALUES] for a in arguments], dtype=bool).reshape(-1, 10)


def importance_matrix(profiles: list[Profile]) -> Matrix:
    """Return the importances of the profiles, [profiles, 10] in [1, 6]."""
    return np.array([p.importances for p in profiles], dtype=float).reshape(-1, 10)


def argument_scores(importances: Matrix, labels: Flags) -> Matrix:
    """Return the smallest importance among the labelled values, [profiles, arguments].

    Equal to the minimum in `vim.would_say`. An argument without a label scores infinity.
    """
    by_argument = np.full((len(labels), len(importances)), np.inf)  # whole rows are read and written
    for value in range(labels.shape[1]):
        labelled = np.flatnonzero(labels[:, value])
        by_argument[labelled] = np.minimum(by_argument[labelled], importances[:, value])
    return by_argument.T


def would_say_matrix(importances: Matrix, labels: Flags, threshold: float) -> Flags:
    """Return whether each person would say each argument, [profiles, arguments]; see `vim.would_say`."""
    return np.ascontiguousarray(argument_scores(importances, labels) >= threshold)


@dataclass(frozen=True)
class RatedPairs:
    """The pairs of an argument and a value that stage 2 teaches, in the order of the arguments.

    Attributes:
        arguments: The place of each pair's argument, [pairs].
        values: The place of each pair's value in `VALUES`, [pairs].
        draws: The uniform draw that rounds each pair's importance, [pairs]; it depends on seed, argument
            and value, so that all profiles share it.
    """

    arguments: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]
    draws: Matrix


def rated_pairs(arguments: list[Argument], seed: int, as_published: bool = False) -> RatedPairs:
    """Return the pairs of stage 2. `as_published` shifts the labels (`vim.shift_labels`)."""
    pairs = [
        (place, VALUES.index(value), uniform(seed, argument.id, value))
        for place, argument in enumerate(arguments)
        for value in (shift_labels(argument.values) if as_published else argument.values)
    ]
    places, values, draws = zip(*pairs, strict=True) if pairs else ((), (), ())
    return RatedPairs(
        np.array(places, dtype=int), np.array(values, dtype=int), np.array(draws, dtype=float)
    )


def rating_matrix(importances: Matrix, pairs: RatedPairs) -> Ratings:
    """Return the rating of each pair by each person, [profiles, pairs] from 1 to 6; see
    `vim.round_stochastically`."""
    wanted = importances[:, pairs.values]
    floor = np.floor(wanted)
    return (floor + (pairs.draws < wanted - floor)).astype(np.uint8)
