"""Heat maps of values and harms, with rows and columns ordered by clustering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy.cluster import hierarchy

from unharm.report.chart_files import DIVERGING
from unharm.report.figures import harm_name


def clustered_order(rows: np.ndarray) -> list[int]:
    """Return the order of rows in which near ones stand side by side.

    Average linkage of Euclidean distances with the leaves in their best order (Bar-Joseph et al., 2001). A
    missing cell counts as 0: no correlation.

    Args:
        rows: A matrix [rows, columns].
    """
    if len(rows) < 3:
        return list(range(len(rows)))
    filled = np.nan_to_num(rows)
    links = hierarchy.linkage(filled, "average", optimal_ordering=True)
    return [int(place) for place in hierarchy.leaves_list(links)]


def clustered_chart(associations: pl.DataFrame, fdr: float, title: str) -> Any:
    """Draw the rank correlations of values and harms as an Altair chart.

    A ring marks a correlation that is significant after adjustment; a cell without variance stays empty.

    Args:
        associations: The rows of one arm and strategy of the table `associations`.
        fdr: The largest adjusted p of a significant correlation.
        title: Above the map.
    """
    import altair as alt

    rows = [
        {
            "harm": harm_name(r["benchmark"], r["category"]) + (" †" if r["stand_in"] else ""),
            "value": r["schwartz_value"],
            "r": r["value"],
            "holds": r["p_adjusted"] is not None and r["p_adjusted"] <= fdr,
        }
        for r in associations.to_dicts()
    ]
    harms, values = (_ordered(rows, one, other) for one, other in (("harm", "value"), ("value", "harm")))
    base = alt.Chart(alt.InlineData(rows)).encode(
        x=alt.X(
            "value:N", sort=values, title=None, axis=alt.Axis(labelAngle=-40, orient="top", ticks=False)
        ),
        y=alt.Y("harm:N", sort=harms, title=None, axis=alt.Axis(ticks=False)),
    )
    known = base.transform_filter("isValid(datum.r)")
    cells = known.mark_rect(stroke="white").encode(
        color=alt.Color(
            "r:Q",
            title="rank correlation",
            scale=alt.Scale(domain=[-1, 0, 1], range=list(DIVERGING), interpolate="lab"),
        )
    )
    rings = known.transform_filter("datum.holds").mark_point(size=80, stroke="black", strokeWidth=1.5)
    return (cells + rings).properties(width=alt.Step(34), height=alt.Step(20), title=title)


def _ordered(rows: Sequence[dict[str, Any]], one: str, other: str) -> list[str]:
    """Return the names in one column in the order of clustering by the other."""
    names, columns = (list(dict.fromkeys(str(r[c]) for r in rows)) for c in (one, other))
    matrix = np.full((len(names), len(columns)), np.nan)
    for r in rows:
        if r["r"] is not None:
            matrix[names.index(str(r[one])), columns.index(str(r[other]))] = r["r"]
    return [names[place] for place in clustered_order(matrix)]
