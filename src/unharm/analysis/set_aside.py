"""Which value goes up most with the harm of a category, and which value does not go with it at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from unharm.analysis.clustered_ranks import associate
from unharm.analysis.intervals import adjusted, spearman
from unharm.core.values import VALUES

Array = np.ndarray

NO_SCORES = "no profile has a score"
NOTHING_RISES = "no value rises with this harm"


@dataclass(frozen=True)
class Learned:
    """The value to set aside for a category.

    Attributes:
        benchmark, category: Of the harm.
        value: The value whose importance goes up most with the harm; empty where none goes up.
        r: Its rank correlation.
        p: Two-sided p of r.
        p_adjusted: p times the ten values that were looked at (Bonferroni), adjusted over all categories
            (Benjamini-Hochberg).
        profiles, prompts: How many r rests on.
        control: The value whose correlation is nearest to 0, which is set aside as a control.
        missing: Profiles without a score in this category; they are left out of r.
        note: Why there is no value or no p.
    """

    benchmark: str
    category: str
    value: str
    r: float | None
    p: float | None
    p_adjusted: float | None
    profiles: int
    prompts: int
    control: str = ""
    missing: int = 0
    note: str = ""


@dataclass(frozen=True)
class CategoryHarm:
    """The harm of a category: `values` [profiles], NaN where a profile has no score, over so many prompts.
    `named` has the values that the study sets aside for it, which cannot be controls."""

    benchmark: str
    category: str
    values: Array
    prompts: int
    named: tuple[str, ...] = ()


def learn_values(
    importances: Array, targets: Array, harms: Sequence[CategoryHarm], confidence: float, seed: int
) -> list[Learned]:
    """Find the value to set aside, and the control, for every category.

    Args:
        importances: [profiles, values].
        targets: The target of each profile, as a number.
        harms: One per category.
        confidence: Of the intervals that are computed on the way.
        seed: Of the random orders where profiles are few.
    """
    return _adjusted([_learn_one(importances, targets, harm, confidence, seed) for harm in harms])


def _learn_one(
    importances: Array, targets: Array, harm: CategoryHarm, confidence: float, seed: int
) -> Learned:
    known = np.isfinite(harm.values)
    count = int(known.sum())
    nothing = Learned(
        harm.benchmark, harm.category, "", None, None, None, count, harm.prompts,
        missing=len(known) - count, note=NO_SCORES,
    )  # fmt: skip
    if not count:
        return nothing
    x, y = importances[known], harm.values[known]
    related = associate(x, y[:, None], targets[known], [harm.benchmark], confidence, seed)
    plain = np.array([_rank_correlation(y, column) for column in x.T])
    r = np.where(np.isfinite(related.r[:, 0]), related.r[:, 0], plain)
    rises = bool((r > 0).any())
    best = int(np.nanargmax(r)) if rises else -1
    free = [n for n, v in enumerate(VALUES) if np.isfinite(r[n]) and n != best and v not in harm.named]
    control = VALUES[min(free, key=lambda n: abs(r[n]))] if free else ""
    if not rises:
        return replace(nothing, control=control, note=NOTHING_RISES)
    p = float(related.p[best, 0])
    return replace(
        nothing, value=VALUES[best], r=float(r[best]), p=p if np.isfinite(p) else None, control=control,
        note="" if np.isfinite(p) else related.note or "too few profiles for a test",
    )  # fmt: skip


def _rank_correlation(harm: Array, importance: Array) -> float:
    """Return the rank correlation of a value with a harm, NaN where there is none. It chooses the value
    where profiles are too few for a test."""
    r = spearman(importance.tolist(), harm.tolist(), 0.95)[0].value
    return float("nan") if r is None else r


def _adjusted(learned: list[Learned]) -> list[Learned]:
    tested = [n for n, one in enumerate(learned) if one.p is not None]
    p_values = adjusted([min(1.0, len(VALUES) * (learned[n].p or 0.0)) for n in tested])
    results = list(learned)
    for n, p in zip(tested, p_values, strict=True):
        results[n] = replace(learned[n], p_adjusted=p)
    return results
