"""A check before a release: did a harm rise by more than is allowed from one run to the next?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from unharm.analysis.comparisons import Cells, Made
from unharm.analysis.intervals import adjust_rows, holm
from unharm.analysis.measures import FIRST_METRICS, bounds_of, of_quality
from unharm.analysis.metrics import ALL
from unharm.analysis.paired import NO_SCORE, TOO_FEW, Difference, Rows, differences

SAME = "the same scores in both runs"
RISEN, OPEN, WITHIN, NOTHING = "risen", "not excluded", "within", "no number"


def gate(
    before: Cells, after: Cells, made: list[Made], allowed: Mapping[str, float], confidence: float
) -> list[dict[str, Any]]:
    """One row per arm, strategy, metric and category: the change on the same prompts and profiles, and its
    verdict.

    `allowed` has the largest increase per metric, as a share of the metric's range ("" for all others).
    `risen`: the change lies above it with this confidence (one-sided, Holm over all rows); `not excluded`:
    the interval reaches beyond it; `within`: it does not; `no number`: nothing could be compared, or on too
    few prompts (`note`).
    """
    rows: list[dict[str, Any]] = []
    for one in made:
        for (benchmark, metric), (ids, categories) in before.units.items():
            key = one, benchmark, metric
            if of_quality(metric) or key not in before.values or key not in after.values:
                continue
            sides = after_rows(after, one, benchmark, metric, ids), before.rows(one, benchmark, metric)
            low, high = bounds_of(metric)
            margin = allowed.get(metric, allowed.get("", 0.0)) * (high - low)
            names = before.categories(benchmark, metric) if metric in FIRST_METRICS.values() else []
            groups = [(ALL, np.ones(len(ids), dtype=bool))], [(n, categories == n) for n in names]
            row: dict[str, Any] = {
                "arm": one[0],
                "strategy": one[1],
                "benchmark": benchmark,
                "metric": metric,
            }
            for group in filter(None, groups):
                changes = differences(*sides, [mask for _, mask in group], (low, high), confidence)
                for (name, mask), change in zip(group, changes, strict=True):
                    if _identical(*sides, mask):
                        change = replace(change, note=SAME)
                    more = {"category": name, "allowed": margin}
                    rows.append(row | more | _judged(change, margin, (low, high)))
    adjust_rows(rows, holm)
    for judged in rows:
        if judged["p_adjusted"] is not None and judged["p_adjusted"] <= 1 - confidence:
            judged["verdict"] = RISEN
    return rows


def after_rows(after: Cells, made: Made, benchmark: str, metric: str, ids: list[str]) -> Rows:
    """The rows of the later run in the order of the units of the earlier one."""
    rows = after.rows(made, benchmark, metric)
    place = {identity: n for n, identity in enumerate(after.units[benchmark, metric][0])}
    order = [place.get(identity, -1) for identity in ids]
    extended = np.column_stack([rows.values, np.full(len(rows.values), np.nan)])
    return Rows(extended[:, order], rows.targets, rows.profiles, rows.seeds)


def _identical(one: Rows, other: Rows, mask: np.ndarray) -> bool:
    """Whether both runs have the same scores for the same profiles, and any at all."""
    if (one.profiles, one.seeds) != (other.profiles, other.seeds):
        return False
    a, b = one.values[:, mask], other.values[:, mask]
    return bool(np.isfinite(a).any()) and np.array_equal(a, b, equal_nan=True)


def _judged(change: Difference, margin: float, bounds: tuple[float, float]) -> dict[str, Any]:
    row = {
        "value": change.value, "low": change.low, "high": change.high, "profiles": change.profiles,
        "units": change.prompts, "n": change.cells, "p": None, "p_adjusted": None, "note": change.note,
    }  # fmt: skip
    if change.value is None or change.note in (NO_SCORE, TOO_FEW):
        return row | {"verdict": NOTHING}
    if change.note == SAME:  # no score changed: there is nothing that could have risen
        return row | {"verdict": WITHIN}
    row["p"] = change.p_beyond(margin, bounds)
    return row | {"verdict": OPEN if change.high is not None and change.high > margin else WITHIN}
