"""Rank correlations over profiles of which many are near copies of one target.

Ten neighbours of one extreme are no ten independent profiles: what training does to one, it does in part
to the others. With ranks y of a harm, y = target effect + own, and ρ the share of the target's effect in
the variance, the ranks are weighted as generalised least squares does (Scott and Holt, 1982): from each
row its target's mean is subtracted in part, λ = 1 − √((1 − ρ) / (1 + (n − 1) ρ)) for n profiles of a
target. Where ρ is 0 the result is Spearman's correlation, where ρ is 1 only differences within a target
count.

ρ comes from the analysis of variance of the ranks, pooled over the harms of a benchmark (and in part over
all harms), since a single harm does not tell it well. A negative ρ counts as 0;
a small margin is added.

p is Student's for 30 profiles or more. For fewer it is that of all permutations, or of 50,000 random ones,
with
ties as they are: importances of 14 extremes have two profiles at 6 and twelve at 1, so no p lies below
1/91.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

Array = np.ndarray

LEAST_TARGETS = 6
"""With near copies, no p and no interval below so many targets: ρ would not be known."""
EXACT_BELOW = 30
MOST_ARRANGEMENTS, RANDOM_ARRANGEMENTS, AT_ONCE = 20_000, 50_000, 5_000
POOLED_COLUMNS = 4.0
"""How many harms the average over all harms counts for, beside those of the benchmark."""
SHARED_MARGIN, MOST_SHARED = 0.01, 0.95
"""The margin is added to ρ: an estimate that is too small makes false discoveries, one that is too large by
this margin costs next to no power."""
FEW_TARGETS = f"fewer than {LEAST_TARGETS} targets"


@dataclass(frozen=True)
class Associated:
    """Correlations of every value with every harm [values, harms], NaN where there is none.

    Attributes:
        r: Marginal: of one value alone.
        p, low, high: Two-sided p and interval of r.
        partial, partial_low, partial_high: Of what a value adds to the other values.
        shared: ρ of each harm [harms].
        n, targets: Profiles and their targets.
        least_p: The smallest p that any order of these profiles can have [values].
        note: Why there is no p; empty where there is one.
    """

    r: Array
    p: Array
    low: Array
    high: Array
    partial: Array
    partial_low: Array
    partial_high: Array
    shared: Array
    n: int
    targets: int
    least_p: Array
    note: str = ""


def shared_part(ranks: Array, clusters: Array, groups: Sequence[str], x: Array | None = None) -> Array:
    """ρ of each column of `ranks` [profiles, harms], pooled within `groups` (the benchmark of each harm).

    With `x` [profiles, values] what the values explain is taken out first (Henderson's third method), so
    that a real association does not count as something that near copies share.
    """
    n, count = len(clusters), int(clusters.max(initial=-1)) + 1
    if count == n or count < 2 or not ranks.shape[1]:
        return np.zeros(ranks.shape[1])
    dummies = np.eye(count)[clusters]
    constant = np.ones((n, 1))
    known = constant if x is None or n < count + 2 * x.shape[1] else np.hstack([constant, x])
    rest, rank = _residual(known, ranks)
    rest_full, rank_full = _residual(np.hstack([known, dummies]), ranks)
    within = (rest_full**2).sum(axis=0) / (n - rank_full)
    reduction = (rest**2).sum(axis=0) - (rest_full**2).sum(axis=0)
    trace = float((_residual(known, dummies)[0] ** 2).sum())
    common = (reduction - (rank_full - rank) * within) / trace if trace > 1e-9 else np.zeros(len(within))
    shared = np.zeros(ranks.shape[1])
    names = np.asarray(groups)
    for name in set(groups):
        here = names == name
        c = common[here].sum() + POOLED_COLUMNS * common.mean()
        e = within[here].sum() + POOLED_COLUMNS * within.mean()
        share = c / (c + e) if c > 0 and c + e > 0 else 0.0
        shared[here] = min(share + SHARED_MARGIN, MOST_SHARED)
    return shared


def _residual(design: Array, values: Array) -> tuple[Array, int]:
    """What least squares on `design` leaves of `values`, and the rank of the design."""
    u, s, _ = np.linalg.svd(design, full_matrices=False)
    basis = u[:, s > 1e-9 * s[0]]
    return values - basis @ (basis.T @ values), basis.shape[1]


def effective_count(clusters: Array, rho: float) -> float:
    """How many independent profiles these are worth for a mean (Kish, 1965): n / (1 + (m − 1) ρ) for m
    profiles of
    a target."""
    sizes = np.bincount(clusters)
    size = float((sizes**2).sum() / sizes.sum())
    return len(clusters) / (1 + (size - 1) * max(rho, 0.0))


def cluster_means(values: Array, clusters: Array) -> Array:
    """Means of the rows of each cluster [clusters, columns]."""
    sums = np.zeros((int(clusters.max()) + 1, values.shape[1]))
    np.add.at(sums, clusters, values)
    return np.asarray(sums / np.bincount(clusters)[:, None])


def whitened(values: Array, clusters: Array, rho: float) -> Array:
    """Rows [profiles, columns] less λ of their cluster's mean: uncorrelated where ρ is right."""
    if rho <= 0:
        return values
    sizes = np.bincount(clusters)
    part = 1 - np.sqrt((1 - rho) / (1 + (sizes - 1) * rho))
    return np.asarray(values - (part[:, None] * cluster_means(values, clusters))[clusters])


def standard_ranks(values: Array) -> Array:
    """Ranks of each column with mean 0 and standard deviation 1; zeros where it does not vary."""
    ranks = stats.rankdata(values, axis=0) if len(values) else values.astype(float)
    ranks = ranks - ranks.mean(axis=0)
    spread = ranks.std(axis=0)
    return np.asarray(np.where(spread > 1e-12, ranks / np.where(spread > 1e-12, spread, 1.0), 0.0))


def associate(
    x: Array, y: Array, clusters: Array, groups: Sequence[str], confidence: float, seed: int
) -> Associated:
    """Relate every column of `x` [profiles, values] to every column of `y` [profiles, harms]."""
    names, clusters = np.unique(clusters, return_inverse=True)
    n, targets = len(x), len(names)
    shape = x.shape[1], y.shape[1]
    nothing = tuple(np.full(shape, np.nan) for _ in range(7))
    r, p, low, high, partial, partial_low, partial_high = nothing
    least = np.array([least_p(column) for column in x.T]) if n else np.ones(shape[0])
    if n < 4:
        few = "fewer than 4 profiles"
        return Associated(
            r, p, low, high, partial, partial_low, partial_high, np.zeros(shape[1]), n, targets, least, few
        )
    rx, ry = standard_ranks(x), standard_ranks(y)
    shared = shared_part(ry, clusters, groups, rx)
    for rho in np.unique(shared):
        here = shared == rho
        wx, wy = _centred(rx, clusters, float(rho)), _centred(ry[:, here], clusters, float(rho))
        r[:, here] = _correlation(wx, wy)
        partial[:, here] = _partial(wx, wy)
    if targets < n and targets < LEAST_TARGETS:
        r[:], partial[:] = np.nan, np.nan
        return Associated(
            r, p, low, high, partial, partial_low, partial_high, shared, n, targets, least, FEW_TARGETS
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        t = r * np.sqrt((n - 2) / np.maximum(1 - r**2, 1e-12))
        freedom = np.array([max(effective_count(clusters, rho) - 2, 1.0) for rho in shared])
        p[:] = np.where(np.isfinite(r), 2 * stats.t.sf(np.abs(t), freedom[None, :]), np.nan)
    if n < EXACT_BELOW and targets == n:
        p[:] = permuted(rx, ry, r, seed)
    p[:] = np.where(np.isfinite(p), np.maximum(p, least[:, None]), np.nan)
    low[:], high[:] = _fisher(r, n - 3, confidence)
    partial_low[:], partial_high[:] = _fisher(partial, n - 3 - (x.shape[1] - 1), confidence)
    return Associated(r, p, low, high, partial, partial_low, partial_high, shared, n, targets, least)


def _centred(ranks: Array, clusters: Array, rho: float) -> Array:
    """Whitened ranks less their projection on the whitened constant."""
    constant = whitened(np.ones((len(ranks), 1)), clusters, rho)
    rows = whitened(ranks, clusters, rho)
    return np.asarray(rows - constant @ (constant.T @ rows) / float((constant**2).sum()))


def _correlation(x: Array, y: Array) -> Array:
    scale = np.sqrt((x**2).sum(axis=0))[:, None] * np.sqrt((y**2).sum(axis=0))[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(scale > 1e-9, np.clip(x.T @ y / scale, -1, 1), np.nan))


def _partial(x: Array, y: Array) -> Array:
    """Partial correlations of each x given all others; NaN where profiles do not tell values apart."""
    n, k = x.shape
    if n < k + 10 or np.linalg.matrix_rank(x) < k or np.linalg.cond(x) > 1e3:
        return np.full((k, y.shape[1]), np.nan)
    inverse = np.linalg.inv(x.T @ x)
    slopes = inverse @ x.T @ y
    rest = ((y - x @ slopes) ** 2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = slopes / np.sqrt(np.diag(inverse)[:, None] * rest[None, :] / (n - k - 1))
        return np.asarray(np.where(rest > 1e-9, t / np.sqrt(t**2 + n - k - 1), np.nan))


def _fisher(r: Array, freedom: int, confidence: float) -> tuple[Array, Array]:
    """Fisher's z with the variance of Bonett and Wright (2000) for ranks."""
    if freedom < 1:
        return np.full(r.shape, np.nan), np.full(r.shape, np.nan)
    half = stats.norm.ppf(0.5 + confidence / 2) * np.sqrt((1 + r**2 / 2) / freedom)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(np.abs(r) < 1 - 1e-9, np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)), np.nan)
    return np.tanh(z - half), np.tanh(z + half)


def least_p(column: Array) -> float:
    """1 / the number of different orders of values with these ties: no permutation test gives less."""
    _, counts = np.unique(column, return_counts=True)
    orders = math.lgamma(len(column) + 1) - sum(math.lgamma(c + 1) for c in counts)
    return math.exp(-min(orders, 700.0))


def permuted(x: Array, y: Array, r: Array, seed: int) -> Array:
    """Two-sided permutation p of Σ x·y for centred ranks [values, harms]: over all orders of x where it
    has two
    values and these are few, else over random orders, which count the observed one."""
    n = len(x)
    p = np.full(r.shape, np.nan)
    for place in range(x.shape[1]):
        column = x[:, place]
        levels = np.unique(column)
        observed = np.abs(column @ y) - 1e-9 * n
        if len(levels) < 2:
            continue
        rarer = levels[0] if (column == levels[0]).sum() <= n / 2 else levels[-1]
        few = int((column == rarer).sum())
        if len(levels) == 2 and math.comb(n, few) <= MOST_ARRANGEMENTS:
            other = levels[-1] if rarer == levels[0] else levels[0]
            orders = np.full((math.comb(n, few), n), other)
            for row, chosen in enumerate(combinations(range(n), few)):
                orders[row, list(chosen)] = rarer
            p[place] = (np.abs(orders @ y) >= observed).mean(axis=0)
            continue
        draw = np.random.default_rng([seed, place])
        beyond = np.ones(y.shape[1])
        for _ in range(RANDOM_ARRANGEMENTS // AT_ONCE):
            orders = draw.permuted(np.tile(column, (AT_ONCE, 1)), axis=1)
            beyond += (np.abs(orders @ y) >= observed).sum(axis=0)
        p[place] = beyond / (RANDOM_ARRANGEMENTS + 1)
    return np.where(np.isfinite(r), p, np.nan)
