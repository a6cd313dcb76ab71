"""Prepares the section on labels of people: corrected rates, the scorers' errors, worst cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from unharm.analysis.comparisons import DIFFERS
from unharm.analysis.metrics import ALL
from unharm.report.words import metric_name, number, signed

NOTABLE = 0.005
"""From which share of completions without a score on the worst case is shown."""


def labels_section(tables: Mapping[str, pl.DataFrame], level: float) -> dict[str, Any]:
    """Return the rows and sentences of the section."""
    corrected = tables["corrected"].filter(pl.col("category") == ALL)
    worst = tables["worst_case"].filter(pl.col("without_score") >= NOTABLE)
    errors = tables["scorer_errors"].to_dicts()
    differences = tables["corrected_differences"]
    whole = differences.filter(pl.col("category") == ALL)
    against = whole.filter(pl.col("family") != "others")
    parts = differences.filter(pl.col("category") != ALL, pl.col("verdict") == DIFFERS)
    return {
        "rates": corrected.to_dicts(),
        "differences": against.to_dicts(),
        "errors": errors,
        "shifted": [_shift(r, errors) for r in errors if r["verdict"] == DIFFERS],
        "reversed": [_change(r) for r in against.to_dicts() if r["verdict"] == DIFFERS],
        "categories": parts.to_dicts(),
        "categories_tested": differences.filter(pl.col("category") != ALL)["p"].count(),
        "worst": worst.to_dicts(),
        "level": level,
    }


def _shift(row: Mapping[str, Any], errors: list[dict[str, Any]]) -> str:
    """Say how a scorer errs otherwise on an arm than on vanilla."""
    same = ("benchmark", "scorer", "strategy", "measure")
    other = next(r for r in errors if r["arm"] == row["reference"] and all(r[c] == row[c] for c in same))
    return (
        f"{row['scorer']} errs otherwise on {row['arm']} than on {row['reference']}: its {row['measure']} "
        f"is {number(row['value'], True)}, there {number(other['value'], True)}. Uncorrected differences "
        "of these arms are in part its errors."
    )


def _change(row: Mapping[str, Any]) -> str:
    """Say that a difference holds after correction."""
    share = not row["metric"].endswith("harmfulness")
    unit = " points" if share else ""
    return (
        f"With the labels, {metric_name(row['metric'])} of {row['arm']} differs from {row['reference']} by "
        f"{signed(row['value'], share)}{unit} ({signed(row['low'], share)} to "
        f"{signed(row['high'], share)}; uncorrected {signed(row['raw'], share)})."
    )
