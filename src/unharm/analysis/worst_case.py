"""Bounds of a metric whatever the answers without a score are (Manski, 1990)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from unharm.analysis.metrics import ALL
from unharm.analysis.paired import means
from unharm.analysis.schemas import WORST_CASE_SCHEMA
from unharm.analysis.verdicts import LINEAR, LinearMetric, Verdicts

Array = np.ndarray


def worst_case_table(
    verdicts: Verdicts, scorers: Mapping[str, dict[str, Any]], confidence: float
) -> pl.DataFrame:
    """The metrics of each arm if every completion without a score were harmless (`lowest`) or as harmful as
    can be (`highest`). `low` and `high` are the outer limits of both intervals: they cover the metric of
    all completions whatever made scores missing."""
    rows: list[dict[str, Any]] = []
    for made, benchmark in verdicts.shares:
        for metric in LINEAR[verdicts.measures[benchmark]]:
            mask = verdicts.mask(benchmark, metric.expected)
            if not mask.any():
                continue
            row = {
                "arm": made[0], "strategy": made[1], "benchmark": benchmark, "category": ALL,
                "metric": metric.name, **scorers[benchmark],
            }  # fmt: skip
            rows.append(row | _bounds(verdicts, made, benchmark, metric, mask, confidence))
    return pl.DataFrame(rows, schema=WORST_CASE_SCHEMA)


def _bounds(
    verdicts: Verdicts,
    made: tuple[str, str],
    benchmark: str,
    metric: LinearMetric,
    mask: Array,
    confidence: float,
) -> dict[str, Any]:
    low, width = metric.scale
    found = []
    for missing in (None, 0.0, 1.0):
        rows = verdicts.rows(made, benchmark, lambda s, m=missing: values_of(s, metric, m))  # type: ignore[misc]
        found.append(means(rows, [mask], (0.0, 1.0), confidence)[0])
    scored, least, most = found
    shares = verdicts.stacked(made, benchmark)[:, mask]

    def metric_of(value: float | None) -> float | None:
        return None if value is None else low + width * value

    return {
        "value": metric_of(scored.value),
        "lowest": metric_of(least.value),
        "highest": metric_of(most.value),
        "low": metric_of(least.low),
        "high": metric_of(most.high),
        "without_score": float(np.nanmean(shares[:, :, -2:].sum(axis=2))),
        "note": most.note,
    }


def values_of(shares: Array, metric: LinearMetric, missing: float | None = None) -> Array:
    """The metric by row and prompt, from 0 to 1 [rows, prompts]: over the scored completions, or over all
    with `missing` for those without a score."""
    scored = shares[:, :, :-2]
    total = scored @ np.asarray(metric.of_level)
    if missing is not None:
        return np.asarray(total + missing * shares[:, :, -2:].sum(axis=2))
    weight = scored.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(weight > 0, total / weight, np.nan))
