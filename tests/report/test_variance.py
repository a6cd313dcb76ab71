"""Tests of `unharm.report.variance`."""

from __future__ import annotations

import polars as pl

from unharm.analysis.schemas import VARIANCE_SCHEMA
from unharm.report.variance import SOURCES, variance_rows


def test_a_row_has_the_share_of_each_source_and_what_moves_the_mean_most() -> None:
    fixed = dict.fromkeys(VARIANCE_SCHEMA) | {
        "arm": "vim", "strategy": "input-only", "benchmark": "hexphi", "metric": "harmfulness", "stand_in": True,
    }  # fmt: skip
    table = pl.DataFrame(
        [
            fixed | {"source": "prompt", "share": 0.7, "standard_error": 0.02},
            fixed | {"source": "seed", "share": 0.1, "standard_error": 0.05},
            fixed | {"source": "sample", "share": 0.2},
            fixed | {"source": "prompt", "share": 1.0, "strategy": "safety"},
        ],
        schema=VARIANCE_SCHEMA,
    )
    (row,) = variance_rows(table, "input-only")
    assert dict(zip(SOURCES, row["shares"], strict=True)) == {
        "prompt": 0.7, "profile": None, "seed": 0.1, "profile × seed": None, "prompt × model": None,
        "sample": 0.2,
    }  # fmt: skip
    assert row["most"] == "seed"
