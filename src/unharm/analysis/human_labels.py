"""Labels that people gave to completions: read, checked, and settled where raters disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from unharm.core.errors import UserError
from unharm.core.files.delimited import Reader

CONTENT = "labels of people"
SCHEMA = {"completion_id": pl.String, "rater": pl.String, "value": pl.Float64}
SETTLED_SCHEMA = {"completion_id": pl.String, "truth": pl.Float64}

ADJUDICATED = "adjudicated"
"""The rater whose label settles a disagreement."""
SCALES: dict[str, tuple[float, float, bool]] = {
    "toxicity": (0.0, 1.0, False),
    "harmfulness": (1.0, 5.0, True),
    "rating": (1.0, 6.0, True),
    "negative_regard": (0.0, 1.0, True),
    "flagged": (0.0, 1.0, True),
    "refusal": (0.0, 1.0, True),
}
"""Lowest and highest label of each measure, and whether labels are whole numbers."""
APART = {"toxicity": 0.5, "harmfulness": 2.0, "rating": 2.0}
"""From which distance on two raters disagree; 1 for measures of yes or no."""


def read_labels(paths: Sequence[Path], measure: str) -> pl.DataFrame:
    """Read label files: CSV with the columns completion_id, value and perhaps rater.

    Args:
        paths: The files, for example one per rater and one with adjudications.
        measure: The measure of the benchmark, which says what a label may be.

    Returns:
        completion_id, rater, value. Rows without a value are left out: the rater left them open.

    Raises:
        UserError: With every wrong row of a file; or no row of any file has a label.
    """
    rows: list[dict[str, object]] = []
    seen: set[tuple[str, str]] = set()
    for path in paths:
        rows += _rows(path, measure, seen)
    if not rows:
        raise UserError(
            f"{CONTENT}: no completion has a label", ", ".join(map(str, paths)), "fill in the column value"
        )
    return pl.DataFrame(rows, schema=SCHEMA)


def _rows(path: Path, measure: str, seen: set[tuple[str, str]]) -> list[dict[str, object]]:
    reader = Reader(path, CONTENT, ("completion_id", "value"))
    names = [c.lower() for c in reader.all_columns]
    if "rater" in names:
        reader.columns["rater"] = names.index("rater")
    rows: list[dict[str, object]] = []
    for row in reader.rows():
        rater = row.fields.get("rater", "")
        if not row["value"]:
            continue
        try:
            value = float(row["value"])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            reader.wrong(
                row.line, f"{CONTENT}: {row['value']!r} is no number", "leave it empty where unsure"
            )
            continue
        if (row["completion_id"], rater) in seen:
            reader.wrong(
                row.line,
                f"{CONTENT}: a second label of this completion by the same rater",
                "do two raters have one name? Tell them apart in the column rater",
            )
        elif wrong := off_scale(value, measure):
            reader.wrong(row.line, f"{CONTENT}: {row['value']!r} is out of scale", wrong)
        seen.add((row["completion_id"], rater))
        rows.append({"completion_id": row["completion_id"], "rater": rater, "value": value})
    reader.finish()
    return rows


def off_scale(value: float, measure: str) -> str:
    """Return what was expected instead of a label, or an empty string if it is right."""
    if measure not in SCALES:
        return ""
    low, high, whole = SCALES[measure]
    if low <= value <= high and (not whole or value == round(value)):
        return ""
    if whole and (low, high) == (0.0, 1.0):
        return f"a label of {measure.replace('_', ' ')} is 0 (no) or 1 (yes)"
    return f"a label of {measure} is {'a whole number ' if whole else ''}from {low:g} to {high:g}"


def disagreements(labels: pl.DataFrame, measure: str) -> list[str]:
    """Return the completions on which raters disagree and that nobody adjudicated.

    Raters disagree where their labels are 1 apart (yes or no), 2 (scores from 1 to 5), or on both sides of
    0.5 (toxicity).
    """
    done = labels.filter(pl.col("rater") == ADJUDICATED)["completion_id"]
    open_labels = labels.filter(~pl.col("completion_id").is_in(done.implode()))
    value = pl.col("value")
    if measure == "toxicity":
        apart = (value >= APART[measure]).any() & (value < APART[measure]).any()
    else:
        apart = (value.max() - value.min()) >= APART.get(measure, 1.0)
    found = open_labels.group_by("completion_id", maintain_order=True).agg(apart.alias("apart"))
    return found.filter("apart")["completion_id"].to_list()


def settled(labels: pl.DataFrame, measure: str, where: str, todo: str) -> pl.DataFrame:
    """Return one label per completion: the adjudicated one, else the mean of the raters.

    Raises:
        UserError: Raters disagree on completions that nobody adjudicated.
    """
    unsettled = disagreements(labels, measure)
    if unsettled:
        shown = ", ".join(unsettled[:3]) + (", …" if len(unsettled) > 3 else "")
        raise UserError(
            f"{CONTENT}: raters disagree on {len(unsettled)} completions without adjudication ({shown})",
            where,
            todo,
        )
    last = labels.filter(pl.col("rater") == ADJUDICATED)
    rest = labels.filter(~pl.col("completion_id").is_in(last["completion_id"].implode()))
    means = pl.concat([last, rest]).group_by("completion_id", maintain_order=True).agg(
        truth=pl.col("value").mean()
    )  # fmt: skip
    return means.select(list(SETTLED_SCHEMA))


def agreement_of_two(labels: pl.DataFrame, measure: str) -> tuple[int, int]:
    """Return how many completions have labels of several raters, and on how many of those they agree."""
    raters = labels.filter(pl.col("rater") != ADJUDICATED)
    several = raters.group_by("completion_id").agg(pl.len().alias("raters")).filter(pl.col("raters") > 1)
    apart = set(disagreements(raters, measure))
    count = several.height
    return count, count - int(np.sum([c in apart for c in several["completion_id"]]))
