"""Studies of few arms, and their stored completions."""

from __future__ import annotations

from typing import Any

import polars as pl

from unharm.runs.context import Run


def completions(run: Run) -> pl.DataFrame:
    return pl.read_parquet(run.store.root / "completions" / "**" / "*.parquet").sort("completion_id")


def small(tiny_study: dict[str, Any], *arms: str) -> dict[str, Any]:
    return tiny_study | {"arms": list(arms)}
