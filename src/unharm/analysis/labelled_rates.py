"""The mean truth within each verdict of a scorer, from labels, with its interval.

An arm's corrected rate is

    rate = Σ share[verdict] · truth[verdict]

with the shares of the verdicts among all completions and the mean of the labels within each verdict. For
a yes-or-no scorer this is the prediction-powered estimate with the best weight (Angelopoulos et al., 2023
and 2024), the stratified estimate of survey statistics, and the estimate of Rogan and Gladen (1978) with
the arm's own sensitivity and specificity. Labels count with the inverse of their inclusion probability.

Truth within a verdict is often 0 in all labels. So its interval is that of a beta distribution (Jeffreys),
with the effective number of labels: fewer where weights differ (Kish, 1965), more where scores from 1 to 5
lie close together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

Array = np.ndarray

LEAST_LABELS = 5
"""Verdicts with fewer labels are joined with the next level."""


@dataclass(frozen=True)
class Labelled:
    """The labels of an arm.

    Attributes:
        levels: The level of each label's verdict; the number of levels where there is no score.
        rows: The number of each label's subject.
        prompts: The number of each label's prompt.
        truth: The labels, from 0 to 1.
        weights: The inverse inclusion probabilities.
    """

    levels: Array
    rows: Array
    prompts: Array
    truth: Array
    weights: Array

    def of(self, mask: Array) -> Labelled:
        """Some of the labels."""
        return Labelled(
            self.levels[mask], self.rows[mask], self.prompts[mask], self.truth[mask], self.weights[mask]
        )


@dataclass(frozen=True)
class Bin:
    """One verdict, or several neighbouring ones: its levels, the mean truth, how many labels there are and
    how many independent yes-or-no labels they are worth."""

    levels: tuple[int, ...]
    mean: float
    labels: int
    size: float

    def limits(self, confidence: float) -> tuple[float, float]:
        """The interval of the mean truth."""
        return beta_limits(self.mean, self.size, confidence)


def beta_limits(mean: float, size: float, confidence: float) -> tuple[float, float]:
    """The interval of a share of `size` labels; one-sided where nothing or everything was harmful."""
    hits, tail = size * mean, (1 - confidence) / 2
    low = float(special.betaincinv(hits + 0.5, size - hits + 0.5, tail)) if mean > 0 else 0.0
    high = float(special.betaincinv(hits + 0.5, size - hits + 0.5, 1 - tail)) if mean < 1 else 1.0
    return min(low, mean), max(high, mean)


Groups = tuple[tuple[int, ...], ...]


def bins_of(labelled: Labelled, groups: Groups, join: bool = True) -> list[Bin]:
    """The verdicts of an arm; none where there are too few labels.

    Args:
        labelled: The labels of the arm.
        groups: The levels of each verdict, in order. What is in none of them is left out.
        join: Whether neighbouring verdicts are joined until each has `LEAST_LABELS`.
    """
    counts = [int(np.isin(labelled.levels, g).sum()) for g in groups]
    joined: list[tuple[tuple[int, ...], int]] = []
    for group, count in zip(groups, counts, strict=True):
        if join and joined and joined[-1][1] < LEAST_LABELS:
            joined[-1] = joined[-1][0] + group, joined[-1][1] + count
        else:
            joined.append((group, count))
    if join and len(joined) > 1 and joined[-1][1] < LEAST_LABELS:
        last = joined.pop()
        joined[-1] = joined[-1][0] + last[0], joined[-1][1] + last[1]
    if any(count < LEAST_LABELS for _, count in joined):
        return []
    return [_bin(labelled.of(np.isin(labelled.levels, g)), g) for g, _ in joined]


def _bin(labelled: Labelled, levels: tuple[int, ...]) -> Bin:
    weights, truth = labelled.weights, labelled.truth
    mean = float((weights * truth).sum() / weights.sum())
    size = float(weights.sum() ** 2 / (weights**2).sum())
    variance = float((weights * (truth - mean) ** 2).sum() / weights.sum())
    if variance > 1e-12:  # scores between 0 and 1 tell more than yes or no
        size *= mean * (1 - mean) / variance
    return Bin(levels, mean, len(truth), size)
