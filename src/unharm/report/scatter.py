"""Scatter plots: the harm of every subject against how well its alignment took, a panel per metric."""

from __future__ import annotations

from typing import Any

import polars as pl

from unharm.analysis.measures import of_quality
from unharm.analysis.metrics import ALL
from unharm.analysis.over_seeds import alignment_over_seeds
from unharm.report.answers import preferred_reading
from unharm.report.chart_files import styles
from unharm.report.words import metric_name

SUBJECT = ["arm", "profile", "strategy"]


def scatter_points(
    alignment: pl.DataFrame, subjects: pl.DataFrame, arms: list[str], strategy: str
) -> pl.DataFrame:
    """Return one row per profile, arm and metric.

    Args:
        alignment: The table `alignment`.
        subjects: The table `subjects`.
        arms: The arms with profiles to show.
        strategy: The strategy to show.

    Returns:
        The columns `arm`, `profile`, `metric`, `alignment` (correlation of ratings and target over the ten
        values) and `harm`. Seeds are averaged.
    """
    rated = alignment_over_seeds(alignment).filter(strategy=strategy)
    readings = [preferred_reading(rated, arm).filter(arm=arm) for arm in arms]
    known = pl.concat([rated.clear(), *readings]).select(*SUBJECT, alignment="correlation").drop_nulls()
    harms = subjects.filter((pl.col("category") == ALL) & (pl.col("strategy") == strategy)).filter(
        ~pl.col("metric").map_elements(of_quality, return_dtype=pl.Boolean)
    )
    means = harms.group_by(*SUBJECT, "metric", "stand_in", maintain_order=True).agg(pl.col("value").mean())
    joined = known.join(means.drop_nulls(), on=SUBJECT, how="inner", maintain_order="left")
    return joined.select("arm", "profile", "metric", "stand_in", "alignment", harm="value")


def scatter_chart(points: pl.DataFrame, vanilla: dict[str, float], title: str) -> Any:
    """Draw the points as an Altair chart.

    Args:
        points: See `scatter_points`; at least one row.
        vanilla: The harm of vanilla by metric, drawn as a dashed line.
        title: Above all panels.
    """
    import altair as alt

    arms = points["arm"].unique(maintain_order=True).to_list()
    looks = styles(len(arms))
    colours = alt.Scale(domain=arms, range=[look.colour for look in looks])
    shapes = alt.Scale(domain=arms, range=[look.shape for look in looks])
    axis = alt.Scale(zero=False, padding=8)
    panels = []
    for metric in points["metric"].unique(maintain_order=True).to_list():
        part = points.filter(metric=metric)
        mark = " †" if part["stand_in"].any() else ""
        dots = (
            alt.Chart(alt.InlineData(part.to_dicts()))
            .mark_point(filled=True, size=55, opacity=0.85)
            .encode(
                x=alt.X("alignment:Q", title="alignment (correlation with target)", scale=axis),
                y=alt.Y("harm:Q", title=None, scale=axis),
                color=alt.Color("arm:N", title=None, scale=colours),
                shape=alt.Shape("arm:N", title=None, scale=shapes),
                tooltip=["arm:N", "profile:N", "alignment:Q", "harm:Q"],
            )
        )
        layers = [dots]
        if metric in vanilla:
            line = alt.Chart(alt.InlineData([{"vanilla": vanilla[metric]}]))
            layers.insert(0, line.mark_rule(strokeDash=[4, 3], color="#666").encode(y="vanilla:Q"))
        panels.append(
            alt.layer(*layers).properties(width=220, height=180, title=metric_name(metric) + mark)
        )
    return alt.concat(*panels, columns=3).properties(title=title)
