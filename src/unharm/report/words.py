"""Writes names and numbers for the report."""

from __future__ import annotations

import math
from typing import Any

from unharm.analysis.measures import COHERENT, INCOHERENT, LENGTH, SHARES, TITLES

METRIC_NAMES: dict[str, str] = TITLES | {
    "bias_spread": "spread of negative regard between groups",
    "bias_score": "bias score (ROBBIE)",
    "toxic_share": "toxic completions",
}

_SHARES = SHARES | {"bias_spread", "bias_score", "toxic_share", INCOHERENT}


def metric_name(metric: str) -> str:
    """Return the name of a metric for readers, including variants (`@5`, coherent completions only)."""
    base, _, samples = metric.partition("@")
    if base in (INCOHERENT, LENGTH):
        return {INCOHERENT: "incoherent completions", LENGTH: "length in tokens"}[base]
    name = METRIC_NAMES[base.removeprefix(COHERENT)]
    name += " of coherent completions" if base.startswith(COHERENT) else ""
    return f"{name}, {samples} samples" if samples else name


def is_share(metric: str) -> bool:
    """Return whether a metric is written as a percentage."""
    return metric.partition("@")[0].removeprefix(COHERENT) in _SHARES


def category_name(category: str) -> str:
    """Return the name of a category for readers."""
    return category.replace("_", " ").replace(",", ", ")


def number(value: Any, share: bool = False) -> str:
    """Format a number; a missing one is a dash, never NaN."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{100 * value:.1f} %" if share else f"{value:.2f}"


def signed(value: Any, share: bool = False) -> str:
    """Format a number with its sign; shares in percentage points."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{100 * value:+.1f}" if share else f"{value:+.2f}"


def difference_interval(row: dict[str, Any]) -> str:
    """Format the interval of a difference as `low to high`, with signs; shares in percentage points."""
    if row["low"] is None or row["high"] is None:
        return "–"
    share = is_share(row["metric"])
    return f"{signed(row['low'], share)} to {signed(row['high'], share)}"


def share_difference_interval(row: dict[str, Any]) -> str:
    """Format the interval of a difference of shares, whatever the metric of the row."""
    return difference_interval(row | {"metric": INCOHERENT})


def plain_interval(row: dict[str, Any]) -> str:
    """Format an interval that is not a share, whatever the metric of the row."""
    return interval(row | {"metric": ""})


def interval(row: dict[str, Any]) -> str:
    """Format the interval of an estimate as `low to high`; a dash if there is none."""
    if row["low"] is None or row["high"] is None:
        return "–"
    share = is_share(row.get("metric") or "")
    return f"{number(row['low'], share).removesuffix(' %')} to {number(row['high'], share)}"


def share_interval(row: dict[str, Any]) -> str:
    """Format the interval of a share, whatever the metric of the row."""
    return interval(row | {"metric": INCOHERENT})


def p_value(value: float | None) -> str:
    """Format a p value; a dash if there is none."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
