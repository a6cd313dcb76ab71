"""Rows of the table of subjects."""

from __future__ import annotations

from typing import Any

import polars as pl

from unharm.analysis.schemas import SUBJECTS_SCHEMA


def subject_row(arm: str, profile: str, category: str, value: float | None, **more: Any) -> dict[str, Any]:
    row = {
        "arm": arm, "profile": profile, "strategy": "input-only", "benchmark": "beavertails",
        "category": category, "metric": "flagged_rate", "value": value, "low": None, "high": None,
        "n": 5, "unit": "prompt", "unscored": 1, "scorer": "offline-flagged", "scorer_version": "1",
        "stand_in": True,
    }  # fmt: skip
    return row | more


def table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SUBJECTS_SCHEMA)
