"""Differences between two arms, or two strategies of an arm, on the same prompts.

Each side is a matrix, rows × prompts, with one row per profile and seed (one row for an arm without
profiles). Profiles that only one of two arms has are left out, as are prompts that one side lacks.
`variance` splits each side's variance, `score_intervals` joins both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unharm.analysis.score_intervals import (
    LEAST_PROMPTS,
    Side,
    correlations,
    difference_interval,
    interval_of,
    p_against,
    sides,
    widened,
)
from unharm.analysis.variance import RowLabels, SummedRows, labelled, parts_of, summed_rows

Array = np.ndarray

TOO_FEW = f"fewer than {LEAST_PROMPTS} prompts"
NO_SCORE = "no score on the same prompts"
ONE_LEVEL = "both sides always the same"


@dataclass(frozen=True)
class Rows:
    """The scores of an arm: values [rows, prompts] with the target, profile and seed of each row."""

    values: Array
    targets: tuple[str, ...]
    profiles: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def labels(self) -> RowLabels:
        return labelled(self.targets, self.seeds, self.profiles)

    def of(self, names: Sequence[str]) -> Rows:
        """The rows of some profiles."""
        chosen = [n for n, name in enumerate(self.profiles) if name in set(names)]
        return Rows(
            self.values[chosen],
            tuple(self.targets[n] for n in chosen),
            tuple(self.profiles[n] for n in chosen),
            tuple(self.seeds[n] for n in chosen),
        )


def beside(parts: Sequence[Rows]) -> Rows:
    """Put the prompts of several benchmarks of one arm beside each other, with the rows that all have."""
    keys = [list(zip(rows.profiles, rows.seeds, strict=True)) for rows in parts]
    shared = [key for key in keys[0] if all(key in other for other in keys)]
    first = [keys[0].index(key) for key in shared]
    values = [
        rows.values[[own.index(key) for key in shared]] for rows, own in zip(parts, keys, strict=True)
    ]
    return Rows(
        np.concatenate(values, axis=1),
        tuple(parts[0].targets[n] for n in first),
        tuple(parts[0].profiles[n] for n in first),
        tuple(parts[0].seeds[n] for n in first),
    )


@dataclass(frozen=True)
class Difference:
    """A difference of means with its interval and two-sided p, in points of the metric.

    `note` says why there is no interval. `cells` counts the scores of the first side that are used;
    `seeds_hold` the seeds of the first side in which the difference alone has the same sign.
    """

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    one: float | None
    other: float | None
    cells: int
    prompts: int
    profiles: int
    targets: int
    seeds: int
    seeds_hold: int
    note: str = ""
    joint: tuple[Side, Side, float] | None = None

    def p_beyond(self, margin: float, bounds: tuple[float, float]) -> float | None:
        """One-sided p of the hypothesis that the difference is at most `margin`."""
        if self.joint is None or self.value is None:
            return None
        scale = bounds[1] - bounds[0] if self.joint[0].bounded else 1.0
        p = p_against(*self.joint, margin / scale)
        return p / 2 if self.value > margin else 1 - p / 2


def matched(one: Rows, other: Rows) -> tuple[Rows, Rows, bool]:
    """Both sides with the profiles that both have, and whether they share them."""
    if "" in one.profiles or "" in other.profiles:
        return one, other, False
    names = set(one.profiles) & set(other.profiles)
    return one.of(sorted(names)), other.of(sorted(names)), True


def differences(
    one: Rows, other: Rows, masks: Sequence[Array], bounds: tuple[float, float], confidence: float
) -> list[Difference]:
    """The difference of two arms over each of some sets of prompts (`masks`), one less the other.

    Sets that are categories of one benchmark are given together: their prompt variances are pooled.
    """
    bounded = bool(np.isfinite(bounds[1] - bounds[0]))
    low, scale = (bounds[0], bounds[1] - bounds[0]) if bounded else (0.0, 1.0)
    one, other, shared = matched(one, other)
    a, b = ((rows.values.astype(float) - low) / scale for rows in (one, other))
    both = np.asarray(np.isfinite(a).any(axis=0) & np.isfinite(b).any(axis=0))
    a, b = np.where(both, a, np.nan), np.where(both, b, np.nan)
    rows_a, rows_b = summed_rows(a, one.labels), summed_rows(b, other.labels)
    counts = [rows.counts.sum(axis=0) for rows in (rows_a, rows_b)]
    weights_a, weights_b = _weights(a, counts[1]), _weights(b, counts[0])
    first = sides([parts_of(rows_a, m, weights_a) for m in masks], bounded)
    second = sides([parts_of(rows_b, m, weights_b) for m in masks], bounded)
    rs = correlations(first, second, shared)
    known, profile_numbers = np.isfinite(a), np.unique(one.profiles, return_inverse=True)[1]
    results = []
    for mask, x, y, r in zip(masks, first, second, rs, strict=True):
        if not x.parts.cells or not y.parts.cells:
            results.append(Difference(None, None, None, None, None, None, 0, 0, 0, 0, 0, 0, NO_SCORE))
            continue
        value = (x.parts.mean - y.parts.mean) * scale
        held = _seeds_holding(rows_a, mask, y.parts.mean, value)
        used = known[:, mask].any(axis=1)
        facts = (
            low + x.parts.mean * scale, low + y.parts.mean * scale, x.parts.cells, x.parts.counts[0],
            len(np.unique(profile_numbers[used])),
            max(x.parts.counts[1], y.parts.counts[1]), x.parts.counts[2], held,
        )  # fmt: skip
        note = TOO_FEW if x.parts.counts[0] < LEAST_PROMPTS else ""
        if not note and not bounded and widened(x, confidence) + widened(y, confidence) == 0:
            note = ONE_LEVEL
        if note:
            results.append(Difference(value, None, None, None, *facts, note))
            continue
        interval = difference_interval(x, y, r, confidence)
        p = p_against(x, y, r)
        results.append(
            Difference(value, interval[0] * scale, interval[1] * scale, p, *facts, joint=(x, y, r))
        )
    return results


def _weights(values: Array, counts: Array) -> Array | None:
    """Return how often each prompt counts for a single subject: as often as on the other side."""
    return counts if len(values) == 1 and counts.max(initial=0) > 1 else None


def _seeds_holding(rows: SummedRows, prompts: Array, other: float, value: float) -> int:
    """Return in how many seeds the difference alone has the sign of all together."""
    counts, sums = rows.seed_counts[:, prompts].sum(axis=1), rows.seed_sums[:, prompts].sum(axis=1)
    used = counts > 0
    return int((np.sign(sums[used] / counts[used] - other) == np.sign(value)).sum())


@dataclass(frozen=True)
class Mean:
    """The mean of an arm with its interval, the counts of prompts, targets and seeds, and why there is no
    interval."""

    value: float | None
    low: float | None
    high: float | None
    counts: tuple[int, int, int]
    note: str


def means(rows: Rows, masks: Sequence[Array], bounds: tuple[float, float], confidence: float) -> list[Mean]:
    """The mean of an arm over each of some sets of prompts."""
    bounded = bool(np.isfinite(bounds[1] - bounds[0]))
    low, scale = (bounds[0], bounds[1] - bounds[0]) if bounded else (0.0, 1.0)
    values = (rows.values.astype(float) - low) / scale
    results: list[Mean] = []
    summed = summed_rows(values, rows.labels)
    for side in sides([parts_of(summed, m) for m in masks], bounded):
        if not side.parts.cells:
            results.append(Mean(None, None, None, (0, 0, 0), NO_SCORE))
            continue
        mean = low + side.parts.mean * scale
        few = side.parts.counts[0] < LEAST_PROMPTS
        if few or (not bounded and widened(side, confidence) == 0):
            results.append(Mean(mean, None, None, side.parts.counts, TOO_FEW if few else ONE_LEVEL))
            continue
        bound_low, bound_high = interval_of(side, confidence)
        results.append(Mean(mean, low + bound_low * scale, low + bound_high * scale, side.parts.counts, ""))
    return results
