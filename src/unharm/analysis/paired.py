"""Differences between two arms on the same prompts, with profiles and prompts as crossed random effects.

A difference has one cell per profile and prompt: d[p, i] = μ + a[p] + b[i] + e[p, i]. Profiles and
prompts are both drawn from many (the paper's profiles, a benchmark's prompts), so both vary the mean.
Its variance is that of a crossed random effects model: from the squares of row sums, of column sums and
of cells (the analysis of variance where no cell is missing; Cameron, Gelbach and Miller, 2011, in
general), with Satterthwaite's degrees of freedom, and Hall's transformation (1992) for the skewness that
rare harms bring. The bootstrap that draws whole profiles and whole prompts (Owen, 2007) is the check.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

Array = np.ndarray

RESAMPLES, AT_ONCE = 1_000, 50


@dataclass(frozen=True)
class Difference:
    """The mean difference with its interval and two-sided p; None where there is none. `n` counts cells,
    `low_check` and `high_check` are those of the bootstrap."""

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    freedom: float | None
    profiles: int
    prompts: int
    n: int
    low_check: float | None = None
    high_check: float | None = None


def difference(d: Array, confidence: float, seed: int | None = None) -> Difference:
    """The mean of a difference, profiles × prompts with NaN where a cell is missing.

    With one profile the prompts alone are drawn, with one prompt the profiles alone. No interval and no p
    where there is one cell, or where nothing varies. The check needs a `seed`, and ten of one of them.
    """
    known = np.isfinite(d)
    d = d[known.any(axis=1)][:, known.any(axis=0)]
    known = np.isfinite(d)
    n = int(known.sum())
    rows, columns = d.shape if n else (0, 0)
    if not n:
        return Difference(None, None, None, None, None, 0, 0, 0)
    x = np.where(known, d, 0.0)
    mean = float(x.sum() / n)
    e = np.where(known, d - mean, 0.0)
    variance, freedom = _variance(e, n)
    if not variance > 1e-24:
        return Difference(mean, None, None, None, None, rows, columns, n)
    error = math.sqrt(variance)
    skew = _third(e, n) / error**3
    t = float(stats.t.ppf(0.5 + confidence / 2, freedom))
    bounds = mean - error * hall_inverse(t, skew), mean - error * hall_inverse(-t, skew)
    p = float(2 * stats.t.sf(abs(hall_transform(mean / error, skew)), freedom))
    low = high = None
    if seed is not None and max(rows, columns) >= 10:
        low, high = bootstrap(x, known, confidence, seed)
    return Difference(mean, *bounds, p, freedom, rows, columns, n, low, high)


def _variance(e: Array, n: int) -> tuple[float, float]:
    """The variance of the mean from deviations (0 where missing), and its degrees of freedom."""
    rows, columns = e.shape
    by_row = float((e.sum(axis=1) ** 2).sum()) / n**2 * rows / max(rows - 1, 1)
    by_column = float((e.sum(axis=0) ** 2).sum()) / n**2 * columns / max(columns - 1, 1)
    if rows == 1 or columns == 1:
        return (by_column, columns - 1.0) if rows == 1 else (by_row, rows - 1.0)
    cells = float((e**2).sum()) / n**2 * n / (n - 1)
    variance = by_row + by_column - cells
    if variance <= max(by_row, by_column) / 2:  # an estimate of a component came out below zero
        part, count = max((by_row, rows), (by_column, columns))
        return part, count - 1.0
    freedom = variance**2 / (
        by_row**2 / (rows - 1) + by_column**2 / (columns - 1) + cells**2 / ((rows - 1) * (columns - 1))
    )
    return variance, max(freedom, 1.0)


def _third(e: Array, n: int) -> float:
    """The third cumulant of the mean, from deviations (0 where missing); 0 below ten rows and columns."""

    def part(sums: Array) -> float:
        count = len(sums)
        return (
            float((sums**3).sum()) / n**3 * count**2 / ((count - 1) * (count - 2)) if count >= 10 else 0.0
        )

    cells = float((e**3).sum()) / n**3 if min(e.shape) >= 10 else 0.0
    return part(e.sum(axis=1)) + part(e.sum(axis=0)) - cells


def hall_transform(t: float, skew: float) -> float:
    """Hall's (1992) transformation of a t that takes the skewness of its mean out."""
    return t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6


def hall_inverse(t: float, skew: float) -> float:
    """The inverse of `hall_transform`."""
    if abs(skew) < 1e-9:
        return t
    return 3 / skew * (float(np.cbrt(1 + skew * (t - skew / 6))) - 1)


def bootstrap(x: Array, known: Array, confidence: float, seed: int) -> tuple[float | None, float | None]:
    """The percentile interval of the mean over resamples of whole profiles and whole prompts; `x` is 0
    where a cell is missing."""
    draw = np.random.default_rng(seed)
    rows, columns = x.shape
    weight = known.astype(np.float64)
    found = []
    for _ in range(RESAMPLES // AT_ONCE):
        p = draw.multinomial(rows, np.full(rows, 1 / rows), size=AT_ONCE).astype(float)
        i = draw.multinomial(columns, np.full(columns, 1 / columns), size=AT_ONCE).astype(float)
        total = ((p @ x) * i).sum(axis=1)
        count = ((p @ weight) * i).sum(axis=1)
        found.append(total[count > 0] / count[count > 0])
    values = np.concatenate(found)
    low, high = np.quantile(values, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return (float(low), float(high)) if high > low else (None, None)
