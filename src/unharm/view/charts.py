"""Line charts as SVG, without scripts: colours come from the style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 220, 70, 28, 10
COLOURS = 8
"""Number of classes `line0`, `line1`, … of the style sheet: colours that all readers tell apart."""


@dataclass(frozen=True)
class Line:
    """A line of a chart: its name and its points, in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    dashed: bool = False


def line_chart(title: str, lines: Sequence[Line], x: str, y: str, among: Sequence[Line] = ()) -> Markup:
    """Draw lines over a common pair of axes.

    Args:
        title: What the chart shows, for readers who do not see it.
        lines: The lines; a single point becomes a dot.
        x: The name of the horizontal axis.
        y: The name of the vertical axis.
        among: All lines of the charts that share these axes.

    Returns:
        An SVG element; empty without points.
    """
    points = [point for line in among or lines for point in line.points]
    if not any(line.points for line in lines):
        return Markup("")
    left, right = min(p[0] for p in points), max(p[0] for p in points)
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - margin, high + margin
    across, up = (right - left) or 1.0, high - low

    def place(point: tuple[float, float]) -> str:
        px = LEFT + (point[0] - left) / across * (WIDTH - LEFT - 10)
        py = HEIGHT - BOTTOM - (point[1] - low) / up * (HEIGHT - BOTTOM - TOP)
        return f"{px:.1f},{py:.1f}"

    parts = [
        Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            WIDTH, HEIGHT, title
        )
    ]
    for share in (0.0, 0.5, 1.0):
        value = low + share * up
        _, at = place((left, value)).split(",")
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - 10, at, at)
        )
        parts.append(
            Markup('<text x="{}" y="{}" class="right">{}</text>').format(
                LEFT - 6, float(at) + 4, f"{value:.3g}"
            )
        )
    for value, kind in ((left, "left"), (right, "right")):
        px = LEFT if kind == "left" else WIDTH - 10
        parts.append(
            Markup('<text x="{}" y="{}" class="{}">{}</text>').format(px, HEIGHT - 8, kind, f"{value:,.0f}")
        )
    middle = (LEFT + WIDTH) / 2
    parts.append(
        Markup('<text x="{}" y="{}" class="middle">{}</text>').format(
            middle, HEIGHT - 8, f"{x}; upwards: {y}"
        )
    )
    for line in lines:
        kind = f"line{line.colour % COLOURS}" + (" dashed" if line.dashed else "")
        name = Markup("<title>{}</title>").format(line.name)
        if len(line.points) == 1:
            dot_x, dot_y = place(line.points[0]).split(",")
            parts.append(
                Markup('<circle class="{}" cx="{}" cy="{}" r="3">{}</circle>').format(
                    kind, dot_x, dot_y, name
                )
            )
        elif line.points:
            track = " ".join(map(place, line.points))
            parts.append(Markup('<polyline class="{}" points="{}">{}</polyline>').format(kind, track, name))
    return Markup("").join([*parts, Markup("</svg>")])


def legend(lines: Sequence[Line]) -> Markup:
    """Return the list of the names and colours of a chart's solid lines, as far as they have points."""
    items = [
        Markup('<li><span class="key line{}"></span>{}</li>').format(
            line.colour % COLOURS, line.name.rpartition(":")[0] or line.name
        )
        for line in lines
        if line.points and not line.dashed
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items)) if items else Markup("")


def bar(share: float, label: str) -> Markup:
    """Draw a bar that is filled from the left.

    Args:
        share: The filled part, from 0 to 1.
        label: What it shows, for readers who do not see it.
    """
    filled = round(100 * min(1.0, max(0.0, share)), 1)
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="rest" width="100" height="8"/><rect class="filled" width="{}" height="8"/></svg>'
    ).format(escape(label), filled)
