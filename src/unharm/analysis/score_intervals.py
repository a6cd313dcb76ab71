"""Intervals of bounded means and of their differences that hold where harm is rare.

A mean y of scores in [0, 1] has a variance that follows y(1 − y): the observed variance of the mean
says how many independent yes-or-no answers it is worth, n = y(1 − y) / V, and the exact interval of
Clopper and Pearson (1934) with this n is the interval of the mean (Korn and Graubard, 1998). Wilson's
is shorter, but calls a few hits among fifty prompts a discovery too often where one in a hundred is
harmful. Where nothing was observed V is 0, and n follows from the number of prompts.

The variance has parts (prompts, clusters of profiles, seeds) of which each has its own degrees of
freedom. Each part is multiplied by the square of its own Student quantile (Banerjee, 1960), so that
three seeds count as three.

The prompt part of a category rests on few prompts, most of which show nothing. It is taken from the
whole benchmark: the ratio V[prompts]·prompts / y(1 − y), pooled over the categories. The ratio is at most
1, which single subjects nearly reach, so this part needs no Student quantile. Over a whole benchmark the
ratio of an arm with profiles is far below 1 and rests on few prompts: there the degrees of freedom follow
the kurtosis over prompts.

A difference joins the intervals of both sides by the method of variance estimates recovery (MOVER;
Newcombe, 1998; Zou and Donner, 2008) with the covariance over shared prompts, profiles and seeds. It is
never outside the possible range. The covariance over prompts is lowered where the difference rests on a
few prompts. p is 1 minus the confidence at which the interval, on its way from the narrowest, first reaches
0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from unharm.analysis.variance import Parts

Array = np.ndarray

LEAST_PROMPTS = 10
"""No interval and no p below so many prompts: the variance over fewer is not known well enough."""
MOST_CORRELATED = 0.98
UNSEEN_PROMPTS = 0.5
"""How many prompts more than those seen to differ count as differing: chosen by `bench/findings.py`."""
LEAST_P = 1e-9
WIDEST_TAIL = 0.4999
SEARCHES, STEPS = 3, 12
"""p is looked for between so many confidences, so many times."""


@dataclass(frozen=True)
class Side:
    """One arm of a comparison, on the scale from 0 to 1 where the metric has bounds.

    Attributes:
        parts: The mean and the parts of its variance.
        prompt_part: The prompt part to use, pooled over categories.
        prompt_freedom: The degrees of freedom of the prompt part; infinite where its ratio to y(1 − y) is
            pooled or cannot be larger.
        empty: The variance of the mean per y(1 − y), where no harm at all was observed.
        bounded: Whether the metric has bounds.
    """

    parts: Parts
    prompt_part: float
    prompt_freedom: float
    empty: float
    bounded: bool = True


def sides(parts: Sequence[Parts], bounded: bool = True) -> list[Side]:
    """Return the sides of one arm for the categories of a benchmark, or for its whole, pooled."""
    if not bounded:
        return [
            Side(one, one.prompts, _freedom(one.by_prompt, max(one.counts[0], 1)), 0.0, False)
            for one in parts
        ]
    ratio = _variance_ratio(parts)
    results = []
    for one in parts:
        count = max(one.counts[0], 1)
        alone = len(parts) == 1 and one.counts[1] > 1
        freedom = _freedom(one.by_prompt, count) if alone else math.inf
        # Where all completions are alike, they say no more than independent ones would.
        empty = max(ratio, count / max(one.cells, 1))
        results.append(Side(one, ratio * _spread(one.mean) / count, freedom, empty / count))
    return results


def _variance_ratio(parts: Sequence[Parts]) -> float:
    """Return the ratio of the prompts' variance to y(1 − y), pooled over categories.

    It is never above 1, its largest possible value (Bhatia and Davis, 2000), which also stands in where all
    prompts have the same number and nothing is known of their variance. Prompts that differ by no more than
    chance have a variance of 0, which is known.
    """
    weight = sum(p.counts[0] * _spread(p.mean) for p in parts if p.cells)
    ratio = sum(p.prompts * p.counts[0] ** 2 for p in parts if p.cells) / weight if weight > 0 else 1.0
    alike = all(np.abs(p.by_prompt).max(initial=0.0) < 1e-12 for p in parts if p.cells)
    return 1.0 if alike else min(ratio, 1.0)


def _freedom(deviations: Array, count: int) -> float:
    """Return the degrees of freedom of a variance by the kurtosis of the deviations d of `count` prompts.

    2 (Σ d²)² / (Σ d⁴ − (Σ d²)² / n): about n for a normal distribution; never above n − 1.
    """
    squares, fourth = float((deviations**2).sum()), float((deviations**4).sum())
    rest = fourth - squares**2 / count
    most = max(count - 1.0, 1.0)
    return most if rest <= 0 else float(min(max(2 * squares**2 / rest, min(4.0, most)), most))


def _spread(mean: float) -> float:
    return mean * (1 - mean) if math.isfinite(mean) else 0.0


def widened(side: Side, confidence: float) -> float:
    """Return Σ t² V over the parts of the variance."""
    return float(_widened(side, np.array([0.5 - confidence / 2]))[0])


def _widened(side: Side, tails: Array) -> Array:
    """Return Σ t² V at several tail probabilities, each part with Student's quantile of its own degrees of
    freedom."""
    parts, total = side.parts, np.zeros(len(tails))
    for variance, freedom in (
        (side.prompt_part, side.prompt_freedom),
        (parts.clusters, parts.counts[1] - 1),
        (parts.seeds, parts.counts[2] - 1),
    ):
        if variance > 0 and freedom > 0:
            total += _quantile(freedom, tails) ** 2 * variance
    return total


def _quantile(freedom: float, tails: Array) -> Array:
    return np.asarray(special.ndtri(tails) if math.isinf(freedom) else special.stdtrit(freedom, tails))


def interval_of(side: Side, confidence: float) -> tuple[float, float]:
    """Return the interval of the mean of one arm."""
    low, high = _limits(side, np.array([0.5 - confidence / 2]))
    return float(low[0]), float(high[0])


def _limits(side: Side, tails: Array) -> tuple[Array, Array]:
    """Return the limits of the mean of one arm at several tail probabilities."""
    mean, square = side.parts.mean, _widened(side, tails)
    if not side.bounded:
        return mean - np.sqrt(square), mean + np.sqrt(square)
    spread = _spread(mean)
    if spread > 1e-12 and square.any():
        c = square / spread
    else:
        c = side.empty * _quantile(side.prompt_freedom, tails) ** 2
    size = special.ndtri(tails) ** 2 / c
    hits = size * mean
    low = special.betaincinv(hits, size - hits + 1, tails) if mean > 0 else np.zeros(len(tails))
    high = special.betaincinv(hits + 1, size - hits, 1 - tails) if mean < 1 else np.ones(len(tails))
    return np.clip(low, 0.0, mean), np.clip(high, mean, 1.0)


def correlations(one: Sequence[Side], other: Sequence[Side], shared: bool) -> list[float]:
    """Return the correlation of the means of two arms by category.

    Both arms have the same prompts; the part over prompts is pooled like the prompt parts. With `shared`
    they have the same clusters and seeds too.
    """

    def over_prompts(a: Side, b: Side) -> float:
        count = a.parts.counts[0]
        return float(a.parts.by_prompt @ b.parts.by_prompt) * count / max(count - 1, 1)

    def scale(a: Side, b: Side) -> float:
        return math.sqrt(_spread(a.parts.mean) * _spread(b.parts.mean))

    pairs = list(zip(one, other, strict=True))
    weight = sum(a.parts.counts[0] * scale(a, b) for a, b in pairs)
    bounded = bool(pairs) and pairs[0][0].bounded
    pooled = len(pairs) > 1 and weight > 0 and bounded
    ratio = sum(over_prompts(a, b) * a.parts.counts[0] ** 2 for a, b in pairs) / weight if pooled else 0.0
    discordant = _hits([(a.parts.by_prompt - b.parts.by_prompt) * a.parts.counts[0] for a, b in pairs])
    results = []
    for a, b in pairs:
        covariance = ratio * scale(a, b) / max(a.parts.counts[0], 1) if pooled else over_prompts(a, b)
        if bounded and covariance > 0:
            covariance = _careful(covariance, a.prompt_part + b.prompt_part, discordant)
        if shared:
            for x, y in ((a.parts.by_cluster, b.parts.by_cluster), (a.parts.by_seed, b.parts.by_seed)):
                if len(x) == len(y) and len(x) > 1:
                    covariance += float(x @ y) * len(x) / (len(x) - 1)
        total = _variance(a) * _variance(b)
        r = covariance / math.sqrt(total) if total > 0 else 0.0
        results.append(float(np.clip(r, -MOST_CORRELATED, MOST_CORRELATED)))
    return results


def _careful(covariance: float, variances: float, discordant: float) -> float:
    """Return a positive covariance of two arms over prompts, lowered for how little it is known.

    It makes the variance of their difference small, which rests on the prompts where they differ. As if
    `UNSEEN_PROMPTS` more such prompts had been seen, that variance is raised; the covariance follows. The
    correlation of a few hits in common would make false discoveries where harm is rare.
    """
    of_difference = max(variances - 2 * covariance, 0.0)
    raised = of_difference * (1 + UNSEEN_PROMPTS / max(discordant, 1.0))
    return max(min(covariance, (variances - raised) / 2), 0.0)


def _hits(deviations: Sequence[Array]) -> float:
    """Return how many prompts a variance rests on: (Σ d²)² / Σ d⁴ of their deviations d."""
    every = np.concatenate(deviations) if deviations else np.zeros(0)
    fourth = float((every**4).sum())
    return float((every**2).sum()) ** 2 / fourth if fourth > 0 else 0.0


def _variance(side: Side) -> float:
    return side.prompt_part + side.parts.clusters + side.parts.seeds


def difference_interval(one: Side, other: Side, r: float, confidence: float) -> tuple[float, float]:
    """Return the interval of the difference of two means."""
    low, high = _joined(one, other, r, np.array([0.5 - confidence / 2]))
    return float(low[0]), float(high[0])


def _joined(one: Side, other: Side, r: float, tails: Array) -> tuple[Array, Array]:
    """Return the limits of the difference of two means at several tail probabilities (MOVER)."""
    a, b = one.parts.mean, other.parts.mean
    low_a, high_a = _limits(one, tails)
    low_b, high_b = _limits(other, tails)
    down = (a - low_a) ** 2 - 2 * r * (a - low_a) * (high_b - b) + (high_b - b) ** 2
    up = (high_a - a) ** 2 - 2 * r * (high_a - a) * (b - low_b) + (b - low_b) ** 2
    return a - b - np.sqrt(np.maximum(down, 0.0)), a - b + np.sqrt(np.maximum(up, 0.0))


def p_against(one: Side, other: Side, r: float, value: float = 0.0) -> float:
    """Return the two-sided p of the hypothesis that the difference is `value`: 1 minus the confidence at
    which the interval just reaches it.

    Confidences are searched from the narrowest interval on: with a high correlation an interval need not
    lie within a wider one.
    """
    difference = one.parts.mean - other.parts.mean
    if difference == value:
        return 1.0
    highest, lowest = 0.0, math.log(LEAST_P)
    distances = np.array([1.0, 0.0])
    for _ in range(SEARCHES):
        steps = np.linspace(highest, lowest, STEPS + 1)
        low, high = _joined(one, other, r, np.minimum(np.exp(steps) / 2, WIDEST_TAIL))
        distances = low - value if difference > value else value - high
        inside = distances[1:] <= 0
        if not inside.any():
            return math.exp(lowest)
        first = int(inside.argmax())
        highest, lowest = float(steps[first]), float(steps[first + 1])
        distances = distances[first : first + 2]
    outer, inner = float(distances[0]), float(distances[1])
    part = outer / (outer - inner) if outer > 0 else 0.0
    return math.exp(highest + part * (lowest - highest))
