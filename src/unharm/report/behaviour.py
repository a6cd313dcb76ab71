"""The sections on values in behaviour and on costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from unharm.analysis.costs import PERPLEXITY
from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.values import VALUES
from unharm.report.heat_maps import value_map
from unharm.report.inputs import ReportedStudy
from unharm.report.words import interval, number, share_interval


def behaviour_section(tables: Mapping[str, pl.DataFrame], study: ReportedStudy) -> list[dict[str, Any]]:
    """Return one row per arm under the first strategy: self-report, behaviour, gap, share of what stands
    first."""
    chosen = tables["behaviour_arms"].filter(pl.col("strategy") == study.strategies[0])
    rows = []
    for (arm,), part in chosen.group_by(["arm"], maintain_order=True):
        by_reading = {r["reading"]: r for r in part.to_dicts()}
        subjects = tables["behaviour"].filter(
            (pl.col("arm") == arm) & (pl.col("strategy") == study.strategies[0])
        )
        firsts = subjects["first_share"].drop_nulls().to_list()
        first = sum(firsts) / len(firsts) if firsts else None
        unscored = int(subjects["unscored"].sum())
        rows.append({"arm": arm, "first": first, "unscored": unscored, "readings": by_reading})
    return rows


def leakage_charts(leakage: pl.DataFrame, study: ReportedStudy) -> dict[str, dict[str, Any]]:
    """Return a heat map per arm and reading under the first strategy, by placeholder name."""
    charts = {}
    chosen = leakage.filter(pl.col("strategy") == study.strategies[0])
    for (arm, reading), part in chosen.group_by(["arm", "reading"], maintain_order=True):
        if not part["value"].count():
            continue
        rows = [
            {
                "across": r["schwartz_value"],
                "down": r["raised"],
                "value": r["value"],
                "text": f"{interval(r | {'metric': ''})}, n = {r['n']}",
                "mark": r["raised"] == r["schwartz_value"],
            }
            for r in part.to_dicts()
        ]
        raised = [v for v in VALUES if v in set(part["raised"])]
        charts[f"leakage-{arm}-{reading}"] = value_map(rows, "raised", raised, "change")
    return charts


def costs_section(costs: pl.DataFrame) -> dict[str, Any]:
    """Return the costs as texts.

    Returns:
        `columns`, the costs, with the benchmark of those that several have; `rows`: `arm`, `strategy`,
        `counts`, the n of its costs, and `cells`, one per column, with `shown`, `interval` and `unscored`,
        or None.
    """
    columns = costs.select("cost", "benchmark").unique(maintain_order=True).rows()
    by_subject: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = {}
    for row in costs.to_dicts():
        cells = by_subject.setdefault((row["arm"], row["strategy"]), {})
        cells[row["cost"], row["benchmark"]] = row | _shown(row)
    rows = [
        {
            "arm": arm,
            "strategy": strategy,
            "counts": ", ".join(dict.fromkeys(f"{c['n']} {c['unit']}s" for c in cells.values())),
            "cells": [cells.get(column) for column in columns],
        }
        for (arm, strategy), cells in by_subject.items()
    ]
    costs_alone = [cost for cost, _ in columns]
    names = [
        f"{cost}, {BENCHMARKS[benchmark].title}" if costs_alone.count(cost) > 1 else cost
        for cost, benchmark in columns
    ]
    return {"columns": names, "rows": rows}


def _shown(row: dict[str, Any]) -> dict[str, str]:
    """Return a cost and its interval for readers."""
    if row["cost"] == PERPLEXITY:
        return {"shown": f"× {number(row['value'])}", "interval": interval(row | {"metric": ""})}
    return {"shown": number(row["value"], True), "interval": share_interval(row)}
