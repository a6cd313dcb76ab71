"""Values and harms over profiles: rank correlations of many pairs at once, their bootstrap, and regressions
that face the collinearity of values."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats

from unharm.core.values import HIGHER_ORDER, VALUES

Array = np.ndarray

RESAMPLES, AT_ONCE = 1_000, 50
AXES: dict[str, tuple[str, str]] = {
    "openness to change over conservation": ("openness-to-change", "conservation"),
    "self-enhancement over self-transcendence": ("self-enhancement", "self-transcendence"),
}
"""The two axes of the circle of values (Schwartz, 1992), each from the first to the second group."""


@dataclass(frozen=True)
class Correlations:
    """Correlations of every x with every y (x × y), NaN where one does not vary: two-sided p and
    interval."""

    r: Array
    p: Array
    low: Array
    high: Array
    n: int


def rank_correlations(x: Array, y: Array, confidence: float) -> Correlations:
    """Spearman's, of profiles × x with profiles × y. p from Student's t, but never below that of the rarest
    order; interval by Fisher's z with the variance of Bonett and Wright (2000), none below four profiles or
    at |r| = 1."""
    n = len(x)
    r = pearson(stats.rankdata(x, axis=0), stats.rankdata(y, axis=0)) if n >= 3 else _nothing(x, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = r * np.sqrt((n - 2) / np.maximum(1 - r**2, 1e-300))
        least = 2 / math.factorial(min(n, 20))  # no order of so few is less likely by chance
        p = np.where(np.isfinite(r), np.maximum(2 * stats.t.sf(np.abs(t), max(n - 2, 1)), least), np.nan)
        half = stats.norm.ppf(0.5 + confidence / 2) * np.sqrt((1 + r**2 / 2) / max(n - 3, 1e-9))
        inside = (np.abs(r) < 1 - 1e-12) & (n >= 4)
        low = np.where(inside, np.tanh(np.arctanh(r) - half), np.nan)
        high = np.where(inside, np.tanh(np.arctanh(r) + half), np.nan)
    return Correlations(r, p, low, high, n)


def pearson(x: Array, y: Array) -> Array:
    """Pearson's correlations, x × y, NaN where one does not vary."""
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    spread = np.sqrt((a**2).sum(axis=0))[:, None] * np.sqrt((b**2).sum(axis=0))[None, :]
    scale = 1e-12 * (1 + np.abs(x).max(initial=0)) * (1 + np.abs(y).max(initial=0)) * len(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > scale, np.clip(a.T @ b / spread, -1, 1), np.nan)


def bootstrapped(x: Array, y: Array, confidence: float, seed: int) -> tuple[Array, Array]:
    """Percentile intervals of Pearson's correlations over resampled profiles (x × y), NaN where there is no
    correlation. For Spearman's give ranks."""
    n = len(x)
    draw = np.random.default_rng(seed)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    found = []
    for _ in range(RESAMPLES // AT_ONCE):
        w = draw.multinomial(n, np.full(n, 1 / n), size=AT_ONCE) / n
        mean_x, mean_y = w @ x, w @ y
        cross = np.einsum("bn,nx,ny->bxy", w, x, y, optimize=True) - mean_x[:, :, None] * mean_y[:, None, :]
        spread_x, spread_y = w @ x**2 - mean_x**2, w @ y**2 - mean_y**2
        spread = np.sqrt(np.maximum(spread_x, 0))[:, :, None] * np.sqrt(np.maximum(spread_y, 0))[:, None, :]
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(np.where(spread > 1e-12, np.clip(cross / spread, -1, 1), np.nan))
    values = np.concatenate(found)
    with warnings.catch_warnings():  # a pair without variance has no resample with a number
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = np.nanquantile(values, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
    return low, high


def _nothing(x: Array, y: Array) -> Array:
    return np.full((x.shape[1], y.shape[1]), np.nan)


# ---- regressions -------------------------------------------------------------------------


def ipsatised(importances: Array) -> Array:
    """Importances (profiles × ten) less each profile's own mean: what it values more than the rest."""
    return np.asarray(importances - importances.mean(axis=1, keepdims=True))


def axes(importances: Array) -> Array:
    """Where profiles lie on the two axes of the circle (profiles × 2), in points of importance."""
    own = ipsatised(importances)
    columns = []
    for first, second in AXES.values():
        ends = [own[:, [VALUES.index(v) for v in HIGHER_ORDER[g]]].mean(axis=1) for g in (first, second)]
        columns.append(ends[0] - ends[1])
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Coefficient:
    """A coefficient per unit of its predictor, with interval and two-sided p (None where there is none)."""

    value: float
    low: float | None
    high: float | None
    p: float | None


def on_axes(importances: Array, harm: Array, confidence: float) -> list[Coefficient] | None:
    """Least squares of a harm on the two axes, with robust errors (HC3; MacKinnon and White, 1985) and
    Student's t. None where profiles are too few, or axes or harm do not vary."""
    x = np.column_stack([np.ones(len(harm)), axes(importances)])
    n, k = x.shape
    if n < k + 3 or np.linalg.matrix_rank(x) < k or np.ptp(harm) < 1e-12:
        return None
    inverse = np.linalg.inv(x.T @ x)
    beta = inverse @ x.T @ harm
    residual = harm - x @ beta
    leverage = np.einsum("ij,jk,ik->i", x, inverse, x)
    scaled = residual / np.maximum(1 - leverage, 1e-6)
    variance = inverse @ (x.T * scaled**2) @ x @ inverse
    found = []
    for place in range(1, k):
        error = math.sqrt(max(float(variance[place, place]), 0.0))
        value = float(beta[place])
        if error < 1e-15:
            found.append(Coefficient(value, None, None, None))
            continue
        half = float(stats.t.ppf(0.5 + confidence / 2, n - k)) * error
        p = float(2 * stats.t.sf(abs(value) / error, n - k))
        found.append(Coefficient(value, value - half, value + half, p))
    return found


def ridge(importances: Array, harm: Array, confidence: float, seed: int) -> list[Coefficient] | None:
    """Ridge coefficients of the ten ipsatised values, all standardised: the change of a harm, in its
    standard deviations, with one standard deviation of a value. The penalty is that of generalised
    cross-validation; the interval is the bootstrap's over profiles at this penalty. Coefficients are
    shrunk: they order the values, and carry no p."""
    if len(harm) < 12 or np.ptp(harm) < 1e-12:
        return None
    own = ipsatised(importances)
    spread = own.std(axis=0)
    if (spread < 1e-12).any():
        return None
    x = (own - own.mean(axis=0)) / spread
    y = (harm - harm.mean()) / harm.std()
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    along = u.T @ y
    best, penalty = math.inf, 1.0
    for candidate in np.geomspace(1e-2, 1e3, 26) * len(y) / 100:
        shrink = s**2 / (s**2 + candidate)
        rest = float(((y - u @ (shrink * along)) ** 2).sum()) / len(y)
        score = rest / (1 - shrink.sum() / len(y)) ** 2
        if score < best:
            best, penalty = score, float(candidate)

    def fit(a: Array, b: Array) -> Array:
        return np.asarray(np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T @ b))

    draw = np.random.default_rng(seed)
    picks = draw.integers(0, len(y), size=(400, len(y)))
    resampled = np.stack([fit(x[pick], y[pick]) for pick in picks])
    low, high = np.quantile(resampled, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
    values = fit(x, y)
    return [
        Coefficient(float(v), float(a), float(b), None) for v, a, b in zip(values, low, high, strict=True)
    ]


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


def detectable(n: int, tests: int, level: float, power: float = 0.8) -> float | None:
    """The smallest |r| that n profiles find with this power when a single one of so many tests is real
    (Bonferroni's level, the hardest case of the step-up procedure); None below five profiles."""
    if n < 5:
        return None
    z = stats.norm.isf(level / max(tests, 1) / 2) + stats.norm.ppf(power)
    return float(math.tanh(z / math.sqrt((n - 3) / 1.06)))
