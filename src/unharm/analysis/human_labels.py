"""Labels that people gave to completions."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl

from unharm.core.files.delimited import Reader

WHAT = "labels of people"
SCHEMA = {"completion_id": pl.String, "rater": pl.String, "value": pl.Float64}


def read_people(path: Path) -> pl.DataFrame:
    """completion_id, rater, value of a CSV with the columns completion_id, value and perhaps rater. A row
    without a value is one that the rater left open. Raises `UserError` with every wrong row."""
    reader = Reader(path, WHAT, ("completion_id", "value"))
    names = [c.lower() for c in reader.all_columns]
    if "rater" in names:
        reader.columns["rater"] = names.index("rater")
    rows: list[dict[str, object]] = []
    seen: set[tuple[str, str]] = set()
    for row in reader.rows():
        rater = row.fields.get("rater", "")
        if not row["value"]:
            continue
        try:
            value = float(row["value"])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            reader.wrong(row.line, f"{WHAT}: {row['value']!r} is no number", "leave it empty where unsure")
        elif (row["completion_id"], rater) in seen:
            reader.wrong(row.line, f"{WHAT}: a second label of this completion by the same rater")
        seen.add((row["completion_id"], rater))
        rows.append({"completion_id": row["completion_id"], "rater": rater, "value": value})
    reader.finish()
    return pl.DataFrame(rows, schema=SCHEMA)
