"""Heat maps over the ten values: what moved with what, and where in the model."""

from __future__ import annotations

import json
from typing import Any

from unharm.core.values import VALUES


def value_map(
    rows: list[dict[str, Any]], down: str, downs: list[str], title: str, across: list[str] | None = None
) -> dict[str, Any]:
    """Draw a heat map of signed numbers, with rings around marked cells.

    Args:
        rows: Columns `across`, `down`, `value`, `text` (shown beside the value) and `mark`.
        down: Title of the rows of the map.
        downs: The rows of the map in their order.
        title: Title of the legend.
        across: The columns of the map in their order; the ten values if left out.
    """
    import altair as alt

    largest = max((abs(r["value"]) for r in rows if r["value"] is not None), default=0.0) or 1.0
    base = alt.Chart(alt.InlineData(rows)).encode(
        x=alt.X(
            "across:N",
            sort=across or list(VALUES),
            title=None,
            axis=alt.Axis(labelAngle=-40, orient="top"),
        ),
        y=alt.Y("down:N", sort=downs, title=down, axis=alt.Axis(labelLimit=220)),
        tooltip=["down:N", "across:N", alt.Tooltip("value:Q", format="+.3f", title=title), "text:N"],
    )
    cells = base.mark_rect().encode(
        color=alt.condition(
            "isValid(datum.value)",
            alt.Color(
                "value:Q", scale=alt.Scale(scheme="blueorange", domain=[-largest, largest]), title=title
            ),
            alt.value("#8882"),
        )
    )
    rings = base.transform_filter("datum.mark").mark_point(
        size=90, stroke="black", strokeWidth=2, filled=False
    )
    chart = (cells + rings).properties(width=alt.Step(44), height=alt.Step(20))
    spec: dict[str, Any] = json.loads(chart.to_json())
    return spec
