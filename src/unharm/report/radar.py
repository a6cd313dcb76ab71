"""Radar plots: the ten values of a profile, as aimed at and as each arm rates them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from unharm.core.values import HIGHEST, LOWEST, VALUES
from unharm.report.chart_files import PALETTE, Style, styles

CIRCLE = (
    "self-direction", "stimulation", "hedonism", "achievement", "power", "security", "conformity",
    "tradition", "benevolence", "universalism",
)  # fmt: skip
"""The values in the order of Schwartz's circle, where neighbours go together."""
TARGET = "target"
RADIUS = 180
"""Pixels from the middle to the edge."""


def radar_chart(shapes: Mapping[str, Sequence[float | None]], title: str) -> Any:
    """Draw a radar plot as an Altair chart.

    Args:
        shapes: Importances by name, in the order of `VALUES`; None where a value has no rating. The shape
            named `target` is dashed and black.
        title: Above the plot.
    """
    import altair as alt

    lines = []
    for name, importances in shapes.items():
        known = [(value, importances[VALUES.index(value)]) for value in CIRCLE]
        closed = [*known, known[0]] if known[0][1] is not None else known
        for order, (value, importance) in enumerate(closed):
            if importance is not None:
                x, y = _point(value, importance)
                lines.append({"shape": name, "order": order, "x": x, "y": y, "importance": importance})
    rings = [
        {"ring": level, "order": order, "x": x, "y": y}
        for level in range(int(LOWEST), int(HIGHEST) + 1)
        for order, value in enumerate((*CIRCLE, CIRCLE[0]))
        for x, y in [_point(value, level)]
    ]
    sides = {"left": 1, "right": -1, "center": 0}
    labels = [
        {"value": v, "x": x, "y": y, "side": 0 if abs(x) < 0.01 else math.copysign(1, x)}
        for v in CIRCLE
        for x, y in [_point(v, HIGHEST + 0.5)]
    ]
    levels = [{"level": str(n), "x": 0.03, "y": _point(CIRCLE[0], n)[1]} for n in range(1, int(HIGHEST))]
    reach = 1.45
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[-reach, reach], nice=False))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-reach, reach], nice=False))
    grid = alt.Chart(alt.InlineData(rings)).mark_line(color="#ccc", strokeWidth=0.8)
    texts = [
        alt.Chart(alt.InlineData([label for label in labels if label["side"] == side]))
        .mark_text(fontSize=11, align=align)
        .encode(x=x, y=y, text="value:N")
        for align, side in sides.items()
    ]
    numbers = alt.Chart(alt.InlineData(levels)).mark_text(
        fontSize=9, color="#666", align="left", baseline="bottom"
    )
    names = list(shapes)
    looks = dict(zip(names, styles(len(names), PALETTE[:-1]), strict=True))
    looks[TARGET] = Style("#000000", "circle", [6, 4])
    colours, dashes = [looks[n].colour for n in names], [looks[n].dash for n in names]
    drawn = (
        alt.Chart(alt.InlineData(lines))
        .mark_line(strokeWidth=2, strokeJoin="round", point=alt.OverlayMarkDef(size=30))
        .encode(
            color=alt.Color(
                "shape:N",
                title=None,
                scale=alt.Scale(domain=names, range=colours),
                legend=alt.Legend(symbolType="stroke", symbolStrokeWidth=2),
            ),
            strokeDash=alt.StrokeDash("shape:N", title=None, scale=alt.Scale(domain=names, range=dashes)),
            order="order:Q",
        )
    )
    layers = [
        grid.encode(x=x, y=y, detail="ring:N", order="order:Q"),
        *texts,
        numbers.encode(x=x, y=y, text="level:N"),
        drawn.encode(x=x, y=y),
    ]
    return alt.layer(*layers).properties(width=2 * RADIUS, height=2 * RADIUS, title=title)


def _point(value: str, importance: float) -> tuple[float, float]:
    """Return where an importance of a value lies: the middle is 0 (just below the least importance)."""
    angle = math.pi / 2 - 2 * math.pi * CIRCLE.index(value) / len(CIRCLE)
    radius = importance / HIGHEST
    return radius * math.cos(angle), radius * math.sin(angle)
