"""The section that says what the scores of each arm vary with."""

from __future__ import annotations

from typing import Any

import polars as pl

SOURCES = ("prompt", "profile", "seed", "profile × seed", "prompt × model", "sample")


def variance_rows(variance: pl.DataFrame, strategy: str) -> list[dict[str, Any]]:
    """Return one row per arm and benchmark: the share of each source, and what moves the arm's mean most.

    A share is None where the arm does not have the source, or it is not known.
    """
    rows = []
    chosen = variance.filter(pl.col("strategy") == strategy)
    for (arm, benchmark), part in chosen.group_by(["arm", "benchmark"], maintain_order=True):
        share = dict(part.select("source", "share").iter_rows())
        moved = part.drop_nulls("standard_error").sort("standard_error", descending=True)
        rows.append(
            {
                "arm": arm,
                "benchmark": benchmark,
                "metric": part["metric"][0],
                "stand_in": part["stand_in"][0],
                "shares": [share.get(source) for source in SOURCES],
                "most": moved["source"][0] if moved.height else None,
            }
        )
    return rows
