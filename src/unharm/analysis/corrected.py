"""Rates of arms, and their differences, corrected by labels of people.

The error of a corrected rate has two sources, whose distances to the limits are joined (MOVER; Zou and
Donner, 2008). Labels are a sample of the completions: that is the interval of the truth within each verdict
(`labelled_rates`). And the study's prompts, profiles and seeds are a sample of those that there could be:
that is an interval like that of any arm (`score_intervals`), with the variance of the predicted truth.

Verdicts predict only a part of how prompts and profiles differ. So each part of the variance is estimated a
second time, with the residuals of the labels (label − predicted truth, by inverse inclusion probability)
added to the predictions and the variance of the labels themselves taken off; the larger of the two counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from unharm.analysis.labelled_rates import Bin, Labelled
from unharm.analysis.paired import Rows, matched
from unharm.analysis.score_intervals import (
    LEAST_PROMPTS,
    MOST_CORRELATED,
    Side,
    correlations,
    interval_of,
    sides,
    widened,
)
from unharm.analysis.variance import Parts, parts_of, summed_rows

Array = np.ndarray

LEAST_P = 1e-6
DRAWS = 4_000


@dataclass(frozen=True)
class Corrected:
    """The corrected rate of one arm, from 0 to 1.

    Attributes:
        bins: The verdicts with their truth.
        shares: The share of each bin among the arm's completions.
        predicted: The mean truth by row and prompt, as the verdicts predict it.
        residuals: What the labels add to it by row and prompt; its mean is 0.
        of_verdicts: The mean and variance of the predicted truth.
        side: The mean with the variance of the truth.
    """

    bins: tuple[Bin, ...]
    shares: tuple[float, ...]
    predicted: Rows
    residuals: Rows
    of_verdicts: Side
    side: Side

    @property
    def value(self) -> float:
        return self.side.parts.mean

    @property
    def labels(self) -> int:
        return sum(b.labels for b in self.bins)

    def distances(self, confidence: float) -> tuple[float, float]:
        """How far the limits lie below and above the estimate."""
        low, high = (
            interval_of(self.side, confidence) if widened(self.side, confidence) > 0 else (self.value,) * 2
        )
        below, above = (self.value - low) ** 2, (high - self.value) ** 2
        for one, share in zip(self.bins, self.shares, strict=True):
            least, most = one.limits(confidence)
            below += (share * (one.mean - least)) ** 2
            above += (share * (most - one.mean)) ** 2
        return math.sqrt(below), math.sqrt(above)

    def limits(self, confidence: float) -> tuple[float, float]:
        """The interval of the rate."""
        below, above = self.distances(confidence)
        return max(0.0, self.value - below), min(1.0, self.value + above)

    @property
    def variance_of_labels(self) -> float:
        return sum(
            share**2 * (one.mean * (1 - one.mean) + 0.25 / one.size) / one.size
            for one, share in zip(self.bins, self.shares, strict=True)
        )


def corrected_rate(
    rows: Callable[[Callable[[Array], Array]], Rows], labelled: Labelled, bins: list[Bin]
) -> Corrected | None:
    """The corrected rate of an arm.

    Args:
        rows: Gives values by row and prompt of what is made of the shares [rows, prompts, levels + 2].
        labelled: The labels of the arm.
        bins: The verdicts with their truth.

    Returns:
        The rate; None where no prompt has a completion with one of the verdicts.
    """
    places = [list(one.levels) for one in bins]

    def weight(shares: Array) -> Array:
        return np.asarray(sum(shares[:, :, p].sum(axis=2) for p in places))

    def predicted(shares: Array) -> Array:
        total = sum(one.mean * shares[:, :, p].sum(axis=2) for one, p in zip(bins, places, strict=True))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(weight(shares) > 0, total / weight(shares), np.nan))

    def share_of(place: list[int]) -> Callable[[Array], Array]:
        def values(shares: Array) -> Array:
            with np.errstate(invalid="ignore", divide="ignore"):
                part = shares[:, :, place].sum(axis=2) / weight(shares)
            return np.asarray(np.where(weight(shares) > 0, part, np.nan))

        return values

    truth = rows(predicted)
    if not np.isfinite(truth.values).any():
        return None
    shares = tuple(float(np.nanmean(rows(share_of(place)).values)) for place in places)
    added = replace(truth, values=_residuals(truth.values, labelled, bins, shares))
    return _with_variance(tuple(bins), shares, truth, added)


def _residuals(predicted: Array, labelled: Labelled, bins: Sequence[Bin], shares: Sequence[float]) -> Array:
    """The residuals of the labels by row and prompt, so weighted that the mean over all cells is that of
    all completions."""
    known = np.isfinite(predicted)
    added = np.zeros(predicted.shape)
    for one, share in zip(bins, shares, strict=True):
        part = labelled.of(np.isin(labelled.levels, one.levels))
        weight = part.weights / part.weights.sum() * share * known.sum()
        np.add.at(added, (part.rows, part.prompts), weight * (part.truth - one.mean))
    return np.where(known, added, np.nan)


def _parts(rows: Rows) -> Parts:
    every = np.ones(rows.values.shape[1], dtype=bool)
    return parts_of(summed_rows(rows.values, rows.labels), every)


def _with_variance(
    bins: tuple[Bin, ...], shares: tuple[float, ...], predicted: Rows, residuals: Rows
) -> Corrected:
    """Estimate the variance parts twice and take the larger."""
    first = sides([_parts(predicted)])[0]
    whole = _parts(replace(predicted, values=predicted.values + residuals.values))
    of_labels = float(np.nansum(residuals.values**2)) / max(first.parts.cells, 1) ** 2
    clustered = first.parts.counts[1] > 1
    parts = replace(
        first.parts,
        clusters=max(first.parts.clusters, whole.clusters - of_labels) if clustered else 0.0,
        seeds=max(first.parts.seeds, whole.seeds),
    )
    prompts = max(first.prompt_part, whole.prompts - (0.0 if clustered else of_labels))
    return Corrected(
        bins, shares, predicted, residuals, first, replace(first, parts=parts, prompt_part=prompts)
    )


@dataclass(frozen=True)
class CorrectedDifference:
    """The difference of two corrected rates, with its interval and two-sided p."""

    value: float
    low: float
    high: float
    p: float


def corrected_difference(one: Corrected, other: Corrected, confidence: float) -> CorrectedDifference:
    """One arm less another. Prompts, and profiles that both arms have, are shared; labels are not."""
    first, second, shared = matched(one.predicted, other.predicted)
    if shared:
        added = matched(one.residuals, other.residuals)
        one = _with_variance(one.bins, one.shares, first, added[0])
        other = _with_variance(other.bins, other.shares, second, added[1])
    r = correlations([one.of_verdicts], [other.of_verdicts], shared)[0]
    for arm in (one, other):
        total = part_of_subjects(arm.side) + arm.variance_of_labels
        r *= math.sqrt(part_of_subjects(arm.of_verdicts) / total) if total > 0 else 0.0
    r = float(np.clip(r, -MOST_CORRELATED, MOST_CORRELATED))
    value = one.value - other.value

    def interval(level: float) -> tuple[float, float]:
        (below_a, above_a), (below_b, above_b) = one.distances(level), other.distances(level)
        down = below_a**2 - 2 * r * below_a * above_b + above_b**2
        up = above_a**2 - 2 * r * above_a * below_b + below_b**2
        return value - math.sqrt(max(down, 0.0)), value + math.sqrt(max(up, 0.0))

    low, high = interval(confidence)
    return CorrectedDifference(value, max(low, -1.0), min(high, 1.0), p_of(interval, value))


def part_of_subjects(side: Side) -> float:
    """The variance of a mean that prompts, profiles and seeds bring."""
    return side.prompt_part + side.parts.clusters + side.parts.seeds


def p_of(interval: Callable[[float], tuple[float, float]], value: float, null: float = 0.0) -> float:
    """The two-sided p of the hypothesis that `null` is true: 1 minus the confidence at which the interval
    of `value` reaches it."""
    if value == null:
        return 1.0

    def outside(p: float) -> bool:
        low, high = interval(1 - p)
        return low > null if value > null else high < null

    return LEAST_P if outside(LEAST_P) else least_holding(outside)


def least_holding(holds: Callable[[float], bool]) -> float:
    """The least p of which `holds` is true, by bisection of its logarithm; 1 if there is none below."""
    low, high = math.log(LEAST_P), 0.0
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(math.exp(middle)) else (middle, high)
    return math.exp(high)


def enough(one: Corrected) -> bool:
    """Whether an arm has prompts enough for an interval."""
    return one.side.parts.counts[0] >= LEAST_PROMPTS


@dataclass(frozen=True)
class RoganGladen:
    """The rate of an arm if the scorer errs alike on all arms: (share + specificity − 1) / (sensitivity +
    specificity − 1), with its interval; None where the scorer is no better than guessing."""

    value: float | None
    low: float | None
    high: float | None


def rogan_gladen(arms: list[Corrected], confidence: float, seed: int) -> list[RoganGladen]:
    """The rates of all arms with one sensitivity and one specificity, over the labels of all arms together
    (Rogan and Gladen, 1978). Intervals: quantiles over draws of every share from its beta distribution
    (Jeffreys), as in Lang and Reiczigel (2014) without their approximation."""
    if not arms or any(len(a.bins) != 2 for a in arms):
        return [RoganGladen(None, None, None)] * len(arms)
    draw = np.random.default_rng(seed)
    truth, flagged = [], []
    for arm in arms:
        means = np.array([[one.mean] for one in arm.bins])
        parts = [
            draw.beta(one.size * one.mean + 0.5, one.size * (1 - one.mean) + 0.5, DRAWS) for one in arm.bins
        ]
        truth.append(np.concatenate([means, np.array(parts)], axis=1))
        share, size = arm.shares[1], size_of_share(arm)
        drawn = draw.beta(size * share + 0.5, size * (1 - share) + 0.5, DRAWS)
        flagged.append(np.concatenate([[share], drawn]))
    p, w = np.array(truth), np.array(flagged)
    hits = (w * p[:, 1]).sum(axis=0)
    misses = ((1 - w) * p[:, 0]).sum(axis=0)
    alarms = (w * (1 - p[:, 1])).sum(axis=0)
    rejections = ((1 - w) * (1 - p[:, 0])).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity, specificity = hits / (hits + misses), rejections / (rejections + alarms)
        rates = np.clip((w + specificity - 1) / (sensitivity + specificity - 1), 0.0, 1.0)
    intervals = []
    for row in rates:
        if not np.isfinite(row[0]) or sensitivity[0] + specificity[0] <= 1:
            intervals.append(RoganGladen(None, None, None))
            continue
        tails = [0.5 - confidence / 2, 0.5 + confidence / 2]
        low, high = np.quantile(row[1:][np.isfinite(row[1:])], tails)
        intervals.append(RoganGladen(float(row[0]), float(low), float(high)))
    return intervals


def size_of_share(arm: Corrected) -> float:
    """How many independent verdicts the share of the second bin is worth."""
    share, slope = arm.shares[1], arm.bins[1].mean - arm.bins[0].mean
    variance = part_of_subjects(arm.of_verdicts)
    if abs(slope) < 1e-9 or variance <= 0 or not 0 < share < 1:
        return float(max(arm.side.parts.counts[0], 1))
    return share * (1 - share) * slope**2 / variance
