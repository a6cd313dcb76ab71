"""Prepares the section on guards: harm spared against alignment kept."""

from __future__ import annotations

from typing import Any

import polars as pl

from unharm.analysis.guards import CONTROL, EARLY_STOP, PROMPT, REFERENCE, TRAINING
from unharm.report.figures import chart_spec, harm_name
from unharm.report.words import is_share, metric_name, number, share_interval, signed

KINDS = {
    REFERENCE: "no guard", TRAINING: "in training", EARLY_STOP: "early stopping", PROMPT: "prompt",
    CONTROL: "prompt, control",
}  # fmt: skip


def guards_section(table: pl.DataFrame, level: float) -> dict[str, Any]:
    """Return the rows of the second half and a sentence per benchmark on the guard that was chosen.

    Args:
        table: The table `guards`.
        level: The level of significance.
    """
    rows = [
        r
        | {"name": "no guard" if r["kind"] == REFERENCE else r["guard"], "made": KINDS[r["kind"]]}
        | {f"{cost}_text": _cost(r, cost) for cost in ("refusals", "incoherent")}
        for r in table.to_dicts()
    ]
    tried = [r for r in rows if r["half"] == "b"]
    places = dict.fromkeys((r["arm"], r["benchmark"], r["metric"]) for r in rows)
    sentences = [
        _sentence(*place, [r for r in rows if (r["arm"], r["benchmark"], r["metric"]) == place], level)
        for place in places
    ]
    return {"rows": tried, "sentences": sentences}


def _cost(row: dict[str, Any], cost: str) -> str:
    """Write a cost with its interval."""
    value = number(row[cost], True)
    if row[f"{cost}_low"] is None:
        return value
    return f"{value} [{share_interval({'low': row[f'{cost}_low'], 'high': row[f'{cost}_high']})}]"


def _sentence(arm: str, benchmark: str, metric: str, rows: list[dict[str, Any]], level: float) -> str:
    """Say which guard was chosen on the first half, and what it does on the second."""
    harm = f"{arm}, {harm_name(benchmark, 'all')}"
    if not any(r["share_alignment"] is not None for r in rows):
        return f"{harm}: the arm moved no ratings, so no guard can be said to keep its alignment."
    chosen = next((r for r in rows if r["chosen"] and r["half"] == "b"), None)
    if chosen is None:
        return f"{harm}: no guard kept enough of the alignment on the first half."
    shares = is_share(metric)
    lower = chosen["p_adjusted"] is not None and chosen["p_adjusted"] <= level and chosen["value"] < 0
    verdict = "lowers" if lower else "is not shown to lower"
    change = f"{signed(chosen['value'], shares)}{' points' if shares else ''}"
    return (
        f"{harm}: {chosen['guard']} ({chosen['made']}), chosen on the first half, {verdict} "
        f"{metric_name(metric)} on the second ({change}), with "
        f"{number(chosen['share_alignment'], True)} of the alignment."
    )


def guards_chart(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Chart harm against alignment on the second half: one panel per arm and metric, a point per guard.

    Points that no other guard beats are filled; a ring marks the guard that was chosen on the first half.
    """
    import altair as alt

    numbers = ("alignment", "harm", "value", "low", "high")
    points = [
        {
            "panel": f"{r['arm']}, {harm_name(r['benchmark'], 'all')}: {metric_name(r['metric'])}",
            **{c: r[c] for c in (*numbers, "name", "made", "chosen")},
            "unbeaten": 1 if r["front"] else 0,
        }
        for r in rows
        if r["harm"] is not None and r["alignment"] is not None
    ]
    made = alt.Color("made:N", title=None, legend=alt.Legend(orient="top"))
    base = alt.Chart(alt.InlineData(points)).encode(
        x=alt.X("alignment:Q", title="achieved alignment", scale=alt.Scale(zero=False)),
        y=alt.Y("harm:Q", title=None, scale=alt.Scale(zero=False)),
        tooltip=["name:N", "made:N", *(alt.Tooltip(f"{c}:Q", format=".3f") for c in numbers)],
    )
    dots = base.mark_point(size=60, strokeWidth=2).encode(
        color=made,
        fill=alt.Fill("made:N", legend=None),
        fillOpacity=alt.FillOpacity(
            "unbeaten:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0, 1])
        ),
    )
    names = base.mark_text(align="left", dx=7, fontSize=10).encode(text="name:N")
    rings = base.transform_filter("datum.chosen").mark_point(size=170, strokeWidth=1.5, color="#444")
    chart = (dots + names + rings).properties(width=260, height=190)
    panels = list(dict.fromkeys(p["panel"] for p in points))
    faceted = chart.facet(facet=alt.Facet("panel:N", title=None, sort=panels), columns=3)
    return chart_spec(faceted.resolve_scale(x="independent", y="independent"))
