"""Intervals in closed form. Each says what it assumes; none is given where n is too small."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import special, stats

from unharm.core.records import Estimate


def mean_interval(
    values: Sequence[float],
    confidence: float,
    unit: str,
    unscored: int = 0,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """The mean of independent units with Student's t interval, clipped to `bounds`.

    No interval below two units, nor where all units are equal: t would claim certainty there.
    """
    n = len(values)
    if n == 0:
        return Estimate(None, None, None, 0, unit, unscored)
    array = np.asarray(values, dtype=float)
    mean = float(array.mean())
    if n == 1 or bool((array == array[0]).all()):
        return Estimate(mean, None, None, n, unit, unscored)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1) * array.std(ddof=1) / math.sqrt(n))
    return Estimate(mean, max(mean - half, bounds[0]), min(mean + half, bounds[1]), n, unit, unscored)


def share_interval(hits: int, n: int, confidence: float, unit: str, unscored: int = 0) -> Estimate:
    """A share of independent units with Wilson's score interval (Wilson, 1927), in [0, 1]."""
    if n == 0:
        return Estimate(None, None, None, 0, unit, unscored)
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    share = hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == n else min(1.0, centre + half)
    return Estimate(share, low, high, n, unit, unscored)


def bounded_interval(
    values: Sequence[float], confidence: float, unit: str, unscored: int, bounds: tuple[float, float]
) -> Estimate:
    """Return the mean of independent bounded units, with an interval that holds where most are equal.

    The exact interval of Clopper and Pearson (1934) with the effective sample size n = y(1 − y) / V (Korn
    and Graubard, 1998), for the mean y on the scale from 0 to 1. V is pulled toward its largest possible
    value y(1 − y) / units, as if one more unit away from the mean had shown it: a few units say little
    about a skewed spread. No interval for one unit.
    """
    n = len(values)
    if n < 2:
        return Estimate(float(values[0]) if n else None, None, None, n, unit, unscored)
    low, width = bounds[0], bounds[1] - bounds[0]
    scaled = (np.asarray(values, dtype=float) - low) / width
    mean = float(scaled.mean())
    squares = (scaled - mean) ** 2
    total, fourth = float(squares.sum()), float((squares**2).sum())
    hits = total**2 / fourth if fourth > 0 else 0.0
    largest = mean * (1 - mean)
    ratio = min(total / (n - 1) / largest, 1.0) if largest > 1e-12 else 1.0
    size = n * (hits + 1) / (ratio * hits + 1)
    tail = (1 - confidence) / 2
    bottom = float(special.betaincinv(size * mean, size * (1 - mean) + 1, tail)) if mean > 0 else 0.0
    top = float(special.betaincinv(size * mean + 1, size * (1 - mean), 1 - tail)) if mean < 1 else 1.0
    value = low + width * mean
    return Estimate(value, low + width * min(bottom, mean), low + width * max(top, mean), n, unit, unscored)


def rate_interval(
    values: Sequence[float],
    confidence: float,
    unit: str,
    unscored: int = 0,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """Return the mean of the shares of units: Wilson's interval where each is 0 or 1, else that of
    `bounded_interval`."""
    if all(v in (0.0, 1.0) for v in values):
        return share_interval(int(sum(values)), len(values), confidence, unit, unscored)
    return bounded_interval(values, confidence, unit, unscored, bounds)


def spearman(x: Sequence[float], y: Sequence[float], confidence: float) -> tuple[Estimate, float | None]:
    """Spearman's rank correlation over profiles, its interval and two-sided p.

    Interval: Fisher's z with the variance of Bonett and Wright (2000), (1 + r²/2)/(n − 3); none
    below four profiles or at |r| = 1. Nothing is given where one side has no variance.
    """
    n = len(x)
    if n < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return Estimate(None, None, None, n, "profile"), None
    result = stats.spearmanr(x, y)
    r, p = float(result.statistic), float(result.pvalue)
    if not math.isfinite(r):
        return Estimate(None, None, None, n, "profile"), None
    if n < 4 or abs(r) >= 1:
        return Estimate(r, None, None, n, "profile"), p
    z = float(stats.norm.ppf(0.5 + confidence / 2)) * math.sqrt((1 + r * r / 2) / (n - 3))
    return Estimate(r, math.tanh(math.atanh(r) - z), math.tanh(math.atanh(r) + z), n, "profile"), p


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted_p = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted_p[place] = highest
    return adjusted_p


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Benjamini-Hochberg adjusted p values, in the order given."""
    if not p_values:
        return []
    return [float(p) for p in stats.false_discovery_control(np.asarray(p_values), method="bh")]


def adjust_rows(rows: Sequence[dict[str, Any]], adjust: Callable[[Sequence[float]], list[float]]) -> None:
    """Sets `p_adjusted` of the rows that have a `p`, over all of them."""
    tested = [row for row in rows if row["p"] is not None]
    for row, p in zip(tested, adjust([row["p"] for row in tested]), strict=True):
        row["p_adjusted"] = p
