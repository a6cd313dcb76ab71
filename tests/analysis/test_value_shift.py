"""Tests of `unharm.analysis.value_shift`."""

from __future__ import annotations

from typing import Any

import polars as pl

from unharm.analysis.schemas import ALIGNMENT_SCHEMA
from unharm.analysis.value_shift import moved_table
from unharm.core.records import Profile
from unharm.core.values import VALUES
from unharm.profiles.extreme import extreme


def test_what_moved_is_told_by_what_was_wanted() -> None:
    """By hand: vanilla rates everything 3; power's target is up for one of two profiles."""

    def row(arm: str, profile: Profile, rated: float) -> dict[str, Any]:
        targets = {f"target_{v}": x for v, x in zip(VALUES, profile.importances, strict=True)}
        predicted = {f"predicted_{v}": rated for v in VALUES}
        return {
            "arm": arm,
            "profile": profile.name,
            "strategy": "input-only",
            "reading": "text",
            **targets,
            **predicted,
        }

    power, kind = extreme("power"), extreme("benevolence")
    rows = [row("vanilla", p, 3.0) for p in (power, kind)] + [row("vim", power, 5.0), row("vim", kind, 2.0)]
    found = moved_table(pl.DataFrame(rows, schema=ALIGNMENT_SCHEMA), 0.95)
    by_cell = {(r["schwartz_value"], r["aim"]): r for r in found.to_dicts()}
    assert by_cell["power", "up"]["value"] == 2.0
    assert by_cell["power", "down"]["value"] == -1.0
    assert by_cell["power", "all"]["value"] == 0.5
    assert by_cell["hedonism", "up"]["n"] == 0
    assert by_cell["hedonism", "down"]["n"] == 2
    without = moved_table(pl.DataFrame(rows[2:], schema=ALIGNMENT_SCHEMA), 0.95)
    assert without["value"].null_count() == without.height
