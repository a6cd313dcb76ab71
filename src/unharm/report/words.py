"""How names and numbers are written in the report."""

from __future__ import annotations

import math
from typing import Any

from unharm.analysis.measures import COHERENT, INCOHERENT, LENGTH, SHARES, TITLES

METRIC_NAMES: dict[str, str] = TITLES | {"bias_score": "bias score"}

_SHARES = SHARES | {"bias_score", INCOHERENT}


def metric_name(metric: str) -> str:
    """A metric in words, also one of so many samples, or of coherent completions only."""
    base, _, samples = metric.partition("@")
    if base in (INCOHERENT, LENGTH):
        return {INCOHERENT: "incoherent completions", LENGTH: "length in tokens"}[base]
    name = METRIC_NAMES[base.removeprefix(COHERENT)]
    name += " of coherent completions" if base.startswith(COHERENT) else ""
    return f"{name}, {samples} samples" if samples else name


def is_share(metric: str) -> bool:
    """Whether a metric is written as a percentage."""
    return metric.partition("@")[0].removeprefix(COHERENT) in _SHARES


def category_name(category: str) -> str:
    return category.replace("_", " ").replace(",", ", ")


def number(value: Any, share: bool = False) -> str:
    """A number for people; an absent one is a dash, never NaN."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{100 * value:.1f} %" if share else f"{value:.2f}"


def signed(value: Any, share: bool = False) -> str:
    """A number with its sign; shares in percentage points."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{100 * value:+.1f}" if share else f"{value:+.2f}"


def spread(row: dict[str, Any]) -> str:
    """`low to high` of a difference, with signs; shares in percentage points."""
    if row["low"] is None or row["high"] is None:
        return "–"
    share = is_share(row["metric"])
    return f"{signed(row['low'], share)} to {signed(row['high'], share)}"


def spread_of_shares(row: dict[str, Any]) -> str:
    """`spread` of a row whose estimate is a difference of shares."""
    return spread(row | {"metric": INCOHERENT})


def plain_interval(row: dict[str, Any]) -> str:
    """`interval` of a row that is no share, whatever its metric."""
    return interval(row | {"metric": ""})


def interval(row: dict[str, Any]) -> str:
    """`low to high` of a row with an estimate, or a dash where there is none."""
    if row["low"] is None or row["high"] is None:
        return "–"
    share = is_share(row.get("metric") or "")
    return f"{number(row['low'], share).removesuffix(' %')} to {number(row['high'], share)}"


def share_interval(row: dict[str, Any]) -> str:
    """`interval` of a row whose estimate is a share."""
    return interval(row | {"metric": INCOHERENT})


def p_value(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
