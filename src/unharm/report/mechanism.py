"""The section on the mechanism: where adapters move activations, and which shifts go with harm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from unharm.report.heat_maps import value_map
from unharm.report.words import interval


def mechanism_charts(tables: Mapping[str, pl.DataFrame]) -> dict[str, dict[str, Any]]:
    """Return a map of layers and directions per arm, by placeholder name; rings mark directions that are
    named for a harm."""
    charts = {}
    for (arm,), part in tables["mechanism"].group_by(["arm"], maintain_order=True):
        related = tables["mechanism_harms"].filter((pl.col("arm") == arm) & pl.col("named"))
        named = set(related.select("direction", "layer").iter_rows())
        directions = list(part["direction"].unique(maintain_order=True))
        rows = [
            {
                "across": r["direction"],
                "down": f"layer {r['layer']}",
                "value": r["value"],
                "text": f"{interval(r | {'metric': ''})}, n = {r['n']}",
                "mark": (r["direction"], r["layer"]) in named,
            }
            for r in part.to_dicts()
        ]
        layers = [f"layer {n}" for n in sorted(part["layer"].unique(), reverse=True)]
        charts[f"mechanism-{arm}"] = value_map(rows, "", layers, "shift", directions)
    return charts


def mechanism_section(tables: Mapping[str, pl.DataFrame]) -> dict[str, Any] | None:
    """Return the arms, how far each follows its profiles, and the directions tested for each harm.

    Returns:
        None where the study has no mechanism tables.
    """
    if not tables["mechanism"].height:
        return None
    own = tables["mechanism"].filter(pl.col("own").is_not_null())
    best = own.group_by("arm", "direction", maintain_order=True).agg(pl.col("own").max())
    followed = best.group_by("arm", maintain_order=True).agg(pl.col("own").mean())
    rows = tables["mechanism_harms"].to_dicts()
    return {
        "arms": list(tables["mechanism"]["arm"].unique(maintain_order=True)),
        "followed": list(followed.iter_rows()),
        "related": sorted(rows, key=lambda r: (not r["named"], 2.0 if r["p"] is None else r["p"]))[:30],
        "named": sum(r["named"] for r in rows),
    }
