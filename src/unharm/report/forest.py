"""Forest plots: differences with their intervals, one row each, one panel per scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unharm.report.chart_files import PALETTE


@dataclass(frozen=True)
class ForestRow:
    """One difference.

    Attributes:
        label: What is compared.
        panel: The title of its axis; rows of one panel share a scale.
        value: The difference.
        low, high: Its interval, None where there is none.
        holds: Whether it is significant after adjustment; such dots are filled.
    """

    label: str
    panel: str
    value: float
    low: float | None
    high: float | None
    holds: bool


def forest_chart(rows: Sequence[ForestRow], title: str) -> Any:
    """Draw a forest plot as an Altair chart, one panel under another.

    Args:
        rows: In the order of the rows, at least one.
        title: Above all panels.
    """
    import altair as alt

    panels = []
    for name in dict.fromkeys(row.panel for row in rows):
        part = [row for row in rows if row.panel == name]
        labels = list(dict.fromkeys(row.label for row in part))
        data = [
            {"label": r.label, "value": r.value, "low": r.low, "high": r.high, "holds": r.holds}
            for r in part
        ]
        base = alt.Chart(alt.InlineData(data)).encode(
            y=alt.Y("label:N", sort=labels, title=None, axis=alt.Axis(ticks=False, domain=False))
        )
        zero = alt.Chart(alt.InlineData([{"zero": 0}])).mark_rule(strokeDash=[4, 3], color="#666")
        across = alt.Axis(tickCount=8, labelFlush=False, labelOverlap="greedy")
        bars = base.mark_rule(strokeWidth=1.5, color=PALETTE[0]).encode(
            x=alt.X("low:Q", title=name, axis=across), x2="high:Q"
        )
        dots = base.mark_point(size=55, strokeWidth=1.5, opacity=1, color=PALETTE[0]).encode(
            x=alt.X("value:Q", title=name, axis=across, scale=alt.Scale(zero=False)),
            fill=alt.condition("datum.holds", alt.value(PALETTE[0]), alt.value("white")),
            fillOpacity=alt.value(1),
        )
        layered = zero.encode(x="zero:Q") + bars + dots
        panels.append(layered.properties(width=420, height=20 * max(1, len(labels))))
    return alt.vconcat(*panels).properties(title=title)
