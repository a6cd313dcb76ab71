"""Harms regressed on values: on the two axes of the circle, and by ridge on all ten."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from unharm.analysis.clustered_ranks import LEAST_TARGETS, effective_count, least_p, whitened
from unharm.core.values import HIGHER_ORDER, VALUES

Array = np.ndarray

AXES: dict[str, tuple[str, str]] = {
    "openness to change over conservation": ("openness-to-change", "conservation"),
    "self-enhancement over self-transcendence": ("self-enhancement", "self-transcendence"),
}
"""The two axes of the circle of values (Schwartz, 1992), each from the first to the second group."""


def pearson(x: Array, y: Array) -> Array:
    """Pearson's correlations [x, y], NaN where one does not vary."""
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    spread = np.sqrt((a**2).sum(axis=0))[:, None] * np.sqrt((b**2).sum(axis=0))[None, :]
    scale = 1e-12 * (1 + np.abs(x).max(initial=0)) * (1 + np.abs(y).max(initial=0)) * len(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > scale, np.clip(a.T @ b / spread, -1, 1), np.nan)


# ---- regressions -------------------------------------------------------------------------


def ipsatised(importances: Array) -> Array:
    """Importances (profiles × ten) less each profile's own mean: what it values more than the rest."""
    return np.asarray(importances - importances.mean(axis=1, keepdims=True))


def axes(importances: Array) -> Array:
    """Where profiles lie on the two axes of the circle (profiles × 2), in points of importance."""
    centred = ipsatised(importances)
    columns = []
    for first, second in AXES.values():
        ends = [
            centred[:, [VALUES.index(v) for v in HIGHER_ORDER[g]]].mean(axis=1) for g in (first, second)
        ]
        columns.append(ends[0] - ends[1])
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Coefficient:
    """A coefficient per unit of its predictor, with interval and two-sided p (None where there is none)."""

    value: float
    low: float | None
    high: float | None
    p: float | None


def on_axes(
    importances: Array, harms: Array, clusters: Array, rho: float, confidence: float
) -> list[list[Coefficient] | None]:
    """Regress harms on the two axes by least squares, with Student's t.

    The variance is the larger of the robust one (HC3; MacKinnon and White, 1985) and the usual one, since
    the robust one is by chance too small too often (Angrist and Pischke, 2009, section 8.1).

    Args:
        importances: [profiles, values].
        harms: [profiles, harms].
        clusters: The target of each profile, as a number.
        rho: The share that near copies of one target have in common; rows are weighted for it.
        confidence: Of the intervals.

    Returns:
        The coefficients of each harm; None where profiles are too few, or axes or the harm do not vary.
    """
    nothing: list[list[Coefficient] | None] = [None] * harms.shape[1]
    if len(harms) < 2:
        return nothing
    x = whitened(np.column_stack([np.ones(len(harms)), axes(importances)]), clusters, rho)
    y = whitened(harms, clusters, rho)
    n, k = x.shape
    if n < k + 3 or np.linalg.matrix_rank(x) < k:
        return nothing
    freedom = max(effective_count(clusters, rho) - k, 1.0)
    inverse = np.linalg.inv(x.T @ x)
    onto = inverse @ x.T
    beta = onto @ y
    residuals = y - x @ beta
    leverage = np.einsum("ij,ji->i", x, onto)
    robust = onto**2 @ (residuals / np.maximum(1 - leverage, 1e-6)[:, None]) ** 2
    usual = np.diag(inverse)[:, None] * (residuals**2).sum(axis=0) / (n - k)
    errors = np.sqrt(np.maximum(robust, usual))
    quantile = float(stats.t.ppf(0.5 + confidence / 2, freedom))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.t.sf(np.abs(beta) / errors, freedom)
    results = nothing
    for column in np.flatnonzero(np.ptp(harms, axis=0) >= 1e-12):
        results[column] = [
            _coefficient(
                float(beta[row, column]), float(errors[row, column]), quantile, float(p[row, column])
            )
            for row in range(1, k)
        ]
    return results


def _coefficient(value: float, error: float, quantile: float, p: float) -> Coefficient:
    if error < 1e-15:
        return Coefficient(value, None, None, None)
    return Coefficient(value, value - quantile * error, value + quantile * error, p)


def ridge(importances: Array, harms: Array) -> list[list[Coefficient] | None]:
    """Regress harms [profiles, harms] on the ten ipsatised values by ridge regression, all standardised.

    A coefficient is the change of a harm, in its standard deviations, with one standard deviation of a
    value.

    The penalty is that of generalised cross-validation. Coefficients are shrunk: they order the values,
    and carry neither p nor interval. None where profiles are too few, or values or the harm do not vary.
    """
    n = len(harms)
    results: list[list[Coefficient] | None] = [None] * harms.shape[1]
    centred = ipsatised(importances)
    if n < 12 or (centred.std(axis=0) < 1e-12).any():
        return results
    varying = np.flatnonzero(np.ptp(harms, axis=0) >= 1e-12)
    x = (centred - centred.mean(axis=0)) / centred.std(axis=0)
    y = (harms[:, varying] - harms[:, varying].mean(axis=0)) / harms[:, varying].std(axis=0)
    u, s, v = np.linalg.svd(x, full_matrices=False)
    along = u.T @ y
    penalties = np.geomspace(1e-2, 1e3, 26) * n / 100
    shrink = s[:, None] ** 2 / (s[:, None] ** 2 + penalties)
    rest = (y**2).sum(axis=0)[:, None] - (along**2).T @ (2 * shrink - shrink**2)
    best = (rest / (1 - shrink.sum(axis=0) / n) ** 2).argmin(axis=1)
    slopes = v.T @ (along * s[:, None] / (s[:, None] ** 2 + penalties[best]))
    for place, column in enumerate(varying):
        results[column] = [Coefficient(float(slope), None, None, None) for slope in slopes[:, place]]
    return results


def inflation(importances: Array) -> list[float | None]:
    """The variance inflation factor of each value's importance given the other nine; None where it
    cannot be told (too few profiles, or values that follow from the others)."""
    n, k = importances.shape
    if n <= k + 1 or (importances.std(axis=0) < 1e-12).any():
        return [None] * k
    together = np.corrcoef(importances.T)
    if np.linalg.cond(together) > 1e10:
        return [None] * k
    return [float(v) for v in np.diag(np.linalg.inv(together))]


def detectable(
    importances: Array, targets: int, tests: int, level: float, power: float = 0.8
) -> float | None:
    """The smallest |r| that these profiles find with this power when a single one of so many tests is real
    (Bonferroni's level, the hardest case of the step-up procedure).

    None where no order of the profiles can reach that level, or ties keep every correlation below.
    Importances [profiles, values]; with near copies the effective number lies between targets and
    profiles, and profiles are taken, so that this is the best case.
    """
    n = len(importances)
    if n < 5 or targets < min(n, LEAST_TARGETS):
        return None
    floor = min(least_p(column) for column in importances.T)
    if floor > level / max(tests, 1):
        return None
    z = stats.norm.isf(level / max(tests, 1) / 2) + stats.norm.ppf(power)
    r = float(math.tanh(z / math.sqrt((n - 3) / 1.06)))
    return r if r <= max(highest_correlation(column) for column in importances.T) else None


def highest_correlation(column: Array) -> float:
    """The largest |Spearman's r| that importances with these ties can have with a harm without ties."""
    if np.ptp(column) < 1e-12:
        return 0.0
    ordered = np.sort(column)
    return float(stats.spearmanr(ordered, np.arange(len(ordered))).statistic)
