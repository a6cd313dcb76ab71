"""The page of a comparison of logs that other tools wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unharm.analysis.log_comparison import LogComparison, LogSettings
from unharm.analysis.metrics import ALL
from unharm.analysis.scored_log import ScoredLog
from unharm.report.chart_files import configured, drawn
from unharm.report.forest import ForestRow, forest_chart
from unharm.report.templates import html_environment
from unharm.report.words import category_name, p_value

UNIT_RANGE = "0 to 1"
"""A metric of this range is written in percent, its differences in percentage points."""


def metric_number(value: float | None, row: dict[str, Any], signed: bool = False) -> str:
    """Format a value of a metric: percent for one from 0 to 1, else four digits."""
    if value is None:
        return "–"
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.2f}" if row["range"] == UNIT_RANGE else f"{value:{sign}.4g}"


def row_interval(row: dict[str, Any]) -> str:
    """Format the interval of a difference."""
    if row["low"] is None or row["high"] is None:
        return "–"
    return f"{metric_number(row['low'], row, True)} to {metric_number(row['high'], row, True)}"


def row_name(row: dict[str, Any]) -> str:
    """Return the name of a row: task, metric, and category unless it is the whole task."""
    name = f"{row['task']}: {row['metric']}"
    return name if row["category"] == ALL else f"{name} · {category_name(row['category'])}"


def forest_rows(comparison: LogComparison, fdr: float) -> list[ForestRow]:
    """Return the rows of the forest plot: every difference of a whole task."""
    rows = []
    for row in comparison.rows:
        if row["value"] is None or row["category"] != ALL:
            continue
        scale, panel = (
            (100.0, "B less A, percentage points")
            if row["range"] == UNIT_RANGE
            else (1.0, f"B less A, {row['metric']}")
        )
        low, high = (None if row[side] is None else row[side] * scale for side in ("low", "high"))
        holds = row["p_adjusted"] is not None and row["p_adjusted"] <= fdr
        rows.append(ForestRow(row_name(row), panel, row["value"] * scale, low, high, holds))
    return rows


def render_logs(
    comparison: LogComparison,
    before: Sequence[ScoredLog],
    after: Sequence[ScoredLog],
    settings: LogSettings,
) -> str:
    """Render the page as HTML that needs no network and runs no script.

    Args:
        comparison: The rows and notes.
        before: The logs of side A.
        after: The logs of side B.
        settings: How they were compared.
    """
    import markupsafe

    environment = html_environment("unharm.report", ".")
    environment.filters.update(p=p_value, interval=row_interval, name=row_name)
    forest = forest_rows(comparison, settings.fdr)
    chart = drawn(configured(forest_chart(forest, "")), "svg").decode() if forest else ""
    page: str = environment.get_template("log_page.html.j2").render(
        rows=comparison.rows,
        notes=comparison.notes,
        sides=(("A", before), ("B", after)),
        settings=settings,
        gated=any(row["gate"] for row in comparison.rows),
        chart=markupsafe.Markup(chart),  # drawn by vl-convert, which escapes texts
        format=metric_number,
    )
    return page
