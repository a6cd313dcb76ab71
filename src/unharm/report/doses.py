"""Prepares the section on doses: harm against achieved alignment."""

from __future__ import annotations

from typing import Any

import polars as pl

from unharm.analysis.dose import EARLIEST, EPOCH, FULL, NONE, SCALE, STRENGTH
from unharm.analysis.measures import FIRST_METRICS
from unharm.report.figures import chart_spec, harm_name
from unharm.report.words import is_share, metric_name, number, signed

KINDS = {EPOCH: "epoch", SCALE: "×", STRENGTH: "strength", FULL: "full dose", NONE: "no alignment"}


def doses_section(table: pl.DataFrame, share: float) -> dict[str, Any]:
    """Return the rows of the section and its sentences on where training could stop.

    Args:
        table: The table `dose`.
        share: The share of the alignment that stopping early is to keep.
    """
    first = table.filter(pl.col("metric").is_in(list(FIRST_METRICS.values())))
    rows = [r | {"dose": dose_name(r["kind"], r["level"])} for r in first.to_dicts()]
    kept = {(r["arm"], r["strategy"]) for r in rows if r["kind"] == EPOCH}
    several = len({strategy for _, strategy in kept}) > 1
    sentences = []
    for arm, strategy in sorted(kept):
        part = [r for r in rows if (r["arm"], r["strategy"]) == (arm, strategy)]
        name = f"{arm} · {strategy}" if several else arm
        sentences.append(_early_stop(name, [r for r in part if r["mark"] == EARLIEST], part, share))
    return {"rows": rows, "sentences": sentences, "share": share}


def dose_name(kind: str, level: float) -> str:
    """Return a dose for readers, such as `epoch 3`, `× 0.5` or `full dose`."""
    return KINDS[kind] if kind in (FULL, NONE) else f"{KINDS[kind]} {level:g}"


def _early_stop(arm: str, marked: list[dict[str, Any]], rows: list[dict[str, Any]], share: float) -> str:
    """Say from which epoch on an arm keeps `share` of its alignment, and what harm it has there."""
    if not any(r["share_alignment"] is not None for r in rows):
        return (
            f"{arm}: no alignment was measured at the full dose that stopping early could keep. It needs "
            "the questionnaire, vanilla, and ratings that moved towards the profiles."
        )
    if not marked:
        return f"{arm}: no kept epoch has {number(share, True)} of the alignment of the full dose."
    full = {(r["benchmark"], r["metric"]): r for r in rows if r["kind"] == FULL}
    parts = []
    for row in marked:
        whole = full.get((row["benchmark"], row["metric"]))
        if whole is None or row["excess"] is None or whole["excess"] is None:
            continue
        shares = is_share(row["metric"])
        unit = " points" if shares else ""
        parts.append(
            f"{harm_name(row['benchmark'], 'all')}: {metric_name(row['metric'])} "
            f"{signed(row['excess'], shares)}{unit} against vanilla instead of "
            f"{signed(whole['excess'], shares)}"
        )
    reached = number(marked[0]["share_alignment"], True)
    text = f"{arm}: {marked[0]['dose']} is the first kept one with {number(share, True)} of the alignment"
    return f"{text} of the full dose ({reached}). {'; '.join(parts)}." if parts else f"{text} ({reached})."


def dose_chart(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Chart harm against achieved alignment: one panel per metric, one line per arm through its doses.

    A bar is an interval; a ring marks the earliest epoch that keeps the stated share of alignment.
    """
    import altair as alt

    numbers = ("alignment", "alignment_low", "alignment_high", "value", "low", "high")
    points = [
        {
            "panel": harm_name(r["benchmark"], "all") + ": " + metric_name(r["metric"]),
            "line": f"{r['arm']} ({'strength' if r['kind'] == STRENGTH else 'dose'})",
            **{c: r[c] for c in numbers},
            **{c: r[c] for c in ("arm", "dose", "n", "unit")},
            "earliest": r["mark"] == EARLIEST,
        }
        for r in rows
        if r["value"] is not None and r["alignment"] is not None
    ]
    base = alt.Chart(alt.InlineData(points)).encode(
        x=alt.X("alignment:Q", title="achieved alignment"),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
        color=alt.Color("arm:N", title=None, legend=alt.Legend(orient="top")),
        tooltip=[
            *("arm:N", "dose:N", "n:Q", "unit:N"),
            *(alt.Tooltip(f"{c}:Q", format=".3f") for c in numbers),
        ],
    )
    lines = base.mark_line(strokeWidth=1, opacity=0.6).encode(detail="line:N", order="alignment:Q")
    upright = base.mark_rule(opacity=0.5).encode(y="low:Q", y2="high:Q")
    level = base.mark_rule(opacity=0.5).encode(x="alignment_low:Q", x2="alignment_high:Q")
    dots = base.mark_point(filled=True, size=50, opacity=1)
    rings = base.transform_filter("datum.earliest").mark_point(size=160, strokeWidth=2, filled=False)
    chart = (lines + upright + level + dots + rings).properties(width=260, height=190)
    panels = list(dict.fromkeys(p["panel"] for p in points))
    faceted = chart.facet(facet=alt.Facet("panel:N", title=None, sort=panels), columns=3)
    return chart_spec(faceted.resolve_scale(x="independent", y="independent"))
