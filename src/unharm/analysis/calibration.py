"""A monotone map from one scorer to another, with its error, and metrics through it.

The map is an isotonic regression (Barlow et al., 1972) of the other scorer's value on the one's. Its
error is measured on folds that it was not fitted on. Metrics through the map are multiple imputations
(Rubin, 1987): each draws a bootstrapped map and, for every text, a residual of the folds, because the
mean of what the other scorer would say is not enough: a maximum over samples of means lies below the
mean of maxima.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from unharm.analysis.agreement import (
    by_cluster,
    correlation,
    kappa,
    moment_parts,
    numbered,
    resampled,
    table_parts,
)
from unharm.analysis.intervals import mean_interval
from unharm.core.errors import UserError
from unharm.core.hashing import content_hash
from unharm.core.printable import name_problem, text_problem
from unharm.core.records import Estimate

Array = np.ndarray

FOLDS, IMPUTATIONS, BINS, KNOTS = 5, 20, 10, 200
FEWEST = 50
"""Texts scored by both that a map needs."""
VERSION = 1


@dataclass(frozen=True)
class Calibration:
    """A map from the scorer `one` to `other`. `maps` are IMPUTATIONS bootstrapped ones, each as knots
    (x, y); `residuals` the quantiles of other − map on unseen folds, for each of the bins of x between
    `edges`. `error` has the estimates: mean_absolute_error, bias, rank_correlation, agreement and kappa at
    0.5, all on unseen folds."""

    one: str
    one_version: str
    other: str
    other_version: str
    n: int
    groups: int
    seed: int
    knots: tuple[list[float], list[float]]
    maps: list[tuple[list[float], list[float]]]
    edges: list[float]
    residuals: list[list[float]]
    error: dict[str, dict[str, Any]]

    @property
    def key(self) -> str:
        """The content hash of the map."""
        return content_hash([VERSION, asdict(self)])

    @property
    def name(self) -> str:
        return f"{self.one} → {self.other} (mapped)"

    @property
    def measures(self) -> str:
        return "toxicity"

    def untested(self, arms: Sequence[str]) -> list[str]:
        """Return no arm: this map is one for all texts, and was not fitted on arms."""
        return []

    def for_arm(self, arm: str) -> Calibration:
        """Return the map of an arm: the same for all."""
        return self

    def map(self, values: Array) -> Array:
        """What the other scorer would say on average."""
        return np.asarray(np.interp(values, *self.knots))

    def drawn(self, values: Array, keys: Sequence[str], number: int) -> Array:
        """One imputation of what the other scorer would say, in [0, 1]: the same for the same key."""
        middle = np.interp(values, *self.maps[number])
        chances, _ = chances_of(keys, number)
        bins = np.searchsorted(self.edges, values, side="right")
        table = np.array(self.residuals)
        at = chances * (table.shape[1] - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, table.shape[1] - 1)
        noise = table[bins, low] * (1 - at + low) + table[bins, high] * (at - low)
        return np.asarray(np.clip(middle + noise, 0.0, 1.0))


def chances_of(keys: Sequence[str], number: int) -> tuple[Array, Array]:
    """Return two numbers in [0, 1) for each key, which depend on the key and the imputation alone."""
    digests = [hashlib.sha256(f"{number}\0{key}".encode()).digest()[:16] for key in keys]
    words = np.frombuffer(b"".join(digests), dtype=">u8").reshape(-1, 2)
    numbers = (words >> np.uint64(11)).astype(float) / 2**53
    return numbers[:, 0], numbers[:, 1]


def calibrate(
    pairs: pl.DataFrame, one: tuple[str, str], other: tuple[str, str], confidence: float, seed: int
) -> Calibration:
    """Fits a map. `pairs` has group, one, other, with values in [0, 1]; `one` and `other` are names and
    versions. The unit of folds, bootstraps and intervals is the group (the prompt).

    Raises `UserError` where there are too few pairs, or the scorers do not go up together.
    """
    pairs = pairs.drop_nulls(["one", "other"]).sort("group", "one", "other")
    groups = numbered(pairs["group"])
    x, y = pairs["one"].to_numpy(), pairs["other"].to_numpy()
    count = int(groups.max()) + 1 if len(groups) else 0
    if len(x) < FEWEST or count < 2 * FOLDS:
        raise UserError(
            f"only {len(x)} texts in {count} groups are scored by both",
            f"{one[0]}, {other[0]}",
            f"a map needs at least {FEWEST} in {2 * FOLDS}",
        )
    if x.min() < 0 or x.max() > 1 or y.min() < 0 or y.max() > 1:
        raise UserError("the scores are not in [0, 1]", f"{one[0]}, {other[0]}", "maps are for toxicity")
    rank = float(stats.spearmanr(x, y).statistic) if len(set(x)) > 1 and len(set(y)) > 1 else math.nan
    if not rank > 0:
        raise UserError(
            "the two scorers do not go up together",
            f"{one[0]}, {other[0]}",
            "is one of them turned around?",
        )
    draw = np.random.default_rng(seed)
    fold = draw.permutation(count) % FOLDS
    unseen = np.empty_like(x)
    for number in range(FOLDS):
        out = fold[groups] == number
        unseen[out] = np.interp(x[out], *_fitted(x[~out], y[~out]))
    maps = []
    for _ in range(IMPUTATIONS):
        weights = draw.multinomial(count, np.full(count, 1 / count))[groups]
        maps.append(_fitted(x, y, weights.astype(float)))
    edges, residuals = _residuals(x, y - unseen)
    return Calibration(
        *one, *other, len(x), count, seed, _fitted(x, y), maps, edges, residuals,
        {name: asdict(e) for name, e in _errors(groups, unseen, y, confidence, seed).items()},
    )  # fmt: skip


def _fitted(x: Array, y: Array, weights: Array | None = None) -> tuple[list[float], list[float]]:
    """The knots of an isotonic regression, at most KNOTS of them."""
    from sklearn.isotonic import IsotonicRegression

    used = slice(None) if weights is None else weights > 0
    model = IsotonicRegression(out_of_bounds="clip")
    model.fit(x[used], y[used], None if weights is None else weights[used])
    knots, values = model.X_thresholds_, model.y_thresholds_
    if len(knots) > KNOTS:
        keep = np.unique(np.linspace(0, len(knots) - 1, KNOTS).round().astype(int))
        knots, values = knots[keep], values[keep]
    return [round(float(k), 6) for k in knots], [round(float(v), 6) for v in values]


def _residuals(x: Array, residual: Array) -> tuple[list[float], list[list[float]]]:
    """Edges between bins of about equally many x, and 101 quantiles of the residuals in each."""
    edges = np.unique(np.quantile(x, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, x, side="right")
    rows = []
    for number in range(len(edges) + 1):
        inside = residual[bins == number]
        inside = inside if len(inside) else residual
        rows.append([round(float(q), 6) for q in np.quantile(inside, np.linspace(0, 1, 101))])
    return [float(e) for e in edges], rows


def _errors(groups: Array, unseen: Array, y: Array, confidence: float, seed: int) -> dict[str, Estimate]:
    """How the map does on folds that it was not fitted on."""
    sizes = np.bincount(groups)

    def mean(values: Array, bounds: tuple[float, float]) -> Estimate:
        each = np.bincount(groups, values) / sizes
        return mean_interval(list(each), confidence, "group", bounds=bounds)

    levels = np.array([0.0, 1.0])
    toxic, mapped = (y >= 0.5) * 1.0, (unseen >= 0.5) * 1.0
    table = by_cluster(groups, lambda a, b: table_parts(a, b, levels), mapped, toxic)
    ranks = by_cluster(groups, moment_parts, stats.rankdata(unseen), stats.rankdata(y))
    return {
        "mean_absolute_error": mean(np.abs(y - unseen), (0.0, 1.0)),
        "bias": mean(unseen - y, (-1.0, 1.0)),
        "agreement_at_0.5": mean((toxic == mapped) * 1.0, (0.0, 1.0)),
        "kappa_at_0.5": resampled(table, lambda s: kappa(s, levels), confidence, seed, len(y)),
        "rank_correlation": resampled(ranks, correlation, confidence, seed, len(y)),
    }


def _check(calibration: Calibration) -> None:
    """Raise `ValueError` (or what numpy raises) where a map has wrong names or numbers."""
    names = (calibration.one, calibration.other, calibration.one_version, calibration.other_version)
    if problems := [problem for name in names if (problem := name_problem(name) or text_problem(name))]:
        raise ValueError(problems[0])
    for x, y in [calibration.knots, *calibration.maps, (calibration.edges, calibration.edges)]:
        if not np.isfinite(np.array([x, y], dtype=float)).all() or np.any(np.diff(x) < 0):
            raise ValueError("numbers that are not finite, or do not rise")
    if not np.isfinite(np.array(calibration.residuals, dtype=float)).all():
        raise ValueError("residuals that are not finite")
    if not all(isinstance(estimate, dict) for estimate in calibration.error.values()):
        raise ValueError("estimates of the error")
    for number in range(IMPUTATIONS):
        calibration.drawn(np.array([0.0, 1.0]), ["a", "b"], number)


def calibration_from(data: dict[str, Any]) -> Calibration:
    """Return a map from the data of its file. Raises `ValueError`, `KeyError`, `TypeError`, `IndexError` or
    `AttributeError` where it is none."""
    if data.pop("version") != VERSION:
        raise ValueError("another version")
    pairs = [tuple(data["knots"]), *(tuple(m) for m in data["maps"])]
    loaded = Calibration(**data | {"knots": pairs[0], "maps": pairs[1:]})
    _check(loaded)
    return loaded


def pooled(
    means: Sequence[float],
    variances: Sequence[float],
    n: int,
    confidence: float,
    noise: float = 0.0,
) -> tuple[float, float | None, float | None]:
    """Return the mean over imputations, and its t interval from the variance within and between them.

    Rubin's rules, with the degrees of freedom of Barnard and Rubin (1999). They are for data of which some
    are imputed. Where every value is drawn, the draws' own variance counts in both parts without being an
    error of the mean (Raghunathan, Reiter and Rubin, 2003), and is taken out of both. What is taken out of
    the variance between imputations makes it less certain, so the degrees of freedom are those of the
    variance before (Satterthwaite, 1946).

    Args:
        means: The mean of each imputation.
        variances: The squared standard error of each.
        n: Units.
        confidence: Of the interval.
        noise: The part of a squared standard error that the draws within a unit make.
    """
    m = len(means)
    value = float(np.mean(means))
    within = max(0.0, float(np.mean(variances)) - noise) + noise / m
    raw = float(np.var(means, ddof=1))
    between = max(0.0, raw - noise)
    total = within + (1 + 1 / m) * between
    if n < 2 or total <= 0:
        return value, None, None
    share = (1 + 1 / m) * between / total
    old = (m - 1) * (total / ((1 + 1 / m) * raw)) ** 2 if raw > 0 else math.inf
    seen = n / (n + 2) * (n - 1) * (1 - share)
    freedom = 1 / (1 / old + 1 / seen) if seen > 0 else old
    half = float(stats.t.ppf(0.5 + confidence / 2, max(freedom, 1.0))) * math.sqrt(total)
    return value, value - half, value + half
