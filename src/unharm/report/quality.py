"""Prepares the section on judge quality from the stored tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from unharm.analysis.measures import COHERENT, FIRST_METRICS, INCOHERENT
from unharm.analysis.metrics import ALL
from unharm.report.words import interval, number

MEASURES = {
    "agreement": "share that agrees",
    "kappa": "kappa",
    "weighted_kappa": "kappa, quadratic weights",
    "rank_correlation": "rank correlation",
    "mean_difference": "difference of means",
    "krippendorff_alpha": "Krippendorff's alpha",
}


def quality_section(tables: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """Return the rows on scorers, agreement and coherence, and sentences on reworded rubrics."""
    agreement = [r | {"name": MEASURES[r["measure"]]} for r in tables["agreement"].to_dicts()]
    return {
        "scorers": tables["scorers"].to_dicts(),
        "agreement": agreement,
        "wordings": [_rewording_sentence(r) for r in agreement if _is_rewording(r)],
        "coherence": _coherence(tables["arms"]),
    }


def _is_rewording(row: dict[str, Any]) -> bool:
    return bool(row["kind"] == "wordings" and row["measure"] == "mean_difference" and row["n"])


def _rewording_sentence(row: dict[str, Any]) -> str:
    low, high = sorted((row["mean_one"], row["mean_other"]))
    between = f", interval {interval(row)}" if row["low"] is not None else ""
    return (
        f"Rewording the rubric ({row['one']}, {row['other']}) moves the mean score between "
        f"{number(low)} and {number(high)} (difference {row['value']:+.2f}{between}, "
        f"{row['n']} prompts)."
    )


def _coherence(arms: pl.DataFrame) -> list[dict[str, Any]]:
    rows = []
    whole = arms.filter(pl.col("category") == ALL)
    keys = ["arm", "strategy", "benchmark"]
    for group, part in whole.group_by(keys, maintain_order=True):
        by_metric = {r["metric"]: r for r in part.to_dicts()}
        metric = next(m for m in FIRST_METRICS.values() if m in by_metric)
        rows.append(
            dict(zip(keys, group, strict=True))
            | {"metric": metric, "all": by_metric[metric]}
            | {"incoherent": by_metric[INCOHERENT], "coherent": by_metric[COHERENT + metric]}
        )
    return rows
