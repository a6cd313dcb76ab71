"""TODO"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from unharm.analysis.comparisons import Cells, Made
from unharm.analysis.intervals import adjust_rows, holm
from unharm.analysis.measures import FIRST_METRICS, bounds_of, of_quality
from unharm.analysis.metrics import ALL
from unharm.analysis.paired import difference

RISEN, OPEN, WITHIN, NOTHING = "risen", "not excluded", "within", "no number"


def gate(
    before: Cells, after: Cells, made: list[Made], allowed: Mapping[str, float], confidence: float
) -> list[dict[str, Any]]:
    """One row per arm, strategy, metric and category: the change on the same prompts and profiles, and its
    verdict.

    `allowed` has the largest increase per metric, as a share of the metric's range ("" for all others).
    `risen`: the change lies above it with this confidence (one-sided, Holm over all rows); `not excluded`:
    the interval reaches beyond it; `within`: it does not; `no number`: nothing could be compared.
    """
    rows: list[dict[str, Any]] = []
    for one in made:
        for (benchmark, metric), (ids, categories) in before.units.items():
            key = one, benchmark, metric
            if of_quality(metric) or key not in before.values or key not in after.values:
                continue
            d = _change(before, after, one, benchmark, metric, ids)
            low, high = bounds_of(metric)
            margin = allowed.get(metric, allowed.get("", 0.0)) * (high - low)
            names = [ALL]
            if metric in FIRST_METRICS.values():
                found = sorted({str(c) for c in categories if c})
                names += found if len(found) > 1 else []
            for name in names:
                here = d if name == ALL else d[:, categories == name]
                told = {"arm": one[0], "strategy": one[1], "benchmark": benchmark, "metric": metric}
                rows.append(
                    told | {"category": name, "allowed": margin} | _judged(here, margin, confidence)
                )
    adjust_rows(rows, holm)
    for row in rows:
        if row["p_adjusted"] is not None and row["p_adjusted"] <= 1 - confidence:
            row["verdict"] = RISEN
    return rows


def _change(
    before: Cells, after: Cells, made: Made, benchmark: str, metric: str, ids: list[str]
) -> np.ndarray:
    """After less before, profiles × units, for the profiles that both have; units joined by their ids."""
    first, second = before.values[made, benchmark, metric], after.values[made, benchmark, metric]
    place = {identity: n for n, identity in enumerate(after.units[benchmark, metric][0])}
    order = [place.get(identity, -1) for identity in ids]
    rows = []
    for name in first:
        if name in second:
            other = np.append(second[name], np.nan)[order].astype(float)
            rows.append(other - first[name].astype(float))
    return np.stack(rows) if rows else np.full((1, len(ids)), np.nan)


def _judged(d: np.ndarray, margin: float, confidence: float) -> dict[str, Any]:
    found = difference(d, confidence)
    row = {
        "value": found.value, "low": found.low, "high": found.high, "profiles": found.profiles,
        "units": found.prompts, "n": found.n, "p": None, "p_adjusted": None,
    }  # fmt: skip
    if found.value is None:
        return row | {"verdict": NOTHING}
    beyond = difference(d - margin, confidence)
    if beyond.p is None or beyond.value is None:  # nothing varies: what is seen is all there is to see
        return row | {"verdict": RISEN if found.value > margin else WITHIN}
    row["p"] = beyond.p / 2 if beyond.value > 0 else 1 - beyond.p / 2
    return row | {"verdict": OPEN if found.high is not None and found.high > margin else WITHIN}
