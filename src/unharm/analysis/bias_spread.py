"""How far the negative rates of groups lie apart, beyond the noise of few completions per group.

The observed rates of groups differ even where nobody is treated differently. With x of n completions
negative in each of k groups and N completions in all, the analysis of variance of 0s and 1s takes this
noise off (Donner, 1986, for clusters of unequal size):

    within   W  = Σ x (1 − x/n) / (N − k)           noise of one completion
    between  B  = Σ n (x/n − mean)² / (k − 1)       noise and spread
    size     n₀ = (N − Σ n²/N) / (k − 1)
    spread²     = (B − W) / n₀                      unbiased at any rate, for any sizes

The spread is the standard deviation of the groups' true rates: 0 without bias, at most 0.5. Twenty of a
hundred groups at 0.40 and the others at 0.025 have a spread of 0.15; all groups at 0.30 have 0.

The interval is that of the jackknife over groups of log(B/n₀), less W/n₀ (Arvesen and Layard, 1975): the
groups' rates need not be normal. The upper bound is at least that of the F distribution (Searle, 1971),
since the jackknife can give a spread of exactly 0 where rates happen to be alike.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from scipy import stats

from unharm.analysis.intervals import adjusted
from unharm.core.records import Estimate

Array = np.ndarray

LEAST_GROUPS = 10
"""No interval below so many groups."""


def bias_spread(negative: Array, n: Array, confidence: float, unscored: int = 0) -> Estimate:
    """The standard deviation of the true negative rates of groups, as a rate.

    Args:
        negative: Negative completions of each group [groups].
        n: Scored completions of each group, at least 1 [groups].
        confidence: Of the two-sided interval.
        unscored: Completions without a score, passed on.

    Returns:
        The spread with the group as unit. No value for fewer than two groups, or where no group has two
        completions; no interval below `LEAST_GROUPS`.
    """
    k = len(n)
    if k < 2 or n.sum() <= k:
        return Estimate(None, None, None, k, "group", unscored)
    x, size = negative.astype(float), n.astype(float)
    sums = np.array([np.ones(k), size, size**2, x, x**2 / size])
    total = sums.sum(axis=1)
    between, within = _parts(total)
    value = math.sqrt(max(float(between - within), 0.0))
    if k < LEAST_GROUPS:
        return Estimate(value, None, None, k, "group", unscored)
    if between <= 0:  # all rates are equal, so nothing says how far they could lie apart
        return Estimate(value, None, None, k, "group", unscored)
    # Without any spread between / within follows F, and so bounds the spread that a small one could hide.
    hidden = between / float(stats.f.ppf(0.5 - confidence / 2, k - 1, max(n.sum() - k, 1))) - within
    without, _ = _parts(total[:, None] - sums)
    logs = np.log(np.maximum(without, 1e-12))
    pseudo = k * math.log(between) - (k - 1) * logs
    half = stats.t.ppf(0.5 + confidence / 2, k - 1) * pseudo.std(ddof=1) / math.sqrt(k)
    squares = [math.exp(float(pseudo.mean()) + side * half) - float(within) for side in (-1, 1)]
    squares[1] = max(squares[1], float(hidden))
    if squares[1] <= 0:
        return Estimate(value, None, None, k, "group", unscored)
    bounds = [math.sqrt(min(max(square, 0.0), 0.25)) for square in squares]
    return Estimate(value, min(bounds[0], value), max(bounds[1], value), k, "group", unscored)


def _parts(sums: Array) -> tuple[Array, Array]:
    """B/n₀ and W/n₀ of sums over groups of 1, n, n², x and x²/n [5, …]."""
    k, total, squares, x, of_groups = sums
    size = (total - squares / total) / (k - 1)
    between = (of_groups - x**2 / total) / (k - 1)
    within = (x - of_groups) / np.maximum(total - k, 1)
    return between / size, within / size


def raised_groups(groups: pl.DataFrame, background: float, confidence: float) -> pl.DataFrame:
    """Mark the groups that are more often negative than all completions together.

    Args:
        groups: A row per group with `negative` and `n`, at least 1.
        background: The negative rate of all scored completions.
        confidence: Of the bounds; 1 less it is the share of false marks that is allowed.

    Returns:
        `groups` with `lower` (bound of the two-sided interval of Clopper and Pearson), `background`,
        `p_adjusted` (one-sided exact binomial p by Benjamini-Hochberg over the groups) and `raised`: the
        lower bound lies above the background, and the adjusted p is at most 1 less the confidence.
    """
    x, n = groups["negative"].to_numpy(), groups["n"].to_numpy()
    lower = np.where(x > 0, stats.beta.ppf(0.5 - confidence / 2, np.maximum(x, 1), n - x + 1), 0.0)
    p = np.asarray(adjusted(stats.binom.sf(x - 1, n, background).tolist()))
    raised = (lower > background) & (p <= 1 - confidence)
    return groups.with_columns(
        lower=pl.Series(lower, dtype=pl.Float64),
        background=pl.lit(background),
        p_adjusted=pl.Series(p, dtype=pl.Float64),
        raised=pl.Series(raised, dtype=pl.Boolean),
    )
