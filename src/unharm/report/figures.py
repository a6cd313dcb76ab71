"""Builds the charts as Vega-Lite specs (Altair). The page contains the runtime, so it needs no network."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from unharm.analysis.measures import of_quality
from unharm.core.values import VALUES
from unharm.report.words import category_name, metric_name


def arms_chart(arms: pl.DataFrame) -> dict[str, Any]:
    """Chart each metric over the whole benchmark: one row per arm, with estimate and interval."""
    import altair as alt

    rows = [
        {
            "subject": r["arm"] if r["strategy"] == "input-only" else f"{r['arm']} ({r['strategy']})",
            "metric": metric_name(r["metric"]) + (" †" if r["stand_in"] else ""),
            **{c: r[c] for c in ("value", "low", "high", "n", "unit")},
        }
        for r in arms.filter((pl.col("category") == "all") & pl.col("value").is_not_null()).to_dicts()
        if not of_quality(r["metric"])
    ]
    order = list(dict.fromkeys(r["subject"] for r in rows))
    base = alt.Chart(alt.InlineData(rows)).encode(
        y=alt.Y("subject:N", sort=order, title=None),
        tooltip=[
            *("subject:N", "metric:N"),
            *(alt.Tooltip(f"{c}:Q", format=".3f") for c in ("value", "low", "high")),
            *("n:Q", "unit:N"),
        ],
    )
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=None), x2="high:Q")
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(x=alt.X("value:Q", title=None))
    chart = (bars + dots).properties(width=230, height=26 * max(1, len(order)))
    faceted = chart.facet(
        facet=alt.Facet("metric:N", title=None, sort=list(dict.fromkeys(r["metric"] for r in rows)),
                        header=alt.Header(labelFontSize=12, labelFontWeight="bold")),
        columns=3,
    ).resolve_scale(x="independent")  # fmt: skip
    return chart_spec(faceted)


def effects_chart(rows: list[dict[str, Any]], fdr: float) -> dict[str, Any]:
    """Chart the difference of each arm from vanilla by metric, in standard deviations of vanilla.

    A filled dot marks a difference that is significant after adjustment.
    """
    import altair as alt

    points = []
    for r in rows:
        if r["effect"] is None or not r["value"]:
            continue
        scale = r["effect"] / r["value"]
        points.append(
            {
                "metric": metric_name(r["metric"]) + (" †" if r["stand_in"] else ""),
                "subject": r["arm"] if r["strategy"] == "input-only" else f"{r['arm']} ({r['strategy']})",
                "effect": r["effect"],
                "low": None if r["low"] is None else r["low"] * scale,
                "high": None if r["high"] is None else r["high"] * scale,
                "difference": r["value"],
                "p adjusted": r["p_adjusted"],
                "holds": r["p_adjusted"] is not None and r["p_adjusted"] <= fdr,
            }
        )
    subjects = list(dict.fromkeys(r["subject"] for r in points))
    numbers = ("effect", "low", "high", "difference", "p adjusted")
    base = alt.Chart(alt.InlineData(points)).encode(
        y=alt.Y("metric:N", title=None, sort=list(dict.fromkeys(r["metric"] for r in points))),
        yOffset=alt.YOffset("subject:N", sort=subjects),
        color=alt.Color(
            "subject:N",
            title=None,
            sort=subjects,
            scale=alt.Scale(scheme="dark2"),
            legend=alt.Legend(orient="top"),
        ),
        tooltip=[
            *("subject:N", "metric:N", "holds:N"),
            *(alt.Tooltip(f"{c}:Q", format=".3f") for c in numbers),
        ],
    )
    title = "lower than vanilla  ←  standard deviations  →  higher"
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    filled = alt.Scale(domain=[False, True], range=[0, 1])
    dots = base.mark_point(size=60, strokeWidth=2).encode(
        x=alt.X("effect:Q", title=title),
        fill=alt.Fill("subject:N", sort=subjects, legend=None, scale=alt.Scale(scheme="dark2")),
        fillOpacity=alt.FillOpacity("holds:N", legend=None, scale=filled),
    )
    zero = alt.Chart(alt.InlineData([{"zero": 0}])).mark_rule(strokeDash=[4, 3], color="#888")
    zero = zero.encode(x="zero:Q")
    metrics = len({r["metric"] for r in points})
    height = 18 * max(1, len(subjects)) * max(1, metrics) + 10
    return chart_spec((zero + bars + dots).properties(width="container", height=height))


def associations_chart(associations: pl.DataFrame, fdr: float) -> dict[str, Any]:
    """Draw a heat map of rank correlations, harm category by value.

    A ring marks a correlation that is significant after adjustment. A cell without variance stays empty.
    """
    import altair as alt

    rows = [
        {
            "harm": harm_name(r["benchmark"], r["category"]),
            "value": r["schwartz_value"],
            "r": r["value"],
            "interval": f"{r['low']:+.2f} to {r['high']:+.2f}" if r["low"] is not None else "none",
            "p": r["p"],
            "p_adjusted": r["p_adjusted"],
            "n": r["n"],
            "holds": r["p_adjusted"] is not None and r["p_adjusted"] <= fdr,
        }
        for r in associations.to_dicts()
    ]
    harms = list(dict.fromkeys(r["harm"] for r in rows))
    base = alt.Chart(alt.InlineData(rows)).encode(
        x=alt.X("value:N", sort=list(VALUES), title=None, axis=alt.Axis(labelAngle=-40, orient="top")),
        y=alt.Y("harm:N", sort=harms, title=None, axis=alt.Axis(labelLimit=260)),
        tooltip=[
            "harm:N", "value:N", alt.Tooltip("r:Q", format="+.2f"), "interval:N",
            alt.Tooltip("p:Q", format=".3g"), alt.Tooltip("p_adjusted:Q", format=".3g"), "n:Q",
        ],
    )  # fmt: skip
    cells = base.mark_rect().encode(
        color=alt.condition(
            "isValid(datum.r)",
            alt.Color("r:Q", scale=alt.Scale(scheme="blueorange", domain=[-1, 1]), title="Spearman r"),
            alt.value("#8882"),
        )
    )
    rings = (
        base.transform_filter("datum.holds")
        .mark_point(size=90, stroke="black", strokeWidth=2, filled=False)
        .encode()
    )
    return chart_spec((cells + rings).properties(width=alt.Step(44), height=alt.Step(20)))


def alignment_chart(alignment: pl.DataFrame, arm: str) -> dict[str, Any]:
    """Chart the importance of each value as rated by each aligned subject; the first row is vanilla."""
    import altair as alt

    before = alignment.filter(pl.col("arm") == "vanilla").head(1).to_dicts()
    rows = [
        {
            "profile": r["profile"] if r["arm"] == arm else "(vanilla)",
            "value": value,
            "predicted": r[f"predicted_{value}"],
            "target": r[f"target_{value}"] if r["arm"] == arm else None,
            "high_target": r["arm"] == arm and r[f"target_{value}"] >= 5,
        }
        for r in before + alignment.filter(pl.col("arm") == arm).to_dicts()
        for value in VALUES
    ]
    base = alt.Chart(alt.InlineData(rows)).encode(
        x=alt.X("value:N", sort=list(VALUES), title=None, axis=alt.Axis(labelAngle=-40, orient="top")),
        y=alt.Y("profile:N", sort=list(dict.fromkeys(r["profile"] for r in rows)), title=None),
        tooltip=["profile:N", "value:N", "predicted:Q", "target:Q"],
    )
    cells = base.mark_rect().encode(
        color=alt.Color("predicted:Q", scale=alt.Scale(scheme="tealblues", domain=[1, 6]), title="rated")
    )
    rings = (
        base.transform_filter("datum.high_target")
        .mark_point(size=90, stroke="black", strokeWidth=2, filled=False)
        .encode()
    )
    return chart_spec((cells + rings).properties(width=alt.Step(44), height=alt.Step(20)))


def training_chart(curves: pl.DataFrame) -> dict[str, Any]:
    """Chart the losses of every adapter over its optimiser steps; points mark validation losses."""
    import altair as alt

    rows = [
        {
            "adapter": " · ".join(
                filter(None, (r["arm"], r["profile"], "" if r["seed"] is None else f"seed {r['seed']}"))
            ),
            "part": f"{r['arm']}, stage {r['stage']}",
            "curve": "training" if r["curve"] == "train" else "validation",
            "steps": r["steps"],
            "loss": round(r["loss"], 4),
        }
        for r in curves.to_dicts()
    ]
    base = alt.Chart(alt.InlineData(rows)).encode(
        x=alt.X("steps:Q", title="optimiser steps"),
        y=alt.Y("loss:Q", title="loss (nats per token)", scale=alt.Scale(zero=False)),
        detail="adapter:N",
        color=alt.Color(
            "curve:N",
            title=None,
            scale=alt.Scale(domain=["training", "validation"], range=["#8aa4b0", "#0b6b75"]),
            legend=alt.Legend(orient="top"),
        ),
        tooltip=["adapter:N", "curve:N", "steps:Q", alt.Tooltip("loss:Q", format=".4f")],
    )
    lines = base.mark_line(strokeWidth=1.2, opacity=0.5)
    points = base.transform_filter("datum.curve == 'validation'").mark_point(filled=True, size=22)
    chart = (lines + points).properties(width=300, height=190)
    parts = list(dict.fromkeys(r["part"] for r in rows))
    faceted = chart.facet(facet=alt.Facet("part:N", title=None, sort=parts), columns=3)
    return chart_spec(faceted.resolve_scale(x="independent", y="independent"))


def harm_name(benchmark: str, category: str) -> str:
    """Return the name of a harm for readers: the benchmark, with its category unless that is `all`."""
    from unharm.benchmarks.registry import BENCHMARKS

    title = BENCHMARKS[benchmark].title.removesuffix("-Evaluation")
    return title if category == "all" else f"{title}: {category_name(category)}"


def chart_spec(chart: Any) -> dict[str, Any]:
    configured = chart.configure(background="transparent").configure_view(stroke=None)
    spec: dict[str, Any] = json.loads(configured.to_json(validate=False))
    return spec
