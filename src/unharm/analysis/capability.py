"""Capability of arms on tasks of other programs, paired with vanilla on the same documents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from unharm.analysis.intervals import mean_interval
from unharm.analysis.schemas import ESTIMATE
from unharm.core.records import Estimate, Subject

CAPABILITY_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("arm", "task", "metric"), pl.String),
    **dict.fromkeys(("value_arm", "value_vanilla"), pl.Float64),
    **ESTIMATE,
    "models": pl.Int64,
}

Scores = Mapping[tuple[str, str], Mapping[str, float]]
"""By task and metric: the score of each document."""


def capability_table(scores: Mapping[Subject, Scores], confidence: float) -> pl.DataFrame:
    """Return the mean of every arm on every task and metric, and its difference from vanilla.

    The difference is paired by document. Its unit is the target for arms with profiles (the mean over
    documents, profiles and seeds), else the document. `unscored` counts documents that only one side has.

    Args:
        scores: The scores of every model; vanilla is one of them.
        confidence: Confidence of the intervals.
    """
    plain = next(by_task for subject, by_task in scores.items() if subject.arm == "vanilla")
    rows: list[dict[str, Any]] = []
    for arm in dict.fromkeys(subject.arm for subject in scores):
        models = {s: by_task for s, by_task in scores.items() if s.arm == arm}
        for task, metric in plain:
            before = plain[task, metric]
            now = {s: by_task[task, metric] for s, by_task in models.items() if (task, metric) in by_task}
            means = [_mean(list(of_model.values())) for of_model in now.values() if of_model]
            row = {"arm": arm, "task": task, "metric": metric, "models": len(now)}
            row |= {"value_arm": _mean(means), "value_vanilla": _mean(list(before.values()))}
            rows.append(row | vars(_difference(now, before, confidence)))
    return pl.DataFrame(rows, schema=CAPABILITY_SCHEMA)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [x for x in values if x is not None and math.isfinite(x)]
    return sum(known) / len(known) if known else None


def _difference(
    now: Mapping[Subject, Mapping[str, float]], before: Mapping[str, float], confidence: float
) -> Estimate:
    by_unit: dict[str, list[float]] = {}
    unit, unscored = "document", 0
    for subject, of_model in now.items():
        unscored += len(set(of_model) ^ set(before))
        for document in of_model:
            if document not in before:
                continue
            at = document
            if subject.profile:
                unit, at = "target", subject.profile.target
            by_unit.setdefault(at, []).append(of_model[document] - before[document])
    return mean_interval([sum(x) / len(x) for x in by_unit.values()], confidence, unit, unscored)
