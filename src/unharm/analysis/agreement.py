"""How far scorers agree: kappa, Krippendorff's alpha, rank correlation, with cluster bootstrap intervals.

Completions of one prompt are alike, so whole prompts are drawn. Every measure here is a function of sums
over prompts: a resample is a weighted sum of them, and nothing has to be counted again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from unharm.core.records import Estimate

Array = np.ndarray

RESAMPLES = 2_000
AT_ONCE, ROWS = 100, 100_000
"""Resamples, and rows, that are in memory together."""


def numbered(clusters: pl.Series) -> Array:
    """The same clusters as numbers from 0."""
    return np.asarray(clusters.rank("dense").to_numpy().astype(np.int64) - 1)


def by_cluster(clusters: Array, parts: Callable[..., Array], *columns: Array) -> Array:
    """The sums over clusters (numbered from 0) of what `parts` makes of some rows of the columns:
    clusters × whatever it gives. Rows are taken a part at a time, so that memory does not grow with
    their number."""
    count = int(clusters.max()) + 1
    sums: Array | None = None
    for first in range(0, len(clusters), ROWS):
        some = parts(*(c[first : first + ROWS] for c in columns))
        place = clusters[first : first + ROWS]
        here = np.stack([np.bincount(place, column, count) for column in some.T], axis=1)
        sums = here if sums is None else sums + here
    assert sums is not None
    return sums


def resampled(
    sums: Array, measure: Callable[[Array], Array], confidence: float, seed: int, n: int, unscored: int = 0
) -> Estimate:
    """The estimate of a measure over clusters. `measure` takes sums (resamples × parts) and gives one
    number each, NaN where it has none. Percentile interval; none below ten clusters, or where too few
    resamples have a number. `n` counts completions."""
    point = float(measure(sums.sum(axis=0, keepdims=True))[0])
    if not np.isfinite(point):
        return Estimate(None, None, None, n, "completion", unscored)
    clusters = len(sums)
    if clusters < 10:
        return Estimate(point, None, None, n, "completion", unscored)
    draw = np.random.default_rng(seed)
    draws = []
    for _ in range(RESAMPLES // AT_ONCE):
        weights = draw.multinomial(clusters, np.full(clusters, 1 / clusters), size=AT_ONCE)
        draws.append(measure(weights @ sums))
    values = np.concatenate(draws)
    values = values[np.isfinite(values)]
    if len(values) < RESAMPLES // 2:
        return Estimate(point, None, None, n, "completion", unscored)
    low, high = np.quantile(values, [0.5 - confidence / 2, 0.5 + confidence / 2])
    if high - low < 1e-12:  # without a width it would claim certainty
        return Estimate(point, None, None, n, "completion", unscored)
    return Estimate(point, float(low), float(high), n, "completion", unscored)


# ---- two scorers -------------------------------------------------------------------------


def table_parts(one: Array, other: Array, levels: Array) -> Array:
    """The cell of each pair in the k × k table of two scorers: n × k²."""
    k = len(levels)
    cells = np.searchsorted(levels, one) * k + np.searchsorted(levels, other)
    parts = np.zeros((len(one), k * k))
    parts[np.arange(len(one)), cells] = 1
    return parts


def kappa(sums: Array, levels: Array) -> Array:
    """Cohen's kappa with quadratic weights (Cohen, 1968) of k × k tables; plain kappa where k is 2."""
    k = len(levels)
    tables = sums.reshape(-1, k, k)
    weights = (levels[:, None] - levels[None, :]) ** 2
    total = tables.sum(axis=(1, 2))
    expected = np.einsum("bi,bj,ij->b", tables.sum(2), tables.sum(1), weights) / np.maximum(total, 1)
    seen = (tables * weights).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(expected > 0, 1 - seen / expected, np.nan))


def agreed(sums: Array, k: int) -> Array:
    """The share of pairs on the diagonal of k × k tables."""
    tables = sums.reshape(-1, k, k)
    return np.asarray(np.trace(tables, axis1=1, axis2=2) / np.maximum(tables.sum(axis=(1, 2)), 1))


def moment_parts(one: Array, other: Array) -> Array:
    """What the correlation of two columns is made of: n × 6."""
    return np.stack([np.ones_like(one), one, other, one * one, other * other, one * other], axis=1)


def correlation(sums: Array) -> Array:
    """Pearson's correlation from sums of `moment_parts`; of ranks, Spearman's."""
    n, x, y, xx, yy, xy = sums.T
    spread = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        coefficients = (n * xy - x * y) / np.sqrt(spread)
    return np.asarray(np.where(spread > 1e-12 * np.maximum(n, 1) ** 4, coefficients, np.nan))


# ---- any number of scorers ---------------------------------------------------------------


def coincidence_parts(values: Array, levels: Array) -> Array:
    """What each completion adds to Krippendorff's table of coincidences: n × k². `values` is completions ×
    scorers with NaN where one has no score; a completion with fewer than two adds nothing."""
    counts = (values[:, :, None] == levels).sum(axis=1).astype(float)
    raters = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :]
    pairs[:, np.arange(len(levels)), np.arange(len(levels))] -= counts
    usable = raters >= 2
    parts = np.where(usable[:, None, None], pairs / np.maximum(raters - 1, 1)[:, None, None], 0)
    return np.asarray(parts.reshape(len(values), -1))


def alpha(sums: Array, k: int, ordinal: bool) -> Array:
    """Krippendorff's alpha (2011) of tables of coincidences, for ordinal or nominal levels."""
    tables = sums.reshape(-1, k, k)
    margins = tables.sum(axis=2)
    total = margins.sum(axis=1)
    if ordinal:
        upto = np.cumsum(margins, axis=1)
        middle = upto - margins / 2
        distance = (middle[:, :, None] - middle[:, None, :]) ** 2
    else:
        distance = np.broadcast_to(1.0 - np.eye(k), tables.shape)
    seen = (tables * distance).sum(axis=(1, 2))
    expected = np.einsum("bi,bj,bij->b", margins, margins, distance) / np.maximum(total - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(expected > 0, 1 - seen / expected, np.nan))


def interval_parts(values: Array) -> Array:
    """What each completion adds to alpha of numbers: n × 4 (scores, their sum, sum of squares, disagreement
    within the completion)."""
    known = np.isfinite(values)
    raters = known.sum(axis=1).astype(float)
    x = np.where(known, values, 0.0)
    total, squares = x.sum(axis=1), (x * x).sum(axis=1)
    within = 2 * (raters * squares - total * total) / np.maximum(raters - 1, 1)
    usable = raters >= 2
    return np.where(usable[:, None], np.stack([raters, total, squares, within], axis=1), 0.0)


def interval_alpha(sums: Array) -> Array:
    """Krippendorff's alpha of numbers (interval metric) from sums of `interval_parts`."""
    n, total, squares, within = sums.T
    between = 2 * (n * squares - total * total) / np.maximum(n - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(between > 1e-12, 1 - within / between, np.nan))
