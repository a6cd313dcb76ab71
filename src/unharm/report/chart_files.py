"""Charts as files for papers: PNG, SVG and PDF, drawn without a network. One palette for all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unharm.core.errors import UserError

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that people with any colour vision tell apart (Okabe and Ito, 2008), the yellow left out."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
DASHES = ([1, 0], [7, 3], [2, 3], [8, 3, 2, 3], [12, 3])
"""Of lines that share a colour. The first is solid."""
DIVERGING = ("#0072B2", "#F7F7F7", "#D55E00")
"""From negative to positive, for heat maps."""
FORMATS = ("png", "svg", "pdf")
SCALE = 3
"""Pixels of a PNG per point: 300 dots per inch at the size of the text."""


@dataclass(frozen=True)
class Style:
    """How one name of a chart is drawn: its colour, the shape of its points, the dashes of its line."""

    colour: str
    shape: str
    dash: list[int]


def styles(number: int, colours: Sequence[str] = PALETTE) -> list[Style]:
    """Return styles that differ from each other, from the second round of colours on by shape and dash.

    Shapes differ within a round too, so that points are told apart without colours.
    """
    return [
        Style(
            colours[n % len(colours)],
            SHAPES[(n % len(colours) + n // len(colours)) % len(SHAPES)],
            DASHES[n // len(colours) % len(DASHES)],
        )
        for n in range(number)
    ]


def configured(chart: Any) -> dict[str, Any]:
    """Return the Vega-Lite specification of a chart, with the fonts and lines of a paper."""
    styled = (
        chart.configure(background="white", font="Helvetica, Arial, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(labelFontSize=11, titleFontSize=12, titleFontWeight="normal", labelLimit=320)
        .configure_legend(labelFontSize=11, titleFontSize=11)
        .configure_title(fontSize=13, anchor="start", fontWeight="normal")
    )
    specification: dict[str, Any] = json.loads(styled.to_json())
    return specification


def drawn(specification: dict[str, Any], kind: str) -> bytes:
    """Return a chart as the content of a file.

    Args:
        specification: A Vega-Lite specification.
        kind: One of `FORMATS`.

    Raises:
        UserError: The format is not known.
    """
    import vl_convert

    text = json.dumps(specification)
    if kind == "png":
        return bytes(vl_convert.vegalite_to_png(text, scale=SCALE))
    if kind == "pdf":
        return bytes(vl_convert.vegalite_to_pdf(text))
    if kind == "svg":
        return str(vl_convert.vegalite_to_svg(text)).encode()
    raise UserError(f"no figures of the format {kind!r}", todo=f"expected one of: {', '.join(FORMATS)}")
